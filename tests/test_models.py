"""pellucid.wrap: every kind of model behind one contract, explained without being touched."""

import collections
import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Target, Unreliable, Unsupported, methods, removal

WEIGHT = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]])
BIAS = torch.tensor([0.25, -1.0])
X = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])


def linear(dtype=torch.float32):
    net = nn.Linear(3, 2).to(dtype).eval()
    with torch.no_grad():
        net.weight.copy_(WEIGHT)
        net.bias.copy_(BIAS)
    return net


class Deep(nn.Module):
    """BatchNorm, dropout and operations in place, in train or eval mode."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.norm, self.last = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)
        self.drop, self.act = nn.Dropout(0.5), nn.ReLU(inplace=True)

    def forward(self, x):
        x += 0.5
        return self.last(self.drop(self.act(self.norm(self.first(x)))))


def state_of(net):
    """All that must be found as it was left."""
    return {
        "tensors": {name: tensor.clone() for name, tensor in net.state_dict().items()},
        "same": [id(tensor) for tensor in (*net.parameters(), *net.buffers())],
        "asks": [parameter.requires_grad for parameter in net.parameters()],
        "grads": [parameter.grad for parameter in net.parameters()],
        "modes": [child.training for child in net.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in net.modules()],
        "attributes": [sorted(vars(child)) for child in net.modules()],
        "random": (torch.get_rng_state(), np.random.get_state()[1].copy()),  # noqa: NPY002
    }


def assert_same(before, after):
    for key in ("same", "asks", "grads", "modes", "hooks", "attributes"):
        assert before[key] == after[key], key
    for a, b in zip(before["tensors"].values(), after["tensors"].values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(before["random"][0], after["random"][0])
    assert np.array_equal(before["random"][1], after["random"][1])


def by_hand(net, x, column):
    """f and its gradient, on a copy in eval mode."""
    twin = copy.deepcopy(net).eval()
    x = x.clone().requires_grad_()
    out = twin(x.clone())[:, column]
    (grad,) = torch.autograd.grad(out.sum(), x)
    return out.detach(), grad


# ---------------------------------------------------------------- nn.Module


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


class Shaped(nn.Module):
    def __init__(self, shape, net=None):
        super().__init__()
        self.shape, self.net = shape, net or linear()

    def forward(self, x):
        return self.shape(self.net(x))


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


# ---------------------------------------------------------------- ids


class Words(nn.Module):
    """The mean of word vectors, then a linear layer: the effect of a word is known."""

    def __init__(self, bag=False):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.words = nn.EmbeddingBag(7, 4, mode="mean") if bag else nn.Embedding(7, 4)
            self.head = nn.Linear(4, 2)
        self.bag = bag

    def forward(self, ids):
        vectors = self.words(ids)
        return self.head(vectors if self.bag else vectors.mean(1))


@pytest.mark.parametrize("bag", [False, True])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, list])
def test_ids_stay_whole(bag, kind):
    net = Words(bag).eval()
    ids = [[1, 2, 3], [4, 5, 6]]
    x = ids if kind is list else torch.tensor(ids, dtype=kind)
    e = pellucid.explain(net, x, methods.feature_ablation(), target=1)
    effect = (net.words.weight[1:].reshape(2, 3, 4) - net.words.weight[0]) @ net.head.weight[1] / 3
    np.testing.assert_allclose(e.values, effect.detach(), atol=1e-6)
    assert e.dims == ("token",)
    assert e.data.dtype == np.int64
    control = pellucid.explain(net, x, methods.random_attribution(), target=1)
    assert np.unique(control.values).size == 6
    with pytest.raises(Unsupported, match=r"ids.*embeddings.*feature_ablation\(\) and random_attribution\(\)"):
        pellucid.explain(net, x, methods.saliency(), target=1)
    with pytest.raises(BadInput, match="fractions"):
        pellucid.explain(net, x, methods.feature_ablation(np.full(3, 0.5)), target=1)


# ---------------------------------------------------------------- Hugging Face


@pytest.fixture(scope="module")
def bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8, id2label={0: "bad", 1: "fair", 2: "good"},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.BertForSequenceClassification(config).eval()


def test_a_hugging_face_classifier_is_explained(bert):
    ids = torch.tensor([[2, 5, 7, 3], [2, 11, 13, 3]])
    e = pellucid.explain(bert, ids, methods.feature_ablation(), target="good")
    assert e.output_names == ("bad", "fair", "good")
    for i in range(4):
        gone = ids.clone()
        gone[:, i] = 0
        with torch.no_grad():
            drop = bert(ids).logits[:, 2] - bert(gone).logits[:, 2]
        np.testing.assert_allclose(e.values[:, i], drop, atol=1e-6)
    with pytest.raises(Unsupported, match="inputs_embeds"):
        pellucid.explain(bert, ids, methods.integrated_gradients())
    vectors = bert.get_input_embeddings()(ids).detach()
    deep = pellucid.explain(
        pellucid.wrap(lambda v: bert(inputs_embeds=v), axis=-1), vectors, methods.integrated_gradients(32), target=2
    )
    assert deep.map().shape == (2, 4)
    assert deep.residual_relative.max() < 1e-3


# ---------------------------------------------------------------- TorchScript and torch.export


def scripts():
    net = Deep().eval()
    traced = torch.jit.trace(net, X.clone(), check_trace=False)
    return {"scripted": torch.jit.script(net), "traced": traced, "frozen": torch.jit.freeze(torch.jit.script(net))}


@pytest.mark.parametrize("kind", ["scripted", "traced", "frozen"])
def test_torchscript_is_a_differentiable_black_box(kind, tmp_path):
    net, script = Deep().eval(), scripts()[kind]
    out, grad = by_hand(net, X, 1)
    torch.jit.save(script, tmp_path / "net.pt")
    for model in (script, tmp_path / "net.pt", str(tmp_path / "net.pt")):
        e = pellucid.explain(model, X.double().numpy(), methods.saliency(), target=1)
        np.testing.assert_allclose(e.outputs, out, rtol=1e-5)
        np.testing.assert_allclose(e.values, grad, rtol=1e-4, atol=1e-6)
    with pytest.raises(Unsupported, match=r"needs layers.*feature_ablation"):
        pellucid.explain(script, X, methods.grad_cam(), target=1)
    with pytest.raises(Unsupported, match="black box without layers"):
        pellucid.wrap(script).layers()


def test_a_script_in_train_mode_is_computed_in_eval_mode():
    script = torch.jit.script(Deep().train())
    before = {name: tensor.clone() for name, tensor in script.state_dict().items()}
    with pytest.warns(Unreliable, match="Deep is in train mode"):
        e = pellucid.explain(script, X, methods.saliency(), target=1)
    np.testing.assert_allclose(e.values, by_hand(Deep(), X, 1)[1], rtol=1e-5)
    assert script.training
    assert script.norm.training
    assert all(torch.equal(before[name], tensor) for name, tensor in script.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in script.parameters())


def test_a_script_of_words_keeps_ids():
    e = pellucid.explain(
        torch.jit.script(Words().eval()), torch.tensor([[1, 2, 3]]), methods.feature_ablation(), target=1
    )
    expected = pellucid.explain(Words().eval(), torch.tensor([[1, 2, 3]]), methods.feature_ablation(), target=1)
    np.testing.assert_allclose(e.values, expected.values, atol=1e-6)


class Clean(nn.Module):
    """As Deep, without writing to its input, which an exported program does not allow for."""

    def __init__(self):
        super().__init__()
        self.deep = Deep()

    def forward(self, x):
        return self.deep(x.clone())


ROWS = {
    "any": {0: torch.export.Dim("b")},
    "at most 5": {0: torch.export.Dim("b", max=5)},
    "4 or more": {0: torch.export.Dim("b", min=4)},
    "exactly 3": None,
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_an_exported_program_takes_any_number_of_rows(rows, tmp_path):
    net = Clean().eval()
    sample = torch.zeros(3 if rows is None else 5, 3)
    exported = torch.export.export(net, (sample,), dynamic_shapes=None if rows is None else {"x": rows})
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    out, grad = by_hand(net, x, 1)
    torch.export.save(exported, tmp_path / "net.pt2")
    for source in (exported, tmp_path / "net.pt2"):
        for part in (slice(0, 7), slice(0, 1), slice(2, 5)):
            e = pellucid.explain(source, x[part], methods.saliency(), target=1)
            np.testing.assert_allclose(e.outputs, out[part], rtol=1e-5)
            np.testing.assert_allclose(e.values, grad[part], rtol=1e-4, atol=1e-6)
    with pytest.raises(Unsupported, match="black box"):
        pellucid.wrap(exported).layers()


def test_exports_that_cannot_be_explained_are_refused():
    with pytest.raises(BadInput, match="train mode"):
        pellucid.wrap(torch.export.export(Clean().train(), (X,)))

    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(BadInput, match="takes 2 inputs 'x', 'y'"):
        pellucid.wrap(torch.export.export(Two(), (X, X)))
    with pytest.raises(BadInput, match="pass the ExportedProgram"):
        pellucid.wrap(torch.export.export(Clean().eval(), (X,)).module())


def test_a_dict_comes_through_chunks():
    net = Shaped(lambda out: {"logits": out, "twice": (2 * out, torch.ones(()))}).eval()
    exported = torch.export.export(net, (torch.zeros(2, 3),))
    x = torch.arange(15.0).reshape(5, 3)
    raw = pellucid.wrap(exported)(x)
    np.testing.assert_allclose(raw["logits"], x @ WEIGHT.T + BIAS, rtol=1e-6)
    np.testing.assert_allclose(raw["twice"][0], 2 * (x @ WEIGHT.T + BIAS), rtol=1e-6)


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_damaged_files_are_refused(suffix, tmp_path):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"no model at all")
    with pytest.raises(BadInput, match="net"):
        pellucid.wrap(path)
    torch.save(linear().state_dict(), path)
    with pytest.raises(BadInput, match="net"):
        pellucid.wrap(path)


# ---------------------------------------------------------------- callables


@pytest.mark.parametrize("kind", ["torch", "numpy", "list"])
def test_a_callable_gets_the_kind_the_user_passed(kind):
    seen = []

    def score(x):
        seen.append(type(x))
        return x @ (WEIGHT.T if kind == "torch" else WEIGHT.T.numpy())

    x = {"torch": X, "numpy": X.numpy(), "list": X.tolist()}[kind]
    e = pellucid.explain(score, x, methods.feature_ablation(), target=1)
    np.testing.assert_allclose(e.values, X * WEIGHT[1], rtol=1e-6)
    assert set(seen) == {torch.Tensor if kind == "torch" else np.ndarray}
    scores = pellucid.evaluate(score, e, [pellucid.metrics.deletion(reference=0.0)])
    np.testing.assert_allclose(scores.cells[0].curve[:, -1], 0, atol=1e-6)
    assert set(seen) == {torch.Tensor if kind == "torch" else np.ndarray}
    if kind == "torch":
        np.testing.assert_allclose(pellucid.explain(score, x, "saliency", target=1).values, WEIGHT[1].expand(2, 3))
    else:
        with pytest.raises(Unsupported, match=r"numpy arrays.*feature_ablation\(\) and random_attribution\(\)"):
            pellucid.explain(score, x, methods.saliency())


def test_a_callable_may_not_write_to_the_users_batch():
    x = X.clone()
    pellucid.explain(lambda x: x.mul_(2).sum(1), x, methods.saliency())
    array = X.numpy().copy()

    def halve(x):
        x /= 2
        return x.sum(1)

    e = pellucid.explain(halve, array, methods.feature_ablation())
    assert torch.equal(x, X)
    assert np.array_equal(array, X.numpy())
    np.testing.assert_allclose(e.values, X / 2, rtol=1e-6)


FLOWS_NOT = {
    "detach": lambda x: x.detach().sum(1),
    "numpy of a detached tensor": lambda x: torch.from_numpy(x.detach().numpy().sum(1)),
    "numpy": lambda x: x.numpy().sum(1),
    "list": lambda x: [sum(row) for row in x.tolist()],
    "no grad": torch.no_grad()(lambda x: x.sum(1)),
    "other parameters": lambda x: x.detach() @ nn.Parameter(WEIGHT.T),
    "constant": lambda x: torch.ones(len(x)),
}


@pytest.mark.parametrize("module", [False, True])
@pytest.mark.parametrize("score", FLOWS_NOT.values(), ids=FLOWS_NOT)
def test_gradient_methods_refuse_where_no_gradient_flows(score, module):
    if module:
        net = Shaped(score, net=nn.Identity()).eval()
        if isinstance(score(X), list):
            pytest.skip("a module returns tensors")
    else:
        net = score
    for method in (methods.saliency(), methods.integrated_gradients(steps=2)):
        with pytest.raises(Unsupported, match=r"feature_ablation\(\) and random_attribution\(\)"):
            pellucid.explain(net, X, method, target=0)
    e = pellucid.explain(net, X, methods.feature_ablation(), target=0)
    expected = X * WEIGHT[0] if score is FLOWS_NOT["other parameters"] else X * (score is not FLOWS_NOT["constant"])
    np.testing.assert_allclose(e.values, expected, atol=1e-6)


def test_outputs_of_callables_may_be_frames_lists_and_tuples():
    import pandas as pd

    expected = (X @ WEIGHT.T).numpy()
    shapes = (lambda y: pd.DataFrame(y), lambda y: y.tolist(), lambda y: (y, "more"), lambda y: {"scores": y, "n": 3})
    for shape in shapes:
        model = pellucid.wrap(lambda x, shape=shape: shape(x @ WEIGHT.T.numpy()))
        e = pellucid.explain(model, X.numpy(), methods.feature_ablation(), target="all")
        np.testing.assert_allclose(e.outputs, expected, rtol=1e-6)
    with pytest.raises(BadInput, match="dtype <U"):
        pellucid.explain(lambda x: np.array(["cat"] * len(x)), X.numpy(), "feature_ablation")
    with pytest.raises(BadInput, match="return"):
        pellucid.explain(lambda x: None, X.numpy(), "feature_ablation")


# ---------------------------------------------------------------- scikit-learn

sklearn = pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def iris():
    from sklearn.datasets import load_iris

    data = load_iris(as_frame=True)
    return data.data, data.target_names[data.target]


def test_a_classifier_is_read_at_its_probabilities(iris):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = iris
    for estimator in (RandomForestClassifier(5, random_state=0), make_pipeline(StandardScaler(), LogisticRegression())):
        for frame in (True, False):
            fitted = estimator.fit(x if frame else x.to_numpy(), y)
            for rows in (x[::30], x[::30].to_numpy(), torch.tensor(x[::30].to_numpy())):
                e = pellucid.explain(fitted, rows, methods.feature_ablation(removal.marginal(x[:4])))
                p = fitted.predict_proba(x[::30] if frame else x[::30].to_numpy())
                np.testing.assert_allclose(e.outputs, p.max(1), rtol=1e-12)
                assert e.details["scale"] == "prob"
                assert e.output_names == ("setosa", "versicolor", "virginica")
                named = frame or (rows is not None and hasattr(rows, "columns"))
                assert e.feature_names == (tuple(x.columns) if named else ("x0", "x1", "x2", "x3"))
    e = pellucid.explain(fitted, x[:2].to_numpy(), methods.feature_ablation(), target=Target("virginica", "logit"))
    np.testing.assert_allclose(e.outputs, np.log(fitted.predict_proba(x[:2].to_numpy())[:, 2]))
    with pytest.raises(Unsupported, match="needs gradients"):
        pellucid.explain(fitted, x[:2].to_numpy(), methods.saliency())


def test_a_method_of_an_estimator_is_the_estimator(iris):
    from sklearn.linear_model import LogisticRegression

    x, y = iris
    fitted = LogisticRegression(max_iter=500).fit(x, y)
    model = pellucid.wrap(fitted.predict_proba)
    assert (model.scale, model.labels) == ("prob", ("setosa", "versicolor", "virginica"))
    assert pellucid.wrap(fitted.predict_log_proba).scale == "logit"


@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_without_probabilities_is_read_at_its_decisions(iris, classes):
    from sklearn.svm import LinearSVC

    x, y = iris
    kept = np.isin(y, ["versicolor", "virginica"]) if classes == 2 else y != "none"
    x, y = x[kept][::9].to_numpy(), y[kept][::9]
    fitted = LinearSVC(dual=False).fit(x, y)
    e = pellucid.explain(fitted, x, methods.feature_ablation())
    d = fitted.decision_function(x)
    both = np.stack([-d, d], 1) if classes == 2 else d
    assert e.details["scale"] == "logit"
    np.testing.assert_allclose(e.outputs, both.max(1))
    assert [fitted.classes_[i] for i in e.target["index"]] == fitted.predict(x).tolist()
    expected = x * fitted.coef_[-1]
    np.testing.assert_allclose(pellucid.explain(fitted, x, "feature_ablation", target=classes - 1).values, expected)


def test_regressors_detectors_and_densities_are_values(iris):
    from sklearn.ensemble import IsolationForest
    from sklearn.linear_model import LinearRegression
    from sklearn.neighbors import KernelDensity

    x = iris[0].to_numpy()
    one = LinearRegression().fit(x[:, :3], x[:, 3])
    e = pellucid.explain(one, x[:5, :3], methods.feature_ablation())
    assert e.details["scale"] == "value"
    np.testing.assert_allclose(e.values, x[:5, :3] * one.coef_)
    two = LinearRegression().fit(x[:, :2], x[:, 2:])
    e = pellucid.explain(two, x[:5, :2], methods.feature_ablation(), target="all")
    np.testing.assert_allclose(e.values, x[:5, :2, None] * two.coef_.T)
    for fitted, name in (
        (IsolationForest(n_estimators=5, random_state=0).fit(x), "decision_function"),
        (KernelDensity().fit(x), "score_samples"),
    ):
        e = pellucid.explain(fitted, x[:5], methods.feature_ablation())
        np.testing.assert_allclose(e.outputs, getattr(fitted, name)(x[:5]))
        assert e.details["scale"] == "value"


def test_a_pipeline_on_text_columns_is_explained(iris):
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    people = pd.DataFrame(
        {
            "age": rng.integers(20, 70, 60),
            "city": rng.choice(["Oslo", "Rome", "Bonn"], 60),
            "size": pd.Categorical(rng.choice(["S", "M", "L"], 60)),
            "member": rng.random(60) < 0.5,
        }
    )
    y = np.where((people["city"] == "Oslo") ^ people["member"], "yes", "no")
    first = make_column_transformer((OneHotEncoder(), ["city", "size", "member"]), (StandardScaler(), ["age"]))
    trees = people.assign(city=people["city"].astype("category"))
    for data, estimator in (
        (people, make_pipeline(first, LogisticRegression())),
        (trees, HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype")),
    ):
        fitted = estimator.fit(data, y)
        background = data[10:14]
        e = pellucid.explain(fitted, data[:5], methods.feature_ablation(removal.marginal(background)), target="yes")
        assert e.feature_names == ("age", "city", "size", "member")
        for i, name in enumerate(data.columns):
            mixed = [
                data[:5].assign(**{name: data[name].iloc[[k] * 5].set_axis(data.index[:5])}) for k in range(10, 14)
            ]
            expected = fitted.predict_proba(data[:5])[:, 1] - np.mean([fitted.predict_proba(m)[:, 1] for m in mixed], 0)
            np.testing.assert_allclose(e.values[:, i], expected, atol=1e-12)
        with pytest.raises(BadInput, match="codes"):
            pellucid.explain(fitted, data[:5], methods.feature_ablation(np.full(4, 0.5)))


def unfitted():
    from sklearn import cluster, decomposition, ensemble, linear_model, multioutput, pipeline, preprocessing, svm

    x = np.random.default_rng(0).normal(size=(30, 3))
    y = np.arange(30) % 4
    vote = ensemble.VotingClassifier([("a", linear_model.RidgeClassifier()), ("b", linear_model.RidgeClassifier())])
    return {
        "not fitted": (linear_model.LogisticRegression(), "LogisticRegression is not fitted"),
        "pipeline not fitted": (pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC()), "SVC is not fitted"),
        "clusters": (cluster.KMeans(2, n_init=1).fit(x), "numbers of clusters"),
        "transformer": (decomposition.PCA().fit(x), "no predictions"),
        "labels only": (vote.fit(x, y), "labels and no scores"),
        "pairs of classes": (svm.SVC(decision_function_shape="ovo").fit(x, y), "ovr"),
        "several targets": (
            multioutput.MultiOutputClassifier(linear_model.LogisticRegression()).fit(x, np.stack([y > 1, y > 2], 1)),
            "list of 2 outputs",
        ),
    }  # fmt: skip


@pytest.mark.parametrize(("estimator", "words"), unfitted().values(), ids=unfitted())
def test_estimators_without_scores_are_refused(estimator, words):
    with pytest.raises(BadInput, match=words):
        pellucid.explain(estimator, X.numpy(), methods.feature_ablation())


# ---------------------------------------------------------------- ONNX


def graph(path, kind="FLOAT", rows="N", ends=("l",), columns=3):
    """x @ WEIGHT.T + BIAS with some of: the logits, their softmax, its label, and a dict a row."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    real = getattr(TensorProto, kind)
    dtype = helper.tensor_dtype_to_np_dtype(real)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["l"]),
        helper.make_node("Softmax", ["l"], ["probabilities"]),
        helper.make_node("ArgMax", ["l"], ["label"], axis=1, keepdims=0),
        helper.make_node("ZipMap", ["probabilities"], ["maps"], classlabels_strings=["a", "b"], domain="ai.onnx.ml"),
        helper.make_node("Identity", ["l"], ["twin"]),
    ]
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    info = {
        "l": helper.make_tensor_value_info("l", real, [rows, 2]),
        "twin": helper.make_tensor_value_info("twin", real, [rows, 2]),
        "probabilities": helper.make_tensor_value_info("probabilities", real, [rows, 2]),
        "label": helper.make_tensor_value_info("label", TensorProto.INT64, [rows]),
        "maps": helper.make_value_info("maps", maps),
    }
    weights = [
        helper.make_tensor("w", real, [3, 2], WEIGHT.T.contiguous().numpy().astype(dtype)),
        helper.make_tensor("b", real, [2], BIAS.numpy().astype(dtype)),
    ]
    if "maps" not in ends:
        nodes.pop(4)
    x = helper.make_tensor_value_info("x", real, [rows, columns])
    made = helper.make_graph(nodes, "g", [x], [info[end] for end in ends], weights)
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(made, opset_imports=versions, ir_version=9), str(path))
    return path


