"""An explanation as a small piece of HTML for a notebook's output cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pellucid.core.explanation import Explanation
from pellucid.reporting import descriptions, figures, gallery, numerals, palette, pictures, surfaces
from pellucid.reporting.references import display

MOST_ROWS = 4


@dataclass(frozen=True)
class Sight:
    """One row in a notebook."""

    said: str
    words: str
    scale: str
    photo: pictures.Picture | None
    picture: pictures.Picture | None
    bars: tuple[tuple[str, str, figures.Bar], ...]


def notebook_html(e: Explanation) -> str:
    """The first rows of an explanation with their scale, residual and settings, as an HTML fragment without scripts."""
    from pellucid.reporting import page, provenance

    residual = e.residual_relative
    finite = None if residual is None else residual[np.isfinite(residual)]
    worst = None if finite is None or len(finite) == 0 else numerals.figure(float(finite.max()), 2)
    text: str = (
        page.environment()
        .get_template("notebook.html")
        .render(
            title=display(str(e.method["name"])),
            settings=provenance.settings(e.method),
            rows=len(e),
            sights=[_sight(e, row) for row in range(min(len(e), MOST_ROWS))],
            residual=worst,
        )
    )
    return text


def _sight(e: Explanation, row: int) -> Sight:
    prediction = gallery.explained(e, row)
    if surfaces.kind(e) == "bars":
        shown = surfaces.bars(e, row)
        scale = figures.reach(shown.values, shown.errors)
        drawn = figures.bars(shown.values, shown.errors, scale)
        inputs = shown.inputs or ("",) * len(shown.names)
        words = descriptions.features(shown.names, shown.values)
        return Sight(
            prediction, words, numerals.figure(scale), None, None, tuple(zip(shown.names, inputs, drawn, strict=True))
        )
    values = surfaces.flat_map(e, row)
    scale = palette.limit(values)
    if values.ndim == 1:
        strip = palette.over(palette.rgba(values[None], scale), palette.flat(1, len(values)))
        return Sight(
            prediction, descriptions.along(values), numerals.figure(scale), None, pictures.photograph(strip), ()
        )
    photo = surfaces.photo(e, row)
    layer = palette.rgba(values, scale)
    ground = palette.ground(photo) if photo.shape[:2] == values.shape else palette.flat(*values.shape)
    laid = pictures.photograph(palette.over(layer, ground, 0.85))
    return Sight(prediction, descriptions.signs(values), numerals.figure(scale), pictures.photograph(photo), laid, ())
