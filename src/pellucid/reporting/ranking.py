"""Method by metric: means with intervals drawn where they are printed, curves beside the random control, and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.explanation import Explanation
from pellucid.core.scores import Cell, Scores
from pellucid.reporting import figures, numerals
from pellucid.reporting.references import display


@dataclass(frozen=True)
class Column:
    """A metric: its family, the settings that tell it apart, and which way is better."""

    metric: str
    family: str
    detail: str
    better: str
    matched: bool


@dataclass(frozen=True)
class Entry:
    """A cell of the leaderboard: a figure with its interval, or words for why there is none."""

    column: str
    mean: str
    span: str
    dot: figures.Dot | None
    matched: bool
    best: bool
    note: str
    sort: float
    against: str


@dataclass(frozen=True)
class Line:
    """A method with its entries and its cost, each cost as text and as the number it is sorted by."""

    method: str
    title: str
    control: bool
    entries: tuple[Entry, ...]
    cost: tuple[tuple[str, str, float], ...]
    warnings: tuple[int, ...]


@dataclass(frozen=True)
class Board:
    """The leaderboard, best mean rank first."""

    columns: tuple[Column, ...]
    groups: tuple[tuple[str, str, int], ...]
    lines: tuple[Line, ...]
    refused: tuple[tuple[str, str], ...]
    rows: int
    tested: bool
    any_matched: bool


@dataclass(frozen=True)
class Panel:
    """One method's curve under one metric, over the control's."""

    method: str
    title: str
    words: str
    own: figures.Band
    control: figures.Band | None
    matched: bool


@dataclass(frozen=True)
class Curves:
    """All methods under one metric on one pair of axes, which shows shares of the positions up to ``reach``."""

    column: Column
    family: str
    reach: float
    ticks: tuple[figures.Tick, ...]
    reads: str
    panels: tuple[Panel | None, ...]


ATTACKS = ("robustness_irrelevant", "robustness_relevant")
"""Metrics whose curves are of radii, not of what the model says."""
HALF = 0.5

COSTS = (
    ("forwards", "forwards", numerals.count),
    ("backwards", "backwards", numerals.count),
    ("seconds", "time", numerals.seconds),
    ("peak_bytes", "peak memory", numerals.size),
)


def further(comparison: Comparison) -> tuple[tuple[Board, bool], ...]:
    """Leaderboards of the scores that nothing rests on, without costs and tests, and whether they bring a metric of
    their own."""
    bare = replace(comparison, explanations={}, test_rows=(), refused={})
    found = ((board(replace(bare, scores=scores)), _fresh(comparison, scores)) for scores in comparison.further)
    return tuple((one, fresh) for one, fresh in found if one is not None)


def _fresh(comparison: Comparison, scores: Scores) -> bool:
    """Whether some metric's family is not among the scores that verdicts rest on."""
    return not {cell.family for cell in scores.cells} <= {cell.family for cell in comparison.scores.cells}


def board(comparison: Comparison) -> Board | None:
    """The leaderboard of a comparison; None where nothing was scored."""
    scores = comparison.scores
    if not scores.cells:
        return None
    columns = tuple(column(scores, metric) for metric in scores.metrics)
    axes = {metric: _axis(scores, metric) for metric in scores.metrics}
    tests = {(str(test["method"]), str(test["metric"])): test for test in comparison.test_rows}
    lines = []
    for method in standing(scores, controls=True):
        e = comparison.explanations.get(method)
        cells = {cell.metric: cell for cell in scores.cells if cell.method == method}
        entries = tuple(
            _entry(scores, c, cells.get(c.metric), axes[c.metric], tests.get((method, c.metric))) for c in columns
        )
        control = any(cell.control for cell in cells.values())
        spent, raised = ((), ()) if e is None else (costs(e.cost), warned(comparison, e))
        lines.append(Line(method, display(method), control, entries, spent, raised))
    families: dict[str, list[Column]] = {}
    for c in columns:
        families.setdefault(c.family, []).append(c)
    ordered = tuple(c for group in families.values() for c in group)
    if ordered != columns:  # metrics of one family stand side by side under one heading
        place = [columns.index(c) for c in ordered]
        lines = [replace(x, entries=tuple(x.entries[i] for i in place)) for x in lines]
    groups = tuple((family, group[0].better, len(group)) for family, group in families.items())
    rows = max(int(np.isfinite(cell.values).sum()) for cell in scores.cells)
    tested = any(test.get("p_wilcoxon_holm") is not None for test in comparison.test_rows)
    matched = any(entry.matched for line in lines for entry in line.entries)
    refused = tuple((display(label), reason) for label, reason in comparison.refused.items())
    return Board(ordered, groups, tuple(lines), refused, rows, tested, matched)


