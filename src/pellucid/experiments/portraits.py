"""Pictures of a run: maps of some rows, and the dark object."""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.experiments.robustness import Array, Found
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


def _picture(values: Array) -> str:
    return pictures.signed(values, palette.limit(values)).src


def _photo(x: Array) -> str:
    grey = np.rint(x * 255).astype(np.uint8)
    return pictures.photograph(np.repeat(grey[..., None], 3, -1)).src


def gallery(found: Found) -> dict[str, Any]:
    """Maps of the first rows."""
    shown = [c for c in found.contestants if any(c.key in row.maps for row in found.shown)]
    rows = [
        {
            "photo": _photo(row.x),
            "label": f"{row.label}" if row.label == row.prediction else f"{row.label}, read as {row.prediction}",
            "maps": [_picture(row.maps[c.key]) if c.key in row.maps else None for c in shown],
        }
        for row in found.shown
    ]
    return {"names": [c.label for c in shown], "rows": rows}


def dark(found: Found) -> dict[str, Any]:
    """The dark object: its picture and both tables."""
    b = found.blindness
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
