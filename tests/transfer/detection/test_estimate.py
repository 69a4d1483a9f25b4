"""Parameters and multiply-adds of the full-size detectors against the published figures."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from fvcore.nn import FlopCountAnalysis, parameter_count
from torch import nn

from transfer.detection.build import build_detector
from transfer.detection.config import load_config
from transfer.detection.estimate import Counts, count, counting_size

CONFIGS = Path(__file__).parents[3] / "configs/detection"
CASCADE = (
    "model.cascade=true",
    "model.box_convs=[256, 256, 256, 256]",
    "model.box_fcs=[1024]",
    "model.box_norm=SyncBN",
)
CLASSES = 80

# Parameters (M) and multiply-adds (G, "FLOPs" there) of an image of 1280 x 800 as published:
# [1] facebookresearch/ConvNeXt object_detection/README.md; [2] ConvNeXt V2 paper (arXiv 2301.00808)
# table 6, which has no parameters
MASK_RCNN = {
    "convnext_tiny_3x": (48, 262),  # [1]
    "spark_convnext_base_3x": (None, 486),  # [2], ConvNeXt V1-B
    "spark_convnext_large_3x": (None, 875),  # [2], ConvNeXt V1-L
    "convnextv2_base_3x": (None, 486),  # [2]
    "convnextv2_large_3x": (None, 875),  # [2]
    "convnextv2_huge_3x": (None, 2525),  # [2]
}
CASCADE_MASK_RCNN = [  # [1]
    ("convnext_tiny_3x", CASCADE, 86, 741),
    ("convnext_small_3x", (), 108, 827),
    ("convnext_base_3x", (), 146, 964),
    ("convnext_large_3x", (), 255, 1354),
    ("convnext_large_3x", ("arch=convnext_xlarge",), 407, 1898),
]
# ViTDet paper (arXiv 2203.16527), plain against hierarchical backbones; 1024 x 1024; T, not G
VITDET = {"vit_base_100ep": (111, 0.8), "vit_large_100ep": (331, 1.9)}
SLACK_M = 0.5  # published without decimals
SLACK_G = 1.5  # theirs adds biases and the norms of the heads: 0.1 to 1.2 G here


def build(name: str, *more: str) -> tuple[GeneralizedRCNN, tuple[int, int]]:
    """A config's model on the meta device, and the size its tests are counted at."""
    config = load_config(CONFIGS / f"{name}.py", list(more))
    with torch.device("meta"):
        model = build_detector(config, CLASSES).model
    resize = config.input.test[0]
    return model, counting_size(resize.short_edge_length, resize.max_size)


def totals(counts: Counts) -> tuple[float, float]:
    """M parameters and G multiply-adds."""
    return sum(counts.parameters.values()) / 1e6, sum(counts.multiply_adds.values()) / 1e9


@pytest.mark.parametrize(("name", "published"), MASK_RCNN.items())
def test_mask_rcnn_has_the_published_size(name: str, published: tuple[int | None, int]) -> None:
    model, size = build(name)
    counts = count(model, size)
    assert counts.size == (800, 1280)
    millions, giga = totals(counts)
    assert giga == pytest.approx(published[1], abs=SLACK_G)
    assert published[0] is None or millions == pytest.approx(published[0], abs=SLACK_M)
    assert millions == pytest.approx(parameter_count(model)[""] / 1e6)


@pytest.mark.parametrize(("name", "more", "millions", "giga"), CASCADE_MASK_RCNN)
def test_the_cascade_has_the_published_size_but_for_two_named_parts(
    name: str, more: tuple[str, ...], millions: float, giga: float
) -> None:
    """MMDetection has a mask head a stage, Detectron2 one; and its boxes are a class' own."""
    counts = count(*build(name, *more))
    class_boxes = 3 * 4 * (CLASSES - 1)  # outputs of the three stages that Detectron2 lacks
    ours_m, ours_g = totals(counts)
    more_m = (2 * counts.parameters["mask"] + class_boxes * (1024 + 1)) / 1e6
    more_g = (2 * counts.multiply_adds["mask"] + class_boxes * 1024 * 1000) / 1e9
    assert ours_m + more_m == pytest.approx(millions, abs=SLACK_M)
    assert ours_g + more_g == pytest.approx(giga, abs=SLACK_G)


@pytest.mark.parametrize(("name", "published"), VITDET.items())
def test_plain_vits_have_the_published_size(name: str, published: tuple[int, float]) -> None:
    """Without ViTDet's decomposed relative positions, 0.1 M parameters."""
    counts = count(*build(name))
    assert counts.size == (1024, 1024)
    millions, giga = totals(counts)
    assert millions == pytest.approx(published[0], abs=SLACK_M)
    assert giga / 1000 == pytest.approx(published[1], abs=0.05)


def test_resnet101_has_the_size_that_mmdetection_prints() -> None:
    """63.17 M and 351.65 G in Res2Net's detection README (Res2Net/mmdetection).

    It counts what is trained: BatchNorm past the first stage, not the stem and that stage. Its
    mask head's transposed convolution is counted at the output, four times the products there are.
    """
    model, size = build("resnet50_1x", "arch=resnet101", "backbone_norm=BN")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained / 1e6 == pytest.approx(63.17, abs=0.01)
    counted_again = 3 * 100 * 256 * 256 * (2 * 14) ** 2  # 100 masks
    assert totals(count(model, size))[1] + counted_again / 1e9 == pytest.approx(351.65, abs=SLACK_G)


def test_fvcore_counts_the_same() -> None:
    """On real tensors, part by part; fvcore cannot trace on the meta device."""
    config = load_config(CONFIGS / "convnextv2_base_3x.py", ["arch=convnextv2_atto"])
    model = build_detector(config, CLASSES).model.eval()
    counts = count(model, (64, 96))
    assert sum(counts.parameters.values()) == parameter_count(model)[""]
    mask_head = nn.Sequential(*model.roi_heads.mask_head)
    for part, module, inputs, scale in (
        ("backbone", model.backbone, torch.zeros(1, 3, 64, 96), 1),
        ("mask", mask_head, torch.zeros(2, 256, 14, 14), 50),
    ):
        analysis = FlopCountAnalysis(module, inputs).uncalled_modules_warnings(False)
        counted = analysis.unsupported_ops_warnings(False).by_operator()
        products = sum(counted[k] for k in ("conv", "linear"))
        assert products * scale == counts.multiply_adds[part], part


@pytest.mark.parametrize("name", ["beit_base_100ep", "vit_base_100ep"])
def test_counting_sees_attention_and_leaves_a_real_model_alone(name: str) -> None:
    adds = {}
    for depth in (4, 6):
        args = f'arch_args={{"embed_dim": 16, "depth": {depth}, "num_heads": 2}}'
        config = load_config(
            CONFIGS / f"{name}.py", [args, "features.window_size=0", "model.square_pad=0"]
        )
        model = build_detector(config, CLASSES).model
        before = {k: v.clone() for k, v in model.state_dict().items()}
        counts = count(model, (100, 150))
        assert counts.size == (128, 160)
        assert model.training
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        adds[depth] = counts.multiply_adds["backbone"]
    tokens, wide = 8 * 10 + 1, 16
    block = tokens * 12 * wide**2 + 2 * tokens**2 * wide  # the layers, and attention itself
    # BEiT's table of 27 x 27 offsets and 2 heads becomes one of 15 x 19
    bias = 2 * 15 * 27 * (27 + 19) if name.startswith("beit") else 0
    assert adds[6] - adds[4] == 2 * (block + bias)
