"""Mask R-CNN on any COCO-format data with Detectron2's own head sizes, for a GPU.

    python tools/train_net.py --config-file configs/detection/custom_coco_gpu.py \
        weights=ENCODER output_dir=OUT \
        data.train_json=TRAIN.json data.train_images=FOLDER \
        data.val_json=VAL.json data.val_images=FOLDER

Everything here is ours: 5000 steps of 16 images of 480-800 pixels, AdamW with layer decay.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .base.mask_rcnn import config

config.data.update(
    name="custom", train_json=None, train_images=None, val_json=None, val_images=None
)
config.input.train = [
    L(T.ResizeShortestEdge)(
        short_edge_length=list(range(480, 801, 32)), sample_style="choice", max_size=1333
    ),
    L(T.RandomFlip)(),
]
config.optimizer.update(lr=2e-4, weight_decay=0.05)
config.layer_decay = 0.8
config.no_weight_decay = "vectors"
config.schedule.update(steps=5000, milestones=[3500, 4500], warmup_steps=250, warmup_factor=0.01)
config.train.update(batch_size=16, precision="bf16", clip_norm=5.0)
