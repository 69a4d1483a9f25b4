"""Masks: the published counts, BEiT's block statistics, independence of the draws."""

import functools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from pretrain.data.masks import (
    beit_masked_count,
    block_visible,
    fcmae_visible_count,
    random_visible,
    spark_visible_count,
)

GOLDEN = Path(__file__).parents[2] / "golden"


def test_counts_follow_each_code() -> None:
    assert spark_visible_count(49, 0.6) == 20
    assert fcmae_visible_count(49, 0.6) == 19
    assert beit_masked_count(196) == 75
    assert beit_masked_count(64) == 24
    with pytest.raises(ValueError, match=r"mask_ratio=1\.0"):
        fcmae_visible_count(49, 1.0)


def test_random_visible_is_exact_and_uniform() -> None:
    rng = np.random.default_rng(0)
    draws = np.stack([random_visible(rng, (7, 7), 20) for _ in range(4000)])
    assert draws.dtype == bool
    assert draws.shape == (4000, 7, 7)
    assert (draws.sum(axis=(1, 2)) == 20).all()
    # 5 standard deviations of a share of 4000 draws at p = 20/49
    assert np.abs(draws.mean(axis=0) - 20 / 49).max() < 5 * 0.0078


def test_block_masks_match_the_official_statistics() -> None:
    golden = json.loads((GOLDEN / "beit_block_masking.json").read_text())
    rng = np.random.default_rng(0)
    masked = ~np.stack([block_visible(rng, (14, 14)) for _ in range(20_000)])
    counts = masked.sum(axis=(1, 2))
    assert counts.max() == golden["maximum"]
    # The minimum of a sample is itself random: seeds 0 to 3 gave 64 or 65
    assert golden["minimum"] - 4 <= counts.min() <= golden["minimum"] + 4
    # Tolerances: 5 standard errors of a difference of two samples of 20,000
    assert abs(counts.mean() - golden["mean"]) < 5 * np.sqrt(2) * counts.std() / np.sqrt(20_000)
    assert abs((counts == 75).mean() - golden["share_at_75"]) < 5 * np.sqrt(2) * 0.00334
    shares = np.array(golden["share_masked_per_position"])
    assert np.abs(masked.mean(axis=0) - shares).max() < 5 * np.sqrt(2) * 0.00354


@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (6, 10), (24, 24)])
def test_block_masks_on_other_grids(grid: tuple[int, int]) -> None:
    patches = grid[0] * grid[1]
    total, minimum = beit_masked_count(patches), beit_masked_count(patches, 16)
    rng = np.random.default_rng(1)
    counts = [int((~block_visible(rng, grid, total, minimum)).sum()) for _ in range(500)]
    assert min(counts) >= 1
    assert max(counts) == total
    assert np.mean(counts) > 0.9 * total


def test_masks_depend_on_the_generator_only_and_pickle() -> None:
    for mask in (
        functools.partial(block_visible, grid=(8, 8), total=24, minimum=5),
        functools.partial(random_visible, grid=(8, 8), n_visible=26),
    ):
        again = pickle.loads(pickle.dumps(mask))
        first, second = (f(np.random.default_rng([7, 0, 3])) for f in (mask, again))
        assert (first == second).all()
        assert (first != mask(np.random.default_rng([7, 0, 4]))).any()


def test_impossible_masks_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="n_visible=49"):
        random_visible(rng, (7, 7), 49)
    with pytest.raises(ValueError, match="at least 2 x 2"):
        block_visible(rng, (1, 4), 2, 1)
    with pytest.raises(ValueError, match="lower minimum"):
        block_visible(rng, (2, 2), 3, 3)
    with pytest.raises(ValueError, match="total=75"):
        block_visible(rng, (4, 4))
