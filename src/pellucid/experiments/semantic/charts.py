"""Geometry of the drawings of a page; the markup is in the template, so that colours follow light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.experiments.semantic.blocks import Array, Bars, Lines
from pellucid.reporting import figures, numerals
from pellucid.reporting.figures import Axis, Bar, Tick

WIDTH, HEIGHT = 480.0, 220.0
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 3", "12 4")


@dataclass(frozen=True)
class Curve:
    """A line and its band as point lists of an SVG."""

    label: str
    style: str
    dash: str
    line: str
    band: str


@dataclass(frozen=True)
class Drawing:
    """A set of curves with both axes; ``zero`` is where the value 0 lies, None outside."""

    curves: tuple[Curve, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[Tick, ...]
    zero: float | None
    marks: tuple[tuple[float, str], ...]
    width: float = WIDTH
    height: float = HEIGHT


def drawing(block: Lines) -> Drawing:
    """Curves in a drawing of 480 x 220."""
    ends = [v for s in block.series for v in _ends(s.values, s.errors)]
    axis = Axis.around([*ends, 0.0])
    low, high = float(np.min(block.x)), float(np.max(block.x))
    reach = (high - low) or 1.0

    def at(x: float) -> float:
        return round(WIDTH * (x - low) / reach, 1)

    def points(xs: Array, ys: Array) -> str:
        return " ".join(f"{at(float(x))},{_y(axis, float(y))}" for x, y in zip(xs, ys, strict=True) if np.isfinite(y))

    curves = []
    for place, s in enumerate(block.series):
        band = ""
        if s.errors is not None and np.isfinite(s.errors).all():
            down, up = s.values - 1.96 * s.errors, s.values + 1.96 * s.errors
            band = f"{points(block.x, down)} {points(block.x[::-1], up[::-1])}"
        curves.append(Curve(s.label, s.style, DASHES[place % len(DASHES)], points(block.x, s.values), band))
    steps = _round(low, high)
    return Drawing(
        tuple(curves),
        tuple((at(float(x)), _tick(float(x))) for x in steps),
        tuple(Tick(_y(axis, float(y)), _tick(float(y))) for y in _round(axis.low, axis.high)),
        _y(axis, 0.0) if axis.low <= 0 <= axis.high else None,
        tuple((at(x), text) for x, text in block.marks),
    )


def columns(block: Bars) -> tuple[tuple[str, str, tuple[Bar, ...]], ...]:
    """The bars of each series: (label, style, bars)."""
    reaches = [figures.reach(s.values, s.errors) for s in block.series]
    scales = [max(reaches, default=1.0)] * len(reaches) if block.shared else reaches
    return tuple(
        (s.label, s.style, figures.bars(np.asarray(s.values, dtype=np.float64), s.errors, scale))
        for s, scale in zip(block.series, scales, strict=True)
    )


def numbers(block: Bars) -> tuple[tuple[str, ...], ...]:
    """For each feature the text of each series: value ± standard error."""
    return tuple(
        tuple(number(s.values[i], None if s.errors is None else s.errors[i]) for s in block.series)
        for i in range(len(block.features))
    )


def number(value: Any, error: Any = None) -> str:
    """A value with its standard error, both to the error's second figure."""
    value, error = float(value), float("nan") if error is None else float(error)
    if not (np.isfinite(error) and error > 0):
        return numerals.figure(value, 2)
    decimals = int(np.clip(1 - np.floor(np.log10(error)), 0, 4))
    return f"{numerals.fixed(value, decimals)} ± {numerals.fixed(error, decimals)}"


def _ends(values: Array, errors: Array | None) -> list[float]:
    reach = 0 if errors is None else 1.96 * np.nan_to_num(errors)
    return [*(values - reach).tolist(), *(values + reach).tolist()]


def _round(low: float, high: float) -> Array:
    """Four to nine round places in a range."""
    size = 10.0 ** np.floor(np.log10((high - low) or 1.0))
    step = next(size * part for part in (1.0, 0.5, 0.2, 0.1) if (high - low) / (size * part) >= 4 or part == 0.1)
    found: Array = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
    return found


def _tick(value: float) -> str:
    return f"{round(value, 10):g}".replace("-", "−")


def _y(axis: Axis, value: float) -> float:
    return round(HEIGHT * (1 - axis.at(value) / 100), 1)
