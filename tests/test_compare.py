"""compare: what it puts side by side, its defaults and its manners."""

from __future__ import annotations

import itertools
import random
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from torch import nn

import pellucid
from pellucid import BadInput, Run, Unreliable, Unsupported, methods
from tests.reference.contestants import (
    FEW,
    NAMES,
    ROWS,
    Flat,
    check,
    compared,
    picture_net,
    rows,
    word,
)


def test_methods_side_by_side(no_digits):
    c = compared(metrics=FEW)
    assert list(c.explanations) == [*NAMES, "random_attribution"]
    assert len(c.scores.cells) == 4 * 2
    for name, e in c.explanations.items():
        alone = pellucid.explain(picture_net(), rows(ROWS, 1, 8, 8), name)
        assert (e.values == alone.values).all()
        assert e.target["index"] == alone.target["index"]
    assert set(c.summary().columns) >= {
        "method",
        "metric",
        "mean",
        "rank",
        "verdict",
        "forwards",
        "seconds",
        "peak_bytes",
    }
    assert c.summary()["verdict"].notna().all()
    assert c.tests()["method"].tolist() == NAMES * 2
    assert len(c.verdicts()) == 4 * 5
    assert c.about["model"] == "Sequential"
    assert c.refused == {}
    assert c.warnings == ()
    assert np.allclose(c.probabilities, picture_net()(rows(ROWS, 1, 8, 8)).softmax(1).detach(), atol=1e-6)


def test_labels_of_lists_and_dicts(no_digits):
    twice = compared(which=["saliency", "saliency", methods.saliency()], metrics=FEW)
    assert list(twice.explanations) == ["saliency", "saliency 2", "saliency 3", "random_attribution"]
    named = compared(which={"mine": "saliency", "yours": methods.input_x_gradient()}, metrics=FEW)
    assert list(named.explanations) == ["mine", "yours", "random_attribution"]
    assert named.tests()["method"].tolist() == ["mine", "yours"] * 2
    one = compared(which="saliency", metrics="insertion")
    assert list(one.explanations) == ["saliency", "random_attribution"]
    with_control = compared(which={"noise": "random_attribution", "mine": "saliency"}, metrics=FEW)
    assert list(with_control.explanations) == ["noise", "mine"]
    assert word(with_control, "noise") == "control"


def test_explanations_made_before_take_part(no_digits):
    net, x = picture_net(), rows(ROWS, 1, 8, 8)
    cell = pellucid.explain(net, x, "feature_ablation", players=pellucid.players.grid(4))
    together = pellucid.aggregate([pellucid.explain(net, x, m) for m in ("saliency", "input_x_gradient")])
    c = compared(net, x, [cell, together, "saliency"])
    assert list(c.explanations) == ["feature_ablation", "aggregate", "saliency", "random_attribution"]
    assert c.explanations["feature_ablation"] is cell
    own = next(m for m in c.scores.metrics if m.endswith("features") and m.startswith("insertion"))
    assert c.scores.cell("feature_ablation", own).curve.shape == (ROWS, 17)
    assert c.scores.cell("saliency", own).curve.shape == (ROWS, 13)
    for number in (2, 4):
        assert not check(c, "aggregate", number).applies
        assert "made elsewhere" in check(c, "aggregate", number).reason
    assert check(c, "aggregate", 1).applies


def test_explanations_of_something_else_are_refused(no_digits):
    net, x = picture_net(), rows(ROWS, 1, 8, 8)
    with pytest.raises(BadInput, match="'saliency' is of other rows"):
        compared(net, x, [pellucid.explain(net, x + 0.1, "saliency")])
    with pytest.raises(BadInput, match="of other rows or of several outputs"):
        compared(net, x, [pellucid.explain(net, x, "saliency", target="all")])
    with pytest.raises(BadInput, match="has target"):
        compared(net, x, [pellucid.explain(net, x, "saliency", target=0)], target=1)
    torch.manual_seed(5)
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    with pytest.warns(Unreliable, match="saliency: the model's outputs differ"):
        compared(net, x, [pellucid.explain(other, x, "saliency", target=0)], target=0, metrics=FEW)


