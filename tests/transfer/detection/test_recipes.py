"""The papers' configs: sizes as published, settings as sourced, and first steps at reduced size."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn

from tests.transfer.detection.conftest import draw_split
from transfer.detection.build import build_detector, build_optimizer
from transfer.detection.config import load_config, protocol_of
from transfer.detection.data import Split, TrainImages, read_split
from transfer.detection.prepare import Run, mapper_of
from transfer.features import TimmFeatures
from transfer.results.record import protocol_hash

CONFIGS = Path(__file__).parents[3] / "configs/detection"
DATA = [f"data.{s}_{k}=x" for s in ("train", "val") for k in ("json", "images")]
RECIPES = sorted(p.stem for p in CONFIGS.glob("*.py") if not p.stem.startswith("shapes_"))
TINY = {
    "resnet": ("resnet26", {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}),
    "convnext_": ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}),
    "convnextv2": ("convnextv2_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}),
    "beit": ("beit_base_patch16_224", {"embed_dim": 16, "depth": 4, "num_heads": 2}),
    "vit": ("vit_base_patch16_224", {"embed_dim": 16, "depth": 4, "num_heads": 2}),
}
# millions of parameters, classifier not counted: recipes of ConvNeXt V2 (table 6), MAE (table 4)
PUBLISHED_M = {
    "convnext_base_3x": 89,
    "convnext_large_3x": 198,
    "convnextv2_base_3x": 89,
    "convnextv2_large_3x": 198,
    "convnextv2_huge_3x": 659,
    "vit_base_100ep": 86,
    "vit_large_100ep": 307,
}


def load(name: str, *more: str) -> DictConfig:
    data = DATA if name.startswith("custom") else []
    return load_config(CONFIGS / f"{name}.py", [*data, *more])


@pytest.mark.parametrize("name", RECIPES)
def test_the_first_step_runs_at_reduced_size(name: str) -> None:
    arch = load(name).arch or "convnextv2_"
    tiny, args = next(v for k, v in TINY.items() if k in arch)
    config = load(
        name,
        f"arch={tiny}",
        f"arch_args={args}",
        "model.channels=16",
        "model.roi_batch=8",
        "model.rpn_batch=16",
        "model.pre_nms_topk=[20, 20]",
        "model.post_nms_topk=[10, 10]",
        "model.mask_convs=[8, 8]",
        "model.box_fcs=[16]",
        "freeze=none",
    )
    config.model.square_pad = 96 if config.model.square_pad else 0
    if config.model.box_convs:
        config.model.box_convs = [8, 8]
    model = build_detector(config, num_classes=2).model
    optimizer = build_optimizer(config, model, tiny)
    size = (64, 96)
    truth = Instances(size)
    truth.gt_boxes = Boxes(torch.tensor([[8.0, 8, 40, 40], [20, 10, 60, 60]]))
    truth.gt_classes = torch.tensor([0, 1])
    masks = torch.zeros(2, *size, dtype=torch.bool)
    masks[0, 8:40, 8:40] = masks[1, 10:60, 20:60] = True
    truth.gt_masks = BitMasks(masks)
    image = torch.randint(0, 255, (3, *size)).float()
    with EventStorage():
        losses = model([{"image": image, "instances": truth}] * 2)
    total = sum(losses.values())
    total.backward()
    assert total.isfinite()
    lacking = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not lacking  # or more than one process would hang on them
    optimizer.step()
    model.eval()
    with torch.no_grad():
        found = model([{"image": image, "height": 128, "width": 192}])[0]["instances"]
    assert found.image_size == (128, 192)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[type, Split]:
    """The kind of masks a mapper makes -> a split that it makes them of."""
    root = tmp_path_factory.mktemp("masks")
    return {
        kind: read_split(name, *draw_split(root / name, 3, seed=4, run_lengths=name == "codes"))
        for kind, name in ((PolygonMasks, "polygons"), (BitMasks, "codes"))
    }


@pytest.mark.parametrize("kind", [PolygonMasks, BitMasks])
@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_own_mapper_takes_every_kind_of_mask(
    splits: dict[type, Split], name: str, kind: type
) -> None:
    config, split = load(name), splits[kind]
    detector = SimpleNamespace(image_format="RGB")
    setup = Run(config, Path(), torch.device("cpu"), split, split, detector)
    records = split.records.trainable()
    images = TrainImages(records, mapper_of(setup, training=True), seed=0)
    seen = 0
    for place in range(4):  # half of ConvNeXt's images are cropped
        mapped = images[place, place % len(records)]
        truth = mapped["instances"]
        assert truth.image_size == tuple(mapped["image"].shape[1:])
        seen += len(truth)
        if len(truth):
            assert type(truth.gt_masks) is kind
            edges = truth.gt_masks.get_bounding_boxes().tensor
            assert np.allclose(edges, truth.gt_boxes.tensor, atol=scale_px(mapped))
    assert seen >= 4  # crops may lose some of eight objects


def scale_px(mapped: dict[str, Any]) -> float:
    """Pixels that a pixel of the file became, at least one."""
    return 1 + max(mapped["image"].shape) / mapped["height"]


@pytest.mark.parametrize(("name", "millions"), PUBLISHED_M.items())
def test_encoders_have_the_published_size(name: str, millions: float) -> None:
    config = load(name)
    with torch.device("meta"):
        features = TimmFeatures(config.arch, pyramid="auto")
    count = sum(p.numel() for p in features.encoder.parameters()) / 1e6
    # the papers count the classifier of 1000 classes, 0.8 to 2.8 M; the usual 307 M of ViT-L is of
    # the first ViT paper, whose net has one more layer (timm's: 304.3 M with a classifier)
    assert millions - 4.0 < count < millions + 0.5


def test_settings_follow_their_sources() -> None:
    spark = load("spark_resnet50_1x")
    assert (spark.optimizer.lr, spark.optimizer.weight_decay, spark.layer_decay) == (
        2.5e-4,
        1e-4,
        0.6,
    )
    assert (spark.schedule.steps, list(spark.schedule.milestones)) == (90_000, [60_000, 80_000])
    assert (spark.schedule.gamma, spark.train.precision) == (0.25, "fp32")
    assert list(spark.input.train[0].short_edge_length)[::13] == [480, 896]
    convnext = load("spark_convnext_base_3x")
    assert (convnext.layer_decay, convnext.schedule.gamma) == (0.65, 0.2)
    assert convnext.features.drop_path_rate == 0.5
    assert convnext.schedule.steps == pytest.approx(36 * 117_266 / 16, rel=1e-3)
    second = load("convnextv2_base_3x")
    assert second.schedule.steps == pytest.approx(36 * 117_266 / 32, rel=1e-3)
    assert second.model.soft_nms.method == "linear"
    assert second.model.soft_nms.iou_threshold == 0.5
    assert second.input.train[-1].pad is False
    lvis = load("resnet50_lvis_1x")
    assert (lvis.schedule.steps, list(lvis.schedule.milestones)) == (180_000, [120_000, 160_000])
    vit = load("vit_large_100ep")
    assert vit.schedule.steps * vit.train.batch_size == pytest.approx(100 * 118_000, rel=1e-3)
    assert (vit.features.window_size, vit.layer_decay) == (14, 0.8)


def test_the_cascade_is_convnexts() -> None:
    model = load("convnext_base_3x").model
    assert list(model.stage_loss_weights) == [1, 0.5, 0.25]
    assert (model.box_norm, model.mask_norm, model.box_loss) == ("SyncBN", "", "giou")
    assert list(model.post_nms_topk) == [2000, 1000]
    built = build_detector(load("convnext_base_3x", "arch=convnext_atto"), num_classes=2).model
    rpn, heads = built.proposal_generator, built.roi_heads
    assert (rpn.smooth_l1_beta, rpn.anchor_boundary_thresh) == (1 / 9, 0)
    assert rpn.post_nms_topk == {True: 2000, False: 1000}
    assert not [m for m in heads.mask_head.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m for m in heads.box_head[2].modules() if isinstance(m, nn.BatchNorm2d)]
    weights = [
        (p.loss_weight["loss_cls"], p.loss_weight["loss_box_reg"]) for p in heads.box_predictor
    ]
    assert weights == [(1, 10), (0.5, 5), (0.25, 2.5)]


def test_the_cascade_is_a_switch_that_changes_the_protocol() -> None:
    plain, cascade = load("spark_resnet50_1x"), load("spark_resnet50_1x", "model.cascade=true")
    assert protocol_hash(protocol_of(plain)) != protocol_hash(protocol_of(cascade))


def test_freezing_the_first_stages_is_detectron2s_freeze_at() -> None:
    config = load("resnet50_1x", "arch=resnet26", f"arch_args={TINY['resnet'][1]}")
    encoder = build_detector(config, num_classes=2).features.encoder
    trained = {n.split(".")[0] for n, p in encoder.named_parameters() if p.requires_grad}
    assert trained == {"layer2", "layer3", "layer4"}
