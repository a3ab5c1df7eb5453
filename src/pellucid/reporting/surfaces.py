"""What can be drawn of a row of an explanation: a map over a picture, a strip along time, or bars of named features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pellucid.core.explanation import Explanation
from pellucid.reporting import numerals

Array = np.ndarray[Any, Any]

MOST_BARS = 8
_SHORT = 12  # a series this short is read better as bars


@dataclass(frozen=True, eq=False)
class Bars:
    """Values of named features, largest |value| first; ``total`` is how many there are in all."""

    names: tuple[str, ...]
    values: Array
    errors: Array | None
    inputs: tuple[str, ...] | None
    total: int


def kind(e: Explanation) -> str:
    """How a row is drawn: "image", "series" or "bars"; coordinates of another space than the input's are named, not
    laid over it."""
    axes = tuple(e.details.get("axes", e.dims))
    if e.details.get("space") is not None:
        return "bars"
    by_player = e.dims[:1] == ("player",)
    if {"height", "width"} <= set(axes) and e.data.ndim in (3, 4) and (not by_player or e.players is not None):
        return "image"
    long = any(axis in ("time", "token") for axis in axes) and e.data.ndim == 3 and not by_player
    return "series" if long and e.data.shape[1 + _place(axes)] > _SHORT else "bars"


def whole(e: Explanation) -> bool:
    """Whether it is a mean over inputs, not of one each."""
    return e.details.get("scope") == "global"


def named(e: Explanation) -> bool:
    """Whether it is of features that have a meaning of their own: coordinates of another space than the input's, or
    named ones over all inputs."""
    return e.values.ndim - e.several == 2 and (e.details.get("space") is not None or (whole(e) and kind(e) == "bars"))


def _place(axes: tuple[str, ...]) -> int:
    return next(i for i, axis in enumerate(axes) if axis in ("time", "token"))


def shown_output(e: Explanation, row: int) -> int | None:
    """Which of several explained outputs is drawn: the largest; None where only one is explained."""
    return int(np.argmax(e.outputs[row])) if e.several else None


def flat_map(e: Explanation, row: int) -> Array:
    """The signed map of one row around its level, (H, W) or (T,), float64; of several outputs the largest. Of a chosen
    set it is +1 where presence matters and -1 where absence does: the ranks say nothing more."""
    if e.details.get("pertinent") is not None:
        return signs(e, row)
    return _flat(e, row)


def _flat(e: Explanation, row: int) -> Array:
    values = e[row].map()[0]
    output = shown_output(e, row)
    return np.asarray(values if output is None else values[..., output], dtype=np.float64) - level(e, row)


def signs(e: Explanation, row: int) -> Array:
    """Of a chosen set, what lies in it and must stay (+1) and what is missing and must stay away (-1), at input
    size."""
    one = e[row]
    found = np.asarray(one.details["pertinent"], dtype=np.float64).reshape(one.values.shape)
    return np.asarray(np.sign(replace(one, values=found).map()[0]))


def level(e: Explanation, row: int) -> float:
    """What a map is drawn around: 0, but for mean outputs under random masks (RISE) the mean over all masks, without
    which every place would look the same."""
    mean = e.details.get("mean_output")
    if mean is None:
        return 0.0
    one, output = np.asarray(mean)[row], shown_output(e, row)
    return float(one if output is None else one[output])


def scale_words(e: Explanation, row: int, scale: float) -> str:
    """The scale of a map as it is printed under it; of a chosen set, how many are in it."""
    if e.details.get("pertinent") is not None:
        chosen = np.asarray(e.details["pertinent"][row])
        return f"{numerals.count(int((chosen != 0).sum()))} of {numerals.count(chosen.size)} chosen"
    around = level(e, row)
    return f"±{numerals.figure(scale)}" + (f" around {numerals.figure(around)}" if around else "")


def bars(e: Explanation, row: int, count: int = MOST_BARS, names: tuple[str, ...] | None = None) -> Bars:
    """The features of one row with the largest |value|, or the ones named, in that order."""
    values = bars_in_order(e, row)
    if e.details.get("pertinent") is not None:
        values = values * np.asarray(e.details["pertinent"][row], dtype=np.float64).reshape(-1)
    errors = errors_in_order(e, row)
    every = feature_names(e)
    place = {name: i for i, name in enumerate(every)}
    if names is not None:
        order = [place[name] for name in names if name in place]
    else:
        size = np.abs(np.nan_to_num(values))
        once = np.triu(np.ones(e.values.shape[1:3], dtype=bool)).reshape(-1) if _pairs(e) else np.ones(len(size), bool)
        order = [i for i in np.argsort(-size, kind="stable").tolist() if once[i]][:count]
    data = e.data[row].reshape(-1)
    known = data if len(data) == len(values) and e.dims[:1] != ("player",) else None
    return Bars(
        tuple(every[i] for i in order),
        values[order],
        None if errors is None else errors[order],
        None if known is None else tuple(numerals.figure(float(known[i])) for i in order),
        len(values) if names is not None else int(once.sum()),
    )


def _pairs(e: Explanation) -> bool:
    """Whether a row's values are a symmetric matrix over pairs of players."""
    return e.dims[:2] == ("player", "player")


