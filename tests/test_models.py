"""pellucid.wrap: every nn.Module behind one contract, explained without being touched."""

import collections
import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Target, Unreliable, methods
from tests.reference.linear import BIAS, WEIGHT, Deep, Shaped, X, assert_same, by_hand, linear, state_of


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_module_is_computed_in_eval_mode_and_left_alone(training, frozen):
    net = Deep().train(training).requires_grad_(not frozen)
    before, x = state_of(net), X.clone()
    if training:
        with pytest.warns(Unreliable, match="Deep is in train mode"):
            model = pellucid.wrap(net)
    else:
        model = pellucid.wrap(net)
    e = pellucid.explain(model, x, methods.saliency(), target=1)
    ablation = pellucid.explain(model, x, methods.feature_ablation(), target=1)
    out, grad = by_hand(net, X, 1)
    np.testing.assert_allclose(e.outputs, out, rtol=1e-6)
    np.testing.assert_allclose(e.values, grad, rtol=1e-5)
    gone = torch.stack([X * (torch.arange(3) != i) for i in range(3)])
    expected = out - torch.stack([copy.deepcopy(net).eval()(x.clone())[:, 1] for x in gone]).detach()
    np.testing.assert_allclose(ablation.values, expected.T, rtol=1e-5, atol=1e-6)
    assert torch.equal(x, X)
    assert_same(before, state_of(net))


def test_a_forward_that_raises_midway_leaves_nothing():
    class Breaks(Deep):
        def forward(self, x):
            self.left = self.first(x)
            if x.shape[0] != 99:
                raise RuntimeError("out of luck")

    net = Breaks().eval()
    before = state_of(net)
    with pytest.raises(BadInput, match=r"RuntimeError: out of luck.*shape \(1, 3\)"):
        pellucid.explain(net, X, methods.saliency(), target=0)
    assert_same(before, state_of(net))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_inputs_follow_the_dtype_of_the_module(dtype):
    e = pellucid.explain(linear(dtype), X.double(), methods.input_x_gradient(), target=1)
    np.testing.assert_allclose(e.values, X * WEIGHT[1], rtol=1e-6)
    assert e.values.dtype == {torch.float64: np.float64}.get(dtype, np.float32)


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor


Pair = collections.namedtuple("Pair", "scores hidden")


STRUCTURES = {
    "tensor": lambda out: out,
    "tuple": lambda out: (out, out[:, :1]),
    "list": lambda out: [out],
    "named tuple": lambda out: Pair(out, None),
    "logits among others": lambda out: {"loss": None, "hidden": out[:, :1], "logits": out},
    "the only tensor": lambda out: {"loss": None, "scores": out},
    "dataclass": lambda out: Answer(out, out[:, :1]),
    "integers": lambda out: (out * 4).int(),
}


@pytest.mark.parametrize("shape", STRUCTURES.values(), ids=STRUCTURES)
def test_every_structure_of_output_is_read(shape):
    model = pellucid.wrap(Shaped(shape).eval())
    scale = 4 if shape is STRUCTURES["integers"] else 1
    np.testing.assert_allclose(model.outputs(X).detach(), scale * (X @ WEIGHT.T + BIAS), rtol=1e-6)
    e = pellucid.explain(model, X, methods.feature_ablation(), target=1)
    np.testing.assert_allclose(e.values, scale * X * WEIGHT[1], rtol=1e-6)


UNREADABLE = {
    "two tensors": (lambda out: {"a": out, "b": out}, "'a', 'b'"),
    "picture": (lambda out: out[:, :, None, None], r"shape \(1, 2, 1, 1\)"),
    "scalar": (lambda out: out.sum(), r"shape \(\)"),
    "nothing": (lambda out: None, "NoneType"),
    "complex": (lambda out: out.to(torch.complex64), "complex"),
    "no columns": (lambda out: out[:, :0], "no output"),
    "one row": (lambda out: out[:1], "1 rows for 2"),
}


