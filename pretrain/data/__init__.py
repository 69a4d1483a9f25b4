"""Images -> batches, a pure function of (seed, step).

sources.py     a folder, a list or tar shards -> images by number
checked.py     the readable ones, found once and remembered in data.json
augment.py     crop, flip, colour jitter
masks.py       random and block masks: which patches the encoder sees
order.py       which images a step takes, and which of them this process takes
batches.py     samples -> batches, read ahead by worker processes
"""
