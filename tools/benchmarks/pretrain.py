"""Pretraining steps: visible patches (ours), dense-masked, and the plain unmasked network.

Dense-masked is what the official SparK code does: each convolution over the whole map, then times
the mask, norms over gathered visible positions. Dense is the same network without any mask. A step
is forward, backward and AdamW on one fixed batch; the data are not timed.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from pretrain.data.masks import random_visible
from pretrain.encoders import run_encoder
from pretrain.methods.fcmae import FCMAE
from pretrain.methods.pixels import masked_patch_loss, patchify
from pretrain.methods.spark import SparK
from tools.benchmarks.interleave import interleave, median_ratio

METHODS = {"spark": SparK, "fcmae": FCMAE}
Method = tyro.extras.literal_type_from_choices(METHODS)
ARCHS = {"spark": "resnet50", "fcmae": "convnextv2_tiny"}
VARIANTS = {"ours": "patches", "dense_masked": "dense", "dense": "dense"}


@dataclass(frozen=True)
class Arguments:
    """The method, the size of the batches and how they are run."""

    method: Method
    """What is pretrained with."""
    arch: str | None = None
    """A timm convnet; default: resnet50 or convnextv2_tiny."""
    image_size: int = 224
    """Pixels per side."""
    batch: int = 8
    """Images of a batch."""
    threads: int = 1
    """Threads of the CPU."""
    steps: int = 5
    """Rounds that are timed."""
    warmup: int = 1
    """Rounds before them."""
    device: str = "cpu"
    """Where it runs."""
    amp: bool = False
    """Bfloat16 autocast."""
    compile: bool = False
    """Run every variant with torch.compile."""


def run(args: Arguments) -> dict[str, Any]:
    """Print and return images per second, ratios, memory and FLOPs."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device, arch = torch.device(args.device), args.arch or ARCHS[args.method]
    models = {
        name: METHODS[args.method](arch=arch, image_size=args.image_size, sparse=sparse).to(device)
        for name, sparse in VARIANTS.items()
    }
    if device.type == "cuda":  # as `build_method` has it
        models = {n: m.to(memory_format=torch.channels_last) for n, m in models.items()}
    images = torch.randn(args.batch, 3, args.image_size, args.image_size, device=device)
    visible = masks(models["ours"], args.batch).to(device)
    losses = {n: _loss(m, n, images, visible, args) for n, m in models.items()}
    encoders = {n: _encoder(m, n, images, visible, args) for n, m in models.items()}
    memory = {n: activation_bytes(losses[n], models[n]) for n in models}
    encoder_memory = {n: activation_bytes(encoders[n], models[n]) for n in models}
    steps = {n: _step(losses[n], models[n]) for n in models}
    passes = {n: _backward(encoders[n], models[n]) for n in models}
    seconds = interleave(steps, args.steps, args.warmup, device)
    encoder_seconds = interleave(passes, args.steps, args.warmup, device)
    flops = _flops(models["dense"], images[:1], visible[:1])
    fraction = float(visible.float().mean())
    ideal = flops["whole"] / (flops["whole"] - (1 - fraction) * flops["encoder"])
    against_dense = median_ratio(seconds, "dense", "ours")
    figures = {
        "method": args.method,
        "arch": arch,
        "image_size": args.image_size,
        "batch": args.batch,
        "threads": args.threads,
        "device": str(device),
        "amp": args.amp,
        "compiled": args.compile,
        "visible_fraction": fraction,
        "images_per_second": {n: args.batch / statistics.median(s) for n, s in seconds.items()},
        "step_ratio_vs_dense_masked": median_ratio(seconds, "dense_masked", "ours"),
        "encoder_ratio_vs_dense_masked": median_ratio(encoder_seconds, "dense_masked", "ours"),
        "step_ratio_vs_dense": against_dense,
        "encoder_ratio_vs_dense": median_ratio(encoder_seconds, "dense", "ours"),
        "activation_bytes": memory,
        "activation_memory_ratio": memory["ours"] / memory["dense_masked"],
        "encoder_activation_memory_ratio": encoder_memory["ours"] / encoder_memory["dense_masked"],
        "gflops_per_image": {n: count / 1e9 for n, count in flops.items()},
        "flop_ideal_ratio": ideal,
        "fraction_of_flop_ideal": against_dense / ideal,
    }
    _print(figures)
    return figures


