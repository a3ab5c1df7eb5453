"""Recipes that take features away and look at the output."""

from __future__ import annotations

from typing import Any

from pellucid.core import removal as absence
from pellucid.core.method import Method
from pellucid.core.settings import checked
from pellucid.games.ablation import Ablation


@checked
def feature_ablation(removal: Any = 0.0) -> Method:
    """How much the output falls when one feature alone is taken away.

    φ_i = v(all) - v(all but i), where v(S) is f with the players outside S replaced (``removal``: a number, an array or
    a removal). Needs predictions only. Returns values like z, or (B, n) for players; promises nothing about sums, since
    interactions are counted in every partner's value. Cost: n + 1 evaluations a row and stand-in (a 224 x 224 photo has
    150,528 entries: pass players, e.g. ``players.grid(14)``). Source: zeiler2014.

    >>> import torch, pellucid
    >>> e = pellucid.explain(lambda x: x[:, 0] * x[:, 1], torch.tensor([[3.0, 2.0]]), feature_ablation())
    >>> e.values.tolist()  # either factor alone brings the product to 0
    [[6.0, 6.0]]
    """
    return Ablation(absence.of(removal))
