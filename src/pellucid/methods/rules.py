"""Recipes for rules that suffice for a decision."""

from __future__ import annotations

from typing import Any

from pellucid.core import removal as absence
from pellucid.core.method import Method
from pellucid.core.settings import checked
from pellucid.games.anchors import Anchors


@checked
def anchors(
    threshold: float = 0.95,
    removal: Any = 0.0,
    beam: int = 2,
    longest: int | None = None,
    budget: int = 10_000,
    delta: float = 0.05,
    tau: float = 0.15,
) -> Method:
    """Which few features are enough for the decision, whatever the others are?

    A smallest set A of players with P(decision stays | A is held) >= ``threshold``, by beam search; among sets of that
    size the one that applies most often. The decision is whether the explained class is the predicted one.

    ``removal`` says what happens to the others. A table with ``removal.marginal(background)``: all take the values of
    one random background row, and held ones stay in their quartile (numbers) or equal (categories). A removal with
    several stand-ins: a random one. One stand-in (a number, a blur): each other player is removed with probability
    1/2. ``beam``: candidates kept at each size; ``longest``: most players of a rule (None: all). ``budget``: model
    evaluations a row, about. ``tau``: how sure KL-LUCB is which candidates are best; ``delta``: chance that a bound is
    wrong. Returns values (B, n), 1 for the players of the rule; ``details``: "rule" in words, "order" in which its
    players were found (1, 2, ..), "precision" and "coverage" with "_low" and "_high" bounds, "reached": whether the
    lower bound of the precision is at least the threshold. Where no rule gets there the most precise one is given, with
    ``Unreliable``. Cost: up to budget forwards a row and output; at most 512 players. Source: ribeiro2018; departures:
    the precision is proved on fresh draws (the search's own flatter the winner), at the threshold itself.
    """
    return Anchors(threshold, delta, tau, beam, longest, budget, absence.of(removal))
