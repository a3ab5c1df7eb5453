"""evaluate: what it asks, refuses and returns; and completeness."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Run, Unreliable, Unsupported, methods, metrics
from pellucid.metrics.metric import Marks, Metric
from tests.reference.scored import BOTH, cell, linear, picture_net, rows


def test_neither_the_batch_nor_a_repeat_changes_the_scores(tmp_path):
    net, x = picture_net(), rows(7, 2, 6, 6)
    es = [pellucid.explain(net, x, m, target=[0, 1, 2, 0, 1, 2, 0]) for m in ("saliency", "input_x_gradient")]
    asked = [metrics.insertion(), metrics.deletion("mean", grid=3), metrics.insertion(rows(7, 2, 6, 6, seed=3))]
    whole = pellucid.evaluate(net, es, asked, seed=4)
    repeat = pellucid.evaluate(net, es, asked, seed=4)
    for e in es:
        e.save(tmp_path / f"{e.method['name']}.npz")
    stored = [pellucid.load(tmp_path / f"{e.method['name']}.npz") for e in es]
    loaded = pellucid.evaluate(net, stored, asked, seed=4)
    cut = [pellucid.evaluate(net, es, asked, seed=4, run=Run(batch_size=size)) for size in (1, 3)]
    for a, b, c, *others in zip(whole.cells, repeat.cells, loaded.cells, *(s.cells for s in cut), strict=True):
        assert (a.curve == b.curve).all()
        assert (a.curve == c.curve).all()
        assert (a.values == b.values).all()
        assert (a.low, a.high) == (b.low, b.high)
        for other in others:
            assert np.abs(a.curve - other.curve).max() < 1e-12
            assert (a.metric, a.method) == (other.metric, other.method)
    assert whole.metrics == repeat.metrics


def test_names_lists_and_dicts_of_explanations():
    net, x = picture_net(), rows(3, 2, 6, 6)
    e = pellucid.explain(net, x, "saliency", target=0)
    assert pellucid.evaluate(net, e, "deletion").methods == ("saliency",)
    assert pellucid.evaluate(net, [e, e, e], "deletion").methods == ("saliency", "saliency 2", "saliency 3")
    assert pellucid.evaluate(net, {"mine": e, "yours": e}, "deletion").methods == ("mine", "yours")
    every = pellucid.evaluate(net, e)
    assert [c.family for c in every.cells] == ["insertion", "deletion", "completeness"]
    assert list(every.table.columns)[:6] == ["method", "metric", "mean", "low", "high", "direction"]
    assert every.summary()["rank"].tolist()[:2] == [1, 1]


def test_best_first_in_the_direction_of_each_metric():
    weight, x = rows(6) - 0.5, rows(4, 6)
    es = {m: pellucid.explain(linear(weight), x, m) for m in ("random_attribution", "input_x_gradient")}
    scores = pellucid.evaluate(linear(weight), es, [metrics.insertion(0.0), metrics.deletion(0.0)])
    assert scores.summary()["method"].tolist() == ["input_x_gradient", "random_attribution"] * 2
    assert scores.summary()["rank"].tolist() == [1, 2, 1, 2]


def test_what_a_score_costs_is_counted():
    asked = [0]

    def model(z):
        asked[0] += len(z)
        return z.sum(1)

    x = rows(3, 6)
    es = {m: pellucid.explain(model, x, m, target=[0, 0, 0]) for m in ("random_attribution", "feature_ablation")}
    asked[0] = 0
    scores = pellucid.evaluate(model, es, metrics.insertion(0.0))
    assert scores.cost["forwards"] == asked[0]
    # sizes 1..5 of each method and row, both ends once a row, the outputs once, their number once
    assert asked[0] == 2 * 3 * 5 + 3 * 2 + 3 + 1
    assert [c.forwards for c in scores.cells] == [3 * 5 + 6, 3 * 5]


def test_a_numpy_function_and_a_frame_are_served_as_they_came():
    frame = pd.DataFrame(rows(4, 3).numpy(), columns=["a", "b", "c"])

    def model(given):
        assert isinstance(given, pd.DataFrame)
        assert list(given.columns) == ["a", "b", "c"]
        return given["a"].to_numpy() * 2 - given["c"].to_numpy()

    e = pellucid.explain(model, frame, "feature_ablation")
    found = cell(model, e, metrics.insertion(0.0))
    assert np.allclose(found.curve[:, -1], model(frame))
    both = pellucid.aggregate([e, e])
    assert np.allclose(cell(model, both, metrics.insertion(0.0)).curve, found.curve)

    def plain(given):
        assert isinstance(given, np.ndarray)
        return given @ np.array([2.0, 0.0, -1.0])

    e = pellucid.explain(plain, frame.to_numpy(), "feature_ablation")
    assert np.allclose(cell(plain, pellucid.aggregate([e, e]), metrics.insertion(0.0)).curve, found.curve)


def test_another_model_is_noticed():
    net, x = picture_net(), rows(3, 2, 6, 6)
    e = pellucid.explain(net, x, "saliency", target=0)
    other = picture_net()
    nn.init.normal_(other[-1].weight)
    with pytest.warns(Unreliable, match="saliency: the model's outputs differ by up to .* another model"):
        pellucid.evaluate(other, e, "insertion")
    with pytest.raises(BadInput, match="column 2 is out of range"):
        pellucid.evaluate(picture_net(outputs=2), pellucid.explain(net, x, "saliency", target=2), "insertion")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_model_is_not_taken_for_another(dtype):
    net, x = picture_net().to(dtype), rows(9, 2, 6, 6).to(dtype)
    e = pellucid.explain(net, x, "saliency", target=0)
    pellucid.evaluate(net, e, metrics.insertion(0.0), run=Run(batch_size=2))


def test_what_cannot_be_scored():
    net, x = picture_net(), rows(3, 2, 6, 6)
    e = pellucid.explain(net, x, "saliency", target=0)
    with pytest.raises(BadInput, match="explains other rows"):
        pellucid.evaluate(net, [e, pellucid.explain(net, x + 0.1, "saliency", target=0)], "insertion")
    with pytest.raises(BadInput, match="explains other rows"):
        pellucid.evaluate(net, [e, e[:2]], "insertion")
    with pytest.raises(BadInput, match="use one target for all"):
        pellucid.evaluate(net, [e, pellucid.explain(net, x, "saliency", target=1)], "insertion")
    with pytest.raises(BadInput, match="several outputs at once"):
        pellucid.evaluate(net, pellucid.explain(net, x, "saliency", target="all"), "insertion")
    with pytest.raises(BadInput, match="no explanation was given"):
        pellucid.evaluate(net, [], "insertion")
    with pytest.raises(BadInput, match="expected an Explanation, got ndarray"):
        pellucid.evaluate(net, {"mine": e.values}, "insertion")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("accuracy", "'accuracy' not found; have 'insertion', 'deletion', 'completeness'"),
        ([], "the list is empty"),
        ([3], "expected a metric"),
        ([metrics.insertion], "expected a metric"),
    ],
)
def test_what_is_no_metric(asked, says):
    net, x = picture_net(), rows(2, 2, 6, 6)
    with pytest.raises(BadInput, match=says):
        pellucid.evaluate(net, pellucid.explain(net, x, "saliency", target=0), asked)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"read": "softmax"}, "read must be one of"),
        ({"grid": 0}, "number of cells"),
        ({"grid": 2.5}, "number of cells"),
        ({"fractions": (0.5,)}, "two or more"),
        ({"fractions": (0.5, 0.2)}, "must increase"),
        ({"fractions": (0.5, 0.5)}, "must increase"),
        ({"fractions": (-0.1, 1)}, "at least 0"),
        ({"fractions": (0, 1.1)}, "at most 1"),
        ({"reference": "black"}, "'black' is not known"),
        ({"reference": np.nan}, "finite"),
    ],
)
@BOTH
def test_settings_are_checked(metric, settings, says):
    with pytest.raises(BadInput, match=says):
        metric(**settings)


def test_sizes_that_fall_together_are_refused():
    e = pellucid.explain(linear(rows(30)), rows(2, 30), "random_attribution")
    with pytest.raises(BadInput, match="one and the same size of 30 features"):
        pellucid.evaluate(linear(rows(30)), e, metrics.insertion(0.0, fractions=(0.0, 0.01)))


def test_a_reference_of_another_shape_is_refused():
    e = pellucid.explain(linear(rows(5)), rows(3, 5), "random_attribution")
    for wrong in (np.zeros(4), np.zeros((2, 5))):
        with pytest.raises(BadInput, match="shaped like x"):
            pellucid.evaluate(linear(rows(5)), e, metrics.insertion(wrong))


def test_one_column_is_a_table_too():
    e = pellucid.explain(linear(rows(1) + 1), rows(3, 1), "feature_ablation")
    found = cell(linear(rows(1) + 1), e, metrics.insertion(0.0))
    assert found.fractions.tolist() == [0, 1]
    assert np.allclose(found.values, e.outputs / 2)


def test_nothing_of_the_users_is_touched():
    net, x = picture_net(), rows(3, 2, 6, 6)
    e = pellucid.explain(net, x, "saliency", target=0)
    before = {name: value.clone() for name, value in net.state_dict().items()}, x.clone(), e.values.copy()
    state = torch.get_rng_state(), random.getstate()
    pellucid.evaluate(net, e)
    assert all(torch.equal(before[0][name], value) for name, value in net.state_dict().items())
    assert torch.equal(before[1], x)
    assert (before[2] == e.values).all()
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == random.getstate()
    assert all(p.grad is None for p in net.parameters())


# ---------------------------------------------------------------- completeness


def test_completeness_is_the_relative_residual_of_those_who_promise():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1)).double().eval()
    x = rows(4, 5)
    with pytest.warns(Unreliable, match="miss their sum"):
        coarse = pellucid.explain(net, x * 3, methods.integrated_gradients(steps=1, rule="left"), target=0)
    found = cell(net, coarse, "completeness")
    gap = coarse.outputs - coarse.base_values
    assert np.allclose(found.values, np.abs(coarse.values.sum(1) - gap) / np.abs(gap))
    assert found.status == "measured"
    assert found.direction == "lower"
    assert found.curve is None
    assert found.forwards == 0


def test_completeness_is_not_scored_where_nothing_is_promised():
    net, x = picture_net(), rows(3, 2, 6, 6)
    for method in ("saliency", "feature_ablation", "random_attribution"):
        found = cell(net, pellucid.explain(net, x, method, target=0), "completeness")
        assert found.status == "promises nothing"
        assert np.isnan(found.mean)
        assert np.isnan(found.values).all()


def test_completeness_by_construction_is_marked_not_scored():
    e = pellucid.explain(linear(rows(5)), rows(3, 5), methods.integrated_gradients(steps=8))
    built = replace(e, details={**e.details, "promise": "completeness by construction"})
    found = cell(linear(rows(5)), built, "completeness")
    assert found.status == "exact by construction"
    assert not found.measured
    assert cell(linear(rows(5)), e, "completeness").values.max() < 1e-12


def test_completeness_of_a_row_with_nothing_to_share_is_left_out():
    weight = rows(3)
    x = torch.stack([torch.zeros(3, dtype=torch.float64), *rows(2, 3)])
    e = pellucid.explain(linear(weight), x, methods.integrated_gradients(steps=4))
    assert cell(linear(weight), e, "completeness").values[0] == 0  # 0 of 0, and no residual
    off = replace(e, residual=e.residual + np.array([1.0, 0, 0]))
    found = cell(linear(weight), off, "completeness")
    assert np.isnan(found.values[0])
    assert found.mean < 1e-12


def test_a_metric_that_needs_gradients_is_refused_on_a_numpy_function():
    @dataclass(frozen=True)
    class Steepness(Metric):
        name: ClassVar[str] = "steepness"
        direction: ClassVar[str] = "lower"
        needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

        def marks(self, desk, explanation, seed):
            return Marks(torch.zeros(len(explanation)))

    e = pellucid.explain(lambda x: x.sum(1), rows(2, 3).numpy(), "feature_ablation")
    with pytest.raises(Unsupported, match="steepness needs gradients"):
        pellucid.evaluate(lambda x: x.sum(1), e, Steepness())
    e = pellucid.explain(lambda x: x.sum(1), rows(2, 3), "feature_ablation")
    assert cell(lambda x: x.sum(1), e, Steepness()).mean == 0
