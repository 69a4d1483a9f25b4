"""The draws of a forward pass follow from (seed, step, part, rank)."""

import itertools
import random

import numpy as np
import torch

from pretrain.run.seeds import draws_kept, seed_draws


def draws(*place: int) -> tuple[float, float, float]:
    seed_draws(*place)
    return torch.rand(()).item(), float(np.random.rand()), random.random()  # noqa: NPY002


def test_every_generator_is_seeded_and_every_number_counts() -> None:
    places = list(itertools.product((0, 1), repeat=4))
    first = [draws(*place) for place in places]
    assert first == [draws(*place) for place in places]
    for generator in zip(*first, strict=True):
        assert len(set(generator)) == len(places)


def test_the_numbers_are_those_of_before() -> None:
    seed_draws(3, 5, 1, 2)
    assert torch.initial_seed() == 7316082550301443845


def test_what_is_drawn_in_between_changes_nothing() -> None:
    expected = draws(1, 2, 3, 4)
    seed_draws(1, 2, 3, 4)
    with draws_kept():
        draws(9, 9, 9, 9)
    found = torch.rand(()).item(), float(np.random.rand()), random.random()  # noqa: NPY002
    assert found == expected
