"""Class activation maps: their numbers, and capture that leaves nothing behind."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pellucid
from pellucid import BadInput, Target, methods
from tests.reference import cams, nets
from tests.reference.pooled import X, pooled, shift


@pytest.mark.parametrize("target", [0, 3])
def test_cam_is_the_head_applied_at_each_position(target):
    net = pooled()
    e = pellucid.explain(net, X, methods.cam(), target=target)
    for row in range(3):
        a = net.features(X)[row].detach()
        np.testing.assert_allclose(e.values[row], cams.cam(net.fc.weight[target], a), rtol=0, atol=1e-14)
    # Its mean over positions and the bias are the output: the whole of it, nothing else.
    np.testing.assert_allclose(e.values.mean((1, 2)) + shift(net, X)[target], e.outputs, rtol=0, atol=1e-14)
    assert e.values.min() < 0, "a map without a negative entry would not show a lost sign"


@pytest.mark.parametrize("target", [0, 3])
def test_grad_cam_of_a_pooled_net_is_its_rectified_cam_over_the_positions(target):
    net = pooled()
    plain = pellucid.explain(net, X, methods.cam(layer="relu"), target=target)
    grad = pellucid.explain(net, X, methods.grad_cam(layer="relu"), target=target)
    positions = plain.values[0].size
    np.testing.assert_allclose(grad.values, np.maximum(plain.values, 0) / positions, rtol=0, atol=1e-15)
    assert grad.values.max() > 0


@pytest.mark.parametrize(("name", "sign"), [("grad_cam", 1), ("counterfactual_grad_cam", -1)])
def test_grad_cam_equals_its_slow_twin_on_a_head_that_is_not_linear(name, sign):
    net = nets.seeded(nets.Residual).double()
    x = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    e = pellucid.explain(net, x, getattr(methods, name)(layer="conv1"), target=1)

    def after_conv1(a):
        hidden = net.relu(net.bn1(a[None].clone()))
        out = net.bn2(net.conv2(hidden)) + hidden
        return net.fc(net.relu(out).flatten(1))[0, 1]

    with torch.no_grad():
        a = net.conv1(x)
    for row in range(3):
        np.testing.assert_allclose(e.values[row], cams.grad_cam(after_conv1, a[row], sign), rtol=0, atol=1e-13)
    assert e.values.max() > 0


def test_counterfactual_grad_cam_of_y_is_the_grad_cam_of_minus_y():
    net = pooled()
    against = pellucid.explain(net, X, methods.counterfactual_grad_cam(), target=2)

    class Negated(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return -self.net(x)

    minus = pellucid.explain(Negated().eval(), X, methods.grad_cam(), target=2)
    np.testing.assert_array_equal(against.values, minus.values)
    assert against.values.max() > 0


def test_the_read_decides_what_is_mapped():
    net = pooled()
    logit = pellucid.explain(net, X, methods.grad_cam(layer="relu"), target=Target(1, "raw"))
    prob = pellucid.explain(net, X, methods.grad_cam(layer="relu"), target=Target(1, "prob"))
    with torch.no_grad():
        p = torch.softmax(net(X), 1)
        weights = net.fc.weight
        slope = p[:, 1:2] * (weights[1] - p @ weights)  # ∂p_1/∂logits, through the head
        a = net.features(X)
        expected = torch.einsum("nk,nkij->nij", slope, a).clamp_min(0) / a[0, 0].numel()
    np.testing.assert_allclose(prob.values, expected, rtol=0, atol=1e-15)
    assert not np.allclose(prob.values, logit.values)


@pytest.mark.parametrize("layer", ["conv1", "norm1", "conv2", "relu"])
def test_grad_cam_agrees_with_captum(layer):
    from captum.attr import LayerGradCam

    net = pooled(inplace=False)
    if layer == "relu":  # captum concatenates what a module used twice returns, so it gets one of its own
        net.relu = nn.ReLU()
        net.features = lambda x: net.relu(
            net.conv2(functional.relu(1.5 * functional.relu(net.norm1(net.conv1(x))) - 0.1))
        )
    peer = LayerGradCam(net, getattr(net, layer)).attribute(X, target=2, relu_attributions=True)
    ours = pellucid.explain(pooled(inplace=False), X, methods.grad_cam(layer=layer), target=2)
    np.testing.assert_allclose(ours.values, peer[:, 0].detach(), rtol=0, atol=1e-14)


# ---------------------------------------------------------------- capture


class OutOfPlace(nets.Residual):
    """The same function without an operation in place."""

    def forward(self, x):
        hidden = functional.relu(self.bn1(self.conv1(x)))
        return self.fc(functional.relu(self.bn2(self.conv2(hidden)) + hidden).flatten(1))


@pytest.mark.parametrize("layer", ["conv1", "bn1", "conv2", "bn2"])
def test_what_is_captured_is_safe_from_operations_in_place(layer):
    """bn1 and bn2 of a residual block are followed by operations that overwrite their output."""
    x = X[..., :8, :8]
    maps = [
        pellucid.explain(nets.seeded(net).double(), x, methods.grad_cam(layer=layer), target=0).values
        for net in (nets.Residual, OutOfPlace)
    ]
    np.testing.assert_allclose(maps[0], maps[1], rtol=0, atol=1e-15)
    assert maps[0].max() > 0


def test_a_layer_that_returns_its_own_input_is_safe_too():
    class Passing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.drop, self.fc = nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Linear(4, 2)

        def forward(self, x):
            a = self.conv(x)
            b = self.drop(a)  # a itself in eval mode
            a += 1
            return self.fc(b.mean((2, 3)))

    net = nets.seeded(Passing).double()
    e = pellucid.explain(net, X, methods.grad_cam(layer="drop"), target=0)
    with torch.no_grad():
        a = net.conv(X)
    for row in range(3):
        np.testing.assert_allclose(
            e.values[row], cams.grad_cam(lambda a: net.fc(a.mean((1, 2)))[0], a[row]), atol=1e-14
        )


def test_a_layer_used_twice_counts_at_its_last_call():
    net = pooled()
    with torch.no_grad():
        last = net.features(X)
    e = pellucid.explain(net, X, methods.cam(layer="relu"), target=0)
    assert e.values.shape == (3, *last.shape[2:])
    np.testing.assert_allclose(e.values, torch.einsum("k,nkij->nij", net.fc.weight[0], last).detach(), atol=1e-14)


def test_a_layer_that_returns_a_tuple_is_read_at_its_first_tensor():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x), "extra"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.fc = Pair(), nn.Linear(4, 2)

        def forward(self, x):
            a, extra = self.pair(x)
            assert extra == "extra"
            return self.fc(functional.relu(a).mean((2, 3)))

    net = nets.seeded(Net).double()
    inside = pellucid.explain(net, X, methods.grad_cam(layer="pair.conv"), target=0)
    outside = pellucid.explain(net, X, methods.grad_cam(layer="pair"), target=0)
    np.testing.assert_array_equal(inside.values, outside.values)
    assert inside.values.max() > 0


def test_frozen_and_trainable_parameters_give_the_same_map():
    net, frozen = pooled(), pooled()
    frozen.requires_grad_(False)
    a, b = (pellucid.explain(m, X, methods.grad_cam(), target=1).values for m in (net, frozen))
    np.testing.assert_array_equal(a, b)


def test_no_hook_stays_on_the_private_copy():
    """The copy outlives the call when the user wraps the model; hooks would pile up on it."""

    class Broken(nets.Pooled):
        def forward(self, x):
            return super().forward(x).reshape(7, 7)

    for net in (pooled(), nets.seeded(Broken).double()):
        model = pellucid.wrap(net)
        for method in (methods.cam(), methods.grad_cam(), methods.grad_cam("conv1")):
            with contextlib.suppress(BadInput):
                pellucid.explain(model, X, method, target=0)
            assert not any(module._forward_hooks for module in model._replica.modules())
