"""SparK's ResNets on COCO: keyu-tian/SparK downstream_d2 (Detectron2 0.6).

Sources: [y] configs/coco_R_50_FPN_CONV_1x_moco_adam.yaml, [t] train_net.py, [l] lr_decay.py there;
[d] a default of Detectron2 0.6.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .mask_rcnn import config

config.backbone_norm = "SyncBN"  # [y] MODEL.RESNETS.NORM
config.model.update(
    fpn_norm="SyncBN",  # [y]
    box_norm="SyncBN",  # [y]
    mask_norm="SyncBN",  # [y]
    box_convs=[256, 256, 256, 256],  # [y] NUM_CONV: 4
    box_fcs=[1024],  # [y] NUM_FC: 1
    mask_convs=[256, 256, 256, 256],  # [y] NUM_CONV: 4
)
config.input.train = [
    L(T.ResizeShortestEdge)(
        short_edge_length=list(range(480, 897, 32)),  # [y] 480 ... 896
        sample_style="choice",  # [d]
        max_size=1333,  # [d]
    ),
    L(T.RandomFlip)(),  # [d]
]
config.input.test = [L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)]  # [d]
config.optimizer.update(lr=2.5e-4, weight_decay=1e-4, betas=[0.9, 0.999])  # [y], [t]: torch's betas
config.layer_decay = 0.6  # [y] LR_DECAY
# [l] counts 11 layers for every deeper net: late blocks of ResNet-152 and -200 then learn up to
# 2.8 times faster than the heads. "resnet" counts the layers there are; equal for ResNet-50
# and -101. The release's rule: layer_decay_rule=resnet_official
config.layer_decay_rule = "resnet"
config.no_weight_decay = "norms"  # [d] WEIGHT_DECAY_NORM 0
config.schedule.update(
    steps=90_000,  # [y] 12.3 epochs = 90 000 * 16 / 117 266
    milestones=[60_000, 80_000],  # [y]
    gamma=0.25,  # [y]
    warmup_steps=1000,  # [y]
    warmup_factor=0.01,  # [y]
)
config.train.update(
    batch_size=16,  # [d]
    precision="fp32",  # [d]
    clip_norm=None,  # [y] CLIP_GRADIENTS off
)
config.test.precise_bn = 200  # [y] PRECISE_BN, [d] its batches
