"""feature_ablation: closed forms on linear models, a slow twin on others, and what it costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import pellucid
from pellucid import Run, methods, players, removal


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def small_net(dtype=torch.float64, inputs=6, outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs)).to(dtype).eval()


class Counting:
    """A model that counts the rows it is asked for, and remembers the largest call."""

    def __init__(self, function):
        self.function, self.rows, self.largest = function, 0, 0

    def __call__(self, x):
        self.rows += len(x)
        self.largest = max(self.largest, x.numel() if isinstance(x, torch.Tensor) else x.size)
        return self.function(x)


BACKGROUND = rows(7, 6, seed=5)
RULES = {
    "number": (0.25, lambda x: np.full((1, 6), 0.25)),
    "array": (BACKGROUND[0], lambda x: BACKGROUND[0].numpy()),
    "array a row": (BACKGROUND[:4], lambda x: BACKGROUND[:4].numpy()),
    "baseline": (removal.baseline(-1), lambda x: np.full((1, 6), -1.0)),
    "marginal": (removal.marginal(BACKGROUND), lambda x: BACKGROUND.numpy().mean(0)),
    "marginal, whole passes": (removal.marginal(BACKGROUND, draws=14), lambda x: BACKGROUND.numpy().mean(0)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rule", RULES)
def test_on_a_linear_model_it_is_the_weight_times_what_is_lost(rule, dtype):
    torch.manual_seed(3)
    net = nn.Linear(6, 3).to(dtype).eval()
    x = rows(4, 6).to(dtype)
    e = pellucid.explain(net, x, methods.feature_ablation(RULES[rule][0]), target=[0, 2, 1, 0])
    weight = net.weight.detach().double().numpy()[[0, 2, 1, 0]]
    lost = x.double().numpy() - RULES[rule][1](x)
    assert e.values.shape == (4, 6)
    assert e.values.dtype in (np.float32, np.float64)
    assert np.abs(e.values - weight * lost).max() < 40 * torch.finfo(dtype).eps
    assert e.base_values is None
    assert e.residual is None


def test_mean_and_blur_on_a_linear_model_of_pictures():
    x = rows(2, 3, 6, 6)
    weight = rows(3, 6, 6, seed=2) - 0.5
    e = pellucid.explain(lambda z: (z * weight).sum((1, 2, 3)), x, methods.feature_ablation("mean"))
    assert np.allclose(e.values, weight * (x - x.mean((2, 3), keepdim=True)), atol=1e-13)


@pytest.mark.parametrize("target", [1, "all", [0, 1, 2, 1, 0]])
@pytest.mark.parametrize("rule", ["number", "marginal"])
def test_it_is_the_slow_loop_on_a_curved_model(rule, target):
    net, x = small_net(), rows(5, 6)
    e = pellucid.explain(net, x, methods.feature_ablation(RULES[rule][0]), target=target)
    expected = np.empty((5, 6, 3))
    for row in range(5):
        for i in range(6):
            stand_ins = BACKGROUND if rule == "marginal" else torch.full((1, 6), 0.25, dtype=torch.float64)
            values = []
            for stand_in in stand_ins:
                without = x[row].clone()
                without[i] = stand_in[i]
                values.append(net(without[None])[0])
            expected[row, i] = (net(x[row : row + 1])[0] - torch.stack(values).mean(0)).detach()
    if target != "all":
        expected = np.take_along_axis(expected, np.broadcast_to(target, 5)[:, None, None], 2)[..., 0]
    assert e.values.shape == expected.shape
    assert np.abs(e.values - expected).max() < 1e-12


def test_several_outputs_are_each_output_alone():
    net, x = small_net(), rows(3, 6)
    every = pellucid.explain(net, x, "feature_ablation", target="all")
    for k in range(3):
        assert np.allclose(every.values[..., k], pellucid.explain(net, x, "feature_ablation", target=k).values)


def test_a_player_leaves_with_all_its_entries():
    net, x = small_net(inputs=12), rows(3, 12)
    e = pellucid.explain(
        lambda z: net(z.flatten(1)), x.reshape(3, 3, 2, 2), methods.feature_ablation(0.5), target=1,
        players=players.positions(),
    )  # fmt: skip
    for i in range(4):
        without = x.clone()
        without[:, [i, 4 + i, 8 + i]] = 0.5
        assert np.allclose(e.values[:, i], (net(x) - net(without))[:, 1].detach(), atol=1e-12)


@pytest.mark.parametrize(
    "rule",
    ["uniform", removal.marginal(BACKGROUND), removal.marginal(BACKGROUND, draws=3)],
    ids=["uniform", "marginal", "sampled"],
)
def test_rows_do_not_depend_on_the_batch(rule):
    net, x = small_net(), rows(5, 6)
    whole = pellucid.explain(net, x, methods.feature_ablation(rule), target=1, seed=7)
    for batch_size in (1, 3, 64):
        again = pellucid.explain(
            net, x, methods.feature_ablation(rule), target=1, seed=7, run=Run(batch_size=batch_size)
        )
        assert np.allclose(again.values, whole.values, atol=1e-12)
    for i in range(5):
        one = pellucid.explain(net, x[i : i + 1], methods.feature_ablation(rule), target=1, seed=7, first_row=i)
        assert np.allclose(one.values, whole.values[i : i + 1], atol=1e-12)
    repeat = pellucid.explain(net, x, methods.feature_ablation(rule), target=1, seed=7)
    assert (repeat.values == whole.values).all()
    if rule == "uniform":
        other = pellucid.explain(net, x, methods.feature_ablation(rule), target=1, seed=8)
        assert not np.isclose(other.values, whole.values).any()


@pytest.mark.parametrize(("target", "lookups"), [([0, 0, 0, 0], 1), (None, 4)])
@pytest.mark.parametrize(("rule", "draws"), [(0.0, 1), (removal.marginal(BACKGROUND), 7)], ids=["baseline", "marginal"])
def test_it_costs_a_forward_for_each_player_and_one_more(rule, draws, target, lookups):
    counted = Counting(small_net())
    e = pellucid.explain(counted, rows(4, 6), methods.feature_ablation(rule), target=target)
    assert e.cost["forwards"] == counted.rows
    # besides the game: the prediction at x once, and the class where it has to be looked up
    assert counted.rows == 4 * (6 + 1) * draws + 4 + lookups
    assert e.cost["backwards"] == 0


def test_the_whole_is_valued_once_however_many_players():
    counted = Counting(lambda z: z.sum(1))
    e = pellucid.explain(counted, rows(2, 300), "feature_ablation", target=[0, 0])
    assert counted.rows == 2 * 301 + 2 + 1
    assert np.allclose(e.values, rows(2, 300), atol=1e-12)


def test_many_players_are_never_held_at_once():
    n = 8_000  # n x n entries would be 256 MB
    counted = Counting(lambda z: z[:, :3].sum(1))
    e = pellucid.explain(counted, torch.ones(1, n), "feature_ablation", target=0)
    assert counted.largest <= 2**22
    assert e.cost["peak_bytes"] < 128 * 2**20
    assert e.values.sum() == 3


def test_a_numpy_function_gets_numpy():
    weight = np.array([1.0, -2.0, 0.5])

    def model(x):
        assert isinstance(x, np.ndarray)
        return x @ weight

    x = np.random.default_rng(0).random((4, 3))
    e = pellucid.explain(model, x, "feature_ablation")
    assert np.allclose(e.values, x * weight, atol=1e-14)


@pytest.mark.parametrize("named", [False, True])
def test_an_estimator_and_its_predict_proba(named):
    data = np.random.default_rng(0).normal(size=(60, 3))
    x = pd.DataFrame(data, columns=["age", "dose", "site"]) if named else data
    fitted = LogisticRegression().fit(x, data[:, 0] + data[:, 1] > 0)
    rule = removal.marginal(data[:20])

    def slow(row, i, read):
        without = np.repeat(data[row : row + 1], 20, 0)
        without[:, i] = data[:20, i]
        ask = (lambda a: pd.DataFrame(a, columns=x.columns)) if named else (lambda a: a)
        return read(fitted.predict_proba(ask(data[row : row + 1])))[0] - read(fitted.predict_proba(ask(without))).mean()

    for target, read in ((1, lambda p: p[:, 1]), (pellucid.Target(1, "logit"), lambda p: np.log(p[:, 1]))):
        for model in (fitted, fitted.predict_proba):
            net = model if model is fitted else pellucid.wrap(model, scale="prob")
            e = pellucid.explain(net, x.iloc[:3] if named else x[:3], methods.feature_ablation(rule), target=target)
            expected = [[slow(row, i, read) for i in range(3)] for row in range(3)]
            assert np.abs(e.values - expected).max() < 1e-10
    if named:
        assert e.feature_names == ("age", "dose", "site")


def test_a_constant_model_owes_nothing_to_anyone():
    e = pellucid.explain(lambda x: x.new_ones(len(x), 2), rows(3, 6), "feature_ablation", target=1)
    assert (e.values == 0).all()
