"""Data problems and their fixes.

findings.py    one finding and how to mend it; refusing a run on errors
images.py      can these files be read?
parallel.py    a function over many items, in processes, under a progress bar
"""
