"""Plain ViTs on COCO as ViTDet trains them: simple feature pyramid, windows, large-scale jitter.

Sources: facebookresearch/detectron2 projects/ViTDet/configs: [v] COCO/mask_rcnn_vitdet_b_100ep.py,
[m] common/models/mask_rcnn_vitdet.py, [l] common/coco_loader_lsj.py, [o] common/optim.py.
ViTDet adds decomposed relative positions, zero at the start, to MAE's ViT; timm's ViT has none and
goes without. BEiT brings its own tables, resized on its geometric grid for every window and image.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .mask_rcnn import config

IMAGE_PX = 1024  # [l]

config.features.update(
    pyramid="simple",  # [m]
    window_size=14,  # [m] patches
    global_blocks=[],  # [m] four blocks, evenly spread
)
config.model.update(
    square_pad=IMAGE_PX,  # [m]
    box_norm="LN",  # [m]
    mask_norm="LN",  # [m]
    rpn_convs=2,  # [m]
    box_convs=[256, 256, 256, 256],  # [m]
    box_fcs=[1024],  # [m]
)
config.input.train = [
    L(T.RandomFlip)(),  # [l]
    L(T.ResizeScale)(
        min_scale=0.1, max_scale=2.0, target_height=IMAGE_PX, target_width=IMAGE_PX
    ),  # [l]
    L(T.FixedSizeCrop)(crop_size=[IMAGE_PX, IMAGE_PX], pad=False),  # [l]
]
config.input.test = [
    L(T.ResizeShortestEdge)(short_edge_length=IMAGE_PX, max_size=IMAGE_PX)  # [l]
]
config.input.recompute_boxes = True  # [l]
config.optimizer.update(lr=1e-4, weight_decay=0.1, betas=[0.9, 0.999])  # [o]
# [o], [v]; there the norms of pyramid and heads are decayed: Detectron2's own LayerNorm over
# channels is not a torch.nn.LayerNorm, and only those are spared
config.layer_decay_rule = "vit"
config.no_weight_decay = "norms_and_pos_embed"
config.schedule.update(
    steps=184_375,  # [v] 100 epochs = 184 375 * 64 / 118 000
    milestones=[163_889, 177_546],  # [v]
    gamma=0.1,  # [v]
    warmup_steps=250,  # [v]
    warmup_factor=0.001,  # [v]
)
config.train.update(batch_size=64, precision="bf16")  # [v] fp16 there, bfloat16 here
