"""Tables feature by feature: how one output is made up (waterfall), and how features act over many rows (beeswarm)."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.explanation import Explanation
from pellucid.reporting import contradictions, descriptions, figures, gallery, numerals, ranking, surfaces
from pellucid.reporting.references import display

Array = np.ndarray[Any, Any]

STEPS = 10
"""Steps of a waterfall: the largest features, and all others as one."""
LINES = 8
"""Features of a beeswarm."""
FEWEST_ROWS = 5
"""Rows under which a beeswarm shows nothing that a row of bars does not."""
SHADES = 5
CLEAR = 0.5
"""Rank correlation of a feature with its values from which it is said to speak for or against where it is high."""


@dataclass(frozen=True)
class Step:
    """A step of a waterfall, in percent of the width; ``flip``: its figure stands to the left of the bar."""

    name: str
    given: str
    x: float
    width: float
    end: float
    positive: bool
    whisker: tuple[float, float] | None
    text: str
    flip: bool


@dataclass(frozen=True)
class Waterfall:
    """From the base value to the output of one input."""

    title: str
    why: str
    base: str
    output: str
    start: float
    end: float
    steps: tuple[Step, ...]
    note: str
    words: str


@dataclass(frozen=True)
class Line:
    """A feature of a beeswarm: a dot for each row, (x in percent, y in pixels, shade), and what it does in words."""

    name: str
    dots: tuple[tuple[float, float, int], ...]
    words: str


@dataclass(frozen=True)
class Swarm:
    """A method's values over the rows."""

    title: str
    why: str
    zero: float
    reach: str
    lines: tuple[Line, ...]
    shaded: bool
    words: str


@dataclass(frozen=True)
class Tables:
    """What there is to show feature by feature."""

    lead: str
    waterfalls: tuple[Waterfall, ...]
    swarms: tuple[Swarm, ...]
    explained: str
    rows: int
    total: int


def tables(comparison: Comparison) -> Tables | None:
    """The figures of a comparison whose features have names; None where there are none."""
    known = _methods(comparison)
    if not known:
        return None
    adding = [m for m in known if _adds_up(comparison.explanations[m])]
    first = comparison.explanations[known[0]]
    index, explained = _rows(first)
    falls = () if not adding else _waterfalls(comparison, comparison.explanations[adding[0]])
    swarms = () if len(index) < FEWEST_ROWS else _swarms(comparison, (adding or known)[0], known, index)
    if not falls and not swarms:
        return None
    return Tables(display(adding[0]) if adding else "", falls, swarms, explained, len(index), len(first))


def _methods(comparison: Comparison) -> list[str]:
    """Methods that give one value for each named feature of a row: trusted ones first, then by their standing."""
    words = {v.method: v.word for v in comparison.decided}
    order = {"trust": 0, "unclear": 1}
    standing = ranking.standing(comparison.scores)
    place = {method: i for i, method in enumerate(standing)}
    found = [
        label
        for label, e in comparison.explanations.items()
        if surfaces.kind(e) == "bars"
        and e.values.ndim == 2
        and not e.several
        and not e.details.get("control")
        and bool(np.isfinite(e.values).all())
    ]
    return sorted(found, key=lambda m: (order.get(words.get(m, "unclear"), 2), place.get(m, len(place))))


def _adds_up(e: Explanation) -> bool:
    return e.base_values is not None and e.residual is not None


def _rows(e: Explanation) -> tuple[list[int], str]:
    """The rows that a beeswarm can show together, since the same output is explained in them, and its name."""
    index = e.target.get("index")
    if not isinstance(index, (list, tuple)) or len(index) != len(e):
        return list(range(len(e))), ""
    column, _ = Counter(index).most_common(1)[0]
    several = e.output_names is not None or e.details.get("scale") != "value"
    name = gallery.class_name(e, int(column)) if several else ""
    return [row for row, one in enumerate(index) if one == column], name


def _waterfalls(comparison: Comparison, e: Explanation) -> tuple[Waterfall, ...]:
    """The first input, the one that the model is least sure of, and the first that it gets wrong."""
    wanted = {0: ""}
    chances = comparison.probabilities
    if chances is not None and chances.shape[1] > 1 and len(e) > 1:
        wanted.setdefault(int(np.argmin(chances.max(1))), "the least certain")
        if comparison.truth is not None:
            wrong = np.flatnonzero(chances.argmax(1) != np.asarray(comparison.truth))
            for row in [int(row) for row in wrong if int(row) not in wanted][:1]:
                wanted[row] = "a mistake"
    return tuple(waterfall(comparison, e, row, why) for row, why in wanted.items())


