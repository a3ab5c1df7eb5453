"""Values of frequencies as a spectrum, and the coarse and the fine part of a picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pellucid.core.explanation import Explanation
from pellucid.reporting import numerals

Array = np.ndarray[Any, Any]

HEIGHT = 96.0
"""Pixels of a spectrum's plot."""
MOST_RINGS = 40
"""Players from which they are added up in rings before they are drawn."""
RINGS = 25
CORNER = 0.5**0.5
"""The highest radius there is, in cycles a pixel."""
COARSE = 1 / 16
"""Cycles a pixel under which a frequency counts as coarse: periods of more than 16 pixels."""
_MARKS = (0.125, 0.25, 0.5)


@dataclass(frozen=True, eq=False)
class Rings:
    """Bands of frequencies: their edges in cycles a pixel (n,), the values (n,) and standard errors (n,) or None."""

    low: Array
    high: Array
    values: Array
    errors: Array | None


@dataclass(frozen=True)
class Column:
    """A band: place and width in percent, top and height in pixels, the ends of its whisker, and words."""

    x: float
    width: float
    y: float
    height: float
    positive: bool
    whisker: tuple[float, float] | None
    words: str


@dataclass(frozen=True)
class Spectrum:
    """Bands from coarse to fine around the line of zero; marks are (x in percent, text)."""

    columns: tuple[Column, ...]
    zero: float
    marks: tuple[tuple[float, str], ...]
    words: str


def is_spectrum(e: Explanation) -> bool:
    """Whether the players are bands of frequencies, or single ones."""
    space = e.details.get("space") or {}
    if space.get("name") != "fourier" or e.players is None or e.details.get("players_by_row"):
        return False
    low, high, _ = _extent(e)
    order = np.argsort(high, kind="stable")
    return len(low) > MOST_RINGS or bool((low[order][1:] >= high[order][:-1]).all())


def _extent(e: Explanation) -> tuple[Array, Array, Array]:
    """The smallest, the largest and the mean radius of every player, (n,) each."""
    labels = np.asarray(e.players).reshape(-1, *e.data.shape[-2:])[0].reshape(-1)
    radius = radii(*e.data.shape[-2:]).reshape(-1)
    labels, radius = labels[labels >= 0], radius[labels >= 0]
    n = int(labels.max()) + 1
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(low, labels, radius)
    np.maximum.at(high, labels, radius)
    return low, high, np.bincount(labels, radius, n) / np.bincount(labels, minlength=n)


def radii(height: int, width: int) -> Array:
    """Distance of every Fourier coefficient from the mean, in cycles a pixel, (H, W)."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    return np.asarray(np.hypot(down, across))


def rings(e: Explanation, values: Array, errors: Array | None) -> Rings:
    """The bands of an explanation's players with these values (n,); many players are added up in rings, without
    errors, since those of sums are not known."""
    low, high, mean = _extent(e)
    if len(values) > MOST_RINGS:
        ring = np.minimum((mean / CORNER * RINGS).astype(int), RINGS - 1)
        edges = np.arange(RINGS + 1) * CORNER / RINGS
        return Rings(edges[:-1], edges[1:], np.bincount(ring, values, RINGS), None)
    order = np.argsort(high, kind="stable")
    edges = np.concatenate([[0.0], (high[order][:-1] + low[order][1:]) / 2, high[order][-1:]])
    return Rings(edges[:-1], edges[1:], values[order], None if errors is None else errors[order])


def reach(found: Rings) -> tuple[float, float]:
    """The lowest and the highest value that must be drawn, whiskers and zero included."""
    spread = np.zeros(len(found.values)) if found.errors is None else 1.96 * np.nan_to_num(found.errors)
    values = np.nan_to_num(found.values)
    return float((values - spread).min(initial=0.0)), float((values + spread).max(initial=0.0))


def drawn(found: Rings, low: float, high: float, title: str) -> Spectrum:
    """Bands between the lowest and the highest value that a row of spectra shows."""
    unit = (HEIGHT - 2) / ((high - low) or 1.0)
    zero = round(1 + unit * high, 1)
    last = float(found.high[-1]) or 1.0
    columns = []
    for i, value in enumerate(found.values):
        size = abs(float(value)) * unit
        error = None if found.errors is None else float(found.errors[i])
        whisker = None
        if error is not None and np.isfinite(error) and error > 0:
            ends = (zero - unit * (value + 1.96 * error), zero - unit * (value - 1.96 * error))
            whisker = round(max(0.0, float(ends[0])), 1), round(min(HEIGHT, float(ends[1])), 1)
        x, width = 100 * float(found.low[i]) / last, 100 * float(found.high[i] - found.low[i]) / last
        columns.append(
            Column(
                round(x + 0.08 * width, 2),
                round(0.84 * width, 2),
                round(zero - size if value >= 0 else zero, 1),
                round(size, 1),
                bool(value >= 0),
                whisker,
                f"{band(found, i)}: {_with_error(float(value), error)}",
            )
        )
    marks = tuple((round(100 * f / last, 1), _period(f)) for f in _MARKS if f < 0.97 * last)
    best = int(np.argmax(np.abs(found.values)))
    words = f"{title}: {len(columns)} bands from coarse to fine; largest {columns[best].words}."
    return Spectrum(tuple(columns), zero, marks, words)


def band(found: Rings, i: int) -> str:
    """A band in words: its periods in pixels.

    >>> band(Rings(np.array([0.0, 0.1]), np.array([0.1, 0.5]), np.zeros(2), None), 1)
    'periods of 10 to 2 pixels'
    """
    if found.low[i] <= 0:
        return f"periods over {_pixels(float(found.high[i]))} pixels"
    return f"periods of {_pixels(float(found.low[i]))} to {_pixels(float(found.high[i]))} pixels"


def _pixels(frequency: float) -> str:
    return f"{1 / frequency:.2g}"


def _period(frequency: float) -> str:
    return f"{_pixels(frequency)} px"


def _with_error(value: float, error: float | None) -> str:
    if error is None or not np.isfinite(error):
        return numerals.figure(value, 2)
    mean, low, high = numerals.estimate(value, value - 1.96 * error, value + 1.96 * error)
    return f"{mean} ({low} to {high})"


def split(found: Rings) -> tuple[int, float]:
    """How many bands count as coarse, and the frequency where they end: the edge nearest to ``COARSE``."""
    edges = found.high[:-1] if len(found.high) > 1 else found.high
    count = int(np.argmin(np.abs(edges - COARSE))) + 1
    return count, float(found.high[count - 1])


def parted(e: Explanation, row: int, frequency: float) -> tuple[Explanation, Explanation]:
    """The input of a row with the frequencies up to one, and with the others around the middle of its range."""
    one = e[row]
    x = np.asarray(one.data, dtype=np.float64)
    low = np.fft.ifft2(np.fft.fft2(x) * (radii(*x.shape[-2:]) <= frequency)).real
    top = 1.0 if x.max() <= 1 else 255.0 if x.min() >= 0 and x.max() <= 255 else float(x.max())
    return (
        replace(one, data=np.clip(low, min(0.0, x.min()), top)),
        replace(one, data=np.clip(x - low + (x.min() + top) / 2, min(0.0, x.min()), top)),
    )
