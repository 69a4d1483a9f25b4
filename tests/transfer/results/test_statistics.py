"""Means, intervals and verdicts against scipy's own tests and by simulation."""

import numpy as np
import pytest
from scipy import stats

from transfer.results.statistics import difference, seeds_needed, summary


def test_one_run_has_no_spread():
    assert summary([31.5]) == summary([31.5])
    assert (summary([31.5]).sd, summary([1.0, 3.0]).sd) == (None, pytest.approx(2**0.5))


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_equal_seeds_are_paired(shift):
    rng = np.random.default_rng(0)
    common = rng.normal(30, 5, 4)  # what a seed does to both
    ours = common + shift + rng.normal(0, 0.2, 4)
    found = difference(dict(enumerate(ours)), dict(enumerate(common)))
    expected = stats.ttest_rel(ours, common)
    interval = expected.confidence_interval(0.95)
    assert found.paired
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.verdict == ("better" if expected.pvalue < 0.05 else "within noise")


def test_other_seeds_are_compared_by_welch():
    ours, baseline = {0: 31.0, 1: 32.5, 2: 31.2}, {5: 29.0, 6: 28.5}
    found = difference(ours, baseline)
    expected = stats.ttest_ind(list(ours.values()), list(baseline.values()), equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert not found.paired
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.n, found.baseline_n) == (3, 2)


@pytest.mark.parametrize(("sign", "verdict"), [(1, "better"), (-1, "worse")])
def test_the_interval_decides(sign, verdict):
    ours = {s: 30 + sign * 2 + 0.1 * s for s in range(3)}
    assert difference(ours, {s: 30 + 0.09 * s for s in range(3)}).verdict == verdict


def test_a_single_seed_decides_nothing():
    found = difference({0: 50.0}, {0: 20.0, 1: 21.0})
    assert (found.verdict, found.se, found.low, found.seeds_needed) == ("single seed",) + 3 * (
        None,
    )
    assert found.points == pytest.approx(29.5)


def test_equal_runs_have_an_interval_of_no_width():
    found = difference({0: 2.0, 1: 2.0}, {0: 1.0, 1: 1.0})
    assert (found.low, found.high, found.verdict, found.seeds_needed) == (1.0, 1.0, "better", 2)
    assert difference({0: 2.0, 1: 2.0}, {0: 2.0, 1: 2.0}).verdict == "within noise"


@pytest.mark.parametrize(("points", "sd"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.7)])
def test_the_seeds_needed_have_the_power_by_simulation(points, sd):
    n = seeds_needed(points, sd, paired=False)
    rng = np.random.default_rng(0)

    def power(count):
        first, second = rng.normal(points, sd, (4000, count)), rng.normal(0, sd, (4000, count))
        return (stats.ttest_ind(first, second, axis=1).pvalue < 0.05).mean()

    assert power(n) > 0.78
    assert n == 2 or power(n - 1) < 0.81


def test_no_number_of_seeds_shows_no_difference():
    assert seeds_needed(0.0, 1.0, paired=True) is None
    assert seeds_needed(0.001, 5.0, paired=True) is None
