"""Recipes that fit a simpler game: on few coalitions, on few players, or on pairs of players."""

from __future__ import annotations

from typing import Any

from pellucid.core import removal as absence
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.method import Method
from pellucid.core.settings import checked
from pellucid.games.interactions import INDICES, Interactions
from pellucid.games.kernel import LowOrder
from pellucid.games.lasso import Lasso


@checked
def low_order_shap(order: int = 1, removal: Any = 0.0) -> Method:
    """Shapley values from the smallest and the largest coalitions alone.

    The regression of ``kernel_shap`` with its exact weights on all coalitions of at most ``order`` players and their
    complements. With ``order=1`` it is exact where only single players and pairs interact; with n / 2 or more it is
    ``kernel_shap`` on all coalitions, hence exact. In between it has a bias that nothing here measures, so there is no
    standard error: compare with ``order + 1``. Σ φ = v(N) - v(∅) always. Returns values (B, n). Cost: 2 + 2 Σ C(n, s)
    coalitions a row, s = 1..order: 2 n + 2 for ``order=1``. Source: lundberg2017 (the idea).

    >>> import torch, pellucid
    >>> x = torch.tensor([[3.0, 2.0, 1.0]])
    >>> pellucid.explain(lambda x: x[:, 0] * x[:, 1] + x[:, 2], x, low_order_shap()).values.round(4).tolist()
    [[3.0, 3.0, 1.0]]
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise BadInput(f"low_order_shap: order must be a whole number of at least 1, got {order!r}")
    return LowOrder(order, absence.of(removal))


@checked
def kernel_shap_lasso(budget: int = 256, features: int | None = None, removal: Any = 0.0) -> Method:
    """Shapley values of the few players that matter, when the budget is too small to fit all of them.

    A lasso path on pairs of coalitions orders the players; ``features`` of them are kept, or as many as Akaike's
    criterion with its correction for few data asks for; ``kernel_shap`` is then fitted on these, the others get exactly
    0. Σ φ = v(N) - v(∅) always. Biased: what a dropped player adds goes to those kept. So standard errors are NaN,
    unless all players are kept. ``budget``: from 4 coalitions on, also under n + 1; all 2^n are enumerated when they
    fit. Returns values and standard errors (B, n). Cost: budget coalitions a row. Departure: the criterion is corrected
    for few data and the lasso is on pairs that weigh the same. Sources: lundberg2017, hurvich1989.
    """
    if features is not None and (isinstance(features, bool) or not isinstance(features, int) or features < 1):
        raise BadInput(f"kernel_shap_lasso: features must be a whole number of at least 1 or None, got {features!r}")
    return Lasso(budget, absence.of(removal), features)


@checked
def shapley_interactions(order: int = 2, budget: int = 2048, index: str = "k-SII", removal: Any = 0.0) -> Method:
    """Which players act together, and what is left to each alone?

    ``index``, with Δ_ij(T) = v(T ∪ ij) - v(T ∪ i) - v(T ∪ j) + v(T) and t = |T|:

    - ``"SII"`` I_ij = Σ_T t! (n - t - 2)! / (n - 1)! Δ_ij(T) of pairs, Shapley values of players (grabisch1999);
    - ``"k-SII"`` the same of pairs, φ_i - ½ Σ_j I_ij of players: all add up to v(N) - v(∅) (lundberg2020);
    - ``"STII"`` 2 / n Σ_T Δ_ij(T) / C(n - 1, t) of pairs, v(i) - v(∅) of players; these add up too (sundararajan2020).

    Exact when all 2^n coalitions fit the ``budget``. Else a fit with all pairs, plus the index of its residual
    estimated on coalitions that it was not fitted on: unbiased, with standard errors. Returns values and standard
    errors (B, n, n): I_ij at [i, j] and at [j, i], players on the diagonal; ``details["residual"]`` is how far players
    and pairs, each once, miss their sum. ``order`` is 2. At most 60 players. Cost: budget coalitions a row.

    >>> import torch, pellucid
    >>> x = torch.tensor([[3.0, 2.0, 1.0]])
    >>> pellucid.explain(lambda x: x[:, 0] * x[:, 1] + x[:, 2], x, shapley_interactions()).values.round(4).tolist()
    [[[0.0, 6.0, 0.0], [6.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]
    """
    if order != 2:
        raise Unsupported(
            f"shapley_interactions: order {order!r} is not available; use order=2, or regression_shapley() or "
            "exact_shapley() for order 1"
        )
    if index not in INDICES:
        raise BadInput(f"shapley_interactions: index must be one of {', '.join(map(repr, INDICES))}, got {index!r}")
    return Interactions(budget, index, absence.of(removal))
