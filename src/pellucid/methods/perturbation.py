"""Recipes that cover, mask or vary parts of an input and look at the output: occlusion, RISE, LIME."""

from __future__ import annotations

from typing import Any

from pellucid.core import removal as absence
from pellucid.core.method import Method
from pellucid.games.bins import Tabular
from pellucid.games.masks import Masks
from pellucid.games.surrogate import Lime
from pellucid.games.windows import Occlusion


def occlusion(
    window: int | tuple[int, ...] | None = None, stride: int | tuple[int, ...] | None = None, removal: Any = 0.0
) -> Method:
    """..."""
    return Occlusion(_sizes(window), _sizes(stride), absence.of(removal))


def rise(budget: int = 4000, cells: int = 7, keep: float = 0.5, removal: Any = 0.0) -> Method:
    """..."""
    return Masks(budget, cells, keep, absence.of(removal))


def lime(budget=1000, width=0.25, alpha=1.0, distance="cosine", removal=0.0):
    """..."""
    return Lime(budget, width, alpha, distance, absence.of(removal))
def lime_tabular(background, budget=5000, discretise=True, width=None, alpha=1.0):
    """..."""
    return Tabular(absence.rows_of(background, "lime_tabular"), budget, discretise, width, alpha)


def _sizes(extent: Any) -> Any:
    return tuple(extent) if isinstance(extent, list) else extent
