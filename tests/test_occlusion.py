"""occlusion: closed forms, a slow twin, captum, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import Occlusion
from torch import nn

import pellucid
from pellucid import BadInput, Run, games, methods, players, removal
from tests.reference import masks


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def net(*shape, outputs=3):
    torch.manual_seed(0)
    size = int(np.prod(shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 6), nn.Tanh(), nn.Linear(6, outputs)).double().eval()


def one(model, target):
    """The model as a function of one numpy row to one number."""
    return lambda x: float(model(torch.from_numpy(np.array(x))[None])[0, target].detach())


SETTINGS = [
    ((3, 2), None),
    ((3, 2), (3, 2)),
    ((4, 3), (2, 1)),
    ((5, 4), (3, 3)),
    (3, 2),
    (1, None),
    ((9, 7), 1),
    ((9, 2), 1),
]


@pytest.mark.parametrize(("window", "stride"), SETTINGS)
def test_it_is_captum_where_settings_match(window, stride):
    model, x = net(2, 9, 7), rows(3, 2, 9, 7)
    pair = (window, window) if isinstance(window, int) else window
    steps = pair if stride is None else (stride, stride) if isinstance(stride, int) else stride
    expected = Occlusion(model).attribute(x, (2, *pair), (2, *steps), baselines=0.3, target=[0, 2, 1])
    e = pellucid.explain(model, x, methods.occlusion(window, stride, removal=0.3), target=[0, 2, 1])
    assert e.values.shape == x.shape
    assert np.abs(e.values - expected.detach().numpy()).max() < 1e-7  # captum counts windows in float32


@pytest.mark.parametrize(("window", "stride"), SETTINGS)
def test_it_is_the_slow_loop(window, stride):
    model, x = net(2, 9, 7), rows(2, 2, 9, 7)
    pair = (window, window) if isinstance(window, int) else window
    steps = pair if stride is None else (stride, stride) if isinstance(stride, int) else stride
    e = pellucid.explain(model, x, methods.occlusion(window, stride, removal=removal.mean()), target="all")
    for row, k in ((0, 0), (1, 2)):
        absent = x[row].mean((1, 2), keepdim=True).numpy()
        expected = masks.occlusion(one(model, k), x[row].numpy(), pair, steps, absent)
        assert np.abs(e.values[row, ..., k] - expected).max() < 1e-12


def test_on_a_linear_model_a_window_is_worth_its_contributions():
    weight, x = rows(2, 6, 8, seed=3) - 0.5, rows(2, 2, 6, 8)
    e = pellucid.explain(lambda z: (z * weight).sum((1, 2, 3)), x, methods.occlusion((2, 4)))
    parts = (weight * x).sum(1).reshape(2, 3, 2, 2, 4).sum((2, 4))
    expected = parts.repeat_interleave(2, 1).repeat_interleave(4, 2)[:, None].expand(-1, 2, -1, -1)
    assert np.abs(e.values - expected.numpy()).max() < 1e-13
    assert np.abs(e.map() - 2 * expected[:, 0].numpy()).max() < 1e-13
    assert e.base_values is None
    assert e.residual is None


def test_windows_of_one_position_are_feature_ablation_by_positions():
    model, x = net(2, 4, 5), rows(2, 2, 4, 5)
    e = pellucid.explain(model, x, methods.occlusion(1), target=0)
    ablated = pellucid.explain(model, x, methods.feature_ablation(), target=0, players=players.positions())
    assert np.abs(e.values[:, 0].reshape(2, -1) - ablated.values).max() < 1e-14


def test_the_average_over_a_background():
    model, x, background = net(1, 4, 4), rows(2, 1, 4, 4), rows(5, 1, 4, 4, seed=4)
    e = pellucid.explain(model, x, methods.occlusion(2, 1, removal=removal.marginal(background)), target=1)
    each = [pellucid.explain(model, x, methods.occlusion(2, 1, removal=b), target=1).values for b in background]
    assert np.abs(e.values - np.mean(each, 0)).max() < 1e-13


def test_signals_sequences_and_tables():
    signal = rows(2, 3, 11)
    weight = rows(3, 11, seed=5)
    e = pellucid.explain(lambda z: (z * weight).sum((1, 2)), signal, methods.occlusion(4))
    parts = (signal * weight).sum(1)
    expected = torch.stack([parts[:, i : i + 4].sum(1) for i in (0, 4, 8)], 1).repeat_interleave(4, 1)[:, :11]
    assert np.allclose(e.values, expected[:, None].expand(-1, 3, -1), atol=1e-13)
    words = pellucid.wrap(lambda z: (z * weight.T).sum((1, 2)), axis=2)
    e = pellucid.explain(words, signal.mT.contiguous(), methods.occlusion())  # a token at a time
    assert np.allclose(e.values, parts[:, :, None].expand(-1, -1, 3), atol=1e-13)
    frame = pd.DataFrame(rows(2, 3).numpy(), columns=["age", "dose", "site"])
    e = pellucid.explain(lambda f: f.to_numpy().sum(1), frame, "occlusion")
    assert e.feature_names == ("age", "dose", "site")
    assert np.allclose(e.values, frame.to_numpy(), atol=1e-14)


def test_by_default_windows_are_an_eighth_of_a_picture():
    model, x = net(1, 16, 24), rows(1, 1, 16, 24)
    e, named = (pellucid.explain(model, x, m, target=0) for m in ("occlusion", methods.occlusion((2, 3))))
    assert np.array_equal(e.values, named.values)
    assert e.cost["forwards"] == 64 + 1 + 1 + 1  # windows; everything; which output; what it is


def test_values_of_players_are_sums_of_their_entries():
    model, x = net(3, 4, 4), rows(2, 3, 4, 4)
    e = pellucid.explain(model, x, methods.occlusion(3, 1), target=0)
    by = pellucid.explain(model, x, methods.occlusion(3, 1), target=0, players=players.grid(2))
    assert np.allclose(by.values, e.values.sum(1).reshape(2, 2, 2, 2, 2).sum((2, 4)).reshape(2, 4), atol=1e-13)


def test_channels_last():
    weight, x = rows(5, 6, 3, seed=6), rows(2, 5, 6, 3)
    e = pellucid.explain(lambda z: (z * weight).sum((1, 2, 3)), x, methods.occlusion(2))
    first = pellucid.explain(
        lambda z: (z * weight.permute(2, 0, 1)).sum((1, 2, 3)), x.permute(0, 3, 1, 2), methods.occlusion(2)
    )
    assert np.allclose(e.values, first.values.transpose(0, 2, 3, 1), atol=1e-13)


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_neither_the_batch_nor_the_other_rows_matter(batch_size):
    model, x = net(1, 9, 9), rows(4, 1, 9, 9)
    method = methods.occlusion(3, 1, removal="uniform")  # 49 windows and more than one chunk of rows
    e = pellucid.explain(model, x, method, target=0)
    again = pellucid.explain(model, x, method, target=0, run=Run(batch_size=batch_size))
    assert np.allclose(e.values, again.values, atol=1e-13)
    alone = pellucid.explain(model, x[2:3], method, target=0, first_row=2)
    assert np.allclose(e.values[2:3], alone.values, atol=1e-13)
    assert (pellucid.explain(model, x, method, target=0).values == e.values).all()


def test_many_windows_go_in_several_chunks():
    model, x = net(1, 12, 13), rows(1, 1, 12, 13)
    e = pellucid.explain(model, x, methods.occlusion(2, 1), target=0)  # 132 windows, 64 a chunk
    expected = masks.occlusion(one(model, 0), x[0].numpy(), (2, 2), (1, 1), 0.0)
    assert np.abs(e.values[0] - expected).max() < 1e-12


def test_a_game_is_played_in_the_order_of_its_players():
    game = games.FunctionGame(5, lambda s: s.double() @ torch.arange(1.0, 6.0, dtype=torch.float64))
    assert pellucid.play(game, methods.occlusion(2)).values.tolist() == [[3.0, 3.0, 7.0, 7.0, 5.0]]


@pytest.mark.parametrize(
    ("window", "stride", "says"),
    [
        (0, None, "window must be a whole number from 1 on"),
        (2.5, None, "window must be a whole number"),
        ((2, 0), None, "window must be a whole number"),
        (True, None, "window must be a whole number"),
        ((), None, "window must be a whole number"),
        (2, 0, "stride must be a whole number"),
        (9, None, "a window of 9 does not fit the axis 'height' of size 8"),
        ((2, 9), None, "does not fit the axis 'width'"),
        (2, 3, "a stride of 3 leaves gaps between windows of 2"),
        ((2, 2, 2), None, "one size for each of the axes"),
        (2, (1, 1, 1), "stride .* one size for each of the axes"),
    ],
)
def test_windows_that_cannot_slide(window, stride, says):
    with pytest.raises(BadInput, match=says):
        pellucid.explain(net(1, 8, 8), rows(1, 1, 8, 8), methods.occlusion(window, stride), target=0)
