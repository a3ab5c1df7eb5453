"""No method changes the user's module, inputs or global states, also when the forward raises midway."""

import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput
from tests.reference import recipes

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)
GLOBAL_HOOKS = [name for name in vars(torch.nn.modules.module) if name.startswith("_global_") and "hook" in name]

pytestmark = pytest.mark.filterwarnings("ignore::pellucid.core.errors.Unreliable")


class Memory(nn.Module):
    """All that a careless method could leave a mark on: buffers, odd attributes, noise, kinds of ReLU in ``body``.

    ``calls`` counts the forward passes of all copies. A pass raises after its body, on the call numbered ``breaks``.
    """

    calls = 0
    breaks = None

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.drop = nn.Dropout(0.5)
        self.relu = nn.ReLU(inplace=True)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.note = ["unchanged"]

    def forward(self, x):
        Memory.calls += 1
        self.steps += 1
        self.note.append("seen")
        torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002 - a model that draws numbers
        self.relu(x.clone())
        out = self.body(x)
        if Memory.calls == Memory.breaks:
            raise RuntimeError("out of luck")
        return out


def user_net(name="saliency", training=False, frozen=False):
    body = recipes.scene(name).model()
    if not isinstance(body, nn.Module):
        return body  # an estimator
    net = Memory(body).eval()
    net.train(training)
    net.drop.train(not training)  # modes differ within the module
    for i, parameter in enumerate(net.parameters()):
        parameter.requires_grad_(not frozen and i != 2)
        parameter.grad = torch.full_like(parameter, i) if i != 1 else None
    net.body.register_forward_hook(lambda module, inputs, output: None)
    net.register_full_backward_hook(lambda module, grads_in, grads_out: None)
    return net


def rows(name="saliency", count=3):
    return recipes.scene(name).x[:count].clone()


def state(net, x):
    """Everything about the user's things, as comparable values."""
    if not isinstance(net, nn.Module):
        return {"estimator": pickle.dumps(net), "x": x.tolist(), "draws": draws()}
    modules = list(net.named_modules())
    tensors = [*net.named_parameters(), *net.named_buffers(), ("x", x)]
    return {
        "classes": [(name, type(module)) for name, module in modules],
        "modes": [(name, module.training) for name, module in modules],
        "attributes": [(name, sorted(vars(module))) for name, module in modules],
        "hooks": [[list(getattr(module, hooks).items()) for hooks in HOOKS] for _, module in modules],
        "global hooks": [repr(getattr(torch.nn.modules.module, name)) for name in GLOBAL_HOOKS],
        "inplace": [(name, module.inplace) for name, module in modules if hasattr(module, "inplace")],
        "note": list(net.note),
        "identity": [(name, id(tensor), tensor.data_ptr(), tensor.shape) for name, tensor in tensors],
        "versions": [(name, tensor._version) for name, tensor in tensors],
        "numbers": [(name, tensor.detach().clone().tolist()) for name, tensor in tensors],
        "flags": [(name, tensor.requires_grad, tensor.is_leaf) for name, tensor in tensors],
        "grads": [(name, None if t.grad is None else (id(t.grad), t.grad.tolist())) for name, t in tensors],
        "draws": draws(),
        "switches": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_anomaly_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        ),
        "models of functions": len(torch.overrides._get_current_function_mode_stack()),
    }


def draws():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


def assert_same(before, after):
    for what in before:
        assert after[what] == before[what], f"{what} changed"


@pytest.fixture(autouse=True)
def _whole():
    Memory.calls, Memory.breaks = 0, None
    yield
    Memory.breaks = None


@pytest.mark.parametrize("name", recipes.names())
@pytest.mark.parametrize(("training", "frozen"), [(False, False), (True, False), (False, True)])
def test_nothing_is_left_behind(name, training, frozen):
    net, scene, x = user_net(name, training, frozen), recipes.scene(name), rows(name).requires_grad_()
    x.grad = torch.ones_like(x)
    before = state(net, x)
    e = pellucid.explain(net, x, scene.method(name), **scene.options)
    assert_same(before, state(net, x))
    assert Memory.calls > 0 or not isinstance(net, nn.Module)
    assert np.isfinite(e.values).all()


