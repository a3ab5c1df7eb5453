"""What holds for every recipe of the catalogue, whatever it computes."""

import inspect

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Run, methods
from tests.reference import nets, recipes

X = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
BACKGROUND = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
TARGET = [0, 3, 1, 2, 0]

pytestmark = [
    pytest.mark.parametrize("name", recipes.names()),
    pytest.mark.filterwarnings("ignore::pellucid.core.errors.Unreliable"),  # few steps and draws, on purpose
]


def explain(name, x=X, dtype=torch.float64, net=None, **options):
    method = recipes.instance(name, BACKGROUND.to(dtype))
    net = nets.pooled() if net is None else net
    defaults = {"target": TARGET, "seed": 3, **recipes.options(method)}
    return pellucid.explain(net.to(dtype), x.to(dtype), method, **{**defaults, **options})


def numbers(e):
    """All that a method computes, by name."""
    fields = {field: getattr(e, field) for field in ("values", "std_error", "outputs", "base_values", "residual")}
    details = {name: e.details[name] for name in e.details["by_row"] if name != "rule"}  # words, of anchors
    return {field: value for field, value in {**fields, **details}.items() if value is not None}


def assert_close(a, b, **slack):
    assert a.keys() == b.keys()
    for field in a:
        np.testing.assert_allclose(a[field], b[field], err_msg=field, **slack)


def test_a_repeat_gives_the_same_bits(name):
    first, again = explain(name), explain(name)
    assert_close(numbers(first), numbers(again), rtol=0, atol=0)
    assert np.isfinite(first.values).all()
    assert np.abs(first.values).max() > 0 or name == "anchors"  # nothing need be held where no decision ever changes


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_size_of_a_model_call_does_not_matter(name, batch_size):
    whole, parts = explain(name), explain(name, run=Run(batch_size=batch_size))
    assert_close(numbers(whole), numbers(parts), rtol=0, atol=1e-12)
    assert parts.cost["batch_size"] == batch_size


def test_folding_does_not_matter(name):
    kinked = {"integrated_gradients", "smooth_grad", "expected_gradients"}  # a slope may jump at a bend
    plain = explain(name, dtype=torch.float32, run=Run(fold=False))
    folded = explain(name, dtype=torch.float32, run=Run(fold=True))
    assert not plain.cost["folded"]
    size = np.abs(plain.values).max()
    np.testing.assert_allclose(folded.values, plain.values, rtol=0, atol=size * (1e-2 if name in kinked else 1e-4))


def test_rows_do_not_depend_on_each_other(name):
    """A row computed alone, under its own key, is what it was among the others."""
    together = explain(name)
    for row in (0, 3, 4):
        alone = explain(name, X[row : row + 1], target=TARGET[row : row + 1], first_row=row)
        assert_close(numbers(alone), numbers(together[row]), rtol=0, atol=1e-12)
        assert together[row].details["first_row"] == row == alone.details["first_row"]
    block = explain(name, X[1:4], target=TARGET[1:4], first_row=1)
    assert_close(numbers(block), numbers(together[1:4]), rtol=0, atol=1e-12)


def test_the_seed_decides_all_that_is_drawn(name):
    first, other = explain(name), explain(name, seed=4)
    drawn = first.std_error is not None and (first.std_error > 0).any()
    drawn |= name == "meaningful_perturbation_as_released"  # noise in every step of a descent, which leaves no error
    assert (first.values != other.values).any() == (drawn or first.details["control"])


