"""The embedded benchmark: three methods, scratch twins and controls, two tasks, five seeds.

python tools/run_suite.py configs/suites/embedded.py --out outputs/embedded --jobs 2

Hours on two cores. `--set seeds=1` runs one seed of each cell first; the same command without it
adds the others. Learning rates and layer decays were chosen by embedded_tuning.py, on other images.
"""

from transfer.suites.suite import Cell, Control, Pretrain, Suite

SPARK = Pretrain("configs/pretrain/shapes_spark_resnet_long.py")
FCMAE = Pretrain("configs/pretrain/shapes_fcmae_convnextv2_long.py")
BEIT = Pretrain("configs/pretrain/shapes_beit_vit_long.py")
PRETRAININGS = (SPARK, FCMAE, BEIT)
SEGMENTATION = "configs/segmentation/shapes_zoom_upernet.py"
DETECTION = "configs/detection/shapes_zoom_mask_rcnn.py"
FROZEN = ("freeze=backbone", "layer_decay=1.0")  # no layer of the backbone learns

# task, network -> options of pretrained weights and their control, and of training from scratch
OPTIONS: dict[tuple[str, Pretrain], tuple[tuple[str, ...], tuple[str, ...]]] = {
    (SEGMENTATION, SPARK): (("lr=6e-3", "layer_decay=0.75"), ("lr=6e-3", "layer_decay=0.75")),
    (SEGMENTATION, FCMAE): (("lr=3e-3", "layer_decay=1.0"), ("lr=1.5e-3", "layer_decay=0.75")),
    (SEGMENTATION, BEIT): (("lr=3e-3", "layer_decay=0.75"), ("lr=1.5e-3", "layer_decay=0.75")),
    (DETECTION, SPARK): (
        ("optimizer.lr=2e-3", "layer_decay=1.0"),
        ("optimizer.lr=2e-3", "layer_decay=1.0"),
    ),
    (DETECTION, FCMAE): (
        ("optimizer.lr=2e-3", "layer_decay=1.0"),
        ("optimizer.lr=2e-3", "layer_decay=0.75"),
    ),
    (DETECTION, BEIT): (
        ("optimizer.lr=1e-3", "layer_decay=0.75"),
        ("optimizer.lr=2e-3", "layer_decay=0.75"),
    ),
}


def suite(seeds: int = 5) -> Suite:
    cells = []
    for (task, pretrain), (options, from_scratch) in OPTIONS.items():
        frozen = (*(o for o in options if not o.startswith("layer_decay")), *FROZEN)
        for weights, words in (
            (pretrain, options),
            (Control(pretrain), options),
            (None, from_scratch),
            (pretrain, frozen),
            (Control(kind="random"), frozen),
        ):
            like = None if weights is pretrain else pretrain
            cells.append(Cell(task, weights, words, tuple(range(seeds)), like))
    return Suite(shapes=("--for", "benchmark"), cells=tuple(cells))
