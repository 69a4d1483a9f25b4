"""FCMAE for the embedded benchmark on a ConvNeXt without GRN, as ConvNeXt V1 is.

All other settings are those of shapes_fcmae_convnextv2_long.py, so that what differs between the
two encoders is GRN against LayerScale (ConvNeXt V2 paper, "Global Response Normalization").
"""

from dataclasses import replace

from pretrain.config import load_recipe

base = load_recipe("shapes_fcmae_convnextv2_long.py")
V1 = {"use_grn": False, "ls_init_value": 1e-6}
assert base.arch_args is not None
recipe = replace(
    base,
    arch_args={**base.arch_args, **V1},  # models/convnext.py of ConvNeXt
    optimizer=replace(
        base.optimizer,
        always_decay=(),  # it names GRN alone; ours
    ),
)
