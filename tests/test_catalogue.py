"""What holds for every recipe of the catalogue, whatever it computes."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Run, methods
from pellucid.api import pick
from tests.reference import recipes

TARGET = [0, 3, 1, 2, 0]
FIELDS = ("values", "std_error", "outputs", "base_values", "residual")
# Why the prediction stands is one question, whatever the target.
DECISIONS = {"counterfactual_cfx", "greedy", "greedy_as", "greedy_as_released", "one_step_banzhaf"}

pytestmark = [
    pytest.mark.parametrize("name", recipes.names()),
    pytest.mark.filterwarnings("ignore::pellucid.core.errors.Unreliable"),  # few steps and draws, on purpose
]


def explain(name, rows=slice(None), dtype=torch.float64, **options):
    scene = recipes.scene(name)
    options = {"target": TARGET[rows], "seed": 3, **scene.options, **options}
    return pellucid.explain(scene.model(dtype), scene.x[rows].to(dtype), scene.method(name), **options)


def numbers(e):
    """All that a method computes, by name."""
    every = {field: getattr(e, field) for field in FIELDS} | {name: e.details[name] for name in e.details["by_row"]}
    return {field: value for field, value in every.items() if value is not None}


def fields(e):
    return {field: value for field, value in numbers(e).items() if field in FIELDS}


def assert_close(a, b, **slack):
    assert a.keys() == b.keys()
    for field in a:
        if isinstance(a[field], np.ndarray) and a[field].dtype.kind == "f":
            np.testing.assert_allclose(a[field], b[field], err_msg=field, **slack)
        else:  # rules in words, counts
            np.testing.assert_equal(a[field], b[field], err_msg=field)


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
    """To the rounding of float32, but for slopes, which may jump at a bend."""
    plain, folded = (explain(name, dtype=torch.float32, run=Run(fold=fold)) for fold in (False, True))
    assert not plain.cost["folded"]
    assert agreement(plain.values, folded.values) > (
        0.99 if "gradients" in recipes.scene(name).method(name).needs else 0.9999
    )


def agreement(a, b):
    """The correlation of two arrays; 1 where both are constant and equal."""
    if (a == a.flat[0]).all():
        return float(np.allclose(a, b))
    return np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1]


def test_rows_do_not_depend_on_each_other(name):
    """A row computed alone, under its own key, is what it was among the others."""
    together = explain(name)
    for row in (0, 3, 4):
        alone = explain(name, slice(row, row + 1), first_row=row)
        assert_close(numbers(alone), numbers(together[row]), rtol=0, atol=1e-12)
        assert together[row].details["first_row"] == row == alone.details["first_row"]
    block = explain(name, slice(1, 4), first_row=1)
    assert_close(numbers(block), numbers(together[1:4]), rtol=0, atol=1e-12)


def test_the_seed_decides_all_that_is_drawn(name):
    first, other = explain(name), explain(name, seed=4)
    if first.std_error is not None and (first.std_error > 0).any():
        assert (first.values != other.values).any()
    elif first.details["promise"] is not None:
        np.testing.assert_allclose(first.values, other.values, rtol=0, atol=1e-12)


def test_all_outputs_at_once_equal_each_alone(name):
    if name in DECISIONS:
        with pytest.raises(BadInput, match="why a prediction stands"):
            explain(name, target="all")
        return
    every = explain(name, target="all")
    assert every.values.shape[-1] == every.outputs.shape[-1] == 4
    if every.details["control"]:
        return  # its draws are its own for each output
    for k in range(4):
        alone = explain(name, target=k)
        assert_close({f: v[..., k] for f, v in fields(every).items()}, fields(alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "least"), [(torch.float32, 0.999), (torch.bfloat16, 0.8)])
def test_lower_precision_gives_the_same_to_its_rounding(name, dtype, least):
    if not isinstance(recipes.scene(name).model(), nn.Module):
        return  # an estimator has a precision of its own
    exact, rough = explain(name, run=Run(fold=False)), explain(name, dtype=dtype)
    assert rough.values.dtype in (np.float32, np.float64)
    assert rough.outputs.dtype == np.float32
    assert exact.values.dtype == np.float64
    assert agreement(exact.values, rough.values) > least


def test_what_comes_out_is_whole(name):
    e, scene = explain(name), recipes.scene(name)
    assert len(e) == 5
    assert e.outputs.shape == (5,)
    assert e.target["index"] == TARGET
    assert e.method["name"] == name
    assert e.values.shape[0] == 5
    assert e.map().shape == (5, *scene.map_shape)
    assert np.isfinite(e.values).all()
    assert (e.residual is None) == (e.details["promise"] is None)
    assert e.residual is None or e.base_values is not None
    assert e.std_error is None or e.std_error.shape == e.values.shape
    assert e.details["ranking"] in ("signed", "absolute")
    assert e.cost["forwards"] > 0
    assert e.cost["backwards"] > 0 or "gradients" not in scene.method(name).needs
    model, x = scene.model(torch.float64), scene.x.double()
    there = model(x).detach().numpy() if isinstance(model, nn.Module) else model.predict_proba(x.numpy())
    np.testing.assert_allclose(e.outputs, there[range(5), TARGET], rtol=0, atol=1e-12)


def test_an_explanation_comes_back_from_disk(name, tmp_path):
    for options in ({}, {"target": "all"} if name not in DECISIONS else {}):
        e = explain(name, **options)
        e.save(tmp_path / "e.npz")
        assert pellucid.load(tmp_path / "e.npz") == e


def test_methods_are_values(name):
    one, two = (recipes.scene(name).method(name) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert " at 0x" not in repr(one)
    assert one.describe() == two.describe()
    assert one.name == name


def test_the_name_alone_takes_the_defaults(name):
    recipe = getattr(methods, name)
    if any(p.default is p.empty for p in inspect.signature(recipe).parameters.values()):
        with pytest.raises(BadInput, match=rf"method '{name}' has no defaults.*call methods.{name}\(...\)"):
            pick(name)
    else:
        assert pick(name) == recipe() == pick(recipe())


def test_the_recipe_itself_is_no_method(name):
    with pytest.raises(BadInput, match=rf"got the recipe itself; call it: methods.{name}\(\)"):
        pick(getattr(methods, name))


# ---------------------------------------------------------------- what cannot be explained

WRONG = {
    "no rows": (lambda x: x[:0], {}, r"x: the batch is empty"),
    "a missing number": (lambda x: x.masked_fill(x == x.max(), float("nan")), {}, r"x: NaN or infinite"),
    "another shape": (lambda x: x[:, :2], {}, r"the model raised \w+: .*x of shape|shaped like x"),
    "no batch": (lambda x: x.flatten(), {}, r"x: expected a batch"),
    "complex": (lambda x: x + 0j, {}, r"x: expected real numbers"),
    "column too large": (lambda x: x, {"target": 4}, r"column 4 is out of range; the model has 4 outputs, 0..3"),
    "column too small": (lambda x: x, {"target": -1}, r"column -1 is out of range"),
    "too few columns": (lambda x: x, {"target": [0, 1]}, r"2 entries for 5 rows"),
    "a label without labels": (lambda x: x, {"target": "cat"}, r"label 'cat'"),
    "no seed": (lambda x: x, {"seed": -1}, r"seed must be a whole number"),
}


@pytest.mark.parametrize(("change", "options", "words"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_refused_in_words(name, change, options, words):
    scene = recipes.scene(name)
    options = {"target": 0, **scene.options, **options}
    with pytest.raises(BadInput, match=words):
        pellucid.explain(scene.model(), change(scene.x), scene.method(name), **options)
