"""Removals that look at what is present, that take every column apart, and that users write themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import pellucid
from pellucid import BadInput, Unreliable, Unsupported, methods, players, removal
from tests.reference import games as reference

N = 5


def correlated(rows=400, n=N, seed=0):
    """Rows whose columns depend on each other, in float64."""
    numbers = np.random.default_rng(seed)
    return torch.from_numpy(numbers.normal(size=(rows, n)) @ numbers.normal(size=(n, n)) + np.arange(n))


def affine(n=N, seed=1):
    weight = np.random.default_rng(seed).normal(size=n)
    return weight, lambda z: z @ torch.from_numpy(weight) + 2


def expected(background, x, present, ridge=1e-6):
    """E[X | X_S = x_S] of the normal distribution of the background, by its definition."""
    rows = np.asarray(background)
    mean, covariance = rows.mean(0), np.cov(rows.T)
    covariance = covariance + ridge * np.diag(np.diag(covariance))
    here = sorted(present)
    away = [i for i in range(rows.shape[1]) if i not in present]
    filled = np.array(x, dtype=float)
    filled[away] = mean[away]
    if here and away:
        filled[away] += covariance[np.ix_(away, here)] @ np.linalg.solve(
            covariance[np.ix_(here, here)], (x - mean)[here]
        )
    return filled


def stand_ins(rule, x, present, draws=None, seed=0):
    """What absent entries become, (draws, n): f gives back its input, and one player holds all that is absent."""
    seen = []

    def model(z):
        seen.append(z.clone())
        return z.sum(1)

    labels = np.array([-1 if i in present else 0 for i in range(x.shape[1])])
    pellucid.explain(model, x, methods.feature_ablation(rule), target=0, players=labels, seed=seed)
    every = torch.cat(seen)
    return every[(every != x).any(1)]


# ---------------------------------------------------------------- normal


@pytest.mark.parametrize("seed", range(3))
def test_a_linear_model_has_its_conditional_game_exactly(seed):
    """Draws are mirrored at the conditional mean, so that two of them are as good as all."""
    background, (weight, model) = correlated(seed=seed), affine()
    x = background[:2] + 0.5
    e = pellucid.explain(model, x, methods.exact_shapley(removal.gaussian(background, draws=2)), target=0)
    for row in range(2):
        v = {s: float(weight @ expected(background, x[row].numpy(), s)) for s in reference.subsets(range(N))}
        assert np.abs(e.values[row] - reference.shapley(N, v)).max() < 1e-9
    assert np.allclose(e.base_values, model(background).mean(), atol=1e-9)
    assert e.std_error.max() < 1e-9


def test_draws_have_the_conditional_distribution():
    background, present = correlated(), {1, 3}
    x = background[:1] + 0.3
    drawn = stand_ins(removal.gaussian(background, draws=4000), x, present).numpy()
    assert len(drawn) == 4000
    assert (drawn[:, [1, 3]] == x[0, [1, 3]].numpy()).all()
    away = [0, 2, 4]
    covariance = np.cov(background.T.numpy())
    here = [1, 3]
    left = covariance[np.ix_(away, away)] - covariance[np.ix_(away, here)] @ np.linalg.solve(
        covariance[np.ix_(here, here)], covariance[np.ix_(here, away)]
    )
    assert np.abs(drawn[:, away].mean(0) - expected(background, x[0].numpy(), present)[away]).max() < 1e-9
    assert np.abs(np.cov(drawn[:, away].T) - left).max() < 0.08 * np.abs(left).max()
    # one column beside another: not only each alone
    skew = ((drawn - drawn.mean(0)) ** 3).mean(0)[away]
    assert np.abs(skew).max() < 0.15 * np.diag(left).max() ** 1.5


def test_two_normal_features_by_hand():
    """f = x0 and correlation r: v(1) - v(∅) = r x1, so x1, which f does not read, gets r x1 / 2."""
    numbers = torch.from_numpy(np.random.default_rng(0).normal(size=(2000, 2)))
    numbers = (numbers - numbers.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(numbers.T))).T
    background = torch.stack([numbers[:, 0], 0.8 * numbers[:, 0] + 0.6 * numbers[:, 1]], 1)
    e = pellucid.explain(
        lambda z: z[:, 0], torch.tensor([[2.0, 1.0]]).double(), methods.exact_shapley(removal.gaussian(background))
    )
    assert np.allclose(e.values, [[2 - 0.4, 0.4]], atol=1e-5)


def test_duplicates_share_and_ignored_twins_get_credit_only_here():
    column = torch.randn(200, 1, dtype=torch.float64)
    background = torch.cat([column, column, torch.randn(200, 1, dtype=torch.float64)], 1)
    x = background[:2]

    def model(z):
        return 3 * z[:, 0] + z[:, 2]

    given = pellucid.explain(model, x, methods.exact_shapley(removal.gaussian(background, draws=2)), target=0)
    assert np.allclose(given.values[:, 0], given.values[:, 1], atol=1e-4)
    plain = pellucid.explain(model, x, methods.exact_shapley(removal.marginal(background)), target=0)
    assert np.abs(plain.values[:, 1]).max() < 1e-12


@pytest.mark.parametrize("name", ["permutation_shapley", "kernel_shap", "regression_shapley"])
def test_estimators_agree_with_enumeration(name):
    background, x = correlated(), correlated()[:3]

    def model(z):
        return torch.tanh(z).sum(1) + z[:, 0] * z[:, 1] / 10

    rule = removal.gaussian(background, draws=8)
    truth = pellucid.explain(model, x, methods.exact_shapley(removal.gaussian(background, draws=2000)), target=0)
    e = pellucid.explain(model, x, getattr(methods, name)(budget=600, removal=rule), target=0)
    assert (np.abs(e.values - truth.values) < 4.5 * np.hypot(e.std_error, truth.std_error)).all()
    assert "the background" in e.details["std_error_covers"]


def test_players_of_several_columns_are_given_together():
    background, (weight, model) = correlated(), affine()
    x = background[:1] + 1
    groups = players.groups({"a": [0, 3], "b": [1], "c": [2, 4]})
    e = pellucid.explain(
        model, x, methods.exact_shapley(removal.gaussian(background, draws=2)), target=0, players=groups
    )
    members = {0: {0, 3}, 1: {1}, 2: {2, 4}}
    v = {
        s: float(weight @ expected(background, x[0].numpy(), set().union(*(members[p] for p in s))))
        for s in reference.subsets(range(3))
    }
    assert np.abs(e.values[0] - reference.shapley(3, v)).max() < 1e-9


def test_a_background_that_says_too_little_is_named():
    x, wide = torch.zeros(1, 6), torch.zeros(3, 1200)
    with pytest.warns(Unreliable, match="5 background rows for 6 entries leave the covariance singular"):
        pellucid.explain(lambda z: z.sum(1), x, methods.exact_shapley(removal.gaussian(torch.randn(5, 6))), target=0)
    with pytest.raises(BadInput, match="at least 2 background rows, got 1"):
        pellucid.explain(lambda z: z.sum(1), x, methods.exact_shapley(removal.gaussian(torch.randn(1, 6))), target=0)
    with pytest.raises(Unsupported, match=r"1,?200 entries are too many.*removal.marginal.*removal.nearest"):
        pellucid.explain(lambda z: z.sum(1), wide, methods.feature_ablation(removal.gaussian(wide)), target=0)
    for draws in (0, 1, 3, -2, 2.0, True):
        with pytest.raises(BadInput, match="draws must be an even number"):
            removal.gaussian(torch.randn(9, 2), draws=draws)


def test_a_constant_column_is_no_trouble():
    background = torch.cat([correlated(n=3), torch.ones(400, 1, dtype=torch.float64)], 1)
    e = pellucid.explain(
        lambda z: z.sum(1), background[:2], methods.exact_shapley(removal.gaussian(background, draws=2)), target=0
    )
    assert np.abs(e.values[:, 3]).max() < 1e-9
    assert e.residual.max() < 1e-9


# ---------------------------------------------------------------- nearest rows


def test_the_nearest_rows_by_a_loop():
    background, x = correlated(60), correlated(1, seed=5)
    spread = background.std(0, correction=0)
    for present in ({0}, {1, 2}, {0, 2, 3}):
        here = sorted(present)
        distance = (((background - x) / spread)[:, here] ** 2).sum(1)
        nearest = background[distance.argsort()[:7]].clone()
        nearest[:, here] = x[0, here]
        drawn = stand_ins(removal.nearest(background, k=7), x, present)
        assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, nearest.tolist()))


def test_nothing_present_takes_all_rows_in_turn():
    """Equally near rows come in a random order, each as often as the others: v(∅) is the mean of the background."""
    background = torch.arange(40, dtype=torch.float64)[:, None]
    e = pellucid.explain(
        lambda z: z[:, 0],
        torch.full((1, 1), 7.0, dtype=torch.float64),
        methods.permutation_shapley(budget=9, removal=removal.nearest(background, k=5)),
        target=0,
    )
    assert e.details["draws"] == 8
    assert np.allclose(e.base_values, background.mean(), atol=1e-12)


def test_ties_do_not_follow_the_order_of_rows():
    """Half the rows share the present value; sorted rows must not decide which are taken."""
    background = torch.stack([torch.tensor([0.0] * 50 + [1.0] * 50), torch.arange(100.0)], 1).double()
    means = [
        float(
            stand_ins(removal.nearest(background, k=10), torch.tensor([[0.0, 500.0]]).double(), {0}, seed=s)[
                :, 1
            ].mean()
        )
        for s in range(30)
    ]
    assert abs(np.mean(means) - 24.5) < 4.5 * np.std(means) / 30**0.5
    assert min(means) > 5


def test_text_columns_count_where_they_differ():
    frame = pd.DataFrame(
        {"site": ["a", "b", "c", "a", "b", "c"] * 5, "dose": np.arange(30.0), "age": np.arange(30.0) % 7}
    )
    seen = []

    def model(rows):
        seen.append(rows)
        return rows["dose"].to_numpy() + (rows["site"] == "a")

    pellucid.explain(
        model,
        frame[:1],
        methods.feature_ablation(removal.nearest(frame, k=5)),
        target=0,
        players={"rest": ["dose", "age"]},
    )
    drawn = pd.concat(seen)[lambda f: f["dose"] != 0]
    assert set(drawn["site"]) == {"a"}
    assert set(drawn["dose"]) <= set(frame.loc[frame["site"] == "a", "dose"])


def test_codes_of_text_are_no_distance():
    """Site b has the code next to a, but row c is nearer in what is a number."""
    frame = pd.DataFrame({"site": ["a", "b", "c"], "dose": [9.4, 10.0, 9.0], "age": [1.0, 2.0, 3.0]})
    seen = []

    def model(rows):
        seen.append(rows)
        return rows["age"].to_numpy()

    rule = removal.nearest(frame[1:], k=1)
    pellucid.explain(model, frame[:1], methods.feature_ablation(rule), target=0, players={"age": ["age"]})
    assert set(pd.concat(seen)["age"]) == {1.0, 3.0}


def test_numbers_of_neighbours_out_of_range_are_refused():
    for k in (0, 31, -1, 2.0, True):
        with pytest.raises(BadInput, match=r"removal.nearest: k must be 1..30"):
            removal.nearest(correlated(30), k=k)


@pytest.mark.parametrize("rule", [removal.gaussian, removal.nearest])
def test_partial_presence_has_no_condition(rule):
    from pellucid.games.removal import RemovalGame

    background = correlated()
    question = pellucid.api.ask(
        pellucid.wrap(lambda z: z.sum(1)), background[:1], 0, None, None, 0, pellucid.Run(), fold=False
    )
    with pytest.raises(BadInput, match="partial presence"):
        RemovalGame(question, rule(background))(torch.full((1, 1, N), 0.5))


def test_conditional_is_the_normal_one():
    background = correlated()
    assert removal.conditional(background) == removal.gaussian(background)


# ---------------------------------------------------------------- every column apart


def test_independent_columns_lose_their_correlation():
    background = correlated(300)
    drawn = stand_ins(removal.independent(background), torch.full((1, N), 99.0).double(), set())
    assert len(drawn) == 300
    for column in range(N):  # every value once
        assert sorted(drawn[:, column].tolist()) == sorted(background[:, column].tolist())
    off = ~np.eye(N, dtype=bool)
    assert np.abs(np.corrcoef(drawn.T)[off]).max() < 0.25 < np.abs(np.corrcoef(background.T)[off]).max()


def test_a_linear_model_sees_means_alone():
    background, (weight, model) = correlated(50), affine()
    x = correlated(2, seed=4)
    e = pellucid.explain(model, x, methods.permutation_shapley(60, removal=removal.independent(background)), target=0)
    assert np.abs(e.values - weight * (x - background.mean(0)).numpy()).max() < 1e-9


# ---------------------------------------------------------------- functions


@pytest.mark.parametrize("wrapped", [removal.custom, lambda fill: fill], ids=["custom", "bare"])
def test_a_function_fills_what_is_absent(wrapped):
    background, (weight, model) = correlated(), affine()
    mean = background.mean(0)

    def fill(z, present):
        assert z.shape == present.shape
        assert present.dtype == torch.bool
        z[:] = mean
        return z

    x = background[:3]
    e = pellucid.explain(model, x, methods.exact_shapley(wrapped(fill)), target=0)
    assert np.abs(e.values - weight * (x - mean).numpy()).max() < 1e-12
    assert x.equal(correlated()[:3])
    assert e.method["fields"]["removal"]["name"] == "custom"


def test_a_function_can_look_at_what_is_present():
    """Absent features take the mean of the present ones: a game with a value of its own for every coalition."""

    def fill(z, present):
        held = np.where(present, z, 0).sum(1, keepdims=True) / np.maximum(present.sum(1, keepdims=True), 1)
        return np.broadcast_to(held, z.shape)

    x, weight = np.array([[1.0, 5.0, 2.0]]), np.array([1.0, 2.0, 4.0])
    e = pellucid.explain(lambda z: z @ weight, x, methods.exact_shapley(removal.custom(fill)), target=0)
    v = {}
    for s in reference.subsets(range(3)):
        held = np.mean([x[0, i] for i in s]) if s else 0.0
        v[s] = float(sum(weight[i] * (x[0, i] if i in s else held) for i in range(3)))
    assert np.abs(e.values[0] - reference.shapley(3, v)).max() < 1e-12


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda z, present: z[:, :1], "rows like z"),
        (lambda z, present: z * float("nan"), "NaN or infinity"),
        (lambda z, present: "nothing", "numbers like z"),
        (lambda z, present: None, "numbers like z"),
    ],
)
def test_a_function_that_fills_wrongly_is_refused(fill, words):
    with pytest.raises(BadInput, match=f"removal.custom: fill .*{words}"):
        pellucid.explain(lambda z: z.sum(1), torch.ones(2, 3), methods.exact_shapley(fill), target=0)


def test_no_function_is_no_removal():
    with pytest.raises(BadInput, match=r"removal.custom: expected a function"):
        removal.custom(3.0)


# ---------------------------------------------------------------- all of them


RULES = {
    "gaussian": lambda b: removal.gaussian(b, draws=4),
    "nearest": lambda b: removal.nearest(b, k=4),
    "independent": lambda b: removal.independent(b, draws=4),
}


@pytest.mark.parametrize("rule", RULES)
def test_rows_batches_and_seeds(rule):
    background = correlated()
    x = correlated(4, seed=2)

    def model(z):
        return torch.sin(z).sum(1) * z[:, 0]

    def run(rows=slice(None), **options):
        method = methods.kernel_shap(budget=40, removal=RULES[rule](background))
        return pellucid.explain(model, x[rows], method, target=0, **options)

    whole = run()
    assert np.array_equal(whole.values, run().values)
    assert np.abs(run(slice(2, 3), first_row=2).values[0] - whole.values[2]).max() < 1e-12
    assert np.abs(run(run=pellucid.Run(batch_size=3)).values - whole.values).max() < 1e-12
    assert (run(seed=1).values != whole.values).any()


@pytest.mark.parametrize("rule", RULES)
def test_as_a_baseline_of_gradients(rule):
    """With nothing present these removals are draws from the background, each in its own way."""
    background, (_, model) = correlated(), affine()
    x = background[:2]
    e = pellucid.explain(model, x, methods.integrated_gradients(steps=2, baseline=RULES[rule](background)), target=0)
    assert e.residual.max() < 1e-9
    assert np.abs(e.values.sum(1) + e.base_values - model(x).numpy()).max() < 1e-9


@pytest.mark.parametrize("rule", RULES)
def test_a_background_of_the_wrong_width_is_refused(rule):
    with pytest.raises(BadInput, match=r"rows must be shaped like x, \(5,\); got \(4,\)"):
        pellucid.explain(
            lambda z: z.sum(1), correlated()[:1], methods.exact_shapley(RULES[rule](correlated(n=4))), target=0
        )
