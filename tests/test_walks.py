"""Orders in blocks over which every player takes every place once, and errors that know it."""

import numpy as np
import pytest
import torch

import pellucid
from pellucid import games, methods, removal
from tests.reference import games as reference


def pairs(n, draws):
    """A budget of so many pairs of orders."""
    return 2 + 2 * (n - 1) * draws


def drawn(n, value, draws, seed):
    """Each pair's contributions (draws, n), and how far from the middle its places were: a budget of one pair more adds
    one draw, and of |S|^3 a pair adds 3 far^2 and a constant."""
    game = games.FunctionGame(n, lambda s: torch.stack([value(s.double()), s.double().sum(1) ** 3], 1))
    sums = [np.zeros((n, 2))]
    for count in range(1, draws + 1):
        e = pellucid.play(game, methods.permutation_shapley(pairs(n, count)), seed=seed)
        sums.append(count * e.values[0])
    each = np.diff(sums, axis=0)
    far = (each[..., 1] - (3 * (n - 1) ** 2 / 4 + 3 * (n - 1) / 2 + 1)) / 3
    return each[..., 0], np.sqrt(far.clip(0))


@pytest.mark.parametrize("n", [12, 13])
@pytest.mark.filterwarnings("ignore::pellucid.Unreliable")
def test_over_a_block_every_player_takes_every_place_once(n):
    _, far = drawn(n, lambda s: s[:, 0], 2 * n, 3)
    places = np.sort(np.abs(np.arange(n) - (n - 1) / 2))
    for block in (far[:n], far[n:]):
        assert np.allclose(np.sort(block, 0), places[:, None], atol=1e-4)
    assert not np.allclose(far[:n], far[n:], atol=0.1)


@pytest.mark.filterwarnings("ignore::pellucid.Unreliable")
def test_a_single_order_is_any_with_equal_chance():
    """All 24 orders of four players, read off the values of |S|^2, over 6,000 rows: chi square."""
    x = torch.ones(6000, 4, dtype=torch.float64)
    e = pellucid.explain(lambda z: z.sum(1) ** 2, x, methods.permutation_shapley(5), target=0, seed=1)
    orders, counts = np.unique(e.values.round().astype(int), axis=0, return_counts=True)
    assert sorted(orders[0]) == [1, 3, 5, 7]
    assert len(counts) == 24
    assert ((counts - 250) ** 2 / 250).sum() < 52  # 23 degrees of freedom, p = .0005


def test_whole_blocks_are_exact_where_only_the_size_counts():
    """Of v(S) = |S|^3 a pair adds a parabola of the place: nothing is left to chance, and the error says so."""
    n, draws = 13, 26
    game = games.FunctionGame(n, lambda s: s.double().sum(1) ** 3)
    e = pellucid.play(game, methods.permutation_shapley(pairs(n, draws)))
    assert e.details["draws"] == draws
    assert np.abs(e.values - n**2).max() < 1e-9
    assert e.std_error.max() < 1e-5
    partial = pellucid.play(game, methods.permutation_shapley(pairs(n, draws + 5)))
    off = np.abs(partial.values - n**2)
    assert off.max() > 0.1
    assert (off < 4 * partial.std_error).all()
    assert np.sqrt(np.mean(off**2)) == pytest.approx(np.sqrt(np.mean(partial.std_error**2)), rel=0.5)


@pytest.mark.parametrize("draws", [9, 19, 20, 31, 36, 100])
@pytest.mark.filterwarnings("ignore::pellucid.Unreliable")
def test_errors_equal_their_literal_twin(draws):
    """Least squares on the place and its square by numpy, and the share of a block that is not whole."""
    n = 12
    value = reference.smooth(n)
    e = pellucid.play(reference.played(value, n), methods.permutation_shapley(pairs(n, draws)), seed=7)
    c, far = drawn(n, value, draws, 7)
    total = c.var(0, ddof=1)
    expected = total / draws
    if draws >= 20:
        for i in range(n):
            table = np.column_stack([np.ones(draws), far[:, i], far[:, i] ** 2])
            rest = c[:, i] - table @ np.linalg.lstsq(table, c[:, i], rcond=None)[0]
            left, r = rest @ rest / (draws - 3), draws % n
            told = max(0.0, total[i] - left)
            expected[i] = left / draws + told * r * (n - r) / (n - 1) / draws**2
    assert np.allclose(e.values[0], c.mean(0), atol=1e-12)
    assert np.allclose(e.std_error[0], np.sqrt(expected), rtol=1e-6)
    assert e.details["degrees_of_freedom"] == (draws - 3 if draws >= 20 else draws - 1)


def test_blocks_beat_independent_orders():
    """At the same coalitions, on games of twelve players: a tenth to nine tenths of the variance."""
    n, draws, repeats = 12, 48, 200
    x = torch.ones(repeats, n, dtype=torch.float64)
    ratio = {}
    for name, make in {**reference.SMOOTH, **reference.LUMPY}.items():
        function = make(n)
        truth = reference.many(function, n, methods.exact_shapley(), 1).values
        e = pellucid.explain(function, x, methods.permutation_shapley(pairs(n, draws)), target=0)
        each = [
            pellucid.explain(function, x, methods.permutation_shapley(pairs(n, 2)), target=0, seed=100 + k).values
            for k in range(draws // 2)
        ]
        blocks = np.mean((e.values - truth) ** 2)
        ratio[name] = blocks / np.mean((np.mean(each, 0) - truth) ** 2)
    assert 0.8 < max(ratio.values()) < 0.95, ratio
    assert 0.05 < min(ratio.values()) < 0.15, ratio


def test_background_and_places_together():
    """Towards a tolerance both are told from what is left: values still sum exactly, intervals hold the truth."""
    n, rows = 8, 60
    background = torch.rand(400, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def model(z):
        return torch.exp(z.sum(1) / 2)

    x = torch.ones(rows, n, dtype=torch.float64)
    absent = removal.marginal(background, draws=1)
    e = pellucid.explain(model, x, methods.permutation_shapley(4000, tolerance=0.25, removal=absent), target=0)
    truth = pellucid.explain(model, x[:1], methods.exact_shapley(removal=removal.marginal(background)), target=0)
    assert np.allclose(e.base_values, truth.base_values)
    assert e.residual.max() < 1e-9
    assert (e.std_error <= 0.25).all()
    score = (e.values - truth.values) / e.std_error
    assert 0.6 < np.sqrt(np.mean(score**2)) < 1.25
