"""ViT-L (MAE's weights, or supervised ones), Mask R-CNN for 100 epochs.

Source: facebookresearch/detectron2 projects/ViTDet/configs/COCO/mask_rcnn_vitdet_l_100ep.py.
"""

from .base.vitdet import config

config.arch = "vit_large_patch16_224"
config.output_dir = "outputs/vit_large_100ep"
config.features.drop_path_rate = 0.4
config.layer_decay = 0.8
