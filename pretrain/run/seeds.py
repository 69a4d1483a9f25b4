"""Seed every random generator from (seed, step, part, rank); keep what they would draw next."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_draws(seed: int, step: int, part: int, rank: int) -> None:
    """Seed torch, numpy and random for one forward pass of one process.

    `part` counts the forward passes of a step. What is drawn inside a step (stochastic depth,
    dropout, sampled proposals) then follows from these four numbers alone, so that a resumed run
    draws what an unbroken one would.
    """
    word = int(np.random.SeedSequence([seed, step, part, rank]).generate_state(1, np.uint64)[0])
    torch.manual_seed(word >> 1)
    random.seed(word)
    np.random.seed(word & 0xFFFFFFFF)  # noqa: NPY002 - what libraries draw from


@contextmanager
def draws_kept() -> Iterator[None]:
    """Give torch, its GPUs, numpy and random back the state that they had at the beginning."""
    own, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)  # noqa: NPY002