def feature_names(e: Explanation) -> tuple[str, ...]:
    """A name for every feature of a row."""
    inner = e.values.shape[1 : e.values.ndim - 1] if e.several else e.values.shape[1:]
    count = int(np.prod(inner))
    if e.feature_names is not None and len(e.feature_names) == count:
        return tuple(map(str, e.feature_names))
    if len(inner) <= 1:
        return tuple(f"feature {i + 1}" for i in range(count))
    if _pairs(e) and e.feature_names is not None and len(e.feature_names) == inner[0]:
        names = tuple(map(str, e.feature_names))
        return tuple(a if a == b else f"{a} and {b}" for a in names for b in names)
    return tuple(", ".join(str(i + 1) for i in index) for index in np.ndindex(*inner))


def photo(e: Explanation, row: int) -> Array:
    """The input of one row as pixels (H, W, 3) uint8; stretched to its own range unless that is [0, 1] or 0 to 255."""
    x = np.nan_to_num(np.asarray(e.data[row], dtype=np.float64))
    if x.ndim == 3 and _channels_first(e, x.shape):
        x = np.moveaxis(x, 0, -1)
    if x.ndim == 2:
        x = x[..., None]
    low, high = float(x.min()), float(x.max())
    if low >= 0 and high <= 1:
        x = x * 255
    elif not (low >= 0 and high <= 255 and high > 2):
        x = (x - low) / (high - low or 1.0) * 255
    x = x[..., :3] if x.shape[-1] in (3, 4) else np.repeat(x.mean(-1, keepdims=True), 3, -1)
    return np.rint(np.clip(x, 0, 255)).astype(np.uint8)


def _channels_first(e: Explanation, shape: tuple[int, ...]) -> bool:
    axes: tuple[str, ...] = tuple(e.details.get("axes", ()))
    if len(axes) == 3 and "channel" in axes:
        return axes.index("channel") == 0
    return shape[0] in (1, 2, 3, 4) and shape[-1] not in (1, 3, 4)


def positions(e: Explanation, row: int, cells: int = 28) -> Array:
    """How important the method finds each position, on a grid of at most ``cells`` a side, flat; larger = more."""
    values = _flat(e, row) if kind(e) != "bars" else bars_in_order(e, row)
    if e.details.get("ranking") == "absolute":
        values = np.abs(values)
    for axis in range(values.ndim):
        parts = np.array_split(values, min(cells, values.shape[axis]), axis)
        values = np.stack([part.mean(axis) for part in parts], axis)
    return values.reshape(-1)


def bars_in_order(e: Explanation, row: int) -> Array:
    """Every feature's value in one row, in the order of the features."""
    return _in_order(e.values, e, row)


def errors_in_order(e: Explanation, row: int) -> Array | None:
    """Every feature's standard error in one row, or None."""
    return None if e.std_error is None else _in_order(e.std_error, e, row)


def _in_order(array: Array, e: Explanation, row: int) -> Array:
    output = shown_output(e, row)
    values = array[row] if output is None else array[row][..., output]
    return np.asarray(values, dtype=np.float64).reshape(-1)


def in_order(e: Explanation, row: int) -> tuple[Array, Array | None]:
    """Every feature's value and standard error (or None) in one row, in the order of the features."""
    return bars_in_order(e, row), errors_in_order(e, row)


def pictured(e: Explanation) -> bool:
    """Whether the inputs are pictures."""
    shape = e.data.shape[1:]
    colours = len(shape) == 3 and (shape[0] in (1, 3) or shape[-1] in (1, 3))
    return (colours or len(shape) == 2) and min(shape[-2:] if len(shape) == 2 else sorted(shape)[1:]) >= 8
