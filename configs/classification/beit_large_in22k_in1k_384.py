"""BEiT-L/16 on ImageNet-1K at 384 px after ImageNet-22K's labels: the same command, larger images.

get_started_for_image_classification.md names --input_size alone; README.md lists the result.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("beit_large_in22k_in1k_224.py")
finetuning = replace(
    base,
    images=replace(
        base.images,
        input_size=384,  # get_started
        crop_pct=1.0,  # datasets.py: from 384 px on
    ),
)
