"""Controls: encoders without what training taught them, to compare the trained ones with.

    control:shuffled:FILE    the values of each tensor of FILE permuted within the tensor: what is
                             left of the training is the scale of its weights
    control:random           the random weights that training from scratch begins with, frozen

Both follow the seed of the run. Running statistics of BatchNorm belong to the weights they were
measured with: in a control they are measured anew, on random images with the spectrum of
photographs (power falls with the square of the frequency).
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

import pretrain
from pretrain.files.encoder_file import EncoderIdentity
from pretrain.files.lineage import CONTROL, RANDOM, Stage, method_of
from pretrain.files.read import WeightsError, sha256_of
from transfer.features import TimmFeatures
from transfer.weights.convert import Weights
from transfer.weights.identity import IMAGENET
from transfer.weights.releases import located

PREFIX = "control:"
RANDOM_ENCODER = f"{PREFIX}{RANDOM}"
SHUFFLED_FILE = f"{PREFIX}{CONTROL}:"
BATCH_STATISTICS = "running_mean", "running_var"
IMAGES, SIDE = 16, 128  # of the random images that BatchNorm is measured on


def is_control(weights: str | Path) -> bool:
    """Return whether `weights` names a control; raises WeightsError for an unknown kind."""
    text = str(weights)
    if not text.startswith(PREFIX):
        return False
    if text == RANDOM_ENCODER or text.removeprefix(SHUFFLED_FILE) not in (text, ""):
        return True
    raise WeightsError(
        f"weights={text}: a control is {SHUFFLED_FILE}FILE (its values permuted within each "
        f"tensor) or {RANDOM_ENCODER} (a frozen random encoder)"
    )


def file_of(weights: str | Path) -> str | None:
    """Return the file that `weights` are read from; None for "none" and a random encoder."""
    if str(weights) == "none":
        return None
    if not is_control(weights):
        return str(weights)
    return str(weights).removeprefix(SHUFFLED_FILE) if str(weights) != RANDOM_ENCODER else None


def sha256_of_weights(weights: str | Path, seed: int) -> str:
    """Return the SHA-256 that a record has of `weights`, "none" from scratch.

    A control has one of its own, of its kind, the seed and the file: never that of the file.
    """
    file = file_of(weights)
    own = sha256_of(located(file)) if file else ""
    if not is_control(weights):
        return own or "none"
    kind = CONTROL if file else RANDOM
    return hashlib.sha256(f"{PREFIX}{kind}:{seed}:{own}".encode()).hexdigest()


def shuffled(weights: Weights, name: str, seed: int) -> Weights:
    """Return `weights` with the values of each tensor permuted within the tensor.

    `name` is what the control is called in the record. The lineage gains a stage.
    """
    tensors = {n: _permuted(n, tensor, seed) for n, tensor in weights.tensors.items()}
    stage = Stage(CONTROL, seed=seed, started_from=weights.sha256)
    stages = (*weights.identity.stages, stage)
    identity = replace(weights.identity, stages=stages, method=method_of(stages))
    sha256 = sha256_of_weights(name, seed)
    return replace(weights, file=name, tensors=tensors, identity=identity, sha256=sha256)


def _permuted(name: str, tensor: Tensor, seed: int) -> Tensor:
    if name.endswith(BATCH_STATISTICS) or not tensor.is_floating_point():
        return tensor
    word = hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8]
    generator = torch.Generator().manual_seed(int.from_bytes(word, "little") >> 1)
    order = torch.randperm(tensor.numel(), generator=generator)
    return tensor.flatten()[order].view(tensor.shape)


def random_identity(features: TimmFeatures, seed: int) -> EncoderIdentity:
    """Return the identity of a random encoder: one stage, "random", and ImageNet's pixels."""
    return EncoderIdentity(
        arch=features.arch,
        arch_args=features.arch_args,
        method=RANDOM,
        stages=(Stage(RANDOM, labels=False, seed=seed),),
        input_size=int(features.encoder.pretrained_cfg["input_size"][-1]),
        pixel_mean=IMAGENET.mean,
        pixel_std=IMAGENET.std,
        color_order=IMAGENET.color_order,
        steps=0,
        recipe={},
        suite_version=pretrain.__version__,
        commit="unknown",
    )


def measure_batch_norms(features: TimmFeatures, seed: int) -> list[str]:
    """Set the running statistics of every BatchNorm to those of random images, in place.

    Return the names of what was set.
    """
    named = {n: m for n, m in features.encoder.named_modules() if isinstance(m, _BatchNorm)}
    if not named:
        return []
    norms = list(named.values())
    momenta = [norm.momentum for norm in norms]
    features.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, here of one
        norm.train()
    with torch.no_grad():
        features(random_images(seed))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    features.train()
    return [
        f"{name}.{buffer}" for name, norm in named.items() for buffer, _ in norm.named_buffers()
    ]


def random_images(seed: int) -> Tensor:
    """Return images (IMAGES, 3, SIDE, SIDE) of mean 0 and variance 1, coarse noise on fine."""
    generator = torch.Generator().manual_seed(seed)
    octaves = [
        F.interpolate(
            torch.randn(IMAGES, 3, cells, cells, generator=generator), SIDE, mode="bilinear"
        )
        for cells in (2**i for i in range(1, SIDE.bit_length()))
    ]
    images = torch.stack(octaves).sum(0)
    return (images - images.mean()) / images.std()
