"""What a run will be and cost, before it starts: nothing is written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from omegaconf import DictConfig
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pretrain.run.loop import Loop
from pretrain.run.provenance import peak_memory_mib
from pretrain.run.timing import median_step_seconds
from transfer.detection.optimizer import lr_factor
from transfer.detection.prepare import Run, prepare
from transfer.detection.processes import start_processes
from transfer.detection.trainer import DetectorTraining

BARS = " ▁▂▃▄▅▆▇█"


PLOT_COLUMNS = 60


def dry_run(config: DictConfig) -> list[str]:
    """Check and build everything, run a few steps, and say what the whole run would take."""
    fabric = start_processes(config.train.device, config.train.precision)
    setup = prepare(config)
    training = DetectorTraining(setup)
    loop = Loop(fabric, training, training.settings(), setup.out, resume=False)
    schedule, batch = training.schedule, config.train.batch_size
    images = len(setup.train.records.trainable())
    step_s = median_step_seconds(loop)
    encoder = sum(p.numel() for p in setup.detector.features.encoder.parameters())
    counts = _counts(setup)
    epochs = schedule["steps"] * batch / images
    return [
        f"data: {config.data.name}, {images:,} training and {len(setup.val.records):,} validation "
        f"images, {len(setup.val.classes)} classes",
        f"model: {setup.detector.features.arch}, {encoder / 1e6:.2f} M parameters in the encoder, "
        f"{sum(counts.parameters.values()) / 1e6:.2f} M in all",
        f"forward pass: {counts}",
        f"weights: {setup.detector.report or 'none, from scratch'}",
        f"schedule: {schedule['steps']:,} steps of {batch} images ({epochs:.1f} epochs)",
        f"learning rate: {config.optimizer.lr:g} at most",
        f"  |{_plot(schedule)}|",
        f"probe on {setup.device}: {batch / step_s:.2f} images/s, {step_s:.3f} s a step, peak "
        f"memory {peak_memory_mib(setup.device):,.0f} MiB",
        f"training would take {schedule['steps'] * step_s / 3600:.2f} hours without evaluation",
    ]


@dataclass(frozen=True)
class Counts:
    """By part: backbone (its pyramid included), rpn, box, mask."""

    parameters: dict[str, int]  # trainable or not; FrozenBN's values are buffers and do not count
    multiply_adds: dict[str, float]
    size: tuple[int, int]  # height, width of the image in pixels

    def __str__(self) -> str:
        total = sum(self.multiply_adds.values())
        parts = ", ".join(f"{k} {v / 1e9:.1f}" for k, v in self.multiply_adds.items())
        height, width = self.size
        return f"{total / 1e9:.1f} G multiply-adds an image of {width} x {height} ({parts})"


def _counts(setup: Run) -> Counts:
    """At the size the papers count at, or that of an image where tests do not resize."""
    sides = [step for step in setup.config.input.test if "short_edge_length" in step]
    image = setup.val.records[0]
    size = (image["height"], image["width"])
    if sides:
        size = counting_size(sides[0].short_edge_length, sides[0].max_size)
    return count(setup.detector.model, size)


def _plot(schedule: dict) -> str:
    """Return the learning rate over the run as one line of bars."""
    columns = min(PLOT_COLUMNS, schedule["steps"])
    at = [round(i * (schedule["steps"] - 1) / max(columns - 1, 1)) for i in range(columns)]
    return "".join(BARS[round(lr_factor(step, **schedule) * (len(BARS) - 1))] for step in at)


PROPOSALS, DETECTIONS = 1000, 100


STRIDE = 32


WIDEST = 1.6  # width / height of the papers' 1280 x 800


def count(model: GeneralizedRCNN, size: tuple[int, int]) -> Counts:
    """Count a model on any device (also meta) for an image of `size` (height, width).

    The image is padded as the model pads it; the largest stride is at least 32.
    """
    divisor = max(STRIDE, model.backbone.size_divisibility)
    square = getattr(model.backbone, "square_pad", 0)
    size = (square, square) if square else size
    height, width = (-(-side // divisor) * divisor for side in size)
    heads, training = model.roi_heads, model.training
    box, predictors = _several(heads.box_head), _several(heads.box_predictor)
    modules = {
        "backbone": [model.backbone],
        "rpn": [model.proposal_generator],
        "box": [*box, *predictors],
        "mask": [heads.mask_head] if heads.mask_on else [],
    }
    model.eval()
    adds = _multiply_adds(model, torch.Size((1, 3, height, width)))
    model.train(training)
    parameters = {
        name: sum(p.numel() for part in parts for p in part.parameters())
        for name, parts in modules.items()
    }
    return Counts(parameters, adds, (height, width))


def _multiply_adds(model: GeneralizedRCNN, shape: torch.Size) -> dict[str, float]:
    """By part, for images of `shape` (1, 3, H, W)."""
    heads, rpn = model.roi_heads, model.proposal_generator
    device = next(model.parameters()).device

    def regions(number: int, pooler: ROIPooler) -> Tensor:
        channels = model.backbone.output_shape()[heads.box_in_features[0]].channels
        return torch.empty(number, channels, *pooler.output_size, device=device)

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        maps, backbone = _run(model.backbone, torch.empty(shape, device=device))
        _, proposals = _run(rpn.rpn_head, [maps[name] for name in rpn.in_features])
        box, mask = 0.0, 0.0
        for stage in zip(_several(heads.box_head), _several(heads.box_predictor), strict=True):
            box += _run(nn.Sequential(*stage), regions(PROPOSALS, heads.box_pooler))[1]
        if heads.mask_on:
            mask = _run(heads.mask_head.layers, regions(DETECTIONS, heads.mask_pooler))[1]
    return {"backbone": backbone, "rpn": proposals, "box": box, "mask": mask}


def counting_size(short_edge: int, longest: int) -> tuple[int, int]:
    """Height and width that the papers count at: edges of 800 and at most 1333 give 800 x 1280."""
    return short_edge, min(longest, round(WIDEST * short_edge))


def _run(call: Callable[[Any], Any], inputs: Any) -> tuple[Any, float]:
    # the counter does not know every fused kernel of attention
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = call(inputs)
    return output, counter.get_total_flops() / 2


def _several(part: nn.Module) -> list[nn.Module]:
    """Return the stages of a cascade, or the one there is."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]