def activation_bytes(call: Callable[[], Tensor], model: nn.Module) -> int:
    """Count the bytes a forward pass keeps for backward, without parameters and buffers."""
    kept = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in kept:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = call()
    del loss
    return sum(sizes.values())


def masks(model: Any, batch: int) -> Tensor:
    """Draw masks (batch, 1, h, w) bool with the model's own number of visible patches."""
    rng = np.random.default_rng(0)
    drawn = [random_visible(rng, model.grid, model.n_visible) for _ in range(batch)]
    return torch.from_numpy(np.stack(drawn))[:, None]


def _loss(
    model: Any, name: str, images: Tensor, visible: Tensor, args: Arguments
) -> Callable[[], Tensor]:
    forward = (lambda x, v: _plain_loss(model, x, v)) if name == "dense" else model
    forward = torch.compile(forward) if args.compile else forward

    def call() -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=args.amp):
            return forward(images, visible)

    return call


def _plain_loss(model: Any, images: Tensor, visible: Tensor) -> Tensor:
    """Compute the loss of the same network with every patch visible, in timm's own layers."""
    features = run_encoder(model.encoder, images, model.masked.maps)
    if isinstance(model, FCMAE):
        prediction = model.decode(model.proj(features[-1]))
    else:
        layers = zip(reversed(features), model.densify_norms, model.densify_projs, strict=True)
        decoded = model.decoder([proj(norm(feature)) for feature, norm, proj in layers])
        prediction = patchify(decoded, model.masked.patch)
    return masked_patch_loss(prediction, images, visible)


def _encoder(
    model: Any, name: str, images: Tensor, visible: Tensor, args: Arguments
) -> Callable[[], Tensor]:
    maps = model.masked.maps[-1:] if isinstance(model, FCMAE) else model.masked.maps

    def features(x: Tensor, v: Tensor) -> list[Tensor]:
        if name == "dense":
            return run_encoder(model.encoder, x, maps)
        return model.masked(x, model.view(v), maps)

    forward = torch.compile(features) if args.compile else features

    def call() -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=args.amp):
            return torch.stack([f.float().sum() for f in forward(images, visible)]).sum()

    return call


def _step(call: Callable[[], Tensor], model: nn.Module) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        call().backward()
        optimizer.step()

    return step


def _backward(call: Callable[[], Tensor], model: nn.Module) -> Callable[[], None]:
    def both() -> None:
        model.zero_grad()
        call().backward()

    return both


class _Whole(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        return _plain_loss(self.model, images, visible)


class _Encoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.maps = model.encoder, model.masked.maps

    def forward(self, images: Tensor) -> list[Tensor]:
        return run_encoder(self.encoder, images, self.maps)


def _flops(model: nn.Module, image: Tensor, visible: Tensor) -> dict[str, float]:
    """Count FLOPs of one image with fvcore (a multiply-add is one): plain network, forward only."""
    counts = {}
    for name, module, inputs in (
        ("whole", _Whole(model), (image, visible)),
        ("encoder", _Encoder(model), (image,)),
    ):
        analysis = FlopCountAnalysis(module.eval(), inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counts[name] = float(analysis.total())
    return counts


def _print(figures: dict[str, Any]) -> None:
    for name, speed in figures["images_per_second"].items():
        megabytes = figures["activation_bytes"][name] / 1e6
        print(f"{name:<13}{speed:8.2f} images/s   {megabytes:8.0f} MB of activations")
    flops = figures["gflops_per_image"]
    print(
        f"step     {figures['step_ratio_vs_dense_masked']:.2f}x dense-masked, "
        f"{figures['step_ratio_vs_dense']:.2f}x dense\n"
        f"encoder  {figures['encoder_ratio_vs_dense_masked']:.2f}x dense-masked, "
        f"{figures['encoder_ratio_vs_dense']:.2f}x dense\n"
        f"activation memory {figures['activation_memory_ratio']:.2f} of dense-masked, "
        f"of the encoder {figures['encoder_activation_memory_ratio']:.2f}\n"
        f"{flops['whole']:.2f} GFLOP an image ({flops['encoder']:.2f} the encoder; fvcore), "
        f"ideal {figures['flop_ideal_ratio']:.2f}x dense, "
        f"reached {100 * figures['fraction_of_flop_ideal']:.0f}% of it"
    )
