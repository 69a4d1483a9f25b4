"""Cascade Mask R-CNN as the ConvNeXt configs have it: an addition to any config here.

Sources: facebookresearch/ConvNeXt object_detection/configs, [c] convnext/
cascade_mask_rcnn_convnext_*_giou_4conv1f_*, [m] _base_/models/cascade_mask_rcnn_convnext_fpn.py.

What stays Detectron2's: one box regression for all classes and one mask head, where theirs have one
a class and one a stage (the whole difference to the published size: 6.3 M parameters and 107 G
multiply-adds less, tests/transfer/detection/test_estimate.py); regions are sampled once, not again
for each stage; the best anchor of an object is a positive at any overlap, theirs from 0.3 on.
"""


def cascade(config):
    """Turn a config's detector into the cascade; its learning settings stay."""
    config.model.update(
        cascade=True,
        stage_loss_weights=[1.0, 0.5, 0.25],  # [m]
        rpn_loss_beta=1 / 9,  # [m]
        rpn_boundary_px=0.0,  # [m] allowed_border
        post_nms_topk=[2000, 1000],  # [m] max_per_img
        box_convs=[256, 256, 256, 256],  # [c]
        box_fcs=[1024],  # [c]
        box_norm="SyncBN",  # [c]
        mask_norm="",  # [m]
        box_loss="giou",  # [c] with weight 10
    )
