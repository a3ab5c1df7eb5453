"""The files of a run: a page and its tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.experiments import findings
from pellucid.experiments.page import page
from pellucid.experiments.robustness import Found
from pellucid.experiments.settings import Settings
from pellucid.experiments.tables import frames

if TYPE_CHECKING:
    import pandas as pd

PAGE = "index.html"
TABLES = ("summary", "rows", "curves", "tests")


def files(settings: Settings) -> tuple[str, ...]:
    """Names of all files of a run."""
    made = (*TABLES, "blindness") if settings.rows == "digits" else TABLES
    return (PAGE, *(f"{name}.csv" for name in made))


def written(found: Found, command: str) -> dict[str, str | pd.DataFrame]:
    """What goes into each file: the page as text, tables as data."""
    made = frames(found) | {"blindness": blind(found)}
    return {PAGE: page(found, command)} | {f"{name}.csv": frame for name, frame in made.items() if frame is not None}


def write(found: Found, command: str, places: dict[str, Path]) -> None:
    """Write every file to its place."""
    for name, content in written(found, command).items():
        if isinstance(content, str):
            places[name].write_text(content, encoding="utf-8")
        else:
            content.to_csv(places[name], index=False, float_format="%.6g")


def blind(found: Found) -> pd.DataFrame | None:
    """The blindness table as data, if it was made."""
    import pandas as pd

    if (b := found.blindness) is None:
        return None
    seen = [
        {
            "kind": "method",
            "name": m.label,
            "reference": m.reference,
            "theorem": m.theorem,
            "largest_or_change": m.largest,
            "share_of_top": m.share,
            "blind": m.blind,
        }
        for m in b.methods
    ]
    moved = [
        {
            "kind": "score",
            "name": m.label,
            "reference": "",
            "theorem": m.theorem,
            "largest_or_change": m.change,
            "share_of_top": np.nan,
            "blind": m.blind,
        }
        for m in b.metrics
    ]
    return pd.DataFrame([*seen, *moved])


def said(found: Found) -> dict[str, Any]:
    """What the run says, in words."""
    each = [
        {"claim": claim.text, "source": claim.source, "outcome": claim.outcome, "reason": claim.reason}
        for claim in findings.claims(found)
    ]
    return {"headline": findings.headline(found), "claims": each}
