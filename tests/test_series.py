"""Time series: the decisive window is known, and methods find it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, data, methods


def test_a_signal_is_noise_and_one_burst():
    d = data.signals(300, seed=3)
    assert d.x.shape == (300, 1, 128)
    assert d.x.dtype == torch.float32
    assert torch.equal(d.truth["window"].sum((1, 2)), torch.full((300,), 16))
    assert 0.4 < float(d.y.float().mean()) < 0.6
    inside = d.x[d.truth["window"]].square().mean()
    outside = d.x[~d.truth["window"]].square().mean()
    assert inside > 3 * outside
    assert float(outside) == pytest.approx(1.0, abs=0.1)


def test_signals_are_the_same_for_the_same_seed():
    assert torch.equal(data.signals(5, seed=2).x, data.signals(9, seed=2).x[:5])
    assert not torch.equal(data.signals(5, seed=2).x, data.signals(5, seed=3).x)
    with pytest.raises(BadInput, match="count"):
        data.signals(0)


def test_methods_find_the_window_that_decides_and_random_does_not():
    net, d = data.signals_cnn(), data.signals(40, seed=5)
    assert (net(data.signals(200, seed=6).x).argmax(1) == data.signals(200, seed=6).y).float().mean() > 0.97
    window = d.truth["window"][:, 0].numpy()

    def found(method) -> float:
        values = pellucid.explain(net, d.x, method, target=d.y).map()
        top = np.argsort(-values, axis=1)[:, :16]
        return float(np.take_along_axis(window, top, 1).mean())

    chance = found(methods.random_attribution())
    assert chance == pytest.approx(16 / 128, abs=0.06)
    for method in (methods.integrated_gradients(), methods.grad_cam(), methods.input_x_gradient()):
        assert found(method) > 0.5
