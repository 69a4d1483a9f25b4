"""Batches: timm's own transforms, drawn from (seed, epoch, image) alone, each image once."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import TrivialAugmentWide

from pretrain.data.order import BatchShare, StepSampler
from pretrain.data.reading import read_or_draw
from pretrain.run.seeds import seed_draws
from tests.transfer.classification.conftest import picture
from transfer.classification.config import Input
from transfer.classification.data import (
    RepeatedOrder,
    Stride,
    TrainingSamples,
    collate,
    evaluation_transform,
    train_transform,
    training_loader,
)
from transfer.datasets.class_split import ClassSplit, open_split
from transfer.weights import IMAGENET, PixelStats

SETTINGS = Input(input_size=32)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return picture(np.random.default_rng(0), "disc").resize((90, 64))


def drawn(transform, image, seed=3) -> torch.Tensor:
    seed_draws(seed, 0, 0, 0)
    return transform(image)


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "v0", ""])
def test_the_training_transform_is_timms(photo, policy):
    """As MAE's, BEiT's, ConvNeXt's and FCMAE's build_transform call it."""
    official = create_transform(
        input_size=32,
        is_training=True,
        color_jitter=None,
        auto_augment=policy or None,
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
    )
    ours = train_transform(replace(SETTINGS, auto_augment=policy), IMAGENET)
    for seed in range(8):
        assert torch.equal(drawn(ours, photo, seed), drawn(official, photo, seed))
    assert not torch.equal(drawn(ours, photo, 1), drawn(ours, photo, 2))


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "v0"])
def test_posterize_may_leave_no_bit(photo, policy):
    """timm draws 0 bits now and then, which Pillow 13 refuses: a run would end in its middle."""
    step = train_transform(replace(SETTINGS, auto_augment=policy), IMAGENET).transforms[2]
    rows = [step.ops] if hasattr(step, "ops") else step.policy
    found = [op for row in rows for op in row if op.name.startswith("Posterize")]
    assert found
    for op in found:
        op.magnitude, op.magnitude_std, op.prob = 10 if "Increasing" in op.name else 0, 0, 1.0
        bits = op.level_fn(op.magnitude, op.hparams)[0]
        assert op(photo).getextrema() == ((0, 0),) * 3 if bits == 0 else op(photo).size
        assert bits == 0 or "Original" in op.name
    few = found[0].aug_fn(photo, 2)
    assert set(np.unique(np.asarray(few))) <= {0, 64, 128, 192}


def test_trivial_augment_stands_where_auto_augment_stood():
    """SparK's data.py replaces it in timm's list: after crop and flip, before the tensor."""
    steps = train_transform(replace(SETTINGS, auto_augment="trivial"), IMAGENET).transforms
    names = [type(step).__name__ for step in steps]
    assert names == [
        "RandomResizedCropAndInterpolation",
        "RandomHorizontalFlip",
        "TrivialAugmentWide",
        "MaybeToTensor",
        "Normalize",
        "RandomErasing",
    ]
    assert isinstance(steps[2], TrivialAugmentWide)
    assert steps[2].interpolation.value == "bicubic"


@pytest.mark.parametrize(
    ("change", "resized"),
    [
        ({}, (50, 36)),  # floor(32 / 0.875) along the shorter side
        ({"crop_pct": 0.95}, (46, 33)),
        ({"squash": True}, (32, 32)),
    ],
)
def test_the_evaluation_transform(photo, change, resized):
    transform = evaluation_transform(replace(SETTINGS, **change), IMAGENET)
    assert transform.transforms[0](photo).size == resized
    assert transform(photo).shape == (3, 32, 32)


def test_pixels_are_the_encoders(photo):
    plain = PixelStats((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "RGB")
    raw = evaluation_transform(SETTINGS, plain)(photo)
    bgr = PixelStats((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "BGR")
    found = evaluation_transform(SETTINGS, bgr)(photo)
    mean, std = (torch.tensor(v)[:, None, None] for v in (bgr.mean, bgr.std))
    assert torch.allclose(found, (raw.flip(0) - mean) / std)


def batches_of(split: ClassSplit, share: BatchShare, order, workers: int, steps: int = 4):
    samples = TrainingSamples(split, train_transform(SETTINGS, IMAGENET), seed=5)
    return list(training_loader(samples, order, share, steps, 0, workers, False))


def test_an_image_depends_on_seed_and_epoch_alone(tree):
    """Not on worker processes, nor on what was drawn before."""
    split = open_split(tree, "train")
    order = RepeatedOrder(len(split), 8, 3, 5, repeats=2)
    share = BatchShare.of(8, 8)
    here = batches_of(split, share, order, 0)
    random.seed(1)
    torch.manual_seed(9)
    there = batches_of(split, share, order, 2)
    assert all(torch.equal(a.images, b.images) for a, b in zip(here, there, strict=True))
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(here, there, strict=True))
    assert not torch.equal(here[0].images[0], here[0].images[1])  # two copies of one image
    assert here[0].labels[0] == here[0].labels[1]


def test_repeated_augmentation_spreads_the_copies():
    """DeiT's sampler: every image three times in a row, one copy on each process."""
    order = RepeatedOrder(24, 12, 2, 0, repeats=3)
    shares = [BatchShare(3, rank, 4, 1) for rank in range(3)]
    found = [order.images_of_pass(0, 0, share) for share in shares]
    assert [set(part // 24) for part in found] == [{0}, {1}, {2}]  # the copy
    assert all(np.array_equal(part % 24, found[0] % 24) for part in found)
    seen = Counter(int(i) % 24 for step in range(2) for i in order.images_of(step))
    assert set(seen.values()) == {3}
    assert len(seen) == 8  # a third of the images an epoch
    assert len(list(StepSampler(order, shares[0], 0, 2))) == 2


def test_a_replaced_image_brings_its_label(tree):
    split = open_split(tree, "train")
    broken = split.images.subset(np.ones(len(split), bool))
    wrong = ClassSplit(broken, split.labels, split.classes)
    samples = TrainingSamples(wrong, lambda image: torch.tensor(np.asarray(image)[0, 0]), 0)
    read, gone = broken.open, split.images.name(0)
    broken.open = lambda i: (_ for _ in ()).throw(FileNotFoundError(2, gone)) if i == 0 else read(i)  # type: ignore[method-assign]
    for epoch in range(6):
        _, label, (failure,) = samples[epoch, 0]
        chosen, _, _ = read_or_draw(broken, 0, (0, epoch))
        assert failure.index == 0
        assert chosen != 0
        assert label == split.labels[chosen]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_image_is_evaluated_once(world):
    shares = [Stride(11, 3, world, rank) for rank in range(world)]
    seen = [i for share in shares for batch in share for i in batch]
    assert sorted(seen) == list(range(11))
    assert [len(list(share)) for share in shares] == [len(share) for share in shares]


def test_what_cannot_be_read_at_all_is_told():
    assert collate("the disks are gone") == "the disks are gone"
