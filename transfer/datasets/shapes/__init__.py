"""The embedded dataset: scenes drawn by rule, with exact masks.

levels.py      classes, and how crowded and alike scenes are
scene.py       one scene from (seed, split, index, size, level)
outlines.py    signed distances of the outlines
textures.py    textures of backgrounds and objects
files.py       scenes -> COCO instances, ADE20K folders, unlabelled images
"""
