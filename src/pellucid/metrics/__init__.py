"""Recipes for scores: how good is an explanation?"""

from __future__ import annotations

from typing import Any

from pellucid.core import removal
from pellucid.metrics.completeness import Completeness
from pellucid.metrics.metric import Metric
from pellucid.metrics.perturbation import FRACTIONS, Deletion, Insertion


def insertion(
    reference: Any = "uniform",
    read: str | None = None,
    grid: int | None = None,
    fractions: tuple[float, ...] = FRACTIONS,
) -> Metric:
    """Do the features that a method ranks first bring the prediction back?

    The top K features of x are put into a reference; the score is the mean height of f over K/n, and ``points`` the
    area from 5 % to 45 % with the axis in percent points (hsieh2021). Higher is better. ``reference``: a number, an
    array in input units, or a removal ("uniform" is drawn afresh for each row). ``read``: what of the output is
    watched, for all methods alike (None: what was explained). ``grid``: None ranks each method's own features (pixels
    with all channels, columns, players); an integer ranks the cells of a common grid x grid instead, so that a smooth
    method has no advantage. ``fractions``: sizes K/n to measure; with at most 20 features every size is measured. At K
    = n the curve is f(x). Cost: one forward for each size between 0 and 1, row and method. Sources: petsiuk2018,
    hsieh2021.
    """
    return Insertion(removal.of(reference), read, grid, tuple(fractions))


def deletion(
    reference: Any = "uniform",
    read: str | None = None,
    grid: int | None = None,
    fractions: tuple[float, ...] = FRACTIONS,
) -> Metric:
    """Does the prediction fall when the features that a method ranks first are taken away?

    As ``insertion``, with the top K features of x replaced by the reference; lower is better, and at K = n the curve is
    f(reference). Cost and sources as for ``insertion``.
    """
    return Deletion(removal.of(reference), read, grid, tuple(fractions))


def completeness() -> Metric:
    """Do the values add up to what they promise?

    |Σ values - (outputs - base_values)| / |outputs - base_values|; lower is better. A method that promises nothing is
    not scored, and one whose values add up by construction is marked so. Cost: none. Source: sundararajan2017.
    """
    return Completeness()


CATALOGUE = (insertion, deletion, completeness)
"""Every metric recipe."""

__all__ = ["CATALOGUE", "completeness", "deletion", "insertion"]
