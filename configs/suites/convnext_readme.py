"""The tables of ConvNeXt's README: supervised ConvNeXt on COCO and ADE20K.

python tools/run_suite.py configs/suites/convnext_readme.py --out outputs/convnext --dry-run
"""

from transfer.suites.suite import Cell, Released, Suite

GPUS = 8
MULTI_SCALE = ("tta.on=True",)
DETECTION = (  # config, weights, options
    ("tiny", "tiny_1k_224", ()),
    ("small", "small_1k_224", ()),
    ("base", "base_1k_224", ()),
    ("base", "base_22k_224", ("features.drop_path_rate=0.6",)),  # the config, for 1K weights: 0.7
    ("large", "large_22k_224", ()),
)
SEGMENTATION = (
    ("tiny_upernet_512", "tiny_1k_224"),
    ("small_upernet_512", "small_1k_224"),
    ("base_upernet_512", "base_1k_224"),
    ("base_22k_upernet_640", "base_22k_224"),
    ("large_22k_upernet_640", "large_22k_224"),
    ("xlarge_22k_upernet_640", "xlarge_22k_224"),
)

suite = Suite(
    cells=(
        *(
            Cell(
                f"configs/detection/convnext_{config}_3x.py",
                Released(f"convnext_{weights}"),
                options,
                gpus=GPUS,
            )
            for config, weights, options in DETECTION
        ),
        *(
            Cell(
                f"configs/segmentation/convnext_{config}.py",
                Released(f"convnext_{weights}"),
                also_test=MULTI_SCALE,
                gpus=GPUS,
            )
            for config, weights in SEGMENTATION
        ),
    ),
    published=(
        "facebookresearch/ConvNeXt object_detection/README.md",
        "facebookresearch/ConvNeXt semantic_segmentation/README.md",
    ),
)