def test_a_method_that_cannot_run_is_listed_with_its_reason(no_digits):
    x = rows(ROWS, 5).numpy()
    c = pellucid.compare(lambda a: a @ np.eye(5)[:, :2], x, ["saliency", "feature_ablation"], metrics=FEW)
    assert list(c.explanations) == ["feature_ablation", "random_attribution"]
    assert "saliency needs gradients" in c.refused["saliency"]
    with pytest.raises(Unsupported, match="no method could run: saliency needs gradients"):
        pellucid.compare(lambda a: a @ np.eye(5)[:, :2], x, ["saliency"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"x": rows(1, 1, 8, 8)}, "one row has no spread"),
        ({"target": "all"}, "give one target a row"),
        ({"which": []}, "list of methods is empty"),
        ({"which": {}}, "list of methods is empty"),
        ({"which": ["no_such"]}, "'no_such' not found"),
        ({"which": [3]}, "expected a method"),
        ({"metrics": []}, "the list is empty"),
        ({"metrics": ["no_such"]}, "'no_such' not found"),
        ({"truth": [0, 1]}, "one class a row"),
        ({"truth": ["cat"] * ROWS}, "'cat' is not among the labels"),
        ({"truth": 3}, "one class a row"),
        ({"seed": -1}, "seed must be"),
        ({"target": 3}, "out of range"),
    ],
)
def test_mistakes(no_digits, options, says):
    with pytest.raises(BadInput, match=says):
        compared(**options)


def test_truth_in_any_form(no_digits):
    net = pellucid.wrap(picture_net(), labels=["a", "b", "c"])
    classes = (0, 1, 2, 1, 0) * 3
    x = rows(15, 1, 8, 8)
    for truth in (classes, torch.tensor(classes), np.array(classes), ["abc"[c] for c in classes]):
        assert compared(net, x, ["saliency"], metrics=FEW, truth=truth).truth == classes


# ---------------------------------------------------------------- defaults


def test_defaults_for_pictures(no_digits):
    c = pellucid.compare(picture_net(), rows(ROWS, 1, 8, 8))
    expected = ["saliency", "input_x_gradient", "integrated_gradients", "smooth_grad", "grad_cam", "feature_ablation"]
    assert list(c.explanations) == [*expected, "random_attribution"]
    kinds = [f"{a}, {r} reference, {g}" for g, r, a in itertools.product(
        ("7 x 7 patches", "features"), ("uniform", "0"), ("insertion", "deletion"))]  # fmt: skip
    assert list(c.scores.metrics) == [*kinds, "completeness"]
    table = c.scores.table.set_index(["method", "metric"])["matched"]
    for metric in kinds:
        own = ["integrated_gradients", "feature_ablation"] if ", 0 reference" in metric else []
        assert [m for m in c.explanations if table[m, metric]] == own
    assert np.isfinite(c.scores.table.query("status == 'measured'")["mean"]).all()


def test_one_reference_is_no_methods_own_baseline_whatever_the_methods(no_digits):
    x = rows(4, 1, 8, 8)
    used = [methods.integrated_gradients(steps=2, baseline=b) for b in ("uniform", "mean", 0.0)]
    question_of = compared(x=x, which=dict(zip("abc", used, strict=True)))
    assert question_of.scores.cells[0].reference == "blur"
    assert not any(c.matched for c in question_of.scores.cells if c.reference == "blur")
    assert {c.reference for c in question_of.scores.cells} == {"blur", "0", None}
    unbounded = compared(x=x * 5, which=["saliency"])
    assert {c.reference for c in unbounded.scores.cells} == {"mean", "0", None}


def test_defaults_for_a_table(no_digits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
    c = pellucid.compare(net, rows(ROWS, 5))
    expected = ["saliency", "input_x_gradient", "integrated_gradients", "smooth_grad", "feature_ablation"]
    assert list(c.explanations) == [*expected, "random_attribution"]
    assert {cell.reference for cell in c.scores.cells} == {"marginal", "given", None}
    assert {cell.granularity for cell in c.scores.cells} == {"features", None}
    matched = {cell.method for cell in c.scores.cells if cell.matched}
    assert matched == {"feature_ablation"}  # its default is the mean row
    assert c.explanations["feature_ablation"].values.shape == (ROWS, 5)


def test_defaults_for_a_sequence(no_digits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(20, 2)).eval()
    for x in (rows(ROWS, 5, 3), rows(ROWS, 5, 3) * 4 - 2):
        c = pellucid.compare(net, x)
        assert "feature_ablation" in c.explanations
        assert c.scores.cells[0].curve.shape == (ROWS, 6)
        assert len({cell.reference for cell in c.scores.cells} - {None}) == 2
        assert c.agreement.correlation.shape == (6, 6)


def test_defaults_for_an_estimator_on_a_frame(no_digits):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(60, 4)), columns=["age", "dose", "site", "sex"])
    fitted = RandomForestClassifier(10, random_state=0).fit(frame, frame["age"] + frame["dose"] > 0)
    c = pellucid.compare(fitted, frame.iloc[:20])
    assert list(c.explanations) == ["feature_ablation", "random_attribution"]
    assert c.explanations["feature_ablation"].feature_names == ("age", "dose", "site", "sex")
    assert np.allclose(c.probabilities, fitted.predict_proba(frame.iloc[:20]))
    assert not check(c, "feature_ablation", 2).applies
    assert "random weights" in check(c, "feature_ablation", 2).reason


