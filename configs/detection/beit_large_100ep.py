"""BEiT-L, Mask R-CNN for 100 epochs: ViTDet's recipe for a ViT-L.

BEiT's authors released no detection config; the MAE paper's table 4 trained BEiT with a recipe of
its own (ViT with FPN, section A.3). Everything here is ours, after ViTDet.
"""

from .base.vitdet import config

config.arch = "beit_large_patch16_224"
config.output_dir = "outputs/beit_large_100ep"
config.features.drop_path_rate = 0.4
config.layer_decay = 0.8
