"""Which explanations contradict each other: a matrix of pairs, and the worst pair on one input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.explanation import Explanation
from pellucid.core.verdict import Disagreement
from pellucid.reporting import gallery, numerals, surfaces
from pellucid.reporting.references import display

Array = np.ndarray[Any, Any]

TOP = 0.1
CONTRADICT = 0.2
"""Mean rank correlation under which two methods are said to contradict each other."""


@dataclass(frozen=True)
class Pair:
    """A cell of a matrix: its figure as text, and from -1 to 1 how strongly it is coloured."""

    text: str
    strength: float
    words: str


@dataclass(frozen=True)
class Matrix:
    """Half a matrix of pairs; row i holds the pairs with the methods before it."""

    titles: tuple[str, ...]
    rows: tuple[tuple[Pair, ...], ...]


@dataclass(frozen=True)
class Clash:
    """The two methods that agree least, on the input where they do so most plainly."""

    a: str
    b: str
    mean: float
    here: float
    row: gallery.Row


@dataclass(frozen=True)
class Contradictions:
    """Both matrices, and the worst pair."""

    correlation: Matrix
    overlap: Matrix
    fraction: str
    chance: str
    clash: Clash | None


def contradictions(comparison: Comparison, anchor: str) -> Contradictions | None:
    """Who contradicts whom; None with fewer than two methods."""
    a = comparison.agreement
    if len(a.methods) < 2:
        return None
    chance = float(a.chance)
    return Contradictions(
        _matrix(a.methods, a.correlation, numerals.correlation, lambda rho: rho),
        _matrix(a.methods, a.overlap, numerals.percent, lambda share: (share - chance) / max(1e-9, 1 - chance)),
        numerals.percent(a.fraction),
        numerals.percent(chance),
        _clash(comparison, anchor),
    )


def _matrix(methods: tuple[str, ...], values: Array, show: Any, strength: Any) -> Matrix:
    titles = tuple(display(method) for method in methods)
    rows = []
    for i, title in enumerate(titles):
        line = []
        for j in range(i):
            value = float(values[i, j])
            text = show(value)
            depth = max(-1.0, min(1.0, strength(value))) if math.isfinite(value) else 0.0
            line.append(Pair(text, round(depth, 3), f"{title} and {titles[j]}: {text}"))
        rows.append(tuple(line))
    return Matrix(titles, tuple(rows))


def judged_pairs(comparison: Comparison) -> list[tuple[float, str, str]]:
    """(mean rank correlation, a, b) of every pair without a control, least first."""
    a = comparison.agreement
    controls = {verdict.method for verdict in comparison.decided if verdict.word == "control"}
    controls |= {cell.method for cell in comparison.scores.cells if cell.control}
    controls |= {label for label, e in comparison.explanations.items() if e.details.get("control")}
    kept = [i for i, method in enumerate(a.methods) if method not in controls]
    pairs = [(float(a.correlation[i, j]), a.methods[i], a.methods[j]) for i in kept for j in kept if i < j]
    return sorted(pair for pair in pairs if math.isfinite(pair[0]))


def _clash(comparison: Comparison, anchor: str) -> Clash | None:
    pairs = [pair for pair in judged_pairs(comparison) if {pair[1], pair[2]} <= set(comparison.explanations)]
    if not pairs:
        return None
    mean, a, b = pairs[0]
    one, other = comparison.explanations[a], comparison.explanations[b]
    rows = range(min(len(one), gallery.SHOWN))
    found = [rank_correlation(surfaces.positions(one, i), surfaces.positions(other, i)) for i in rows]
    finite = [rho if math.isfinite(rho) else math.inf for rho in found]
    index = int(np.argmin(finite))
    return Clash(display(a), display(b), mean, found[index], gallery.row(comparison, index, f"{anchor}-clash", (a, b)))


def agreement(explanations: Mapping[str, Explanation]) -> Disagreement:
    """Rank correlation and top overlap of explanations that come without a comparison, on a grid common to all."""
    names = tuple(explanations)
    size = len(names)
    correlation, overlap = np.full((size, size), np.nan), np.full((size, size), np.nan)
    rows = min((len(e) for e in explanations.values()), default=0)
    scores = [[surfaces.positions(e, i) for i in range(rows)] for e in explanations.values()]
    for i in range(size):
        for j in range(i + 1):
            pairs = [(a, b) for a, b in zip(scores[i], scores[j], strict=True) if a.shape == b.shape]
            rhos = [rho for a, b in pairs if math.isfinite(rho := rank_correlation(a, b))]
            shared = [_overlap(a, b) for a, b in pairs]
            correlation[i, j] = correlation[j, i] = np.mean(rhos) if rhos else np.nan
            overlap[i, j] = overlap[j, i] = np.mean(shared) if shared else np.nan
    units = len(scores[0][0]) if rows else 1
    return Disagreement(names, correlation, overlap, max(1, round(TOP * units)) / units)


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's correlation of two score lists; NaN where one is constant or they differ in length.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))
    0.5
    """
    if a.shape != b.shape:
        return math.nan
    centred = [side - side.mean() for side in (_ranks(a), _ranks(b))]
    bottom = math.sqrt(float((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / bottom if bottom > 0 else math.nan


def _ranks(values: Array) -> Array:
    """Ranks from 1, ties sharing their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[place])


def _overlap(a: Array, b: Array) -> float:
    count = max(1, round(TOP * len(a)))
    tops = [set(np.argsort(-side, kind="stable")[:count].tolist()) for side in (a, b)]
    return len(tops[0] & tops[1]) / count
