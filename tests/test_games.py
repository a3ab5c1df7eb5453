"""Coalition games: definitions, closed forms, axioms and budgets."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import pellucid
from pellucid import BadInput, Unreliable, Unsupported, games, methods, removal
from tests.reference import games as reference
from tests.reference.played import BUDGETED, QUIET, few, of_table, recipe


@pytest.mark.parametrize("seed", range(24))
def test_enumeration_equals_the_definition(seed):
    n = 1 + seed % 7
    game = reference.table(n, seed)
    v = reference.worths(n, game.value)
    truth = reference.shapley(n, v)
    every = [methods.exact_shapley(), *(recipe(name, max(4, 2**n)) for name in BUDGETED)]
    every.append(methods.low_order_shap(order=max(1, n)))
    for method in every:
        e = pellucid.play(game, method)
        assert np.abs(e.values[0] - truth).max() < 1e-12, method.name
        assert (e.std_error == 0).all()
        assert e.details["std_error_covers"] == "nothing: all coalitions were valued"
        assert e.residual[0] < 1e-12
        assert e.base_values[0] == v[frozenset()]
        assert e.outputs[0] == v[frozenset(range(n))]
    e = pellucid.play(game, methods.banzhaf(budget=max(4, 2**n)))
    assert np.abs(e.values[0] - reference.banzhaf(n, v)).max() < 1e-12
    assert e.residual is None


@pytest.mark.parametrize("name", [*BUDGETED[:-1], "banzhaf"])
def test_samples_lie_within_their_standard_errors(name):
    """24 games of nine to thirteen players: the errors are about as large as they say, and none is far off."""
    scores = []
    for seed in range(24):
        n = 9 + seed % 5
        function = (reference.smooth, reference.products, reference.growing, reference.wave)[seed % 4](n)
        game = reference.played(function, n)
        truth = pellucid.play(game, methods.banzhaf(2**n) if name == "banzhaf" else methods.exact_shapley())
        e = pellucid.play(game, recipe(name, 400 + 4 * seed), seed=seed)
        off = np.abs(e.values - truth.values)
        seen = e.std_error > 0  # a few walks may never meet a player who matters in few orders
        assert ((off < 1e-9) | seen).mean() > (0.9 if name in BUDGETED[:2] else 0.999)
        scores.append(off[seen] / e.std_error[seen])
    scores = np.concatenate(scores)
    assert 0.7 < np.sqrt(np.mean(scores**2)) < 1.35
    assert scores.max() < 6


def test_kernel_shap_is_the_weighted_fit_of_the_coalitions_it_asked_about():
    n, asked = 9, []
    function = reference.products(n)

    def value(s):
        asked.append(s)
        return function(s.double())

    e = pellucid.play(games.FunctionGame(n, value), methods.kernel_shap(budget=150), seed=5)
    s = torch.unique(torch.cat(asked), dim=0).double().numpy()
    s = s[(s.sum(1) > 0) & (s.sum(1) < n)]
    size = s.sum(1)
    drawn = np.array([(size == k).sum() for k in range(n + 1)])
    weight = np.array([(n - 1) / (k * (n - k)) / drawn[int(k)] for k in size])  # the kernel's mass of a size, shared
    full, none = float(function(torch.ones(1, n).double())), float(function(torch.zeros(1, n).double()))
    y = function(torch.from_numpy(s)).numpy() - none
    a, b = s.T @ (s * weight[:, None]), s.T @ (weight * y)
    system = np.block([[a, np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    literal = np.linalg.solve(system, np.append(b, full - none))[:n]
    assert len(s) == 148
    assert np.abs(e.values[0] - literal).max() < 1e-9


@pytest.mark.parametrize("known", ["sickness", "airport", "unanimity", "glove", "voting"])
def test_known_games_have_the_values_they_say(known):
    made = {
        "sickness": games.known.sickness,
        "airport": lambda: games.known.airport([5.0, 4.0, 0.0, 2.0, 2.0, 9.0]),
        "unanimity": lambda: games.known.unanimity(8, seed=3),
        "glove": lambda: games.known.glove(3, 5),
        "voting": lambda: games.known.voting([5, 4, 4, 3, 1, 1, 0], 10),
    }[known]()
    e = pellucid.play(made.game, methods.exact_shapley())
    assert np.abs(e.values[0] - made.values.numpy()).max() < 1e-12


def test_the_published_examples():
    assert pellucid.play(games.known.sickness().game, methods.exact_shapley()).values.tolist() == [[1, 1]]
    profit = pellucid.play(games.known.airport([5, 4, 0]).game, methods.exact_shapley())
    assert np.allclose(profit.values, [[3, 2, 0]], atol=1e-12)


@pytest.mark.parametrize("n", [16, 20, 30])
@pytest.mark.parametrize("name", ["permutation_shapley", "kernel_shap", "regression_shapley"])
def test_large_games_with_known_values(name, n):
    for made, least in ((games.known.unanimity(n), 0.15), (games.known.airport(list(range(n))), 0.5)):
        e = pellucid.play(made.game, recipe(name, 2000), seed=2)
        off = e.values[0] - made.values.numpy()
        assert np.sqrt(np.mean(off**2)) < least * np.sqrt(np.mean(made.values.numpy() ** 2))
        assert np.sqrt(np.mean(off**2)) < 2 * np.sqrt(np.mean(e.std_error**2))


@QUIET
@pytest.mark.parametrize("game", [*reference.SMOOTH, "costliest"])
def test_regression_never_blows_up(game):
    """From n + 2 coalitions on, errors stay near what equal shares would do, and fall."""
    n = 12
    function = {**reference.SMOOTH, **reference.LUMPY}[game](n)
    truth = reference.many(function, n, methods.exact_shapley(), 1).values
    equal = np.sqrt(np.mean((truth - truth.mean()) ** 2))
    budgets = [n + 2, n + 4, 2 * n, 2 * n + 2, 2 * n + 4, 2 * n + 6, 3 * n, 6 * n, 12 * n]
    rms = [
        np.sqrt(np.mean((reference.many(function, n, methods.regression_shapley(b), 20).values - truth) ** 2))
        for b in budgets
    ]
    assert max(rms) < 1.35 * equal + 1e-9
    assert rms[-1] < 0.5 * max(rms) + 1e-9


# ---------------------------------------------------------------- closed forms on a model


@pytest.mark.parametrize("name", ["exact_shapley", "banzhaf", *BUDGETED])
def test_linear_models_have_their_closed_form(name):
    numbers = np.random.default_rng(0)
    weight, x, background = numbers.normal(size=6), numbers.normal(size=(3, 6)), numbers.normal(size=(20, 6))

    def model(z):
        return z @ torch.from_numpy(weight) + 2

    for rule, away in ((1.5, 1.5), (background[:1], background[0]), (removal.marginal(background), background.mean(0))):
        budget = {} if name == "exact_shapley" else {"budget": 40}
        e = pellucid.explain(model, torch.from_numpy(x), getattr(methods, name)(removal=rule, **budget), target=0)
        assert np.abs(e.values - weight * (x - away)).max() < 1e-10


def test_several_outputs_and_players_come_from_the_same_coalitions():
    game = reference.table(6, 0, outputs=3)
    e = pellucid.play(game, methods.kernel_shap(budget=40))
    assert e.values.shape == e.std_error.shape == (1, 6, 3)
    for j in range(3):
        one = games.FunctionGame(6, lambda s, j=j: game.value(s)[:, j])
        assert np.abs(pellucid.play(one, methods.kernel_shap(budget=40)).values - e.values[..., j]).max() < 1e-12


def test_a_row_does_not_depend_on_its_neighbours():
    """Also where coalitions are drawn until they differ."""
    x = torch.rand(4, 22, dtype=torch.float64)

    def model(z):
        return z.prod(1) + torch.sin(z.sum(1))

    for name in ("kernel_shap", "permutation_shapley", "regression_shapley"):
        both = pellucid.explain(model, x, recipe(name, 5000), target=0)
        alone = pellucid.explain(model, x[2:3], recipe(name, 5000), target=0, first_row=2)
        assert np.abs(both.values[2] - alone.values[0]).max() < 1e-12


# ---------------------------------------------------------------- axioms


worths = st.integers(1, 5).flatmap(
    lambda n: arrays.arrays(np.float64, 2**n, elements=st.floats(-4, 4, allow_subnormal=False))
)


@few
@given(worths, st.sampled_from(BUDGETED))
def test_efficiency(worth, name):
    n = int(math.log2(len(worth)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Unreliable)
        e = pellucid.play(of_table(worth), recipe(name, max(4, n + 2)))
    assert abs(e.values.sum() - (worth[-1] - worth[0])) < 1e-9


@few
@given(worths, st.integers(0, 4))
def test_a_dummy_gets_nothing(worth, place):
    n = int(math.log2(len(worth)))
    dummy = place % (n + 1)
    others = [i for i in range(n + 1) if i != dummy]
    number = 2 ** torch.arange(n)
    game = games.FunctionGame(n + 1, lambda s: torch.from_numpy(worth)[(s[:, others] * number).sum(1)])
    for method in (methods.exact_shapley(), methods.kernel_shap(budget=64), methods.banzhaf(budget=64)):
        assert abs(pellucid.play(game, method).values[0, dummy]) < 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Unreliable)
        walk = pellucid.play(game, methods.permutation_shapley(budget=n + 2))
    assert abs(walk.values[0, dummy]) < 1e-12


@few
@given(st.integers(2, 6), st.integers(0, 1000))
def test_symmetric_players_get_the_same(n, seed):
    worth = torch.from_numpy(np.random.default_rng(seed).normal(size=n + 1))
    e = pellucid.play(games.FunctionGame(n, lambda s: worth[s.sum(1)]), methods.kernel_shap(budget=2**n))
    assert np.abs(e.values - float(worth[-1] - worth[0]) / n).max() < 1e-10


@few
@given(st.integers(0, 1000), st.floats(-2, 2), st.sampled_from([*BUDGETED[:3], "banzhaf"]))
def test_linearity_on_the_same_draws(seed, factor, name):
    n = 7
    one, two = reference.table(n, seed), reference.table(n, seed + 1)
    both = games.FunctionGame(n, lambda s: one.value(s) + factor * two.value(s))
    a, b, c = (pellucid.play(game, recipe(name, 60)).values for game in (one, two, both))
    assert np.abs(a + factor * b - c).max() < 1e-9


# ---------------------------------------------------------------- budgets


@pytest.mark.parametrize("name", [*BUDGETED[:-1], "banzhaf"])
def test_a_budget_under_one_value_a_player_is_refused(name):
    game = reference.table(6, 0)
    for budget in (6, 1, 0, -3):
        with pytest.raises(BadInput, match=rf"{name}: budget must be at least n \+ 1 = 7 coalitions for 6 players"):
            pellucid.play(game, recipe(name, budget))


@QUIET
@pytest.mark.parametrize("n", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("name", [*BUDGETED, "banzhaf"])
def test_no_more_coalitions_are_asked_about_than_the_budget(name, n):
    for budget in sorted({n + 1, n + 2, 2 * n, 3 * n + 1, 2**n - 1, 2**n, 2**n + 9, 200}):
        if budget < max(n + 1, 4 if name == "kernel_shap_lasso" else 2):
            continue
        asked = []

        def value(s, asked=asked):
            asked.extend(map(tuple, s.tolist()))
            return (s * torch.arange(1, s.shape[1] + 1)).sum(1) ** 1.5

        e = pellucid.play(games.FunctionGame(n, value), recipe(name, budget))
        assert len(asked) <= budget
        assert np.isfinite(e.values).all()
        assert (len(set(asked)) == 2**n) or budget < 2**n
        if budget >= 2**n:
            assert len(asked) == 2**n
            assert (e.std_error == 0).all()


@pytest.mark.parametrize("name", BUDGETED[:-1])
def test_too_few_draws_have_no_standard_error(name):
    game = reference.table(7, 1)
    with pytest.warns(Unreliable, match=f"{name}: .* too few for a standard error"):
        e = pellucid.play(game, recipe(name, 8))
    assert np.isnan(e.std_error).all()
    assert np.isfinite(e.values).all()
    assert e.residual[0] < 1e-12


@pytest.mark.parametrize("name", [*BUDGETED[:-1], "exact_shapley"])
def test_one_player_gets_everything(name):
    game = games.FunctionGame(1, lambda s: 3.0 + 2 * s[:, 0])
    e = pellucid.play(game, methods.exact_shapley() if name == "exact_shapley" else recipe(name, 2))
    assert e.values.tolist() == [[2.0]]
    assert e.std_error.tolist() == [[0.0]]
    assert e.base_values.tolist() == [3.0]


def test_too_many_players_are_refused_with_what_fits():
    with pytest.raises(Unsupported, match=r"exact_shapley: 21 players are too many.*kernel_shap"):
        pellucid.play(games.FunctionGame(21, lambda s: s.sum(1)), methods.exact_shapley())
    with pytest.raises(Unsupported, match=r"kernel_shap: 2001 players.*permutation_shapley"):
        pellucid.play(games.FunctionGame(2001, lambda s: s.sum(1)), methods.kernel_shap(budget=4096))


@pytest.mark.parametrize("name", ["permutation_shapley", "kernel_shap"])
def test_a_tolerance_stops_early_and_is_met(name):
    n, tolerance = 14, 0.1
    function = reference.smooth(n)
    whole = reference.many(function, n, recipe(name, 8000), 2)
    short = reference.many(function, n, recipe(name, 8000, tolerance=tolerance), 2)
    assert whole.std_error.max() < tolerance
    assert short.std_error.max() <= tolerance
    assert short.cost["forwards"] < 0.8 * whole.cost["forwards"]
    assert short.details["degrees_of_freedom"] >= 9


def test_without_replacement():
    asked = []

    def value(s):
        asked.extend(map(tuple, s.tolist()))
        return s.sum(1)

    pellucid.play(games.FunctionGame(12, value), methods.kernel_shap(budget=2000))
    assert len(asked) == len(set(asked)) == 2000
