"""Intervals and tests. The unit of analysis is the row of x; comparisons are paired by row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

RESAMPLES = 2000
LEAST_ROWS = 12
"""Rows below which no test is made: with fewer, Wilcoxon's exact test can hardly reach significance after correction,
and a t-test leans on normality that nobody can check."""


@dataclass(frozen=True)
class Difference:
    """Mean paired difference, its 95 % bootstrap interval, and two p-values (None under ``LEAST_ROWS`` rows)."""

    mean: float
    low: float
    high: float
    rows: int
    p_wilcoxon: float | None
    p_t: float | None


def interval(values: Array, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of finite values; NaN for fewer than two, the value itself for
    equal ones."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return math.nan, math.nan
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    from scipy.stats import bootstrap

    result = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", vectorized=True, rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(result.low), float(result.high)


def paired(a: Array, b: Array, seed: int = 0) -> Difference:
    """The difference a - b over rows where both are finite."""
    difference = a - b
    difference = difference[np.isfinite(difference)]
    low, high = interval(difference, seed)
    rows = len(difference)
    mean = float(difference.mean()) if rows else math.nan
    if rows < LEAST_ROWS:
        return Difference(mean, low, high, rows, None, None)
    if not difference.any():
        return Difference(mean, low, high, rows, 1.0, 1.0)
    from scipy.stats import t

    error = difference.std(ddof=1) / math.sqrt(rows)
    p_t = 2 * float(t.sf(abs(mean) / error, rows - 1)) if error > 0 else 0.0  # scipy's own test warns of equal rows
    return Difference(mean, low, high, rows, signed_rank(difference), p_t)


def signed_rank(difference: Array) -> float:
    """Wilcoxon's two-sided p-value (wilcoxon1945), zeros left out; up to 50 rows exact, with ties too.

    Every choice of signs of the ranks is equally likely; the chance of each sum of the positive ones is built up rank
    by rank. (scipy goes through all 2^n choices where there are ties, which takes seconds.)
    """
    from scipy.stats import rankdata, wilcoxon

    kept = difference[difference != 0]
    if len(kept) > 50:
        return float(wilcoxon(kept, method="asymptotic").pvalue)
    ranks = np.rint(2 * rankdata(np.abs(kept))).astype(int)  # doubled, since ties have half ranks
    chance = np.ones(1)
    for rank in ranks.tolist():
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    positive = int(ranks[kept > 0].sum())
    return float(min(1.0, 2 * min(chance[: positive + 1].sum(), chance[positive:].sum())))


def holm(p_values: list[float | None]) -> list[float | None]:
    """Holm's step-down correction over the tests that were made (holm1979).

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    made = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    worst = 0.0
    for rank, (p, i) in enumerate(made):
        worst = max(worst, min(1.0, p * (len(made) - rank)))
        corrected[i] = worst
    return corrected


def rank_correlation(a: Array, b: Array) -> Array:
    """Spearman's correlation of each row of a (B, U) with the same row of b; NaN where a row is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(side, axis=1) for side in (a, b)]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    norms = [np.sqrt((side**2).sum(1)) for side in centred]
    bottom = norms[0] * norms[1]
    rho: Array = np.divide((centred[0] * centred[1]).sum(1), bottom, out=np.full(len(a), np.nan), where=bottom > 0)
    return rho


def overlap(a: Array, b: Array, fraction: float) -> Array:
    """Share of the top ``fraction`` of units (at least one) that both rankings have in common, for each row."""
    count = max(1, round(fraction * a.shape[1]))
    shared: Array = (top(a, count) * top(b, count)).sum(1) / count
    return shared


def top(scores: Array, count: int | Array) -> Array:
    """Chance of each unit (B, U) to be among the ``count`` highest of its row: 1 above the last place, an equal share
    of the places that are left for each that ties for them."""
    count = np.broadcast_to(count, len(scores))[:, None]
    cut = np.take_along_axis(-np.sort(-scores, axis=1), count - 1, axis=1)
    above, level = scores > cut, scores == cut
    chance: Array = above + level * (count - above.sum(1, keepdims=True)) / level.sum(1, keepdims=True)
    return chance
