# SETR-PUP (Zheng et al. 2021) on four raw block maps at stride 16:
# mmsegmentation configs/_base_/models/setr_pup.py. Which blocks the BEiT paper read is not stated:
# ours are those of its UperNet runs.
_base_ = ["upernet.py"]

model = dict(
    backbone=dict(vit=dict(pyramid=None)),
    decode_head=dict(
        _delete_=True,
        type="SETRUPHead",
        in_index=3,
        channels=256,
        num_convs=4,
        up_scale=2,
        kernel_size=3,
        dropout_ratio=0,
        num_classes="${num_classes}",
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=[
        dict(
            type="SETRUPHead",
            in_index=index,
            channels=256,
            num_convs=1,
            up_scale=4,
            kernel_size=3,
            dropout_ratio=0,
            num_classes="${num_classes}",
            norm_cfg=dict(type="BN", requires_grad=True),
            align_corners=False,
            loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
        )
        for index in range(3)
    ],
)