@pytest.mark.parametrize("name", recipes.names())
@pytest.mark.parametrize("breaks", [1, 2, 3])
def test_nothing_is_left_behind_by_a_forward_that_raises(name, breaks):
    net, scene, x = user_net(name), recipes.scene(name), rows(name)
    if not isinstance(net, nn.Module):
        return
    # One row a call, so that even a single-pass method comes to a third call.
    options = {"run": pellucid.Run(batch_size=1, fold=False), **scene.options}
    Memory.breaks = breaks
    before = state(net, x)
    with pytest.raises(BadInput, match="the model raised RuntimeError: out of luck") as caught:
        pellucid.explain(net, x, scene.method(name), **options)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert Memory.calls == breaks
    assert_same(before, state(net, x))
    Memory.breaks = None
    pellucid.explain(net, x, scene.method(name), **scene.options)  # and it works again


@pytest.mark.parametrize("name", recipes.names())
def test_the_caller_may_have_switched_gradients_off(name):
    scene = recipes.scene(name)
    net = scene.model()
    plain = pellucid.explain(net, rows(name), scene.method(name), target=0, **scene.options)
    for switch in (torch.no_grad, torch.inference_mode):
        with switch():
            x = rows(name)
            quiet = pellucid.explain(net, x, scene.method(name), target=0, **scene.options)
            assert not torch.is_grad_enabled()
        np.testing.assert_array_equal(quiet.values, plain.values)


@pytest.mark.parametrize("name", recipes.names())
def test_what_comes_out_is_the_callers_own(name):
    """Writing into the result changes neither the user's tensors nor a second result."""
    scene = recipes.scene(name)
    net, method, x = scene.model(), scene.method(name), rows(name)
    kept = x.clone()
    first = pellucid.explain(net, x, method, target=0, **scene.options)
    values = first.values.copy()
    first.data[:] = 7
    first.values[:] = 7
    first.outputs[:] = 7
    assert torch.equal(x, kept)
    second = pellucid.explain(net, x, method, target=0, **scene.options)
    np.testing.assert_array_equal(second.values, values)


def test_a_layer_that_is_not_there_leaves_nothing():
    net, x = user_net(), rows()
    before = state(net, x)
    for layer in ("nowhere", "body.fc", "drop"):
        with pytest.raises(BadInput):
            pellucid.explain(net, x, pellucid.methods.grad_cam(layer), target=0)
    assert_same(before, state(net, x))


def test_a_warning_turned_into_an_error_leaves_nothing():
    net, x = user_net(training=True), rows()
    before = state(net, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(pellucid.Unreliable, match="train mode"):
            pellucid.explain(net, x, "saliency")
    assert_same(before, state(net, x))


def test_the_check_itself_sees_a_change():
    """Each thing that the tables look at, changed on purpose."""
    marks = {
        "modes": lambda net, x: net.body.conv1.train(),
        "hooks": lambda net, x: net.body.fc.register_forward_hook(print),
        "inplace": lambda net, x: setattr(net.relu, "inplace", False),
        "note": lambda net, x: net.note.append("x"),
        "numbers": lambda net, x: net.steps.add_(1),
        "flags": lambda net, x: x.requires_grad_(True),
        "grads": lambda net, x: setattr(net.body.fc.weight, "grad", None),
        "draws": lambda net, x: np.random.rand(),  # noqa: NPY002
        "attributes": lambda net, x: setattr(net, "extra", 1),
        "classes": lambda net, x: setattr(net.body, "fc", nn.Identity()),
    }
    for what, mark in marks.items():
        net, x = user_net(), rows()
        before = state(net, x)
        mark(net, x)
        assert state(net, x)[what] != before[what], what
