"""MAE ViT-H/14 at 448 px: the figure of the paper's Table 3.

FINETUNE.md has no command for it: all but the size is mae_huge.py's, as in MMPretrain's
vit-huge-p14_32xb8-coslr-50e_in1k-448px.py (ee7f2e8), which resizes to 512 px before the crop.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("mae_huge.py")
finetuning = replace(
    base,
    images=replace(
        base.images,
        input_size=448,  # Table 3
        crop_pct=1.0,  # util/datasets.py: above 224 px
    ),
)
