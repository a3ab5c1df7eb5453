"""Recipes for Shapley and Banzhaf values: on a model with ``removal``, or on any game with ``pellucid.play``."""

from __future__ import annotations

from typing import Any

from pellucid.core import removal as absence
from pellucid.core.method import Method
from pellucid.core.settings import checked
from pellucid.games.kernel import Banzhaf, Kernel, Regression
from pellucid.games.shapley import Exact
from pellucid.games.walks import Permutation, Sampling


@checked
def exact_shapley(removal: Any = 0.0) -> Method:
    """How much does each player add to the output, averaged over all orders in which players could join?

    φ_i = Σ_S |S|! (n - |S| - 1)! / n! [v(S ∪ i) - v(S)] over all coalitions S without i; Σ φ = v(N) - v(∅) exactly.
    ``removal``: what absent players become (a number, an array or a removal). Returns values (B, n), standard errors 0;
    where stand-ins are random all is done five times, and the errors count their variance. Cost: 2^n coalitions a row,
    at most 20 players. Source: shapley1953, lundberg2017.

    >>> import pellucid
    >>> from pellucid import games
    >>> sick = games.FunctionGame(2, lambda s: 5 * s[:, 0] + 5 * s[:, 1] - 8 * (s[:, 0] & s[:, 1]))
    >>> pellucid.play(sick, exact_shapley()).values.tolist()
    [[1.0, 1.0]]
    """
    return Exact(absence.of(removal))


@checked
def permutation_shapley(budget: int = 2048, tolerance: float | None = None, removal: Any = 0.0) -> Method:
    """Shapley values from random orders, each walked forwards and backwards, every player in every place equally often.

    φ_i = mean over pairs of orders of v(before i, and i) - v(before i); a pair is averaged before its variance is
    taken. Orders come in blocks of n, over which each player takes each place once (a shuffled Latin square), so that
    what a place adds cancels: a tenth to nine tenths of the variance of independent pairs, on seven games of twelve
    players at 48 pairs. From 20 pairs on standard errors leave out what a parabola of the place tells.
    Σ φ is exact by construction. ``budget``: coalitions a row, nobody and everybody included, at least n + 1 (two
    pairs, 4 n - 2, for a standard error); all are enumerated when 2^n fits. ``tolerance``: stop a row when its largest
    standard error, in units of the output, is under it; of a background that is sampled every row is then also valued
    once (if that is under a tenth of the budget), and what draws share with the value of nobody, whose mean is so
    known, is regressed out. Unbiased at any budget. Returns values and standard errors (B, n). Cost: budget coalitions
    a row. Sources: castro2009, castro2017 (places as strata), mitchell2022.
    """
    return Permutation(budget, absence.of(removal), tolerance)


@checked
def shapley_sampling(budget: int = 2048, removal: Any = 0.0) -> Method:
    """Shapley values from independent random orders, the plain Monte Carlo estimate.

    As ``permutation_shapley`` without the reversed orders: simpler, with a larger variance on most games. Returns
    values and standard errors (B, n). Cost: budget coalitions a row. Source: castro2009.
    """
    return Sampling(budget, absence.of(removal))


@checked
def kernel_shap(budget: int = 2048, tolerance: float | None = None, removal: Any = 0.0) -> Method:
    """Shapley values as the best additive fit to the game under the Shapley kernel.

    min_φ Σ_S (n - 1) / (C(n, |S|) |S| (n - |S|)) (v(S) - v(∅) - Σ_{i ∈ S} φ_i)² with Σ φ = v(N) - v(∅) exact.
    Coalitions come in pairs with their complements, without replacement, spread over sizes as the kernel weighs them;
    sizes that fit are taken whole, and all 2^n are enumerated when they fit. Standard errors are jackknife ones with
    the finite-population factor. ``tolerance``: stop a row when its largest standard error is under it. Needs 2 (n + 2)
    coalitions for errors; with fewer, what the sample does not determine is shared equally. At most 2,000 players.
    Returns values and standard errors (B, n). Cost: budget coalitions a row. Departure: no selection of few features
    (shap's l1_reg); see ``kernel_shap_lasso``. Sources: lundberg2017, covert2021.
    """
    return Kernel(budget, absence.of(removal), tolerance)


@checked
def regression_shapley(budget: int = 2048, removal: Any = 0.0) -> Method:
    """Shapley values from a model of the game with interactions of up to three players: the most accurate for its
    budget.

    Pair differences are fitted on single players and all triples (pairs cancel), the triples shrunk as far as
    leave-one-out error asks for; φ_i = 2 β_i + (2/3) Σ β_ijk. Coalitions are spread equally over sizes, without
    replacement. While evaluations are scarce (under about 4 for each of the n + C(n, 3) terms) shrinkage leaves a bias,
    a small part of the error on the games measured; standard errors count the misfit of left-out pairs. Σ φ is exact;
    no budget from n + 2 up makes it blow up. Returns values and standard errors (B, n). Cost: budget coalitions a row,
    and a dense solve of at most 2,048 pairs. Sources: musco2025, pelegrina2023.
    """
    return Regression(budget, absence.of(removal))


@checked
def banzhaf(budget: int = 2048, removal: Any = 0.0) -> Method:
    """How much does each player add to a coalition drawn at random?

    φ_i = mean of v(S ∪ i) - v(S) over all S without i; values need not sum to anything. Estimated by least squares on
    uniformly drawn pairs, enumerated when 2^n fits. Returns values and standard errors (B, n). Cost: budget coalitions
    a row. Sources: banzhaf1965, wang2023.
    """
    return Banzhaf(budget, absence.of(removal))
