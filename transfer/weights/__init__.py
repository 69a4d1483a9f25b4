"""Every public checkpoint -> timm names, strictly: nothing lost, nothing run.

reader.py     the one door to a file: tensors only, whatever its format
sources/      one file a layout: its names, and the few rules that are not renames
convert.py    recognise the source, rename, find the timm architecture
load.py       weights -> TimmFeatures, every tensor accounted for, with a report
export.py     timm names -> Detectron2's and MMSegmentation's
manifest.py   the official releases by name
"""
