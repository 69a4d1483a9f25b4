"""The sections of tools/gpu_report.py: what to find out on a GPU, case by case.

A section is a generator of (name of a case, function that returns its figures). On the CPU, or
with tiny nets, the same cases run in seconds and show that they work; their figures mean nothing.
"""

import importlib.util
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.data.masks import block_visible
from pretrain.methods.beit import BEiT
from pretrain.methods.fcmae import FCMAE
from pretrain.methods.spark import SparK
from tools.benchmarks import detection, pretrain, segmentation
from tools.benchmarks.gradients import gradient_errors
from tools.benchmarks.interleave import interleave, memory_of
from tools.golden import check_case, read_case

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
Figures = dict[str, Any]
Cases = Iterator[tuple[str, Callable[[], Figures]]]
Loss = Callable[[], Tensor]

ARCHS = {"spark": "resnet50", "fcmae": "convnextv2_base", "beit": "beit_base_patch16_224"}
CONVNETS: dict[str, Any] = {"spark": SparK, "fcmae": FCMAE}
TINY: dict[str, dict[str, Any]] = {
    "spark": {"layers": [1, 1, 1, 1], "channels": [8, 12, 20, 16]},
    "fcmae": {"depths": [1, 1, 1, 1], "dims": [8, 12, 20, 32]},
    "beit": {"embed_dim": 48, "depth": 2, "num_heads": 3},
}
STEPS = 50  # of detection and segmentation


@dataclass(frozen=True)
class Scale:
    """Where and how large: `tiny` nets and images show on any machine that a case runs."""

    device: torch.device
    tiny: bool = False
    batch: int = 64  # images of a pretraining step

    def pick(self, full: Any, tiny: Any) -> Any:
        """Return `full`, or `tiny` for tiny nets."""
        return tiny if self.tiny else full


def goldens(scale: Scale) -> Cases:
    """Check every golden case of the official codes, in float64 and float32, both ways."""
    for folder in sorted(path for path in GOLDEN.iterdir() if path.is_dir()):
        convnet = folder.name.startswith(("spark", "fcmae_conv"))
        for sparse in ("patches", "dense") if convnet else ("",):
            for dtype in (torch.float64, torch.float32):
                words = (folder.name, sparse, str(dtype).removeprefix("torch."))
                case = partial(_golden, folder, sparse or "patches", dtype, scale)
                yield ", ".join(word for word in words if word), case


def _golden(folder: Path, sparse: str, dtype: torch.dtype, scale: Scale) -> Figures:
    case = read_case(folder, sparse=sparse, dtype=dtype, device=str(scale.device))
    with torch.backends.cudnn.flags(allow_tf32=False):
        checks = check_case(case)
    past = [check.name for check in checks if not check.passed]
    return {
        "quantities": len(checks),
        "largest error": max(check.error for check in checks),
        "past tolerance": len(past),
        "which": past,
    }


def gradients(scale: Scale) -> Cases:
    """Gradients under bfloat16 autocast against float32."""
    for method, sparse in (*((m, s) for m in CONVNETS for s in ("patches", "dense")), ("beit", "")):
        yield f"{method} {sparse}".strip(), partial(_gradients, method, sparse, scale)


def _gradients(method: str, sparse: str, scale: Scale) -> Figures:
    model, loss = pretraining(method, sparse, scale, scale.pick(scale.batch, 4))
    groups = gradient_errors(model, loss, scale.device)
    worst = max(groups, key=lambda group: groups[group].relative)
    tokens = [error.relative for group, error in groups.items() if group.startswith("mask_token")]
    return {
        "largest relative error": groups[worst].relative,
        "its cosine": groups[worst].cosine,
        "in": worst,
        "mask tokens": max(tokens),
        "groups": {group: [error.relative, error.cosine] for group, error in groups.items()},
    }


def pretraining_speed(method: str, scale: Scale) -> Cases:
    """Whole steps (forward, backward, AdamW): both ways, bfloat16 or TF32, compiled or not.

    SparK's and FCMAE's recipes train in TF32, BEiT's in float16, which is as quick as bfloat16.
    """
    for words in ("bf16", "tf32", "bf16, compiled"):
        for sparse in ("patches", "dense") if method in CONVNETS else ("",):
            name = f"{sparse or method}, {words}"
            yield name, partial(_speed, method, sparse, words, scale)


def _speed(method: str, sparse: str, words: str, scale: Scale) -> Figures:
    batch, compiled = scale.pick(scale.batch, 2), "compiled" in words
    torch.set_float32_matmul_precision("high")
    model, loss = pretraining(method, sparse, scale, batch, compiled)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=scale.device.type == "cuda")

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(scale.device.type, torch.bfloat16, enabled="bf16" in words):
            value = loss()
        value.backward()
        optimizer.step()

    seconds = interleave({"step": step}, scale.pick(20, 2), scale.pick(5, 1), scale.device)["step"]
    figures = {
        "images": batch,
        "ms per step": 1000 * statistics.median(seconds),
        "images/s": batch / statistics.median(seconds),
    }
    if scale.device.type == "cuda":
        figures["MiB of a step"] = memory_of(step, scale.device)
    return figures