def test_all_outputs_at_once_equal_each_alone(name):
    every = explain(name, target="all")
    assert every.values.shape[-1] == every.outputs.shape[-1] == 4
    if every.details["control"]:
        return  # its draws are its own for each output
    for k in range(4):
        alone = explain(name, target=k)
        assert_close({f: v[..., k] for f, v in numbers(every).items()}, numbers(alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_gives_the_same_to_its_rounding(name, dtype):
    exact, rough = explain(name, run=Run(fold=False)), explain(name, dtype=dtype)
    assert rough.values.dtype in (np.float32, np.float64)
    assert rough.outputs.dtype == np.float32
    assert exact.values.dtype == np.float64
    # The mean difference, since single entries of a kinked net may jump.
    gap = np.abs(rough.values - exact.values).mean()
    assert gap <= {torch.float32: 1e-3, torch.bfloat16: 0.5}[dtype] * np.abs(exact.values).mean()


def test_what_comes_out_is_whole(name):
    e = explain(name)
    assert len(e) == 5
    assert e.outputs.shape == (5,)
    assert e.target["index"] == TARGET
    assert e.method["name"] == name
    assert e.values.shape[0] == 5
    assert e.map().shape == (5, 8, 8)
    assert (e.residual is None) == (e.details["promise"] is None)
    assert (e.residual is None) == (e.base_values is None)
    assert e.std_error is None or e.std_error.shape == e.values.shape
    assert e.details["ranking"] in ("signed", "absolute")
    assert e.cost["forwards"] > 0
    assert e.cost["backwards"] > 0 or "gradients" not in recipes.instance(name, BACKGROUND).needs
    np.testing.assert_allclose(e.outputs, nets.pooled().double()(X.double())[range(5), TARGET].detach(), atol=1e-12)


def test_an_explanation_comes_back_from_disk(name, tmp_path):
    for options in ({}, {"target": "all"}):
        e = explain(name, **options)
        e.save(tmp_path / "e.npz")
        assert pellucid.load(tmp_path / "e.npz") == e


def test_methods_are_values(name):
    one, two = (recipes.instance(name, BACKGROUND.clone()) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert eval_free(repr(one))
    assert one.describe() == two.describe()
    assert one.name == name


def eval_free(text):
    return text and " at 0x" not in text


def test_the_name_alone_takes_the_defaults(name):
    needs_more = any(p.default is p.empty for p in inspect.signature(getattr(methods, name)).parameters.values())
    if needs_more:
        with pytest.raises(BadInput, match=rf"method '{name}' has no defaults.*call methods.{name}\(...\)"):
            pellucid.explain(nets.pooled(), X, name)
        return
    method = getattr(methods, name)()
    by_name, by_call = (
        pellucid.explain(nets.pooled(), X[:1], chosen, target=0, **recipes.options(method)) for chosen in (name, method)
    )
    np.testing.assert_array_equal(by_name.values, by_call.values)


def test_the_recipe_itself_is_no_method(name):
    with pytest.raises(BadInput, match=rf"got the recipe itself; call it: methods.{name}\(\)"):
        pellucid.explain(nets.pooled(), X, getattr(methods, name))


# ---------------------------------------------------------------- what cannot be explained

WRONG = {
    "no rows": (lambda x: x[:0], {}, r"x: the batch is empty"),
    "a missing number": (lambda x: x.masked_fill(x > 0.99, float("nan")), {}, r"x: NaN or infinite"),
    "another shape": (lambda x: x[:, :2], {}, r"the model raised RuntimeError: .*expected input.*to have 3 channels"),
    "no batch": (lambda x: x[0, 0, 0], {}, r"x: expected a batch"),
    "complex": (lambda x: x + 0j, {}, r"x: expected real numbers"),
    "column too large": (lambda x: x, {"target": 4}, r"column 4 is out of range; the model has 4 outputs, 0..3"),
    "column too small": (lambda x: x, {"target": -1}, r"column -1 is out of range"),
    "too few columns": (lambda x: x, {"target": [0, 1]}, r"2 entries for 5 rows"),
    "a label without labels": (lambda x: x, {"target": "cat"}, r"label 'cat' was given but the model has no labels"),
    "no seed": (lambda x: x, {"seed": -1}, r"seed must be a whole number"),
}


@pytest.mark.parametrize(("change", "options", "words"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_refused_in_words(name, change, options, words):
    method, x = recipes.instance(name, BACKGROUND), change(X)
    options = {"target": 0, **recipes.options(method), **options}
    with pytest.raises(BadInput, match=words):
        pellucid.explain(nets.pooled(), x, method, **options)