@pytest.mark.parametrize(("shape", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_output_that_cannot_be_read_is_refused(shape, words):
    with pytest.raises(BadInput, match=words):
        pellucid.explain(Shaped(shape).eval(), X, methods.saliency(), target=0)


def test_any_structure_is_read_by_a_callable():
    net = Shaped(UNREADABLE["two tensors"][0]).eval()
    e = pellucid.explain(net, X, methods.saliency(), target=Target(read=lambda out: out["b"][:, 1]))
    np.testing.assert_allclose(e.values, WEIGHT[1].expand(2, 3))


@pytest.mark.parametrize("column", [lambda out: out[:, 0], lambda out: out[:, :1]], ids=["(B,)", "(B, 1)"])
def test_one_output_is_a_value_unless_told(column):
    net = Shaped(column).eval()
    for target in (0, None, "all", [0, 0]):
        e = pellucid.explain(net, X, methods.saliency(), target=target)
        assert e.details["scale"] == "value"
        np.testing.assert_allclose(e.values.reshape(2, 3), WEIGHT[0].expand(2, 3))
    with pytest.raises(BadInput, match="plain values"):
        pellucid.explain(net, X, methods.saliency(), target=Target(0, "prob"))
    p = torch.sigmoid((X @ WEIGHT.T + BIAS)[:, 0])
    e = pellucid.explain(pellucid.wrap(net, scale="logit"), X, methods.saliency(), target=Target(0, "prob"))
    np.testing.assert_allclose(e.outputs, p, rtol=1e-6)
    np.testing.assert_allclose(e.values, (p * (1 - p))[:, None] * WEIGHT[0], rtol=1e-5)
    assert pellucid.explain(pellucid.wrap(net, scale="prob"), X, "saliency", target=0).details["scale"] == "prob"


def test_several_outputs_are_logits_unless_told():
    for target in (None, 0, "all", [1, 0]):
        assert pellucid.explain(linear(), X, "saliency", target=target).details["scale"] == "logit"
    assert pellucid.wrap(linear()).scale == "logit"
    assert pellucid.wrap(linear(), scale="value").scale == "value"


@pytest.mark.parametrize("target", [2, -1, [0, 2], [0], "cat"])
def test_a_target_that_is_not_there_is_refused(target):
    with pytest.raises(BadInput, match="Target"):
        pellucid.explain(linear(), X, methods.saliency(), target=target)


def test_labels_name_the_outputs_and_must_be_as_many():
    model = pellucid.wrap(linear(), labels=["cat", "dog"])
    e = pellucid.explain(model, X, methods.saliency(), target="dog")
    np.testing.assert_allclose(e.values, WEIGHT[1].expand(2, 3))
    assert e.output_names == ("cat", "dog")
    with pytest.raises(BadInput, match="3 labels were given for 2 outputs"):
        pellucid.explain(pellucid.wrap(linear(), labels=["a", "b", "c"]), X, methods.saliency())


def test_preprocessing_is_part_of_the_model():
    model = pellucid.wrap(linear(), mean=[1.0, 2.0, 3.0], std=[2.0, 4.0, 8.0])
    e = pellucid.explain(model, X, methods.saliency(), target=0)
    np.testing.assert_allclose(e.values, (WEIGHT[0] / torch.tensor([2.0, 4.0, 8.0])).expand(2, 3))
    expected = ((X - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([2.0, 4.0, 8.0])) @ WEIGHT[0] + BIAS[0]
    np.testing.assert_allclose(e.outputs, expected)
    with pytest.raises(BadInput, match="3 entries but axis 1"):
        pellucid.explain(model, torch.ones(2, 5), methods.saliency())


def test_what_forward_leaves_on_self_stays_private():
    class Writes(Deep):
        def forward(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            if hasattr(self, "last_hidden"):
                self.last_hidden.mul_(0)
            self.last_hidden = self.first(x)
            return super().forward(x)

    net = Writes().eval()
    before = state_of(net)
    expected, grad = by_hand(net, X, 0)
    model = pellucid.wrap(net)
    np.testing.assert_allclose(pellucid.explain(model, X, "saliency", target=0).values, grad, rtol=1e-5)
    assert_same(before, state_of(net))
    net(X.clone())  # now the module holds a tensor with a history, which cannot be copied as it is
    held = net.last_hidden
    numbers = held.detach().clone()
    np.testing.assert_allclose(pellucid.explain(net, X, "saliency", target=0).outputs, expected, rtol=1e-6)
    assert net.last_hidden is held
    assert torch.equal(held, numbers)
    assert net.calls == 1


class Counts(nn.Module):
    """Writes to a buffer, and gives another answer on each call because of it."""

    def __init__(self, replace):
        super().__init__()
        self.net, self.replace = linear(), replace
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        if self.replace:
            self.count = self.count + 1
        else:
            self.count += 1
        return self.net(x) * self.count


@pytest.mark.parametrize("replace", [False, True])
def test_a_buffer_is_found_as_it_was_left(replace):
    net = Counts(replace).eval()
    before = state_of(net)
    model = pellucid.wrap(net)
    for _ in range(2):
        e = pellucid.explain(model, X, methods.integrated_gradients(steps=4), target=0)
        np.testing.assert_allclose(e.values, X * WEIGHT[0], rtol=1e-5)
    assert_same(before, state_of(net))
    net.count += 2  # what the user does to a buffer, the wrapped model sees
    np.testing.assert_allclose(model.outputs(X).detach(), 3 * (X @ WEIGHT.T + BIAS), rtol=1e-6)


def test_training_after_wrapping_is_seen():
    net = Deep().eval()
    model = pellucid.wrap(net)
    before = model.outputs(X).detach()
    net.train()(torch.randn(16, 3, generator=torch.Generator().manual_seed(0)) * 5 + 3).sum().backward()
    with torch.no_grad():
        net.first.weight += net.first.weight.grad
    after = model.outputs(X).detach()
    assert not torch.allclose(before, after)
    assert torch.equal(after, copy.deepcopy(net).eval()(X.clone()))


def test_forward_hooks_of_the_user_count_and_backward_hooks_do_not():
    net, seen = linear(), []
    handles = [
        net.register_forward_hook(lambda _m, _i, out: out * 2),
        net.register_full_backward_hook(lambda _m, grads, _o: seen.append(grads) or (grads[0] * 0,)),
    ]
    e = pellucid.explain(net, X, methods.saliency(), target=0)
    np.testing.assert_allclose(e.values, 2 * WEIGHT[0].expand(2, 3))
    assert seen == []
    assert len(net._forward_hooks) == len(net._backward_hooks) == 1
    for handle in handles:
        handle.remove()


def test_a_layer_before_an_operation_in_place_is_captured_before_it():
    net = nn.Sequential(linear(), nn.ReLU(inplace=True)).eval()
    model = pellucid.wrap(net)
    with model.capture("0") as tape:
        out = model(X)
    (kept,) = tape.values.values()
    np.testing.assert_allclose(kept.detach(), X @ WEIGHT.T + BIAS, rtol=1e-6)
    assert bool((kept < 0).any())
    (grad,) = torch.autograd.grad(out.sum(), kept)
    assert torch.equal(grad, (kept > 0).float())


def test_parameters_are_shared_and_buffers_are_not():
    net = Deep().eval()
    twin = pellucid.wrap(net)._replica
    shared = {p.data_ptr() for p in net.parameters()}
    assert all(p.data_ptr() in shared for p in twin.parameters())
    assert not {b.data_ptr() for b in net.buffers()} & {b.data_ptr() for b in twin.buffers()}


class Compiled(nn.Module):
    """What torch.compile returns, without the seconds that it takes to load."""

    def __init__(self, net):
        super().__init__()
        self._orig_mod = net

    def forward(self, x):
        return self._orig_mod(x)


@pytest.mark.parametrize("compiler", [Compiled, pytest.param(torch.compile, marks=pytest.mark.slow)])
def test_a_compiled_module_is_explained_through_its_original(compiler):
    model = pellucid.wrap(compiler(nn.Sequential(linear()).eval()))
    assert model.layers() == ("0",)
    np.testing.assert_allclose(pellucid.explain(model, X, "saliency", target=1).values, WEIGHT[1].expand(2, 3))


def uncopyable():
    net = linear()
    net.lock = (i for i in range(3))
    return net


REFUSED = {
    "lazy": (lambda: nn.LazyLinear(2).eval(), "lazy parameters"),
    "meta": (lambda: nn.Linear(3, 2, device="meta").eval(), "meta device"),
    "class": (lambda: Deep, "class Deep"),
    "number": (lambda: 3.0, "cannot explain a float"),
    "not copyable": (uncopyable, "cannot be copied"),
    "tensor": (lambda: torch.ones(2, 3), "cannot explain a Tensor"),
    "no such file": (lambda: "no/such/model.onnx", "no file"),
    "no such kind": (lambda: "weights.pth", r"\.pth, \.safetensors"),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_model_is_refused(make, words):
    with pytest.raises(BadInput, match=words):
        pellucid.wrap(make())


OPTIONS = {
    "scale": ({"scale": "logits"}, "scale must be"),
    "bounds": ({"bounds": (1, 0)}, "low < high"),
    "one bound": ({"bounds": 1}, "two numbers"),
    "labels": ({"labels": "cat"}, "sequence of names"),
    "axis": ({"axis": 0}, "axis must be"),
    "device": ({"device": "nonsense"}, "device 'nonsense'"),
    "std": ({"std": 0.0}, "std must be positive"),
    "sizes": ({"mean": [0, 0, 0], "std": [1, 1]}, "mean has 3"),
}


@pytest.mark.parametrize(("options", "words"), OPTIONS.values(), ids=OPTIONS)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(BadInput, match=words):
        pellucid.wrap(linear(), **options)


def test_a_wrapped_model_is_wrapped():
    model = pellucid.wrap(linear())
    assert pellucid.wrap(model) is model
    with pytest.raises(BadInput, match="wrapped already"):
        pellucid.wrap(model, bounds=(0, 1))
