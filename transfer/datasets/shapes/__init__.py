"""The embedded dataset: scenes drawn by rule, with exact masks.

scene.py       classes, and one scene from (seed, split, index)
outlines.py    signed distances of the outlines
textures.py    textures of backgrounds and objects
files.py       scenes -> COCO instances, ADE20K folders, unlabelled images
"""