LOGITS = (X @ WEIGHT.T + BIAS).numpy()


@pytest.mark.parametrize("rows", ["N", 1, 3])
@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16"])
def test_a_graph_is_a_black_box_in_its_own_dtype(kind, rows, tmp_path):
    import onnxruntime

    path = graph(tmp_path / "net.onnx", kind, rows)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for source in (path, str(path), session):
        e = pellucid.explain(source, X.double(), methods.feature_ablation(), target=1)
        np.testing.assert_allclose(e.values, X * WEIGHT[1], rtol=1e-2 if kind == "FLOAT16" else 1e-5)
        np.testing.assert_allclose(e.outputs, LOGITS[:, 1], rtol=1e-3)
        assert e.details["scale"] == "logit"
    with pytest.raises(Unsupported, match="needs gradients"):
        pellucid.explain(path, X, methods.saliency())
    with pytest.raises(BadInput, match=r"expected x of shape"):
        pellucid.explain(path, torch.ones(2, 5), methods.feature_ablation())


@pytest.mark.parametrize(
    ("ends", "scale", "labels"),
    [
        (("label", "probabilities"), "prob", None),
        (("label", "maps"), "prob", ("a", "b")),
        (("probabilities",), "prob", None),
        (("label", "l"), "logit", None),
    ],
)
def test_the_output_with_scores_is_chosen(ends, scale, labels, tmp_path):
    e = pellucid.explain(graph(tmp_path / "net.onnx", ends=ends), X, methods.feature_ablation(), target="all")
    expected = LOGITS if scale == "logit" else torch.softmax(torch.tensor(LOGITS), 1)
    np.testing.assert_allclose(e.outputs, expected, rtol=1e-5)
    assert (e.details["scale"], e.output_names) == (scale, labels)


def test_a_graph_with_two_scores_must_be_told(tmp_path):
    path = graph(tmp_path / "net.onnx", ends=("l", "twin"))
    with pytest.raises(BadInput, match="'l', 'twin'"):
        pellucid.explain(path, X, methods.feature_ablation())
    e = pellucid.explain(path, X, methods.feature_ablation(), target=Target(read=lambda out: out["twin"][:, 1]))
    np.testing.assert_allclose(e.values, X * WEIGHT[1], rtol=1e-5)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    path = graph(tmp_path / "net.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(Unsupported, match=r'pip install "pellucid\[onnx\]"'):
        pellucid.wrap(path)
