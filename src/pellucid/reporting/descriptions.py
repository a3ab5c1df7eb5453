"""What a picture shows, in words, for readers who do not see it."""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.reporting import numerals, palette

Array = np.ndarray[Any, Any]

_PLACES = (
    ("in the upper left", "at the top", "in the upper right"),
    ("on the left", "in the centre", "on the right"),
    ("in the lower left", "at the bottom", "in the lower right"),
)
_FLAT = 0.18  # of nine fields, an even spread gives each 0.11
_FAINT = 0.3  # fainter evidence than this share of the scale is not looked at: it is hardly seen either


def region(mass: Array) -> str:
    """Where most of a non-negative (H, W) array lies, in words.

    >>> region(np.eye(3)[[0]].T @ np.eye(3)[[2]]), region(np.ones((6, 6)))
    ('in the upper right', 'spread over the whole picture')
    """
    fields = [[part.sum() for part in np.array_split(row, 3, 1)] for row in np.array_split(mass, 3, 0)]
    share = np.array(fields) / max(float(np.sum(fields)), np.finfo(float).tiny)
    order = np.argsort(-share, axis=None, kind="stable")
    first, second = (np.unravel_index(i, share.shape) for i in order[:2])
    if share[first] < _FLAT:
        return "spread over the whole picture"
    if share[second] > 0.8 * share[first]:
        return f"{_PLACES[first[0]][first[1]]} and {_PLACES[second[0]][second[1]]}"
    return _PLACES[first[0]][first[1]]


def strong(values: Array) -> tuple[Array, Array]:
    """The positive and the negative evidence that can be seen, each as a non-negative array like ``values``."""
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    seen = np.where(np.abs(finite) >= _FAINT * palette.limit(finite), finite, 0.0)
    return np.clip(seen, 0, None), np.clip(-seen, 0, None)


def signs(values: Array) -> str:
    """Where a signed map (H, W) is positive and where negative.

    >>> image = np.zeros((9, 9)); image[0, 0], image[8, 8] = 2, -1
    >>> signs(image)
    'strongest positive evidence in the upper left, negative in the lower right'
    """
    plus, minus = strong(values)
    total = float(plus.sum() + minus.sum())
    if total == 0:
        return "no evidence anywhere: the map is zero"
    share = float(plus.sum()) / total
    if share > 0.98:
        return f"positive evidence only, {_strongest(plus)}"
    if share < 0.02:
        return f"negative evidence only, {_strongest(minus)}"
    here, there = region(plus), region(minus)
    if here == there:
        return f"positive and negative evidence both {_strongest(plus)}"
    if here.startswith("spread"):
        return f"positive evidence {here}, strongest negative {there}"
    if there.startswith("spread"):
        return f"strongest positive evidence {here}, negative {there}"
    return f"strongest positive evidence {here}, negative {there}"


def _strongest(mass: Array) -> str:
    place = region(mass)
    return place if place.startswith("spread") else f"strongest {place}"


def chosen(values: Array) -> str:
    """Where a chosen set (H, W) or (T,) of +1 and -1 lies.

    >>> image = np.zeros((9, 9)); image[0, 0], image[8, 8] = 1, -1
    >>> chosen(image)
    'presence matters in the upper left, absence in the lower right'
    """
    found: list[str] = []
    for sign, word in ((1, "presence"), (-1, "absence")):
        mass = np.clip(sign * values, 0, None)
        if mass.any():
            found.append(f"{word}{' matters' if not found else ''} {_place(mass)}")
    return ", ".join(found) or "no feature was chosen"


def _place(mass: Array) -> str:
    return region(mass) if mass.ndim == 2 else _third(mass)


def _third(mass: Array) -> str:
    thirds = [part.sum() for part in np.array_split(mass, 3)]
    return ("at the start", "in the middle", "at the end")[int(np.argmax(thirds))]


def along(values: Array) -> str:
    """Where a signed strip (T,) is positive and where negative, by its thirds."""
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    plus, minus = np.clip(finite, 0, None), np.clip(-finite, 0, None)
    found = [
        f"{sign} evidence strongest {_third(mass)}"
        for sign, mass in (("positive", plus), ("negative", minus))
        if mass.any()
    ]
    return ", ".join(found) or "no evidence anywhere: the values are zero"


def features(names: tuple[str, ...], values: Array) -> str:
    """The features with the largest positive and negative values.

    >>> features(("age", "bmi"), np.array([0.31, -0.2]))
    'largest positive: age (0.310); largest negative: bmi (−0.200)'
    """
    found = []
    for sign, word in ((1, "positive"), (-1, "negative")):
        if len(values) and np.nanmax(sign * values, initial=-np.inf) > 0:
            best = int(np.nanargmax(sign * values))
            found.append(f"largest {word}: {names[best]} ({numerals.figure(float(values[best]))})")
    return "; ".join(found) or "all values are zero"
