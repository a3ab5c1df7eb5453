"""Geometry of the small drawings in the page; the markup is in the templates, so colours follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.reporting import numerals

Array = np.ndarray[Any, Any]

PANEL_WIDTH, PANEL_HEIGHT = 120.0, 78.0
FEWEST_ROWS = 3
"""Rows from which an interval is drawn or a method called the best."""


@dataclass(frozen=True)
class Axis:
    """A range of values laid on 0..100."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float], margin: float = 0.06) -> Axis:
        """The range of the finite values, with a margin on either side."""
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return cls(0.0, 1.0)
        low, high = min(finite), max(finite)
        pad = (high - low) * margin or abs(low) * 0.1 or 1.0
        return cls(low - pad, high + pad)

    def at(self, value: float) -> float:
        """The place of a value, kept inside the drawing."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)


@dataclass(frozen=True)
class Dot:
    """A mean as a dot, its interval as a bar, a mark to compare with (chance, a threshold); in percent of the width."""

    x: float
    low: float | None
    high: float | None
    mark: float | None


def dot(axis: Axis, mean: float, low: float, high: float, mark: float = math.nan) -> Dot | None:
    """The drawing of an estimate; None where there is no mean."""
    if not math.isfinite(mean):
        return None
    known = math.isfinite(low) and math.isfinite(high)
    return Dot(
        axis.at(mean),
        axis.at(low) if known else None,
        axis.at(high) if known else None,
        axis.at(mark) if math.isfinite(mark) else None,
    )


@dataclass(frozen=True)
class Band:
    """A mean curve and its 95 % band as point lists of an SVG; the band is empty under three rows."""

    line: str
    band: str


@dataclass(frozen=True)
class Tick:
    """A labelled place on the upright axis of a panel."""

    y: float
    text: str


def mean_and_band(curve: Array) -> tuple[Array, Array, Array]:
    """Mean over rows of curves (B, F) and its 95 % t-interval, each (F,); with fewer than three rows it is NaN (that of
    two is 13 times their standard error, and says nothing)."""
    from scipy.special import stdtrit

    finite = np.isfinite(curve)
    rows = finite.sum(0)
    safe = np.where(finite, curve, 0.0)
    mean = np.divide(safe.sum(0), rows, out=np.full(curve.shape[1], np.nan), where=rows > 0)
    squares = np.where(finite, (curve - mean) ** 2, 0.0).sum(0)
    variance = np.divide(squares, rows - 1, out=np.full(len(mean), np.nan), where=rows >= FEWEST_ROWS)
    reach = stdtrit(np.maximum(rows - 1, 1), 0.975) * np.sqrt(variance / np.maximum(rows, 1))
    return mean, mean - reach, mean + reach


def paired_interval(difference: Array) -> tuple[float, float, float]:
    """Mean of paired differences (B,) and its 95 % t-interval; NaN bounds under three rows."""
    finite = difference[np.isfinite(difference)]
    if len(finite) == 0:
        return math.nan, math.nan, math.nan
    mean, low, high = mean_and_band(finite[:, None])
    return float(mean[0]), float(low[0]), float(high[0])


def band(fractions: Array, curve: Array, axis: Axis) -> Band:
    """A curve (B, F) in the coordinates of a panel."""
    mean, low, high = mean_and_band(curve)
    x = fractions * PANEL_WIDTH

    def points(xs: Array, ys: Array) -> str:
        return " ".join(f"{a:.1f},{_y(axis, b):.1f}" for a, b in zip(xs, ys, strict=True) if math.isfinite(b))

    outline = "" if not np.isfinite(low).all() else f"{points(x, low)} {points(x[::-1], high[::-1])}"
    return Band(points(x, mean), outline)


def _y(axis: Axis, value: float) -> float:
    return PANEL_HEIGHT * (1 - axis.at(value) / 100)


def ticks(axis: Axis, count: int = 3) -> tuple[Tick, ...]:
    """Round values inside the axis, at most ``count`` of them."""
    span = axis.high - axis.low
    step = 10.0 ** math.floor(math.log10(span))
    for finer in (5.0, 2.0, 1.0, 0.5, 0.2, 0.1):
        marks = (
            np.arange(math.ceil(axis.low / (step * finer)), math.floor(axis.high / (step * finer)) + 1) * step * finer
        )
        if len(marks) >= 2:
            break
    marks = marks[:: max(1, math.ceil(len(marks) / count))]
    return tuple(Tick(round(_y(axis, float(mark)), 1), numerals.figure(float(mark), 2)) for mark in marks)


@dataclass(frozen=True)
class Bar:
    """One feature's value: where its bar starts, its width, and the ends of its whisker, in percent of the width."""

    x: float
    width: float
    positive: bool
    whisker: tuple[float, float] | None
    text: str


def bars(values: Array, errors: Array | None, scale: float) -> tuple[Bar, ...]:
    """Bars to either side of a common zero; whiskers are 95 % intervals (1.96 standard errors)."""
    axis = Axis(-scale or -1.0, scale or 1.0)
    zero = axis.at(0.0)
    found = []
    for i, value in enumerate(values):
        if not math.isfinite(value):
            found.append(Bar(zero, 0.0, True, None, numerals.NONE))
            continue
        end = axis.at(float(value))
        error = math.nan if errors is None else float(errors[i])
        reach = None
        if math.isfinite(error) and error > 0:
            reach = (axis.at(float(value) - 1.96 * error), axis.at(float(value) + 1.96 * error))
        found.append(Bar(min(zero, end), abs(end - zero), value >= 0, reach, numerals.figure(float(value), 2)))
    return tuple(found)


def reach(values: Array, errors: Array | None) -> float:
    """The largest |value|, whiskers included: the scale of a set of bars."""
    size = np.abs(values)
    if errors is not None:
        size = size + 1.96 * np.nan_to_num(errors)
    finite = size[np.isfinite(size)]
    return float(finite.max(initial=0.0))


def wave(values: Array) -> str:
    """A signal (T,) as points of a line in a 100 x 40 drawing."""
    finite = np.nan_to_num(values)
    axis = Axis.around(finite.tolist())
    x: Sequence[float] = np.linspace(0, 100, len(finite)).tolist()
    return " ".join(f"{a:.1f},{40 - 0.4 * axis.at(b):.1f}" for a, b in zip(x, finite.tolist(), strict=True))
