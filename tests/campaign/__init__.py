"""Bad inputs and faults, hundreds of them, through every tool: each must end in one clear error.

__main__.py      python -m tests.campaign [PATTERN ...]: run the cases, print the count by outcome
case.py          a case, how it is run in a forked process, and what came of it
world.py         sound data, weights and finished runs that the cases spoil copies of
settings.py      cases: options out of range or mistyped
images.py        cases: images, lists and shards to pretrain on
annotations.py   cases: COCO files and label maps
weights.py       cases: weights files, states, run folders
records.py       cases: records, tables and the other tools
endings.py       cases: what would fail only after the last step
faults.py        cases: a disk that is full while something is written
archives.py      cases: archives and images that would fill the memory
findings.py      what was found once -> the cases and tests that hold it
"""
