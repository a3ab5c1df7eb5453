"""What the model says while one feature of an input moves: traversals as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.explanation import Explanation
from pellucid.reporting import figures, gallery, numerals, pictures, surfaces

Array = np.ndarray[Any, Any]

STOPS = 8
"""Pictures of a traversal."""
THUMB = 64
"""Pixels along the longer side of one of them."""


@dataclass(frozen=True)
class Stop:
    """A picture on a feature's way, what the model says there in words and in percent of the way's range, and whether
    it is where the input itself stands."""

    picture: pictures.Picture | None
    value: str
    output: str
    level: float
    here: bool


@dataclass(frozen=True)
class Sweep:
    """One feature on its way."""

    name: str
    effect: str
    stops: tuple[Stop, ...]
    words: str


@dataclass(frozen=True)
class Walk:
    """Every feature of one input on its way."""

    name: str
    output: str
    sweeps: tuple[Sweep, ...]
    pictured: bool


def walks(comparison: Comparison, local: Mapping[str, Explanation]) -> list[Walk]:
    """The traversals that came with explanations, of the rows they explain."""
    found = []
    for e in local.values():
        first = int(e.details.get("first_row", 0))
        for walk in e.details.get("traversals", ()):
            row = int(walk["row"]) - first
            if 0 <= row < len(e):
                found.append(_walk(comparison, e, walk, row))
    return found


def _walk(comparison: Comparison, e: Explanation, walk: Mapping[str, Any], row: int) -> Walk:
    every = np.concatenate([np.asarray(sweep["outputs"], dtype=np.float64) for sweep in walk["sweeps"]])
    axis = figures.Axis(min(0.0, float(every.min())), max(float(every.max()), 1e-12))
    sweeps = tuple(_sweep(e, sweep, axis) for sweep in walk["sweeps"])
    pictured = any(stop.picture is not None for sweep in sweeps for stop in sweep.stops)
    output = f"{_number(float(walk['output']))} for {walk['output_name']}"
    return Walk(gallery.input_name(comparison, row), output, sweeps, pictured)


def _sweep(e: Explanation, sweep: Mapping[str, Any], axis: figures.Axis) -> Sweep:
    outputs = np.asarray(sweep["outputs"], dtype=np.float64)
    values, inputs, here = sweep.get("values"), sweep.get("inputs"), sweep.get("here")
    kept = np.unique(np.linspace(0, len(outputs) - 1, min(STOPS, len(outputs))).round().astype(int))
    near = -1 if values is None or here is None else int(kept[np.argmin(np.abs(np.asarray(values)[kept] - here))])
    stops = tuple(
        Stop(
            None if inputs is None or not surfaces.pictured(e) else _thumb(e, np.asarray(inputs)[i]),
            "" if values is None else _number(float(np.asarray(values)[i])),
            _number(float(outputs[i])),
            axis.at(float(outputs[i])),
            i == near,
        )
        for i in kept.tolist()
    )
    name, effect = str(sweep["name"]), _number(float(np.ptp(outputs)))
    told = ", ".join(stop.output for stop in stops)
    return Sweep(name, effect, stops, f"{name} on its way: the output is {told}")


def _number(value: float) -> str:
    """Two figures; whole numbers as they are.

    >>> _number(2.0), _number(0.456)
    ('2', '0.46')
    """
    return numerals.count(value) if value == round(value) and abs(value) < 1e5 else numerals.figure(value, 2)


def _thumb(e: Explanation, picture: Array) -> pictures.Picture:
    shown = replace(e, data=np.asarray(picture)[None], values=e.values[:1], outputs=e.outputs[:1])
    return pictures.photograph(surfaces.photo(shown, 0), THUMB)
