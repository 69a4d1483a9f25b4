"""Mask R-CNN on any COCO-format data.

    python tools/train_net.py --config-file configs/detection/custom_coco.py \
        weights=ENCODER output_dir=OUT \
        data.train_json=TRAIN.json data.train_images=FOLDER \
        data.val_json=VAL.json data.val_images=FOLDER

Category ids may be any numbers. Sized for small images on a CPU: narrow heads, a short side of 256
pixels. With a GPU and larger images start from custom_coco_gpu.py. Everything here is ours.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .base.mask_rcnn import config

config.data.update(
    name="custom", train_json=None, train_images=None, val_json=None, val_images=None
)
config.model.update(
    channels=64,
    anchor_sizes=[16, 32, 64, 128, 256],
    rpn_batch=256,
    pre_nms_topk=[500, 300],
    post_nms_topk=[250, 150],
    roi_batch=128,
    box_fcs=[256, 256],
    mask_convs=[64, 64],
)
config.input.train = [
    L(T.ResizeShortestEdge)(short_edge_length=[224, 256, 288], sample_style="choice", max_size=640),
    L(T.RandomFlip)(),
]
config.input.test = [L(T.ResizeShortestEdge)(short_edge_length=256, max_size=640)]
# A few unlike images are too few for BatchNorm: what is learnt with their statistics fails with the
# averaged ones (SparK's ResNet-18 on nuclei: AP_box 18, with the statistics of its file 35).
# From scratch there are none: give a ResNet arch_args={"norm_layer":"groupnorm"}.
config.backbone_norm = "FrozenBN"
config.optimizer.lr = 1e-3
config.layer_decay = 0.8
config.no_weight_decay = "vectors"
config.schedule.update(steps=400, milestones=[300, 360], warmup_steps=50, warmup_factor=0.01)
config.train.update(batch_size=2, clip_norm=5.0, workers=1, checkpoint_steps=100)
config.test.batch_size = 4
