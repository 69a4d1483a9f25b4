"""One file per family of layouts: how to recognise it, its name table, its other rules.

base.py          what a source is
timm_names.py    timm's own state dicts
spark.py         SparK
convnext.py      ConvNeXt and ConvNeXt V2
beit.py          BEiT and BEiT v2
vit.py           plain ViTs: MAE, DeiT, DINO, DINOv2, MoCo v3, supervised
resnet.py        ResNets: timm, torchvision, MoCo v3, DINO
openmmlab.py     MMSegmentation, MMDetection, MMPretrain
detectron2.py    Detectron2's ResNets
vitdet.py        ViTDet's detectors
"""
