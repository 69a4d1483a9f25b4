"""What the ConvNeXt recipes share: Mask R-CNN for 36 epochs with AdamW, as MMDetection trains it.

Sources: [m] facebookresearch/ConvNeXt object_detection/configs/convnext/
mask_rcnn_convnext_tiny_..._3x_coco_in1k.py, [b] the MMDetection base configs it builds on (read of
their published defaults, not part of that repository). Detectron2's smooth L1 has beta 0: it is
MMDetection's L1.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .mask_rcnn import config

STEPS_AN_EPOCH = 7330  # 117 266 images / 16, rounded up [b]
SIZES = list(range(480, 801, 32))

config.features.norm_outputs = True  # norm0-3 of the official detection backbone
config.model.update(box_fcs=[1024, 1024])  # [b] Shared2FCBBoxHead, no norms in FPN and heads
# [m] half of the images are cut before the final resize (DETR, Sparse R-CNN)
config.input.train = [
    L(T.RandomFlip)(),
    L(T.RandomApply)(
        tfm_or_aug=L(T.AugmentationList)(
            augs=[
                L(T.ResizeShortestEdge)(
                    short_edge_length=[400, 500, 600], sample_style="choice", max_size=1333
                ),
                L(T.RandomCrop)(crop_type="absolute_range", crop_size=[384, 600]),
            ]
        ),
        prob=0.5,
    ),
    L(T.ResizeShortestEdge)(short_edge_length=SIZES, sample_style="choice", max_size=1333),
]
config.input.test = [L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)]  # [b]
config.input.recompute_boxes = True  # after the crop; MMDetection clips the boxes instead
config.optimizer.update(lr=1e-4, weight_decay=0.05, betas=[0.9, 0.999])  # [m]
config.layer_decay_rule = "convnext_layer_wise"
config.no_weight_decay = "vectors"  # [m], mmcv_custom
config.schedule.update(
    steps=36 * STEPS_AN_EPOCH,  # [m]
    milestones=[27 * STEPS_AN_EPOCH, 33 * STEPS_AN_EPOCH],  # [m]
    gamma=0.1,  # [b]
    warmup_steps=500,  # [b], inferred: the base schedule is not in the repository
    warmup_factor=0.001,  # [b], inferred
)
config.train.update(batch_size=16, precision="bf16")  # [m] fp16 there, bfloat16 here
