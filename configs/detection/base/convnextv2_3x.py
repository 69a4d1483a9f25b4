"""What the ConvNeXt V2 recipes share: 36 epochs of 32 images, large-scale jitter, soft-NMS.

Sources: [p] ConvNeXt V2 paper (arXiv 2301.00808) appendix A.3; [r] MMDetection's re-run,
projects/ConvNeXt-V2, whose author notes what the paper leaves open.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .convnext_3x import config

STEPS_AN_EPOCH = 3665  # 117 266 images / 32, rounded up
IMAGE_PX = 1024  # [p]

config.model.soft_nms = dict(  # [p]; its settings, not stated in the paper: [r], mmcv's defaults
    method="linear",
    iou_threshold=0.5,  # [r] inherits it from the NMS that it replaces
    sigma=0.5,
    min_score=0.001,
)
config.input.train = [
    L(T.RandomFlip)(),
    L(T.ResizeScale)(
        min_scale=0.1, max_scale=2.0, target_height=IMAGE_PX, target_width=IMAGE_PX
    ),  # [p]
    # [p]; not padded here: as in [r], zeros fill a batch after normalisation
    L(T.FixedSizeCrop)(crop_size=[IMAGE_PX, IMAGE_PX], pad=False),
]
# single scale [p]; which: not stated in the paper, [r] has 1333 x 800
config.input.test = [L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)]
config.optimizer.update(lr=1e-4, weight_decay=0.05)  # [p]
config.schedule.update(
    steps=36 * STEPS_AN_EPOCH,  # [p]
    milestones=[27 * STEPS_AN_EPOCH, 33 * STEPS_AN_EPOCH],  # [r]
    gamma=0.1,  # [r]
    warmup_steps=1000,  # [r]
    warmup_factor=0.001,  # [r]
)
config.train.update(batch_size=32, precision="bf16")  # [p], [r]
