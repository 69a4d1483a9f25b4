"""Statistics over seeds: means, differences with intervals, and a verdict by one rule."""

import math
import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import special  # scipy.stats takes seconds to import

CONFIDENCE = 0.95
POWER = 0.8  # of the number of seeds that would show a difference
MOST_SEEDS = 1000
RULE = (
    "Verdicts: better or worse where the 95 % interval of the difference (Student's t; paired by "
    "seed where both have the same seeds, else Welch's) leaves out 0, within noise where it holds "
    "it, single seed where a side has one run."
)
Verdict = Literal["better", "worse", "within noise", "single seed"]


@dataclass(frozen=True)
class Summary:
    """Mean of `n` runs; `sd` is their standard deviation (n - 1), None for one run."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """Our mean minus a baseline's, in points; intervals are None where a side has one run.

    `seeds_needed` is the number of seeds per side with which four of five repetitions would show
    a difference of this size; None if it cannot be computed or is above MOST_SEEDS.
    """

    points: float
    n: int
    baseline_n: int
    verdict: Verdict
    paired: bool = False
    se: float | None = None
    low: float | None = None
    high: float | None = None
    seeds_needed: int | None = None


def summary(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation and number of at least one value."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.fmean(values), sd, len(values))


def difference(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """Return the difference of two sets of runs, given as seed -> figure."""
    mine, theirs = list(ours.values()), list(baseline.values())
    points = statistics.fmean(mine) - statistics.fmean(theirs)
    counts = {"points": points, "n": len(mine), "baseline_n": len(theirs)}
    if min(len(mine), len(theirs)) < 2:
        return Difference(**counts, verdict="single seed")  # type: ignore[arg-type]
    paired = ours.keys() == baseline.keys()
    if paired:
        steps = [ours[seed] - baseline[seed] for seed in ours]
        se, freedom = statistics.stdev(steps) / math.sqrt(len(steps)), float(len(steps) - 1)
    else:
        se, freedom = _welch(mine, theirs)
    half = _quantile(freedom) * se if se else 0.0
    low, high = points - half, points + half
    return Difference(
        points=points,
        n=len(mine),
        baseline_n=len(theirs),
        verdict="better" if low > 0 else "worse" if high < 0 else "within noise",
        paired=paired,
        se=se,
        low=low,
        high=high,
        seeds_needed=seeds_needed(points, _spread(ours, baseline, paired), paired=paired),
    )


def _welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return standard error and degrees of freedom of a difference of means (Welch 1947)."""
    shares = [statistics.variance(values) / len(values) for values in (first, second)]
    error = sum(shares)
    parts = zip(shares, (first, second), strict=True)
    lower = sum(share**2 / (len(values) - 1) for share, values in parts)
    return math.sqrt(error), error**2 / lower if lower else math.inf


def _spread(ours: Mapping[int, float], baseline: Mapping[int, float], paired: bool) -> float:
    """Return the standard deviation of one pair's difference, or of one run."""
    if paired:
        return statistics.stdev([ours[seed] - baseline[seed] for seed in ours])
    variances = [statistics.variance(list(side.values())) for side in (ours, baseline)]
    return math.sqrt(statistics.fmean(variances))


def seeds_needed(points: float, sd: float, *, paired: bool) -> int | None:
    """Return the seeds per side for a t test to detect `points`, at power 0.8 and level 0.05.

    `sd` is that of a pair's difference if paired, else of one run.
    """
    if points == 0:
        return None
    if sd == 0:
        return 2

    def power(n: int) -> float:
        freedom = n - 1 if paired else 2 * n - 2
        shift = abs(points) / (sd * math.sqrt((1 if paired else 2) / n))
        missed = float(special.nctdtr(freedom, shift, _quantile(freedom)))
        return 1.0 if math.isnan(missed) else 1 - missed  # it is NaN where it vanishes

    n = 2 + bisect_left(range(2, MOST_SEEDS + 1), POWER, key=power)
    return n if n <= MOST_SEEDS else None


def _quantile(freedom: float) -> float:
    """Return what Student's t stays below, in size, with probability CONFIDENCE."""
    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
