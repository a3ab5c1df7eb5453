"""Places of methods under every reference: do good marks hang on what stands in for what is taken away?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.scores import Cell
from pellucid.reporting import figures, ranking
from pellucid.reporting.references import display
from pellucid.reporting.sentences import Part, Sentence, say

Array = np.ndarray[Any, Any]

FEWEST = 3
"""References from which there is something to see."""
DRAWS = 500
"""Bootstrap resamples of the inputs."""
_INSET, _TOP = 9.0, 6.0  # of the drawing, so that no line runs along its edge


@dataclass(frozen=True)
class Track:
    """One method's places: a line and its band over the control's line, where the reference is its own (x), and
    words."""

    title: str
    method: str
    own: figures.Band
    control: str
    matched: tuple[float, ...]
    words: str


@dataclass(frozen=True)
class Places:
    """All methods under one metric: the references with their place in percent, the marks of the axis, who stays and
    who moves."""

    family: str
    detail: str
    references: tuple[tuple[str, str, float], ...]
    ticks: tuple[figures.Tick, ...]
    tracks: tuple[Track | None, ...]
    said: Sentence


def places(comparison: Comparison) -> tuple[Places, ...]:
    """A chart for each metric that was measured under three references or more, all else equal."""
    cells = [cell for scores in (comparison.scores, *comparison.further) for cell in scores.cells]
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        if cell.reference is not None and cell.measured and math.isfinite(cell.mean):
            groups.setdefault((cell.family, cell.granularity, cell.read, len(cell.values)), []).append(cell)
    kept = [found for found in groups.values() if len({cell.reference for cell in found}) >= FEWEST]
    order = drawn(comparison)
    return tuple(chart for found in kept if (chart := _chart(found, order)) is not None)


def drawn(comparison: Comparison) -> tuple[str, ...]:
    """The methods that have a column, in the order of the leaderboard."""
    known = {cell.method for scores in (comparison.scores, *comparison.further) for cell in scores.cells}
    standing = ranking.standing(comparison.scores)
    control = {cell.method for cell in comparison.scores.cells if cell.control}
    return tuple(m for m in standing if m in known) + tuple(sorted(known - set(standing) - control))


def _chart(cells: Sequence[Cell], order: Sequence[str]) -> Places | None:
    references = tuple(sorted({str(cell.reference) for cell in cells}, key=_by_size))
    by_place = {(cell.method, str(cell.reference)): cell for cell in cells}
    whole = [m for m in dict.fromkeys(c.method for c in cells) if all((m, r) in by_place for r in references)]
    if len(whole) < 2:
        return None
    values = np.stack([[by_place[m, r].better * by_place[m, r].values for r in references] for m in whole])
    ranks, low, high, resampled = ranked(values)
    x = _INSET + np.arange(len(references)) * (figures.PANEL_WIDTH - 2 * _INSET) / (len(references) - 1)

    def y(rank: Array) -> Array:
        return _TOP + (rank - 1) * (figures.PANEL_HEIGHT - 2 * _TOP) / (len(whole) - 1)

    def points(xs: Array, ys: Array) -> str:
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(xs, ys, strict=True))

    control = next((i for i, m in enumerate(whole) if by_place[m, references[0]].control), None)
    tracks: list[Track | None] = []
    for method in order:
        if method not in whole:
            tracks.append(None)
            continue
        i = whole.index(method)
        known = bool(np.isfinite(low[i]).all())
        band = f"{points(x, y(low[i]))} {points(x[::-1], y(high[i])[::-1])}" if known else ""
        title = display(method)
        told = ", ".join(f"{rank:g} under {_named(name)}" for rank, name in zip(ranks[i], references, strict=True))
        tracks.append(
            Track(
                title,
                method,
                figures.Band(points(x, y(ranks[i])), band),
                "" if control is None else points(x, y(ranks[control])),
                tuple(float(x[k]) for k, r in enumerate(references) if by_place[method, r].matched),
                f"{title}: place {told}, of {len(whole)}",
            )
        )
    first = cells[0]
    shown = tuple(
        (_short(name), _named(name), round(100 * float(a) / figures.PANEL_WIDTH, 1))
        for name, a in zip(references, x, strict=True)
    )
    ends = (1, len(whole))
    ticks = tuple(figures.Tick(round(float(y(np.array(float(rank)))), 1), str(rank)) for rank in ends)
    detail = ", ".join(part for part in (first.granularity or "", first.read or "") if part).replace(" x ", " × ")
    judged = [i for i, m in enumerate(whole) if i != control]
    said = _said(display(first.family), [whole[i] for i in judged], ranks[judged], references, resampled[judged])
    return Places(display(first.family), detail, shown, ticks, tuple(tracks), said)


def ranked(values: Array) -> tuple[Array, Array, Array, Array]:
    """Ranks (M, R) of methods under each reference from values (M, R, rows), higher is better, 1 the best; the ends of
    their 95 % range over resampled inputs, NaN under three rows; and the ranks of every resample (M, R, draws)."""

    def ranks(means: Array) -> Array:
        """Ties share the better place."""
        found: Array = 1 + (means[None] > means[:, None]).sum(1)
        return found

    rows = values.shape[2]
    central = ranks(np.nanmean(values, 2))
    if rows < figures.FEWEST_ROWS:
        nothing = np.full(central.shape, np.nan)
        return central, nothing, nothing, central[..., None].astype(float)
    draws = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), DRAWS) / rows
    resampled = ranks(np.nan_to_num(values, nan=0.0) @ draws.T) if not np.isnan(values).any() else None
    if resampled is None:  # an input without a figure leaves the others
        weight = (~np.isnan(values)) @ draws.T
        resampled = ranks(np.nan_to_num(values, nan=0.0) @ draws.T / np.maximum(weight, 1e-12))
    low, high = np.percentile(resampled, [2.5, 97.5], axis=2)
    return central, np.minimum(low, central), np.maximum(high, central), resampled


def _said(family: str, methods: list[str], ranks: Array, references: Sequence[str], resampled: Array) -> Sentence:
    """Who keeps its place best, and who moves most, and whether that is more than luck."""
    span = np.ptp(ranks, axis=1)
    steady = min(range(len(methods)), key=lambda i: (span[i], ranks[i].mean()))
    moved = max(range(len(methods)), key=lambda i: (span[i], -ranks[i].mean()))
    if span[moved] == 0:
        return say("{family}: every method keeps its place whatever the reference.", family=family)
    low, high = int(ranks[steady].min()), int(ranks[steady].max())
    stays = f"stays in place {low}" if low == high else f"stays within places {low} to {high}"
    best, worst = int(ranks[moved].argmin()), int(ranks[moved].argmax())
    change = resampled[moved, worst] - resampled[moved, best]
    luck = "" if len(change) > 1 and np.percentile(change, 2.5) > 0 else ", which may be luck"
    return say(
        "{family}: {steady} {stays} whatever the reference; {moved} moves from {best} under {at} to {worst} under "
        "{there}{luck}.",
        family=family,
        steady=Part(display(methods[steady]), strong=True),
        stays=stays,
        moved=Part(display(methods[moved]), strong=True),
        best=str(int(ranks[moved, best])),
        at=_named(references[best]),
        worst=str(int(ranks[moved, worst])),
        there=_named(references[worst]),
        luck=luck,
    )


def _by_size(name: str) -> tuple[float, str]:
    """Numbers in order, names after them."""
    try:
        return float(name), ""
    except ValueError:
        return math.inf, name


def _short(name: str) -> str:
    """A reference as it stands under a panel.

    >>> _short("0.25"), _short("1"), _short("uniform")
    ('.25', '1', 'U')
    """
    size, rest = _by_size(name)
    if math.isfinite(size):
        text = f"{size:g}"
        return text.removeprefix("0") if text.startswith("0.") else text
    return rest[:1].upper()


def _named(name: str) -> str:
    size, _ = _by_size(name)
    return f"{size:g}" if math.isfinite(size) else name
