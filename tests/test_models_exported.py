"""TorchScript, torch.export and ONNX: models without their Python code."""

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Target, Unreliable, Unsupported, methods
from tests.reference.linear import BIAS, WEIGHT, Deep, Shaped, Words, X, by_hand, linear


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