def pretraining(
    method: str, sparse: str, scale: Scale, batch: int, compiled: bool = False
) -> tuple[nn.Module, Loss]:
    """Return a method on the device, and its loss on one batch of smooth random images."""
    torch.manual_seed(0)
    side, device = scale.pick(224, 64 if method == "beit" else 96), scale.device
    images = torch.randn(batch, 3, side // 8, side // 8, device=device)
    images = nn.functional.interpolate(images, (side, side), mode="bicubic")
    options: dict[str, Any] = {
        "arch": ARCHS[method],
        "arch_args": scale.pick({}, TINY[method]),
        "image_size": side,
        "drop_path_rate": 0.0,
    }
    inputs: tuple[Tensor, ...]
    if method == "beit":
        model, inputs = _beit(options, images)
        forward: Callable[..., Tensor] = model.loss_from_tokens
    else:
        if scale.tiny:
            options["decoder_width"] = 32
        forward = model = CONVNETS[method](**options, sparse=sparse)
        inputs = (images, pretrain.masks(model, batch).to(device))
    model.to(device)
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)
    if compiled:
        forward = torch.compile(forward, backend=scale.pick("inductor", "aot_eager"))
    return model, partial(forward, *inputs)


def _beit(options: dict[str, Any], images: Tensor) -> tuple[BEiT, tuple[Tensor, ...]]:
    import numpy as np

    model = BEiT(**options, vocab_size=8192)
    rng, grid = np.random.default_rng(0), model.grid
    model.most_masked = total = round(75 / 196 * grid[0] * grid[1])
    smallest = min(16, total)
    masks = [block_visible(rng, grid, total, smallest) for _ in images]
    visible = torch.from_numpy(np.stack(masks))[:, None].to(images.device)
    tokens = torch.randint(8192, (len(images), grid[0] * grid[1]), device=images.device)
    return model, (images, visible, tokens)


def detection_steps(arch: str, scale: Scale) -> Cases:
    """Training steps of Mask R-CNN in bfloat16, two images each."""
    yield f"Mask R-CNN, {arch}", partial(_detection, arch, scale)


def _detection(arch: str, scale: Scale) -> Figures:
    height, width = (1024, 1024) if arch.startswith("vit") else (800, 1216)
    height, width = scale.pick((height, width), (64, 64))
    arguments = detection.Arguments(arch, height=height, width=width, **_common(scale))
    return _beside(detection.run(arguments))


def segmentation_steps(arch: str, scale: Scale) -> Cases:
    """Training steps of UperNet in bfloat16, two crops of 512 px each."""
    yield f"UperNet, {arch}", partial(_segmentation, arch, scale)


def _segmentation(arch: str, scale: Scale) -> Figures:
    alone = arch.startswith("convnext") and importlib.util.find_spec("mmpretrain") is None
    crop = scale.pick(512, 64)
    arguments = segmentation.Arguments(arch, crop=crop, alone=alone, **_common(scale))
    figures = _beside(segmentation.run(arguments))
    return {**figures, "note": "mmpretrain is not installed"} if alone else figures


def _common(scale: Scale) -> dict[str, Any]:
    """Return the arguments of training steps that both tasks have."""
    return {
        "batch": 2,
        "steps": scale.pick(STEPS, 1),
        "warmup": scale.pick(5, 0),
        "amp": True,
        "device": str(scale.device),
        "phases": ("training",),
    }


def _beside(found: Figures) -> Figures:
    """Return the figures of a benchmark of two sides in one row."""
    training, figures = found["training"], {"images": found["batch"], "loss": found["loss"]}
    for side, speed in training["images_per_second"].items():
        figures[f"{side}: images/s"] = speed
        if "memory_mib" in training:
            figures[f"{side}: MiB of a step"] = training["memory_mib"][side]
    if "ratio" in training:
        figures["ours / theirs"] = training["ratio"]
    return figures


# section -> (minutes it may take, its cases)
SECTIONS: dict[str, tuple[float, Callable[[Scale], Cases]]] = {
    "goldens": (1.5, goldens),
    "gradients": (1.5, gradients),
    **{
        f"pretraining {method}": (4, partial(pretraining_speed, method))
        for method in (*CONVNETS, "beit")
    },
    **{
        f"detection {arch}": (1.2, partial(detection_steps, arch))
        for arch in ("resnet50", *detection.CONFIGS)
    },
    **{
        f"segmentation {arch}": (1.2, partial(segmentation_steps, arch))
        for arch in ("convnextv2_base", "beit")
    },
}
