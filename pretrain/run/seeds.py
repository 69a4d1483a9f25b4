"""Seed every random generator from (seed, step, part, rank)."""

import numpy as np
import torch


def seed_draws(seed: int, step: int, micro: int, rank: int) -> None:
    """Key torch's generators, which stochastic depth draws from, by the forward pass."""
    sequence = np.random.SeedSequence([seed, step, micro, rank])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) >> 1)
