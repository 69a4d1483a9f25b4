"""The embedded dataset, and checks of COCO, ADE20K and any data in their layouts before a run.

shapes.py           scenes drawn by rule: classes, and one scene from (seed, split, index)
outlines.py         signed distances of the outlines a scene is made of
textures.py         the textures of backgrounds and objects
shapes_files.py     scenes -> COCO instances, ADE20K folders, unlabelled images
coco_checks.py      a COCO-format pair of annotations and images
ids.py              which ids of a COCO-format file can be used
ade20k_checks.py    a pair of folders, images and label maps
"""