def waterfall(comparison: Comparison, e: Explanation, row: int, why: str = "", count: int = STEPS) -> Waterfall:
    """The steps of one row."""
    base = float(np.asarray(e.base_values)[row])
    values, output = np.asarray(e.values[row], dtype=np.float64), float(e.outputs[row])
    errors = None if e.std_error is None else np.asarray(e.std_error[row], dtype=np.float64)
    shown = surfaces.bars(e, row, count if len(values) <= count else count - 1)
    place = {name: i for i, name in enumerate(surfaces.feature_names(e))}
    given = shown.inputs or ("",) * len(shown.names)
    parts = [
        (name, text, float(value), math.nan if errors is None else float(errors[place[name]]))
        for name, text, value in zip(shown.names, given, shown.values, strict=True)
    ]
    left = len(values) - len(parts)
    if left:
        rest = float(values.sum()) - sum(part[2] for part in parts)
        parts.append((f"{left} others", "", rest, math.nan))
    ends = base + np.cumsum([part[2] for part in parts])
    axis = figures.Axis.around([base, output, *ends.tolist()], 0.14)
    steps, at = [], base
    for name, text, value, error in parts:
        steps.append(_step(axis, name, text, at, value, error))
        at += value
    missing = 0.0 if e.residual is None else float(e.residual[row])
    note = ""
    if missing > 1e-3 * max(abs(output - base), 1e-12):
        note = f"the values miss the output by {numerals.figure(missing, 2)}"
    prediction = gallery.predict(comparison, e, row)
    title = f"{gallery.input_name(comparison, row)}: {prediction.says} {prediction.chance}".rstrip()
    truth = f", true: {prediction.truth}" if prediction.truth is not None else ""
    said = descriptions.features(surfaces.feature_names(e), values)
    words = f"{title}. From {numerals.figure(base)} to {numerals.figure(output)}: {said}."
    return Waterfall(
        title + truth,
        why,
        numerals.figure(base),
        gallery.explained(e, row),
        axis.at(base),
        axis.at(output),
        tuple(steps),
        note,
        words,
    )


def _step(axis: figures.Axis, name: str, given: str, at: float, value: float, error: float) -> Step:
    start, end = axis.at(at), axis.at(at + value)
    reach = None
    if math.isfinite(error) and error > 0:
        reach = axis.at(at + value - 1.96 * error), axis.at(at + value + 1.96 * error)
    text = f"{'+' if value > 0 else ''}{numerals.figure(value, 2)}"
    return Step(
        name, given, min(start, end), round(abs(end - start), 2), end, value >= 0, reach, text, max(start, end) > 80
    )


def _swarms(comparison: Comparison, lead: str, known: list[str], index: list[int]) -> tuple[Swarm, ...]:
    """The lead, and the method that agrees with it least: others would repeat one of the two."""
    pairs = [(rho, {a, b} - {lead}) for rho, a, b in contradictions.judged_pairs(comparison) if lead in (a, b)]
    other = next((m for _, rest in pairs for m in rest if m in known), None)
    said = {lead: "", other: ", which agrees with it least"}
    return tuple(_swarm(comparison, m, index, why) for m, why in said.items() if m is not None)


def _swarm(comparison: Comparison, method: str, index: list[int], why: str = "", count: int = LINES) -> Swarm:
    e = comparison.explanations[method]
    values, names = np.asarray(e.values[index], dtype=np.float64), surfaces.feature_names(e)
    data = e.data[index].reshape(len(index), -1)
    known = data.shape[1] == values.shape[1] and e.dims[:1] != ("player",)
    order = np.argsort(-np.abs(values).mean(0), kind="stable")[:count]
    reach = float(np.abs(values[:, order]).max(initial=0.0)) or 1.0
    axis = figures.Axis(-1.04 * reach, 1.04 * reach)
    lines = []
    for i in order.tolist():
        levels = rank(data[:, i]) if known else np.full(len(values), 0.5)
        dots = zip(values[:, i], stacked(values[:, i], reach), levels, strict=True)
        drawn = tuple((axis.at(float(x)), round(14 - 26 * float(y), 1), _shade(float(v))) for x, y, v in dots)
        lines.append(Line(names[i], drawn, _direction(data[:, i], values[:, i]) if known else ""))
    title = display(method)
    said = "; ".join(f"{line.name}: {line.words}" if line.words else line.name for line in lines)
    words = f"{title} over {numerals.plural(len(index), 'row')}, largest mean |value| first. {said}."
    return Swarm(title, why, axis.at(0.0), numerals.figure(reach), tuple(lines), known, words)


def _shade(level: float) -> int:
    return min(SHADES - 1, int(level * SHADES))


def _direction(given: Array, values: Array) -> str:
    """What a high value of the feature does, by its rank correlation with the values."""
    rho = contradictions.rank_correlation(given, values)
    if not math.isfinite(rho) or abs(rho) < CLEAR:
        return "mixed"
    return "high speaks for" if rho > 0 else "high speaks against"


def stacked(values: Array, reach: float) -> Array:
    """Heights (B,) in -0.38..0.38: the dots of one bin are stacked around the line, alternately up and down."""
    bins = np.round(values / reach * 40).astype(int)
    height = np.zeros(len(values))
    for one in np.unique(bins):
        here = np.flatnonzero(bins == one)
        place = np.arange(len(here))
        height[here] = np.where(place % 2, 1, -1) * ((place + 1) // 2)
    return height * min(0.09, 0.38 / max(1.0, float(np.abs(height).max(initial=0.0))))


def rank(column: Array) -> Array:
    """Ranks scaled to 0..1; a constant column is in the middle."""
    levels, back = np.unique(column, return_inverse=True)
    return np.full(len(column), 0.5) if len(levels) < 2 else back / (len(levels) - 1)
