"""Whether 95 % intervals hold the truth 95 times in 100: exact binomial tests, Holm's correction over all cells.

An interval is value ± t(0.975, degrees of freedom) x standard error. Rows are repeats: the same game under keys of
their own. Of every repeat one player is looked at, in turn, so that the intervals of a cell are independent and its
count is binomial. Too few inside is the failure; too many only wastes draws and is bounded loosely. The smoke version
runs 200 repeats a game (a part of that where FEWER says so), the slow one 2,000 of every cell, in about 15 minutes.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import pellucid
from pellucid import methods, removal
from tests.reference import games as reference

N = 12
LEVEL, ALPHA = 0.95, 0.01

# At these budgets walks have 90 draws or more: with fewer, a t-interval of skewed draws holds a little less.
CELLS = {
    "permutation_shapley": lambda: methods.permutation_shapley(budget=2200),
    "shapley_sampling": lambda: methods.shapley_sampling(budget=2200),
    "kernel_shap, scarce": lambda: methods.kernel_shap(budget=80),
    "kernel_shap": lambda: methods.kernel_shap(budget=600),
    "regression_shapley, under 4 a term": lambda: methods.regression_shapley(budget=300),
    "regression_shapley": lambda: methods.regression_shapley(budget=960),
    "permutation_shapley, tolerance": lambda: methods.permutation_shapley(budget=3000, tolerance=0.08),
    "kernel_shap, tolerance": lambda: methods.kernel_shap(budget=3000, tolerance=0.03),
    "rise": lambda: methods.rise(300, keep=0.4),
}
FEWER = {
    "regression_shapley": 25,
    "regression_shapley, under 4 a term": 8,
    "permutation_shapley, tolerance": 10,
    "kernel_shap, tolerance": 8,
}
"""Cells that the smoke version tries fewer times, by this factor: they are as sound, but slower."""
BACKGROUND = torch.rand(100, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 2
SAMPLED = {
    name: lambda name=name, budget=budget: getattr(methods, name)(
        budget=budget, removal=removal.marginal(BACKGROUND, draws=2)
    )
    for name, budget in (("permutation_shapley", 1500), ("kernel_shap", 500), ("regression_shapley", 400))
}


def inside(method, function, truth, repeats, seed):
    """How many of the intervals hold the truth, one a repeat."""
    x = torch.ones(repeats, N, dtype=torch.float64)
    e = pellucid.explain(function, x, method, target=0, seed=seed)
    player = np.arange(repeats) % N
    off = np.abs(e.values - truth)[np.arange(repeats), player]
    half = e.std_error[np.arange(repeats), player] * stats.t.ppf(0.5 + LEVEL / 2, e.details["degrees_of_freedom"])
    return int((off <= half + 1e-9).sum())


def holm(p_values, alpha=ALPHA):
    """Cells whose hypothesis falls."""
    order, fallen = sorted(p_values, key=p_values.get), []
    for place, cell in enumerate(order):
        if p_values[cell] > alpha / (len(order) - place):
            break
        fallen.append(cell)
    return fallen


def report(cells, repeats, seed=0, rule=None, fewer=()):
    """Coverage and p-value of every cell, pooled over games."""
    p_values, coverage = {}, {}
    for cell, method in cells.items():
        held = asked = 0
        for game in reference.SMOOTH.values():
            function = game(N)
            if cell == "rise":
                exact = methods.rise(2**N, keep=0.4)
            else:
                exact = methods.exact_shapley() if rule is None else methods.exact_shapley(rule)
            truth = reference.many(function, N, exact, 1).values
            count = repeats // dict(fewer).get(cell, 1)
            held += inside(method(), function, truth, count, seed)
            asked += count
        coverage[cell] = held / asked
        p_values[cell] = stats.binomtest(held, asked, LEVEL, alternative="less").pvalue
    return p_values, coverage


def check(cells, repeats, most=0.99, **options):
    p_values, coverage = report(cells, repeats, **options)
    assert holm(p_values) == [], coverage
    assert max(coverage.values()) < most, coverage


def test_intervals_hold_the_truth():
    check(CELLS, 200, fewer=FEWER)


def test_intervals_hold_the_truth_on_random_backgrounds():
    """Balanced draws of the background vary less than the independent ones that errors assume: too wide, never too
    narrow."""
    check(SAMPLED, 60, most=1.01, rule=removal.marginal(BACKGROUND))


@pytest.mark.parametrize("budget", [34, 40])
def test_regression_says_how_far_it_shrinks(budget):
    """With fewer than four pairs a player its values are pulled to equal shares: errors hold most of that bias."""
    held = 0
    for game in reference.SMOOTH.values():
        function = game(N)
        truth = reference.many(function, N, methods.exact_shapley(), 1).values
        held += inside(methods.regression_shapley(budget=budget), function, truth, 60, 0)
    assert held / (60 * len(reference.SMOOTH)) > 0.935


def test_the_test_can_fail():
    """Errors four fifths of what they should be would be found out, by the smoke version too."""
    method = methods.kernel_shap(budget=600)
    held = asked = 0
    for game in reference.SMOOTH.values():
        function = game(N)
        truth = reference.many(function, N, methods.exact_shapley(), 1).values
        e = reference.many(function, N, method, 200)
        off = np.abs(e.values - truth)[np.arange(200), np.arange(200) % N]
        half = 0.8 * 1.96 * e.std_error[np.arange(200), np.arange(200) % N]
        held, asked = held + int((off <= half).sum()), asked + 200
    assert stats.binomtest(held, asked, LEVEL, alternative="less").pvalue < ALPHA / len(CELLS)


@pytest.mark.parametrize("name", ["permutation_shapley", "shapley_sampling"])
def test_walks_in_lumpy_games_hold_less_and_kernel_shap_does_not(name):
    """Where a player matters in few orders, few draws see it: the documented limit of errors from walks."""
    lumpy = {}
    for game in ("voting", "costliest"):
        function = reference.LUMPY[game](N)
        truth = reference.many(function, N, methods.exact_shapley(), 1).values
        for recipe in (name, "kernel_shap"):
            lumpy[game, recipe] = inside(getattr(methods, recipe)(budget=600), function, truth, 400, 0) / 400
    assert lumpy["voting", name] < 0.93
    assert min(lumpy["voting", "kernel_shap"], lumpy["costliest", "kernel_shap"]) > 0.92


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_intervals_hold_the_truth_at_two_thousand_seeds(cell):
    p_values, coverage = report({cell: CELLS[cell]}, 2000, seed=1)
    assert p_values[cell] > ALPHA / len(CELLS), coverage
    assert coverage[cell] < 0.99


@pytest.mark.slow
@pytest.mark.parametrize("cell", SAMPLED)
def test_intervals_hold_the_truth_on_random_backgrounds_at_two_thousand_seeds(cell):
    p_values, coverage = report({cell: SAMPLED[cell]}, 2000, seed=1, rule=removal.marginal(BACKGROUND))
    assert p_values[cell] > ALPHA / len(SAMPLED), coverage
