"""Rehearsal: any config the whole way on made-up data, before a GPU is booked.

data.py          files as ImageNet, COCO, LVIS and ADE20K have them
reduce.py        how each family's configs are made small, and which keys that takes
nested.py        configs of any framework as plain values
ways.py          what of the way is a family's own
finetuning.py    the same for classification
run.py           data check -> training -> stop -> resume -> evaluation -> record
pool.py          many configs, one process each at a time, and what becomes of failures
"""
