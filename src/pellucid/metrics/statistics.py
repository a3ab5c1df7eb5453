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
    if np.ptp(difference) == 0:  # all rows differ by the same amount: no spread to test against
        certain = 1.0 if difference[0] == 0 else 0.0
        return Difference(mean, low, high, rows, certain, certain)
    from scipy.stats import ttest_1samp, wilcoxon

    return Difference(
        mean, low, high, rows, float(wilcoxon(difference).pvalue), float(ttest_1samp(difference, 0.0).pvalue)
    )


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
    tops = [np.argsort(-side, axis=1, kind="stable")[:, :count] for side in (a, b)]
    return np.array([len(np.intersect1d(x, y)) / count for x, y in zip(*tops, strict=True)])
