"""Mask R-CNN as a GPU would run it: every tensor on one device, the same losses as on the CPU.

Training and inference run whole, RoIAlign and NMS included, since the stand-ins of a GPU have
numbers. What this cannot show: backward passes, CUDA kernels, memory, speed.
"""

import pytest

pytest.importorskip("detectron2")
import torch
from detectron2.utils.events import EventStorage

from tests.gpu_form import CUDA, MixedDevicesError, StandIn, stand_in_gpu
from tools.benchmarks.detection import PIXELS, random_batch
from transfer.detection.mask_rcnn import mask_rcnn
from transfer.features import TimmFeatures

SMALL = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
VIT = {"embed_dim": 48, "depth": 4, "num_heads": 3}
NETS = {
    "resnet": ("resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}),
    "convnext": ("convnextv2_atto", SMALL),
    "vit": ("vit_tiny_patch16_224", VIT),
    "beit": ("beit_base_patch16_224", VIT),
}


def detector(net: str):
    torch.manual_seed(0)
    arch, arch_args = NETS[net]
    size = 128 if net in ("vit", "beit") else None
    features = TimmFeatures(arch, arch_args, pyramid="auto", pyramid_channels=16, image_size=size)
    return mask_rcnn(features, num_classes=5, channels=16, **PIXELS)


@pytest.mark.parametrize("net", NETS)
def test_training_losses_are_those_of_the_cpu(net, monkeypatch):
    batch, losses = random_batch(2, 96, 128, classes=5), []
    for gpu in (False, True):
        model = detector(net).train()
        torch.manual_seed(1)
        with EventStorage(), monkeypatch.context() as patches:
            if not gpu:
                losses.append({name: value.item() for name, value in model(batch).items()})
                continue
            with stand_in_gpu(patches, autocast=False):
                found = model.to(CUDA)(batch)
            assert all(type(value) is StandIn for value in found.values())
            losses.append({name: value.numbers.item() for name, value in found.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("net", NETS)
def test_under_autocast(net, monkeypatch):
    """Losses stay float32; detections come out of the whole net."""
    model, batch = detector(net).train(), random_batch(2, 96, 128, classes=5)
    with EventStorage(), stand_in_gpu(monkeypatch) as reads:
        losses = model.to(CUDA)(batch)
        features = model.backbone(torch.zeros(1, 3, 64, 64, device=CUDA))
        before = len(reads)
        model.backbone(torch.zeros(1, 3, 64, 64, device=CUDA))
        assert len(reads) == before  # the backbone never makes the host wait
        found = model.eval()(batch)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert all(map_.device == CUDA for map_ in features.values())
    assert all(item["instances"].pred_boxes.device == CUDA for item in found)


def test_a_tensor_left_behind_is_noticed(monkeypatch):
    model = detector("resnet").train()
    with EventStorage(), stand_in_gpu(monkeypatch):
        model.to(CUDA).pixel_mean = torch.zeros(3, 1, 1)
        with pytest.raises(MixedDevicesError, match="on the CPU"):
            model(random_batch(1, 96, 128, classes=5))
