"""Coalition games whose stand-ins are drawn at random, and the games of users' functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Unsupported, games, methods, removal
from tests.reference import games as reference
from tests.reference.played import BUDGETED, QUIET, recipe


@pytest.mark.parametrize("name", ["exact_shapley", *BUDGETED[:-1]])
@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_a_sampled_background_enters_the_standard_error(name, n):
    """Right on average, with errors that say how far off, whether or not all coalitions fit."""
    numbers = np.random.default_rng(3)
    background = torch.from_numpy(numbers.random((50, n)))

    def model(z):
        return torch.exp(z.sum(1) / 2)

    x = torch.ones(60, n, dtype=torch.float64)
    budget = {} if name == "exact_shapley" else {"budget": 160}
    method = getattr(methods, name)(removal=removal.marginal(background, draws=4), **budget)
    e = pellucid.explain(model, x, method, target=0)
    truth = pellucid.explain(model, x[:1], methods.exact_shapley(removal=removal.marginal(background)), target=0)
    assert "the background" in e.details["std_error_covers"]
    assert (e.std_error > 0).all()
    assert e.residual.max() < 1e-10
    assert len(np.unique(e.base_values)) > 1
    score = (e.values - truth.values) / e.std_error
    assert np.abs(score.mean(0)).max() < 1
    assert np.sqrt(np.mean((e.values - truth.values) ** 2)) < 1.5 * np.sqrt(np.mean(e.std_error**2))
    if budget:
        assert e.cost["forwards"] <= 60 * (4 * 160 + 2)


@pytest.mark.parametrize("name", ["kernel_shap", "regression_shapley"])
def test_errors_count_what_is_shared_out_and_how_together(name):
    """On a linear model the total and its shares vary together with the stand-ins: player by player."""
    weight = torch.tensor([3.0, 1.0, -2.0], dtype=torch.float64)
    model = pellucid.wrap(lambda z: z @ weight, bounds=(0, 1))
    x = torch.ones(800, 3, dtype=torch.float64)
    e = pellucid.explain(model, x, recipe(name, 100, removal="uniform"), target=0)
    ratio = e.values.std(0) / np.sqrt((e.std_error**2).mean(0))
    assert (np.abs(ratio - 0.96) < 0.08).all()


@QUIET
@pytest.mark.parametrize("name", BUDGETED)
def test_a_sampled_background_keeps_to_the_budget(name):
    background = torch.rand(30, 4, dtype=torch.float64)
    rule = removal.marginal(background, draws=1)
    for budget in (5, 6, 9, 16, 17, 40, 333):
        e = pellucid.explain(lambda z: z.prod(1), background[:1], recipe(name, budget, removal=rule), target=0)
        assert e.cost["forwards"] <= budget + 2  # f at x, and a look at the outputs
        assert e.residual[0] < 1e-10


# ---------------------------------------------------------------- the game of a user's function


def test_a_function_gets_bool_coalitions_on_the_cpu():
    seen = []

    def value(s):
        seen.append(s)
        s_before = s.clone()
        s[:] = True  # what it does to its copy is its own affair
        return s_before.sum(1)

    e = pellucid.play(games.FunctionGame(5, value), methods.permutation_shapley(budget=20))
    assert np.abs(e.values - 1).max() < 1e-12
    assert all(s.dtype == torch.bool and s.device.type == "cpu" and s.shape[1] == 5 for s in seen)


@pytest.mark.parametrize(
    "kind", [lambda v: v, lambda v: v.numpy(), lambda v: v.tolist(), lambda v: v.float(), lambda v: v.int()]
)
def test_a_function_returns_what_it_likes(kind):
    e = pellucid.play(games.FunctionGame(4, lambda s: kind(3.0 * s.sum(1))), methods.exact_shapley())
    assert e.values.round(12).tolist() == [[3, 3, 3, 3]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda s: s.sum(1) / torch.zeros(len(s)), "NaN or infinity"),
        (lambda s: s.sum(1).double().masked_fill(s.all(1), float("nan")), "NaN or infinity"),
        (lambda s: s.sum(), "one number for each"),
        (lambda s: s.sum(1)[:-1], "one number for each"),
        (lambda s: s[:, :, None], "one number for each"),
        (lambda s: "much", "must return numbers"),
        (lambda s: None, "must return numbers|one number for each|NaN"),
    ],
)
def test_a_bad_worth_is_refused(value, words):
    with pytest.raises(BadInput, match=f"FunctionGame: value .*({words})"):
        pellucid.play(games.FunctionGame(4, value), methods.kernel_shap(budget=10))


def test_a_bad_game_is_refused():
    for n in (0, -1, 2.0, True, "3"):
        with pytest.raises(BadInput, match="n must be a whole number of at least 1"):
            games.FunctionGame(n, lambda s: s.sum(1))
    with pytest.raises(BadInput, match="value must be a function"):
        games.FunctionGame(3, 5.0)
    with pytest.raises(BadInput, match="names must have n = 3 entries, got 2"):
        games.FunctionGame(3, lambda s: s.sum(1), ("a", "b"))
    with pytest.raises(BadInput, match=r"play: expected a game such as games.FunctionGame"):
        pellucid.play(lambda s: s.sum(1), methods.exact_shapley())
    with pytest.raises(Unsupported, match="saliency does not play games"):
        pellucid.play(reference.table(3, 0), methods.saliency())


def test_what_a_function_raises_comes_through():
    def value(s):
        raise RuntimeError("no data today")

    with pytest.raises(RuntimeError, match="no data today"):
        pellucid.play(games.FunctionGame(3, value), methods.exact_shapley())


def test_what_stops_early_has_asked_about_the_sizes_that_its_budget_would_have_planned():
    """Else the rare small coalitions come late, and few of them make an error that looks small by chance."""
    asked: dict[str, list[torch.Tensor]] = {"early": [], "planned": []}

    def logged(name):
        def value(s):
            asked[name].append(s.sum(1))
            return s.double() @ torch.arange(12.0, dtype=torch.float64) + s[:, 0] * s[:, 5]

        return games.FunctionGame(12, value)

    early = pellucid.play(logged("early"), methods.kernel_shap(3000, tolerance=10.0))
    pellucid.play(logged("planned"), methods.kernel_shap(early.cost["coalitions"]))
    counts = {name: torch.cat(sizes).bincount(minlength=13).tolist() for name, sizes in asked.items()}
    assert counts["early"] == counts["planned"]
    assert early.cost["coalitions"] < 600
    assert counts["early"][1] == 12
