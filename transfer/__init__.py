"""Encoder file -> result record -> table: does masked pretraining transfer?

weights/        every source format -> timm names; strict loading, with a report
features.py     a timm encoder -> {"res2": ..., "res5": ...} at strides 4, 8, 16, 32
layer_decay.py  a parameter's name -> its learning-rate factor
datasets/       the embedded dataset; checks of COCO and ADE20K before a run
detection/      Mask R-CNN in Detectron2 (the only place that imports detectron2)
segmentation/   UperNet in MMSegmentation (the only place that imports mmseg and mmengine)
record.py       one validated result.json a run
table.py        records beside published figures
suite.py        a list of cells -> the runs it still lacks
"""
