"""Mask R-CNN on any COCO-format data.

    python tools/train_net.py --config-file configs/detection/custom_coco.py \
        weights=ENCODER output_dir=OUT \
        data.train_json=TRAIN.json data.train_images=FOLDER \
        data.val_json=VAL.json data.val_images=FOLDER

Category ids may be any numbers. Sized for one small GPU, or a CPU with patience: images keep
their size up to a short side of 480 pixels; raise `input` and `schedule` for larger data.
Everything here is ours.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .base.mask_rcnn import config

config.data.update(
    name="custom", train_json=None, train_images=None, val_json=None, val_images=None
)
config.model.update(
    channels=128,
    anchor_sizes=[16, 32, 64, 128, 256],
    rpn_batch=128,
    pre_nms_topk=[1000, 500],
    post_nms_topk=[500, 300],
    roi_batch=128,
    box_fcs=[512, 512],
    mask_convs=[128, 128],
)
config.input.train = [
    L(T.ResizeShortestEdge)(short_edge_length=[224, 256, 288], sample_style="choice", max_size=640),
    L(T.RandomFlip)(),
]
config.input.test = [L(T.ResizeShortestEdge)(short_edge_length=256, max_size=640)]
config.optimizer.lr = 5e-4
config.decay.update(layers=0.8, no_weight_decay="vectors")
config.schedule.update(steps=1000, milestones=[750, 900], warmup_steps=100, warmup_factor=0.01)
config.train.update(batch=4, clip_norm=5.0, workers=2, checkpoint_period=100)
config.test.batch = 4
