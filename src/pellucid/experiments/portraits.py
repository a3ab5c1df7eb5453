"""Pictures of a run: maps of some rows, and the dark object."""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.experiments.pieces import Array, Shown
from pellucid.experiments.robustness import Found
from pellucid.metrics.statistics import top
from pellucid.reporting import numerals, palette, pictures

ON_PICTURE = (
    "Integrated gradients",
    "Leaving one out",
    "Baseline Shapley values, random orders",
    "Gradient",
    "Expected gradients, training digits",
    "Greedy-AS S̄r",
    "Greedy-AS Sr",
)

MOST = 5
"""Words of a sentence that are marked."""


def _picture(values: Array) -> str:
    return pictures.signed(values, palette.limit(values)).src


def _photo(x: Array) -> str:
    grey = np.rint(x * 255).astype(np.uint8)
    return pictures.photograph(np.repeat(grey[..., None], 3, -1)).src


def gallery(found: Found) -> dict[str, Any]:
    """Maps of the first rows; of photos without the pictures, which are not ours to publish."""
    shown = [c for c in found.contestants if any(c.key in row.maps for row in found.shown)]
    rows = [
        {
            "photo": _photo(row.x) if row.x.ndim == 2 else None,
            "label": _label(row),
            "maps": [_picture(row.maps[c.key]) if c.key in row.maps else None for c in shown],
        }
        for row in found.shown
    ]
    return {"names": [c.label for c in shown], "rows": rows}


def _label(row: Shown) -> str:
    return row.label if row.label == row.prediction else f"{row.label}, read as {row.prediction}"


def passages(found: Found) -> list[dict[str, Any]]:
    """The first sentences, once for each method, cut into (text, rank) with the rank of each of the first words, 0 for
    the others; and once with the words that people scored, as (text, sign)."""
    made: list[dict[str, Any]] = []
    for row in found.shown if found.kind.name == "text" else ():
        scored = [(text, "good" if v > 0 else "bad" if v < 0 else "") for text, v in _cut(row, row.x)]
        lines = []
        for c in found.contestants:
            if c.key in row.maps:
                lines.append({"method": c.label, "parts": _cut(row, _ranks(row.maps[c.key]))})
        made.append({"label": _label(row), "scored": scored, "lines": lines})
    return made


def _ranks(scores: Array) -> Array:
    """1 to 5 for the words that rank first, 0 for the others and for ties that chance would have to break."""
    sure = np.stack([top(scores[None], k)[0] == 1 for k in range(1, MOST + 1)])
    return np.where(sure.any(0), sure.argmax(0) + 1, 0)


def _cut(row: Shown, values: Array) -> list[tuple[str, int]]:
    """The text in pieces, each with the value of its word; what lies between words has 0."""
    parts: list[tuple[str, int]] = []
    at = 0
    for (start, end), value in zip(row.places, values.tolist(), strict=True):
        parts += [(row.text[at:start], 0), (row.text[start:end], value)]
        at = end
    return [(text, value) for text, value in [*parts, (row.text[at:], 0)] if text]


def dark(found: Found) -> dict[str, Any] | None:
    """The dark object, if it was asked about: its picture and both tables."""
    if (b := found.blindness) is None:
        return None
    seen = [
        {
            "label": m.label,
            "reference": m.reference,
            "theorem": m.theorem,
            "largest": "exactly 0" if m.largest == 0 else numerals.figure(m.largest, 2),
            "share": numerals.percent(m.share),
            "says": "blind" if m.blind else "sees it",
        }
        for m in b.methods
    ]
    moved = [
        {
            "label": m.label,
            "theorem": m.theorem,
            "change": "exactly 0" if m.change == 0 else numerals.figure(m.change, 2),
            "says": "blind" if m.blind else "sees it",
        }
        for m in b.metrics
    ]
    maps = [{"label": m.label, "src": _picture(m.map), "blind": m.blind} for m in b.methods if m.label in ON_PICTURE]
    return {
        "photo": _photo(b.x),
        "object": _picture(np.where(b.object, 1.0, 0.0)),
        "prediction": b.prediction,
        "share": numerals.percent(b.share),
        "methods": seen,
        "metrics": moved,
        "maps": maps,
    }