def column(scores: Scores, metric: str) -> Column:
    """A metric as the page heads its column."""
    cell = next(cell for cell in scores.cells if cell.metric == metric)
    settings = [f"{cell.reference} reference" if cell.reference else "", cell.granularity or "", cell.read or ""]
    known = ", ".join(setting for setting in settings if setting).replace(" x ", " × ")
    detail = known or metric.removeprefix(cell.family).lstrip(", ")
    matched = any(other.matched and not other.control for other in scores.cells if other.metric == metric)
    return Column(metric, display(cell.family), detail, "higher" if cell.better > 0 else "lower", matched)


def _axis(scores: Scores, metric: str) -> figures.Axis:
    cells = [cell for cell in scores.cells if cell.metric == metric]
    constant = CONSTANT.get(cells[0].family)
    if constant is None:
        return figures.Axis.around(value for cell in cells for value in (cell.mean, cell.low, cell.high))
    judged = (value for cell in cells if not cell.control for value in (cell.mean, cell.low, cell.high))
    return figures.Axis.around((constant, *judged))


def _entry(scores: Scores, c: Column, cell: Cell | None, axis: figures.Axis, test: Mapping[str, Any] | None) -> Entry:
    if cell is None or not cell.measured or not math.isfinite(cell.mean):
        note = "not measured" if cell is None else "no finite figure" if cell.measured else cell.status
        return Entry(c.metric, "", "", None, cell is not None and cell.matched, False, note, math.nan, "")
    constant = CONSTANT.get(cell.family)
    if constant is not None and cell.control:
        return Entry(c.metric, "", "", None, False, False, f"{constant:g}: a constant guess", math.nan, "")
    mean, low, high = numerals.estimate(cell.mean, cell.low, cell.high)
    chance = control_cell(scores, cell.metric)
    mark = math.nan if chance is None or cell.control else chance.mean
    mark = mark if constant is None else constant
    joint = "–" if cell.low >= 0 else " to "  # a dash beside a minus sign misleads
    spread = f"{low}{joint}{high}" if math.isfinite(cell.low) and math.isfinite(cell.high) else "one input: no interval"
    if math.isfinite(cell.low) and cell.low == cell.high:
        spread = "all inputs equal"
    missing = int((~np.isfinite(cell.values)).sum())
    note = f"{numerals.plural(missing, 'input')} without a figure" if missing else ""
    drawn = figures.dot(axis, cell.mean, cell.low, cell.high, mark)
    best = leader(scores, cell.metric) == cell.method
    return Entry(c.metric, mean, spread, drawn, cell.matched, best, note, cell.mean, against_random(test))


def against_random(test: Mapping[str, Any] | None) -> str:
    """A paired difference from the random control in words: figure, interval, and the p-value if a test was made."""
    if test is None:
        return ""
    mean, low, high = numerals.estimate(*(float(test.get(name, math.nan)) for name in ("better_by", "low", "high")))
    p = numerals.probability(test.get("p_wilcoxon_holm"))
    return f"{mean} ({low} to {high}{'; ' + p if p else ''})"


CONSTANT = {"value_error": 1.0}
"""What a constant guess scores, where a random order cannot be the control since heights count, not places."""


def control_cell(scores: Scores, metric: str) -> Cell | None:
    """The random control under a metric."""
    return next((cell for cell in scores.cells if cell.metric == metric and cell.control and cell.measured), None)


def leader(scores: Scores, metric: str) -> str | None:
    """The best method under a metric, matched references and controls left out; None where fewer than two compete."""
    field = [c for c in scores.cells if c.metric == metric and c.measured and not c.control and not c.matched]
    field = [cell for cell in field if math.isfinite(cell.mean)]
    return max(field, key=lambda cell: cell.better * cell.mean).method if len(field) > 1 else None


