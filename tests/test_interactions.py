"""Interactions of pairs: against their definitions, unbiased and within their errors, and as results."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import pellucid
from pellucid import BadInput, Unreliable, Unsupported, games, methods, players, removal
from pellucid.games.quadratic import Quadratic
from tests.reference import games as reference

INDICES = ("k-SII", "SII", "STII")


def pairwise(n, seed=0):
    """A game of main effects and pairs, and its coefficients (n,), (n, n)."""
    numbers = np.random.default_rng(seed)
    alone, pair = numbers.normal(size=n), np.triu(numbers.normal(size=(n, n)), 1)
    a, p = torch.from_numpy(alone), torch.from_numpy(pair)
    return (
        games.FunctionGame(n, lambda s: 2 + s.double() @ a + ((s.double() @ p) * s.double()).sum(1)),
        alone,
        pair + pair.T,
    )


def added(values):
    """Players and pairs, each once."""
    return np.trace(values, axis1=-2, axis2=-1) + np.triu(values, 1).sum((-2, -1))


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_enumeration_equals_the_definition(index, n):
    for seed in range(4):
        game = reference.table(n, seed)
        v = reference.worths(n, game.value)
        e = pellucid.play(game, methods.shapley_interactions(index=index))
        assert np.abs(e.values[0] - reference.interactions(n, v, index)).max() < 1e-12
        assert np.array_equal(e.values, e.values.swapaxes(1, 2))
        assert (e.std_error == 0).all()
        assert e.details["index"] == index
        if index != "SII":
            total = v[frozenset(range(n))] - v[frozenset()]
            assert abs(added(e.values[0]) - total) < 1e-12
            assert e.details["residual"][0] < 1e-12


def test_rows_of_the_default_share_out_to_shapley_values():
    game = reference.table(6, 1)
    e = pellucid.play(game, methods.shapley_interactions())
    half = (np.diagonal(e.values[0]) + e.values[0].sum(1)) / 2
    assert np.abs(half - pellucid.play(game, methods.exact_shapley()).values[0]).max() < 1e-12
    alone = np.diagonal(pellucid.play(game, methods.shapley_interactions(index="SII")).values[0])
    assert np.abs(half - alone).max() < 1e-12


@pytest.mark.parametrize("index", INDICES)
def test_a_game_of_pairs_is_recovered_from_a_sample(index):
    """79 terms of 12 players from 300 of 4,096 coalitions: nothing is left to estimate."""
    game, alone, pair = pairwise(12)
    e = pellucid.play(game, methods.shapley_interactions(budget=300, index=index))
    off = ~np.eye(12, dtype=bool)
    assert game.calls == 300
    assert np.abs(e.values[0] - pair)[off].max() < 1e-9
    wanted = alone + (pair.sum(1) / 2 if index == "SII" else 0)
    assert np.abs(np.diagonal(e.values[0]) - wanted).max() < 1e-9
    assert e.std_error.max() < 1e-9


def test_the_surrogate_is_least_squares_where_it_can_be():
    game, alone, pair = pairwise(7, seed=3)
    s = torch.rand(60, 7) < 0.5
    fitted = Quadratic.fitted(s, game.value(s)[:, None])
    assert np.abs(fitted.singles[:, 0].numpy() - alone).max() < 1e-9
    assert np.abs(fitted.pairs[..., 0].numpy() - pair).max() < 1e-9
    assert abs(float(fitted.base[0]) - 2) < 1e-9
    fresh = torch.rand(50, 7) < 0.5
    assert np.abs((fitted(fresh)[:, 0] - game.value(fresh)).numpy()).max() < 1e-9


@pytest.mark.parametrize("index", ["k-SII", "STII"])  # of pairs SII is k-SII
@pytest.mark.parametrize("budget", [120, 500])
def test_samples_are_unbiased_and_errors_calibrated(index, budget):
    """50 repeats on a game that is not of pairs, and that the budget is too small to fit."""
    n, rows = 11, 50
    for name in ("smooth", "products"):
        function = reference.SMOOTH[name](n)
        truth = reference.many(function, n, methods.shapley_interactions(index=index), 1).values
        e = reference.many(function, n, methods.shapley_interactions(budget=budget, index=index), rows)
        off = e.values - truth
        standard = off.mean(0) / np.maximum(off.std(0) / rows**0.5, 1e-9)
        assert np.abs(standard[np.abs(off).max(0) > 1e-9]).max() < 4.5
        inside = np.abs(off) <= stats.t.ppf(0.975, e.details["degrees_of_freedom"]) * e.std_error + 1e-9
        assert 0.9 < inside.mean() < 0.99
        assert np.sqrt((off**2).mean()) < 1.15 * np.sqrt((e.std_error**2).mean())
        assert e.cost["forwards"] <= rows * (budget + 2)


def test_errors_shrink_as_coalitions_run_out():
    """With 1,900 of 2,048 coalitions valued there is little left to be wrong about."""
    n, rows = 11, 40
    function = reference.products(n)
    truth = reference.many(function, n, methods.shapley_interactions(), 1).values
    e = reference.many(function, n, methods.shapley_interactions(budget=1900), rows)
    ratio = np.sqrt(((e.values - truth) ** 2).mean() / (e.std_error**2).mean())
    assert 0.85 < ratio < 1.15


def test_more_budget_less_error():
    n = 12
    function = reference.smooth(n)
    truth = reference.many(function, n, methods.shapley_interactions(budget=4096), 1).values
    rms = [
        np.sqrt(((reference.many(function, n, methods.shapley_interactions(budget=b), 8).values - truth) ** 2).mean())
        for b in (100, 400, 1600)
    ]
    assert rms[1] < 0.5 * rms[0]
    assert rms[2] < 0.5 * rms[1]


def test_several_outputs():
    game = reference.table(7, 0, outputs=2)
    e = pellucid.play(game, methods.shapley_interactions(budget=100))
    assert e.values.shape == e.std_error.shape == (1, 7, 7, 2)
    for j in range(2):
        one = games.FunctionGame(7, lambda s, j=j: game.value(s)[:, j])
        alone = pellucid.play(one, methods.shapley_interactions(budget=100))
        assert np.abs(alone.values - e.values[..., j]).max() < 1e-9
        assert np.abs(alone.std_error - e.std_error[..., j]).max() < 1e-9


def test_random_stand_ins_enter_the_error():
    background = torch.rand(40, 5, dtype=torch.float64)
    x = torch.ones(30, 5, dtype=torch.float64)

    def model(z):
        return torch.exp(z.sum(1) / 2)

    method = methods.shapley_interactions(budget=100, removal=removal.marginal(background, draws=5))
    e = pellucid.explain(model, x, method, target=0)
    truth = pellucid.explain(
        model, x[:1], methods.shapley_interactions(removal=removal.marginal(background)), target=0
    ).values
    assert "the background" in e.details["std_error_covers"]
    assert (e.std_error > 0).all()
    off = e.values - truth
    assert np.abs(off.mean(0) / (off.std(0) / 30**0.5)).max() < 4.5
    assert np.sqrt((off**2).mean()) < 1.4 * np.sqrt((e.std_error**2).mean())
    assert e.cost["forwards"] <= 30 * (5 * 100 + 7)


# ---------------------------------------------------------------- as a result


def explained(**options):
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    return x, pellucid.explain(
        lambda z: z[:, 0] * z[:, 1] + 2 * z[:, 2], x, methods.shapley_interactions(), target=0, **options
    )


def test_a_product_is_all_interaction():
    x, e = explained()
    assert e.dims == ("player", "player")
    assert e.pairs
    assert np.allclose(e.values[:, 0, 1], x[:, 0] * x[:, 1], atol=1e-12)
    assert np.abs(e.values[:, [0, 1], [0, 1]]).max() < 1e-12
    assert np.allclose(e.values[:, 2, 2], 2 * x[:, 2], atol=1e-12)


def test_tables_name_every_pair_once():
    _, e = explained()
    frame = e.to_dataframe()
    assert len(frame) == 3 * 10
    assert frame["feature"][:5].tolist() == ["x0", "x0 × x1", "x0 × x2", "x0 × x3", "x1"]
    assert np.allclose(frame["value"][:10].sum(), e.outputs[0], atol=1e-12)
    assert set(e.top(2)["feature"]) == {"x0 × x1", "x2"}


def test_a_map_shares_interactions_equally():
    x, e = explained()
    truth = pellucid.explain(lambda z: z[:, 0] * z[:, 1] + 2 * z[:, 2], x, methods.exact_shapley(), target=0)
    assert np.abs(e.map() - truth.values).max() < 1e-12
    picture = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    e = pellucid.explain(
        lambda z: z.flatten(1).sum(1) ** 2, picture, methods.shapley_interactions(), target=0, players=players.grid(2)
    )
    assert e.map().shape == (2, 6, 6)
    assert np.allclose(e.map().sum((1, 2)), e.outputs, atol=1e-9)


def test_rows_disk_and_names(tmp_path):
    _, e = explained(players={"both": [0, 1], "third": [2], "fourth": [3]})
    assert e.feature_names == ("both", "third", "fourth")
    assert e[1].details["residual"].shape == (1,)
    assert e[1].values.shape == (1, 3, 3)
    e.save(tmp_path / "e.npz")
    assert pellucid.load(tmp_path / "e.npz") == e
    assert e.to_shap().values.shape == (3, 3, 3)


def test_what_cannot_be_asked():
    with pytest.raises(Unsupported, match=r"order 3 is not available; use order=2, or regression_shapley\(\) or"):
        methods.shapley_interactions(order=3)
    with pytest.raises(BadInput, match="index must be one of 'k-SII', 'SII', 'STII', got 'FSII'"):
        methods.shapley_interactions(index="FSII")
    with pytest.raises(BadInput, match=r"budget must be at least n \+ 1 = 7"):
        pellucid.play(reference.table(6, 0), methods.shapley_interactions(budget=6))
    with pytest.raises(BadInput, match="an interaction takes at least 2 players"):
        pellucid.play(reference.table(1, 0), methods.shapley_interactions())
    with pytest.raises(Unsupported, match=r"61 players are too many.*kernel_shap\(\) or permutation_shapley\(\)"):
        pellucid.play(games.FunctionGame(61, lambda s: s.sum(1)), methods.shapley_interactions())


def test_too_small_a_sample_has_no_standard_error():
    game, _, _ = pairwise(12)
    with pytest.warns(Unreliable, match="shapley_interactions: .* too few for a standard error"):
        e = pellucid.play(game, methods.shapley_interactions(budget=20))
    assert np.isnan(e.std_error).all()
    assert np.isfinite(e.values).all()
    assert game.calls <= 20


def test_bars_name_each_pair_once():
    x = torch.tensor([[3.0, 2.0, 1.0]])
    e = pellucid.explain(lambda x: x[:, 0] * x[:, 1] + x[:, 2], x, methods.shapley_interactions())
    axes = e.plot(row=0).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    widths = [bar.get_width() for bar in axes.patches]
    assert names[:2] == ["x0 and x1", "x2"]
    assert np.allclose(widths[:2], [6, 1])
    assert len(names) == 6
