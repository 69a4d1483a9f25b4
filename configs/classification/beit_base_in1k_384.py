"""BEiT-B/16 on ImageNet-1K at 384 px, without other labels: the figure of the paper's Table 1.

No command of the code and no result in its README: how long was trained at 384 px, from which
weights and with which rates is not known. All but the size is beit_base_in1k.py's; ours.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("beit_base_in1k.py")
finetuning = replace(
    base,
    images=replace(
        base.images,
        input_size=384,  # Table 1
        crop_pct=1.0,  # datasets.py: from 384 px on
    ),
)
