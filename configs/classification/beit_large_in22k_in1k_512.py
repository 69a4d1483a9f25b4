"""BEiT-L/16 on ImageNet-1K at 512 px after ImageNet-22K's labels: beit_large_in22k_in1k_384.py.

README.md lists the result.
"""

from dataclasses import replace

from transfer.classification.config import load_config

base = load_config("beit_large_in22k_in1k_384.py")
finetuning = replace(
    base,
    images=replace(
        base.images,
        input_size=512,  # get_started
    ),
)
