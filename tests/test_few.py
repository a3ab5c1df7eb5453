"""Shapley values from few coalitions, or of few players: where that is exact, and what it costs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Unsupported, games, methods
from tests.reference import games as reference

# ---------------------------------------------------------------- few coalitions


def pairwise(n, seed=0):
    numbers = np.random.default_rng(seed)
    alone, pair = torch.from_numpy(numbers.normal(size=n)), torch.from_numpy(numbers.normal(size=(n, n)))
    return lambda s: s @ alone + ((s @ pair) * s).sum(1)


@pytest.mark.parametrize("n", [2, 3, 6, 9])
def test_order_one_is_exact_for_pairs(n):
    game = reference.played(pairwise(n), n)
    truth = pellucid.play(game, methods.exact_shapley()).values
    e = pellucid.play(game, methods.low_order_shap())
    assert np.abs(e.values - truth).max() < 1e-12
    assert e.cost["coalitions"] == (2 * n + 2 if n > 3 else 2**n)
    assert (e.std_error is None) == (n > 3)


def test_order_one_is_not_exact_for_triples_and_higher_orders_become_so():
    n = 9
    function = pairwise(n)
    game = reference.played(lambda s: function(s) + 3 * s[:, 0] * s[:, 1] * s[:, 2], n)
    truth = pellucid.play(game, methods.exact_shapley()).values
    off = [np.abs(pellucid.play(game, methods.low_order_shap(order)).values - truth).max() for order in (1, 2, 3, 4, 7)]
    assert off[0] > 0.04
    assert off == sorted(off, reverse=True)
    assert off[3] < 1e-12
    assert off[4] < 1e-12
    kernel = pellucid.play(game, methods.kernel_shap(2**n)).values
    assert np.abs(pellucid.play(game, methods.low_order_shap(4)).values - kernel).max() < 1e-12


def test_low_orders_by_a_weighted_fit():
    """Order two of six players, by the normal equations with the sum as a constraint."""
    n = 6
    game = reference.table(n, 3)
    s = torch.tensor([[int(i in t) for i in range(n)] for t in reference.subsets(range(n))]).bool()
    size = s.sum(1)
    inner = ((size >= 1) & (size <= 2)) | ((size >= n - 2) & (size < n))
    ends = game.value(torch.tensor([[False] * n, [True] * n]))
    a = s[inner].double().numpy()
    weight = np.array(
        [
            (n - 1) / (np.prod([n - i for i in range(k)]) / np.prod(range(1, k + 1)) * k * (n - k))
            for k in size[inner].tolist()
        ]
    )
    y = (game.value(s[inner]) - ends[0]).numpy()
    system = np.block([[a.T @ (a * weight[:, None]), np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    literal = np.linalg.solve(system, np.append(a.T @ (weight * y), float(ends[1] - ends[0])))[:n]
    assert np.abs(pellucid.play(game, methods.low_order_shap(2)).values[0] - literal).max() < 1e-10


def test_orders_that_cannot_be():
    for order in (0, -1, 1.0, True, None):
        with pytest.raises(BadInput, match="low_order_shap: order must be a whole number"):
            methods.low_order_shap(order)
    with pytest.raises(Unsupported, match=r"low_order_shap: order 4 of 100 players .*kernel_shap.*permutation_shapley"):
        pellucid.play(games.FunctionGame(100, lambda s: s.sum(1)), methods.low_order_shap(4))


# ---------------------------------------------------------------- few players


def sparse(n=100):
    weight = torch.zeros(n, dtype=torch.float64)
    weight[[3, 17, n - 5]] = torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64)
    return weight, games.FunctionGame(n, lambda s: s.double() @ weight)


def test_a_lasso_finds_the_few_players_that_matter():
    weight, game = sparse()
    e = pellucid.play(game, methods.kernel_shap_lasso(budget=80))
    assert game.calls == 80
    assert np.abs(e.values[0] - weight.numpy()).max() < 1e-9
    assert np.isnan(e.std_error).all()
    assert "choice of players" in e.details["std_error_covers"]
    assert e.residual[0] < 1e-9


@pytest.mark.parametrize("features", [1, 2, 5])
def test_a_lasso_keeps_as_many_as_told(features):
    e = pellucid.play(sparse(30)[1], methods.kernel_shap_lasso(budget=25, features=features))
    assert 1 <= np.count_nonzero(e.values) <= features
    assert e.residual[0] < 1e-9


def test_a_lasso_beats_the_full_fit_on_a_small_budget():
    n = 40
    function = reference.played(lambda s: 4 * s[:, 3] + 3 * s[:, 7] * s[:, 20] - 2 * s[:, 30], n).value
    truth = np.zeros(n)
    truth[[3, 7, 20, 30]] = 4, 1.5, 1.5, -2
    chosen, full = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pellucid.Unreliable)
        for seed in range(8):
            for method, off in ((methods.kernel_shap_lasso(60), chosen), (methods.kernel_shap(60), full)):
                e = pellucid.play(games.FunctionGame(n, function), method, seed=seed)
                off.append(((e.values[0] - truth) ** 2).mean())
    assert np.mean(chosen) < 0.5 * np.mean(full)


def test_a_lasso_finds_little_in_noise():
    """Akaike's criterion without its correction would keep a dozen players or more."""
    rate = torch.from_numpy(np.random.default_rng(0).normal(size=100))
    for budget in (20, 40, 80):
        game = games.FunctionGame(100, lambda s: torch.sin(1000 * (s.double() @ rate)))
        assert np.count_nonzero(pellucid.play(game, methods.kernel_shap_lasso(budget)).values) <= 5


def test_a_lasso_that_keeps_everybody_is_kernel_shap():
    n = 6
    game = reference.played(reference.smooth(n), n)
    e = pellucid.play(game, methods.kernel_shap_lasso(40, features=n))
    assert np.count_nonzero(e.values) == n
    assert (e.std_error > 0).all()


def test_lasso_arguments():
    for budget in (3, 0):
        with pytest.raises(BadInput, match="kernel_shap_lasso: budget must be at least 4"):
            pellucid.play(games.FunctionGame(12, lambda s: s.sum(1)), methods.kernel_shap_lasso(budget))
    with pytest.raises(BadInput, match="features must be at most 12"):
        pellucid.play(games.FunctionGame(12, lambda s: s.sum(1)), methods.kernel_shap_lasso(10, features=13))
    for features in (0, -1, 1.5, True):
        with pytest.raises(BadInput, match="features must be a whole number"):
            methods.kernel_shap_lasso(features=features)
