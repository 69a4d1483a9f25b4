"""Seed every random generator from (seed, step, part, rank)."""

import random

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
