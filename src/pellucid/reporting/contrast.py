"""Why this and not that: the set of features a method chose, told apart by what must stay and what must stay away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.explanation import Explanation
from pellucid.reporting import descriptions, gallery, numerals, pictures, surfaces
from pellucid.reporting.references import display

Array = np.ndarray[Any, Any]

SHOWN = 6
"""Inputs of a method at most."""
NAMED = 12
"""Features of a chosen set that are named at most."""


@dataclass(frozen=True)
class Case:
    """One input: the question, the input, its chosen set as a picture or as names of what is present and absent, the
    input changed in that set alone, and what it takes."""

    question: str
    name: str
    photo: pictures.Picture | None
    chosen: pictures.Picture | None
    changed: pictures.Picture | None
    after: str
    present: tuple[str, ...]
    absent: tuple[str, ...]
    told: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Contrast:
    """A method and what it chose in each input; ``protects``: what has to be held, not what has to move."""

    title: str
    targeted: bool
    protects: bool
    pictured: bool
    cases: tuple[Case, ...]


def contrasts(comparison: Comparison) -> tuple[Contrast, ...]:
    """Every method of a comparison that chose a set and knows the signs of its features."""
    found = []
    for method, e in comparison.explanations.items():
        if e.details.get("pertinent") is not None:
            cases = tuple(_case(comparison, e, row) for row in range(min(len(e), SHOWN)))
            targeted = _objective(e).get("against") is not None
            protects = _objective(e).get("criterion") == "irrelevant"
            found.append(Contrast(display(method), targeted, protects, surfaces.kind(e) == "image", cases))
    return tuple(found)


def _case(comparison: Comparison, e: Explanation, row: int) -> Case:
    own, other = _own(comparison, e, row), _against(e, row)
    signs = np.asarray(e.details["pertinent"][row]).reshape(-1)
    image = surfaces.kind(e) == "image"
    named = () if image else surfaces.feature_names(e)
    ranked = [i for i in np.argsort(-surfaces.bars_in_order(e, row), kind="stable").tolist() if signs[i] != 0]
    photo = picture = changed = None
    words = f"presence matters: {int((signs > 0).sum())}, absence: {int((signs < 0).sum())}"
    if image:
        values, pixels = surfaces.signs(e, row), surfaces.photo(e, row)
        words = descriptions.chosen(values)
        photo, picture = pictures.photograph(pixels), pictures.chosen(pixels, values)
        moved = _moved(e, row)
        changed = None if moved is None else pictures.photograph(surfaces.photo(moved, 0))
    what = other or f"not {own}"
    question = f"Why {own} and not {other}?" if other else f"What makes it {own}?"
    return Case(
        question,
        gallery.input_name(comparison, row),
        photo,
        picture,
        changed,
        f"read as {other}" if other else f"no longer {own}",
        tuple(named[i] for i in ranked if signs[i] > 0 and named)[:NAMED],
        tuple(named[i] for i in ranked if signs[i] < 0 and named)[:NAMED],
        tuple(_told(e, row, signs, what)),
        f"{question} {words}.",
    )


def _told(e: Explanation, row: int, signs: Array, what: str) -> list[str]:
    """What it takes to change the prediction."""
    size = f"{numerals.count(int((signs != 0).sum()))} of {numerals.plural(len(signs), 'feature')}"
    said = []
    length = _length(e, row)
    if length > 0:
        told = numerals.figure(length, 2) + _share(e, row, length)
        said.append(f"{size} alone: a change of length {told} makes it {what}.")
    elif "perturbation" in e.details:
        said.append(f"{size} alone: no change within the model's bounds was found that makes it {what}.")
    radius = e.details.get("radius")
    if radius is not None and _objective(e).get("criterion") == "irrelevant":
        told = numerals.figure(float(np.asarray(radius)[row]), 2)
        said.append(f"With these held, all others have to change by {told}.")
    return said


def _length(e: Explanation, row: int) -> float:
    """The size of the change of the chosen set, in the norm of the method."""
    change = e.details.get("perturbation")
    return 0.0 if change is None else _size(e, change[row])


def _share(e: Explanation, row: int, length: float) -> str:
    """The length of a change beside that of the input, where both are in the same units."""
    whole = _size(e, e.data[row])
    return (
        f" ({numerals.percent(length / whole)} of the input's own)" if whole > 0 and not e.details.get("space") else ""
    )


def _size(e: Explanation, array: Array) -> float:
    """The size of a row of entries in the norm of the method."""
    return float(np.linalg.norm(np.asarray(array, dtype=np.float64).reshape(-1), float(_objective(e).get("norm", 2))))


def _moved(e: Explanation, row: int) -> Explanation | None:
    """The input with the chosen set changed; None where no change was found, or it lives in other coordinates."""
    change = e.details.get("perturbation")
    if change is None or np.shape(change) != e.data.shape or not np.any(change[row]):
        return None
    one = e[row]
    return replace(one, data=one.data + np.asarray(change[row : row + 1], dtype=one.data.dtype))


def _objective(e: Explanation) -> Mapping[str, Any]:
    """What the method was to do, of its hyper-parameters."""
    fields = e.method.get("fields", {})
    inner = fields.get("objective")
    found = inner.get("fields", {}) if isinstance(inner, Mapping) else fields
    return found if isinstance(found, Mapping) else {}


def _against(e: Explanation, row: int) -> str:
    """The class that was asked about, if one was."""
    against = _objective(e).get("against")
    if isinstance(against, (list, tuple)):
        first = int(e.details.get("first_row", 0))
        at = row if len(against) == len(e) else first + row
        against = against[at] if at < len(against) else None
    if against is None:
        return ""
    return gallery.class_name(e, against) if isinstance(against, int) else str(against)


def _own(comparison: Comparison, e: Explanation, row: int) -> str:
    """The predicted class, which is what is explained of a chosen set."""
    if comparison.probabilities is not None and comparison.probabilities.shape[1] > 1:
        return gallery.class_name(e, int(np.argmax(comparison.probabilities[row])))
    index = e.target.get("index")
    if isinstance(index, (list, tuple)):
        return gallery.class_name(e, int(index[row]))
    return gallery.class_name(e, index) if isinstance(index, int) else "this"
