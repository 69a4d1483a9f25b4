"""Mask R-CNN on the embedded dataset (tools/make_shapes.py), sized for one CPU thread.

    DETECTRON2_DATASETS=DATA python tools/train_net.py \
        --config-file configs/detection/shapes_mask_rcnn.py weights=ENCODER output_dir=OUT

Everything here is ours: small heads, few proposals, images of 128 pixels as they are.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .base.mask_rcnn import config

config.data.name = "shapes"

config.model.update(
    channels=32,
    fpn_norm="BN",
    anchor_sizes=[24, 48, 96, 144, 192],
    rpn_batch=64,
    pre_nms_topk=[200, 100],
    post_nms_topk=[100, 50],
    roi_batch=32,
    box_fcs=[128],
    mask_convs=[32, 32],
    max_detections=50,
)
config.input.train = [L(T.RandomFlip)()]
config.input.test = []
config.optimizer.lr = 2e-3
config.layer_decay = 1.0
config.no_weight_decay = "vectors"
config.schedule.update(steps=360, milestones=[300], warmup_steps=30, warmup_factor=0.1)
config.train.update(batch_size=4, clip_norm=5.0, workers=0, log_steps=10, checkpoint_steps=50)
config.test.batch_size = 4
