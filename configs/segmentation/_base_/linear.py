# A linear classifier of every pixel on a frozen encoder, as DINOv2 evaluates dense features:
# facebookresearch/dinov2 at b8931f7, dinov2/eval/segmentation/models/decode_heads/linear_head.py.
# The released config, dinov2_vitb14_ade20k_linear_config.py, is not in the repository: the numbers
# are those of its copy in Jiawei-Yang/Denoising-ViT at 2d08bd8, evaluation/configs/
# vitb_ade20k_linear_config.py.
_base_ = ["upernet.py", "ade20k.py"]

freeze = "backbone"  # weights, BatchNorm statistics and stochastic depth: in evaluation mode
drop_path_rate = 0.0
layer_decay = 1.0
pixels = "weights"  # a frozen encoder has to see what it was pretrained on
lr = 1e-3
weight_decay = 1e-4
no_weight_decay = "nothing"  # no paramwise_cfg there: everything is decayed
max_iters = 40_000
precision = "fp32"

model = dict(
    backbone=dict(norm_outputs=False, vit=dict(pyramid=None)),  # no part that would be trained
    decode_head=dict(
        _delete_=True,
        type="LinearHead",
        # ours: every stage, since one map at stride 32 would measure the stride
        in_index=[0, 1, 2, 3],
        dropout_ratio=0,
        num_classes="${num_classes}",
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=None,
)