def test_defaults_for_a_pipeline_with_text_columns(no_digits):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({
        "age": generator.normal(size=50), "city": generator.choice(["Bonn", "Jena", "Ulm"], 50),
        "smokes": generator.random(50) < 0.5,
    })  # fmt: skip
    encode = make_column_transformer((OneHotEncoder(), ["city", "smokes"]), remainder="passthrough")
    fitted = make_pipeline(encode, LogisticRegression()).fit(frame, (frame["age"] > 0) | (frame["city"] == "Ulm"))
    c = pellucid.compare(fitted, frame.iloc[:15])
    assert list(c.explanations) == ["feature_ablation", "random_attribution"]
    assert c.explanations["feature_ablation"].feature_names == ("age", "city", "smokes")
    assert np.isfinite(c.scores.table.query("status == 'measured'")["mean"]).all()


@pytest.mark.parametrize("kind", ["numpy", "proba"])
def test_defaults_for_a_function(no_digits, kind):
    x = rows(13, 4).double().numpy()

    def model(a):
        assert isinstance(a, np.ndarray)
        p = 1 / (1 + np.exp(-(a @ np.array([1.0, -2.0, 0.5, 0.0]))))
        return np.stack([1 - p, p], 1)

    net = pellucid.wrap(model, scale="prob") if kind == "proba" else model
    c = pellucid.compare(net, x)
    assert list(c.explanations) == ["feature_ablation", "random_attribution"]
    if kind == "proba":
        assert np.allclose(c.probabilities, model(x))


# ---------------------------------------------------------------- manners


def test_nothing_of_the_users_is_touched(no_digits):
    net, x = picture_net(), rows(ROWS, 1, 8, 8)
    weights, before = {k: v.clone() for k, v in net.state_dict().items()}, x.clone()
    states = torch.get_rng_state(), random.getstate()
    compared(net, x)
    assert all(torch.equal(weights[k], v) for k, v in net.state_dict().items())
    assert torch.equal(x, before)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())
    assert not net.training


def test_warnings_come_once_each_and_are_kept(no_digits):
    net = picture_net().train()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        c = compared(net, which=[methods.integrated_gradients(steps=1, rule="left")] * 2, metrics=FEW)
    said = [str(w.message) for w in caught]
    assert len(said) == len(set(said)) == len(c.warnings) == 2
    assert sorted(said) == sorted(c.warnings)
    assert any("train mode" in s for s in said)
    assert any("miss their sum" in s for s in said)
    assert all(issubclass(w.category, Unreliable) for w in caught)


def test_a_user_sees_how_far_it_is(no_digits):
    seen = []
    compared(metrics=FEW, run=Run(progress=lambda what, done, total: seen.append((what, done, total))))
    assert {what for what, _, _ in seen} >= {*NAMES, "metrics", "checks"}
    for what in ("metrics", "checks"):
        steps = [(done, total) for w, done, total in seen if w == what]
        assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
        assert steps[-1][1] == len(steps)


@pytest.mark.parametrize("kind", ["constant model", "constant maps"])
def test_nothing_to_explain_is_no_crash(no_digits, kind):
    if kind == "constant model":
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
        nn.init.zeros_(net[1].weight)
        c = compared(net)
    else:
        c = compared(which=[Flat(), Flat(1.0), Flat(-2.0)])
        assert not check(c, "flat", 2).applies
    judged = [v for v in c.decided if v.word != "control"]
    assert len(judged) == 3
    assert all(v.word != "trust" for v in judged)
    if kind == "constant model":
        assert all(v.word == "do not trust" for v in judged)
        assert (c.tests()["p_wilcoxon"] == 1).all()
        assert (c.tests()[["better_by", "low", "high"]].to_numpy() == 0).all()
