"""Statistics of channels against their definitions, written out in loops."""

import pytest
import torch
from torch.nn import functional as F

from transfer.analysis.channels import ChannelStatistics, cosine_distances, effective_rank


def test_the_distance_is_that_of_the_paper():
    """1 / C^2 sum_i sum_j (1 - cos(X_i, X_j)) / 2, ConvNeXt V2 section 3."""
    maps = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0))
    for image, found in zip(maps, cosine_distances(maps), strict=True):
        pairs = [
            (1 - F.cosine_similarity(image[:, i], image[:, j], dim=0)) / 2
            for i in range(5)
            for j in range(5)
        ]
        assert float(found) == pytest.approx(float(sum(pairs)) / 25, abs=1e-5)


def test_equal_channels_have_no_distance_and_opposite_ones_half():
    one = torch.rand(1, 16, 1) + 0.1
    assert float(cosine_distances(one.expand(1, 16, 7))) == pytest.approx(0, abs=1e-6)
    assert float(cosine_distances(torch.cat((one, -one), 2))) == pytest.approx(0.5)
    with_dead = torch.cat((one, -one, torch.zeros_like(one)), 2)
    assert float(cosine_distances(with_dead)) == pytest.approx(0.5)


def test_dead_and_saturated_channels_are_counted():
    generator = torch.Generator().manual_seed(0)
    statistics = ChannelStatistics(8)
    for _ in range(3):
        maps = torch.randn(2, 25, 8, generator=generator)
        maps[..., 0] = 0  # dead
        maps[..., 1] = 1e-4 * maps[..., 1]  # dead beside the others
        maps[..., 2] = 5 + 0.01 * maps[..., 2]  # saturated
        statistics.add(maps)
    numbers = statistics.numbers("x")
    assert (numbers.dead, numbers.saturated, numbers.channels) == (0.25, 0.125, 8)
    assert numbers.to_json()["effective_rank_share"] == pytest.approx(numbers.effective_rank / 8)


def test_batches_make_no_difference():
    maps = torch.randn(6, 10, 4, generator=torch.Generator().manual_seed(0))
    whole, parts = ChannelStatistics(4), ChannelStatistics(4)
    whole.add(maps)
    for part in maps.split(2):
        parts.add(part)
    one, other = (statistics.numbers("x") for statistics in (whole, parts))
    assert one.cosine_distance == pytest.approx(other.cosine_distance, rel=1e-5)
    assert one.effective_rank == pytest.approx(other.effective_rank, rel=1e-5)
    assert (whole.images, whole.positions) == (parts.images, parts.positions) == (6, 60)


def test_effective_rank():
    assert effective_rank(torch.eye(6)) == pytest.approx(6)
    assert effective_rank(torch.diag(torch.tensor([4.0, 4.0, 0, 0]))) == pytest.approx(2)
    assert effective_rank(torch.zeros(3, 3)) == 0
