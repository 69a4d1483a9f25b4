"""The embedded dataset, and checks of data in the standard layouts before a run.

shapes/               scenes drawn by rule, written as COCO and ADE20K folders
coco_checks.py        a COCO-format pair of annotations and images
coco_file.py          a COCO-format file, read once and held as places in it
json_pieces.py        a large JSON file read in pieces
ids.py                which ids of a COCO-format file can be used
instance_checks.py    one annotation: box, mask, class
share.py              a share of the training images
lvis.py               LVIS: its keys, and the detections it keeps per image
ade20k_checks.py      a pair of folders, images and label maps
class_split.py        labelled images of one split, whatever form they have
class_labels.py       classes by name or number -> labels
class_lists.py        a CSV or text list; class_shards.py: tar shards
class_cifar.py        CIFAR-100 as published
class_crops.py        the objects of COCO-format images, cut out
class_checks.py       labelled images: classes, counts, overlap, unreadable files
"""
