"""Cascade Mask R-CNN as the ConvNeXt configs have it: an addition to any config here.

facebookresearch/ConvNeXt object_detection/configs/convnext/cascade_mask_rcnn_convnext_*: a box head
of four convolutions and one layer with SyncBN, GIoU loss of weight 10. Their heads regress boxes
for each class and every stage has a mask head; Detectron2's cascade regresses one box for all and
has one mask head. That is the whole difference to the published size: 6.3 M parameters and 107 G
multiply-adds less (tests/transfer/detection/test_counts.py).
"""


def cascade(config):
    """Turn a config's detector into the cascade; its learning settings stay."""
    config.model.update(
        cascade=True,
        box_convs=[256, 256, 256, 256],
        box_fcs=[1024],
        head_norm="SyncBN",
        box_loss="giou",
    )
