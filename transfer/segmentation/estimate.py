"""What a run will cost, before it starts: counted on paper, timed on a few images."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.utils.flop_counter import FlopCounterMode

from transfer.segmentation import runner  # noqa: F401  registers what configs name
from transfer.segmentation.optimizer import autocast
from transfer.weights.controls import file_of
from transfer.weights.convert import read_weights

TIMED_PX = 128  # on a CPU; a GPU is timed at the crop size


@dataclass(frozen=True)
class Estimate:
    """Cost of a run on this device, alone."""

    parameters: int
    multiply_adds: float  # of the forward pass of one crop
    images: int  # that training sees
    state_bytes: int  # float32 weights, gradients and AdamW's two moments
    seconds_per_image: float  # forward and backward
    device: str

    @property
    def hours(self) -> float:
        """Training time on one such device, in hours."""
        return self.images * self.seconds_per_image / 3600

    def __str__(self) -> str:
        return (
            f"parameters           {self.parameters / 1e6:.1f} M "
            f"({self.state_bytes / 2**30:.1f} GiB with gradients and optimizer)\n"
            f"forward pass         {self.multiply_adds / 1e9:.1f} G multiply-adds per image\n"
            f"training             {self.images:,} images, "
            f"{3 * self.images * self.multiply_adds / 1e15:.1f} P multiply-adds\n"
            f"estimated on {self.device}  {self.seconds_per_image:.3f} s per image, "
            f"{self.hours:.1f} h on one such device, without evaluation"
        )


@dataclass(frozen=True)
class Count:
    """What a net is made of, and the multiply-adds of its forward pass of one crop."""

    parameters: int
    multiply_adds: float


def count(cfg: Config) -> Count:
    """Return the size of the net of the filled-in `cfg`; nothing is allocated."""
    height, width = cfg["crop_size"]
    with DefaultScope.overwrite_default_scope("mmseg"):
        with torch.device("meta"):
            paper = MODELS.build(_model_without_weights(cfg)).eval()
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            paper.decode_head(paper.extract_feat(torch.empty(1, 3, height, width, device="meta")))
    parameters = sum(p.numel() for p in paper.parameters())
    return Count(parameters, flops.get_total_flops() / 2)


def _model_without_weights(cfg: Config) -> dict[str, Any]:
    return {**cfg["model"], "backbone": {**cfg["model"]["backbone"], **without_weights(cfg)}}


def estimate(cfg: Config) -> Estimate:
    """Return the cost of the filled-in `cfg`: its net counted, two images timed both ways.

    Timed in the run's precision, but for fp16 on a CPU, where a run is refused: in fp32.
    """
    height, width = cfg["crop_size"]
    counted = count(cfg)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(_model_without_weights(cfg)).to(device)
    pixels = (height, width) if device.type == "cuda" else (TIMED_PX, TIMED_PX)
    precision = cfg["precision"]
    if device.type == "cpu" and precision == "fp16":
        precision = "fp32"
    seconds = _seconds_per_image(model, cfg["num_classes"], pixels, precision)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "this CPU"
    return Estimate(
        parameters=counted.parameters,
        multiply_adds=counted.multiply_adds,
        images=cfg["max_iters"] * cfg["batch_size"],
        state_bytes=16 * counted.parameters,
        seconds_per_image=seconds * height * width / (pixels[0] * pixels[1]),
        device=f"{name} in {precision}",
    )


def without_weights(cfg: Config) -> dict[str, Any]:
    """Return the backbone's settings for random weights in the architecture of the weights file."""
    net: dict[str, Any] = {"weights": "none", "fresh": [], "unused": []}
    file = file_of(cfg["weights"])
    if cfg["arch"] is None and file is not None:
        identity = read_weights(file).identity
        net |= {"arch": identity.arch, "arch_args": identity.arch_args}
    return net


def _seconds_per_image(
    model: Any, classes: int, size: tuple[int, int], precision: str, images: int = 2
) -> float:
    batch = random_batch(classes, size, images)
    best = float("inf")
    for _ in range(3):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        with autocast(precision, model):
            data = model.data_preprocessor(batch, training=True)
            losses = model(**data, mode="loss")
        sum(v.sum() for k, v in losses.items() if "loss" in k).backward()
        model.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best / images


def random_batch(classes: int, size: tuple[int, int], images: int) -> dict[str, Any]:
    """Return `images` random images and label maps of `size` (height, width), as a loader does."""
    labels = torch.randint(0, classes, (images, 1, *size))
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=label), metainfo={"img_shape": size})
        for label in labels
    ]
    inputs = torch.randint(0, 256, (images, 3, *size), dtype=torch.uint8)
    return {"inputs": list(inputs), "data_samples": samples}
