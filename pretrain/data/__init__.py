"""Images -> batches, a pure function of (seed, step).

sources.py     a folder, a list or tar shards -> images by number
shards.py      images inside tar files
names.py       millions of names in one buffer
index.py       what was found, kept on disk between runs
checked.py     the images of a run, remembered in its data.json
readable.py    which images can be read: every one is tried, where asked for
turns.py       processes that wait for one another without a time limit
reading.py     one image; one that cannot be read is replaced by another
augment.py     crop, flip, colour jitter
masks.py       random and block masks: which patches the encoder sees
order.py       which images belong to a step, and which of them this process takes
batches.py     samples -> batches, read ahead by worker processes
"""