def standing(scores: Scores, controls: bool = False) -> tuple[str, ...]:
    """Methods by their mean rank over the metrics, best first; controls come last, or not at all."""
    ranks: dict[str, list[float]] = {method: [] for method in scores.methods}
    for metric in scores.metrics:
        cells = [c for c in scores.cells if c.metric == metric and c.measured and math.isfinite(c.mean)]
        cells = [c for c in cells if not c.control and not c.matched]
        for place, cell in enumerate(sorted(cells, key=lambda c: -c.better * c.mean)):
            ranks[cell.method].append((place + 0.5) / len(cells))
    control = {cell.method for cell in scores.cells if cell.control}
    judged = [m for m in scores.methods if m not in control]
    judged.sort(key=lambda m: float(np.mean(ranks[m])) if ranks[m] else math.inf)
    return (*judged, *(m for m in scores.methods if m in control and controls))


def warned(comparison: Comparison, e: Explanation) -> tuple[int, ...]:
    """Which of the comparison's warnings are about this method: those that begin with its name."""
    return tuple(i for i, text in enumerate(comparison.warnings) if text.startswith(f"{e.method['name']}:"))


def costs(cost: Mapping[str, Any]) -> tuple[tuple[str, str, float], ...]:
    """What a method used, (name, text, number)."""
    found = []
    for name, words, show in COSTS:
        number = cost.get(name)
        value = math.nan if number is None else float(number)
        found.append((words, numerals.NONE if math.isnan(value) else show(value), value))
    return tuple(found)


def curves(comparison: Comparison) -> tuple[Curves, ...]:
    """For each metric with a curve, every method's mean and band over the control's."""
    order = columns(comparison)
    each = (comparison.scores, *(scores for scores in comparison.further if _fresh(comparison, scores)))
    return tuple(row for scores in each for row in _curves(scores, order))


def columns(comparison: Comparison) -> tuple[str, ...]:
    """The methods that have a column among the curves."""
    return drawn(comparison.scores) or tuple(dict.fromkeys(m for s in comparison.further for m in drawn(s)))


def _curves(scores: Scores, order: tuple[str, ...]) -> list[Curves]:
    found = []
    for metric in scores.metrics:
        cells = {
            c.method: c
            for c in scores.cells
            if c.metric == metric and c.curve is not None and c.fractions is not None and len(c.fractions) > 1
        }
        if not cells:
            continue
        chance = control_cell(scores, metric)
        axis = figures.Axis.around(_reach(list(cells.values())), 0.04)
        any_cell = next(iter(cells.values()))
        last = float(np.asarray(any_cell.fractions).max())
        reach = HALF if any_cell.family in ATTACKS and last <= HALF else 1.0
        panels = tuple(_panel(cells[m], chance, axis, reach) if m in cells else None for m in order)
        reads = any_cell.read or "explained output"
        found.append(Curves(column(scores, metric), any_cell.family, reach, figures.ticks(axis), reads, panels))
    return found


def drawn(scores: Scores) -> tuple[str, ...]:
    """The methods whose curves are drawn; a control lies behind every curve and has no column of its own."""
    curved = {cell.method for cell in scores.cells if cell.curve is not None}
    judged = tuple(method for method in standing(scores) if method in curved)
    return judged or tuple(method for method in standing(scores, controls=True) if method in curved)


def _reach(cells: list[Cell]) -> list[float]:
    """Everything that the axis must hold: means and bands."""
    values: list[float] = []
    for cell in cells:
        for line in figures.mean_and_band(np.asarray(cell.curve)):
            values += line.tolist()
    return values


def _panel(cell: Cell, chance: Cell | None, axis: figures.Axis, reach: float = 1.0) -> Panel:
    fractions, curve = np.asarray(cell.fractions), np.asarray(cell.curve)
    title = display(cell.method)
    drawn = None
    words = f"{title}: mean curve over {numerals.plural(len(curve), 'input')}"
    if chance is not None and chance is not cell and chance.curve is not None and chance.fractions is not None:
        drawn = figures.band(np.asarray(chance.fractions) / reach, np.asarray(chance.curve), axis)
        other = np.interp(fractions, chance.fractions, figures.mean_and_band(np.asarray(chance.curve))[0])
        ahead = cell.better * (figures.mean_and_band(curve)[0] - other)
        ahead = ahead[1:-1] if cell.family not in ATTACKS else ahead
        share = float(np.mean(ahead > 0)) if len(ahead) else math.nan
        verb = "better" if share >= 0.5 else "worse"
        words += f", {verb} than the random control at {numerals.percent(max(share, 1 - share))} of the steps"
    return Panel(cell.method, title, words, figures.band(fractions / reach, curve, axis), drawn, cell.matched)
