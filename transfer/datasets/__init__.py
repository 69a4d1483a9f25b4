"""The embedded dataset, and checks of data in the standard layouts before a run.

shapes/               scenes drawn by rule, written as COCO and ADE20K folders
coco_checks.py        a COCO-format pair of annotations and images
coco_file.py          a COCO-format file, read once and held as places in it
json_pieces.py        a large JSON file read in pieces
ids.py                which ids of a COCO-format file can be used
instance_checks.py    one annotation: box, mask, class
lvis.py               LVIS: its keys, and the detections it keeps per image
ade20k_checks.py      a pair of folders, images and label maps
"""
