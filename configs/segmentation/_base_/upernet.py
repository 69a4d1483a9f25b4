# UPerNet (Xiao et al. 2018) with an FCN auxiliary head, as in the ADE20K runs of BEiT, ConvNeXt and
# MAE: unilm beit/semantic_segmentation/configs/_base_/models/upernet_beit.py,
# ConvNeXt semantic_segmentation/configs/_base_/models/upernet_convnext.py
freeze = "none"  # "backbone": train pyramid and heads alone
head_channels = 512
aux_channels = 256
drop_path_rate = 0.0
pixels = "weights"
grad_checkpointing = (
    False  # recompute activations of the backbone in the backward pass: less memory
)
# Plain ViTs alone:
image_size = None  # size at which position parameters are stored; None: the weights'
relative_position = False  # add fresh relative position tables to a ViT that has none
layer_scale = None  # e.g. 1.0: add fresh layer scales to a ViT that has none, at this value

model = dict(
    type="TransferSegmentor",
    pixels="${pixels}",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],  # ImageNet
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size="${crop_size}",
    ),
    backbone=dict(
        type="TimmBackbone",
        weights="${weights}",
        arch="${arch}",
        arch_args="${arch_args}",
        fresh="${fresh}",
        unused="${unused}",
        drop_path_rate="${drop_path_rate}",
        freeze="${freeze}",
        checkpointing="${grad_checkpointing}",
        vit=dict(
            pyramid="blocks",  # unilm .../backbone/beit.py: four blocks, scaled
            image_size="${image_size}",
            relative_position="${relative_position}",
            layer_scale="${layer_scale}",
        ),
    ),
    decode_head=dict(
        type="UPerHead",
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels="${head_channels}",
        dropout_ratio=0.1,
        num_classes="${num_classes}",
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_index=2,
        channels="${aux_channels}",
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes="${num_classes}",
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg="${test_cfg}",
)
