"""compare: what it puts side by side, its tests and checks, and the verdicts they lead to."""

from __future__ import annotations

import itertools
import random
import warnings
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

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
from pellucid import BadInput, Run, Target, Unreliable, Unsupported, comparing, judging, methods, metrics, removal
from pellucid.core.method import Method
from pellucid.core.verdict import Check
from pellucid.metrics.statistics import holm, paired
from pellucid.models.torch import TorchModel

ROWS = 14


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).float()


def picture_net(size=8, outputs=3):
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * size * size, outputs)
    return nn.Sequential(*layers).eval()


def linear_net(size=8, outputs=2):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(size * size, outputs)).eval()


@dataclass(frozen=True)
class Edges(Method):
    """Where the picture changes: looks at x alone, and never asks the model."""

    name: str = "edges"

    def attribute(self, question):
        z = question.z
        down = (z - z.roll(1, 2)).abs()
        return (down + (z - z.roll(1, 3)).abs()).unsqueeze(-1)


@dataclass(frozen=True)
class Backwards(Method):
    """The worst order there is on a linear model: contributions with the wrong sign."""

    name: str = "backwards"

    def attribute(self, question):
        return -question.gradient(question.z, question.every_row())[1] * question.z.unsqueeze(-1)


@dataclass(frozen=True)
class Breaks(Method):
    """A method for pictures of 8 x 8 only."""

    name: str = "breaks"

    def attribute(self, question):
        kernel = torch.arange(64.0).reshape(1, 1, 8, 8)
        return (question.z * kernel).unsqueeze(-1)


@dataclass(frozen=True)
class Flat(Method):
    """A constant map."""

    value: float = 0.0
    name: str = "flat"

    def attribute(self, question):
        return torch.full_like(question.z, self.value).unsqueeze(-1)


@pytest.fixture
def no_digits(monkeypatch):
    """As on a machine without the demo extra: the fourth check does not apply."""

    def missing():
        raise ImportError("the digits are not installed")

    judging._tag_precision.cache_clear()
    monkeypatch.setattr(judging, "_tagged", missing)


@pytest.fixture
def small_digits(monkeypatch):
    """Instead of digits, 6 x 6 pictures whose class is the brightness of two pixels, the tag."""
    tag = torch.zeros(9, 1, 6, 6, dtype=torch.bool)
    tag[:, 0, 1, 1] = tag[:, 0, 1, 2] = True
    x = rows(9, 1, 6, 6) * 0.4
    x[tag] = 1.0
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
    nn.init.zeros_(net[1].weight)
    net[1].weight.data[1] = tag[0].flatten().float()
    examples = SimpleNamespace(x=x, y=torch.ones(9, dtype=torch.long), truth={"tag": tag})
    judging._tag_precision.cache_clear()
    monkeypatch.setattr(judging, "_tagged", lambda: (net, examples))
    yield examples
    judging._tag_precision.cache_clear()


NAMES = ["saliency", "input_x_gradient", "integrated_gradients"]
FEW = [metrics.insertion(0.0), metrics.deletion(0.0)]


def compared(net=None, x=None, which=NAMES, **options):
    return pellucid.compare(
        picture_net() if net is None else net, rows(ROWS, 1, 8, 8) if x is None else x, which, **options
    )


def check(comparison, method, number):
    verdict = next(v for v in comparison.decided if v.method == method)
    return verdict.checks[number - 1]


def word(comparison, method):
    return next(v.word for v in comparison.decided if v.method == method)


# ---------------------------------------------------------------- what is compared


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


# ---------------------------------------------------------------- numbers


def test_better_is_positive_for_insertion_and_for_deletion(no_digits):
    net, x = linear_net(), rows(ROWS, 1, 8, 8)
    c = compared(net, x, ["input_x_gradient", Backwards()], target=1, metrics=FEW)
    table = c.tests().set_index(["method", "metric"])
    for metric in c.scores.metrics:
        assert table.loc[("input_x_gradient", metric), "low"] > 0
        assert table.loc[("backwards", metric), "high"] < 0
    assert word(c, "backwards") == "do not trust"
    assert "does not beat random order" in next(v.reason for v in c.decided if v.method == "backwards")


def test_the_tests_are_the_paired_ones_against_the_control(no_digits):
    c = compared()
    table = c.tests()
    assert (table["rows"] == ROWS).all()
    for name in ("p_wilcoxon", "p_t"):
        assert table[f"{name}_holm"].tolist() == holm(table[name].tolist())
        assert (table[f"{name}_holm"] >= table[name]).all()
    assert (table["note"] == "").all()
    # the control of one metric is one number a row, the same for all methods with the same units
    shift = {}
    for line in table.itertuples():
        cell = c.scores.cell(line.method, line.metric)
        shift.setdefault(line.metric, []).append(cell.better * cell.mean - line.better_by)
    assert all(np.ptp(values) < 1e-9 for values in shift.values())


@pytest.mark.parametrize("size", [7, 8])
def test_the_control_is_the_mean_of_ten_orders_that_favour_no_cell(no_digits, size):
    """On a grid that does not divide the picture the cells have 1, 2 or 4 pixels, and no size may come first.

    f counts pixels: the curve of an order is the share of pixels moved, on average a straight line with area n / 2.
    """
    x = torch.ones(60, 1, size, size)
    c = compared(lambda z: z.flatten(1).sum(1), x, ["feature_ablation"], metrics=[metrics.insertion(0.0, grid=7)])
    cell, test = c.scores.cells[0], c.tests().iloc[0]
    control = cell.mean - test["better_by"]
    pixels = size * size
    parts = np.array([len(a) * len(b) for a in np.array_split(range(size), 7) for b in np.array_split(range(size), 7)])
    spread = parts.std() * np.sqrt(49 / 12)  # of the area of one random order, about
    assert control == pytest.approx(pixels / 2, abs=max(1e-4, 4 * spread / np.sqrt(60 * 10)))
    assert comparing.CONTROL_DRAWS >= 10


def test_the_control_is_the_mean_over_draws(no_digits):
    """The variance of a mean of ten is a tenth: seen over rows of one and the same input."""
    weight = rows(30, seed=3) - 0.5
    x = torch.ones(400, 30)
    model = lambda z: z @ weight  # noqa: E731
    e = pellucid.explain(model, x, "random_attribution")
    question = comparing.ask(pellucid.wrap(model), x, None, None, None, 0, Run())
    asked = {"one": metrics.insertion(0.0)}
    control = comparing._control(question, {"e": e}, asked, 0, Run())[0]["e", "one"]
    single = pellucid.evaluate(model, e, metrics.insertion(0.0)).cells[0].values
    assert control.shape == (400,)
    assert control.var() == pytest.approx(single.var() / 10, rel=0.25)
    assert control.mean() == pytest.approx(single.mean(), abs=4 * single.std() / np.sqrt(400))


def test_under_twelve_rows_there_are_intervals_and_the_reason_for_no_test(no_digits):
    c = compared(x=rows(11, 1, 8, 8), metrics=FEW)
    table = c.tests()
    assert table["p_wilcoxon"].isna().all()
    assert table["p_t_holm"].isna().all()
    assert np.isfinite(table[["better_by", "low", "high"]].to_numpy()).all()
    assert table["note"].str.contains("fewer than 12 rows").all()
    for verdict in c.decided:
        assert verdict.checks[0].passed is None
        assert "under 12 rows" in verdict.checks[0].reason
        assert verdict.word != "trust"
    assert compared(x=rows(2, 1, 8, 8), metrics=FEW).tests()["low"].notna().all()


def test_disagreement_is_symmetric_with_one_on_the_diagonal(no_digits):
    c = compared(which=["saliency", "input_x_gradient", Edges(), Flat()], metrics=FEW)
    a = c.agreement
    assert a.methods == tuple(c.explanations)
    for matrix in (a.correlation, a.overlap):
        assert matrix.shape == (5, 5)
        assert np.array_equal(matrix, matrix.T, equal_nan=True)
        assert (np.diag(matrix) == 1).all()
    flat = a.methods.index("flat")
    assert np.isnan(np.delete(a.correlation[flat], flat)).all()
    assert np.allclose(np.delete(a.overlap[flat], flat), a.chance)  # a map without an order overlaps by chance
    assert a.chance == pytest.approx(6 / 64)
    pairs = c.disagreement()
    assert len(pairs) == 10
    maps = [
        np.abs(c.explanations["saliency"].values).reshape(ROWS, -1),
        c.explanations["edges"].values.reshape(ROWS, -1),
    ]
    by_hand = [pd.Series(m).corr(pd.Series(n), method="spearman") for m, n in zip(*maps, strict=True)]
    assert a.correlation[0, 2] == pytest.approx(np.mean(by_hand), abs=1e-9)


def test_repeats_and_batches(no_digits):
    asked = [
        metrics.insertion(),
        metrics.deletion(),
        metrics.insertion("mean", grid=3),
        metrics.deletion("mean", grid=3),
    ]
    a, b, c = (compared(which=NAMES[:2], metrics=asked, run=run) for run in (Run(), Run(), Run(batch_size=6)))
    for left, right, other in zip(a.scores.cells, b.scores.cells, c.scores.cells, strict=True):
        assert np.array_equal(left.values, right.values, equal_nan=True)
        assert np.allclose(left.values, other.values, atol=1e-5, equal_nan=True)
    pd.testing.assert_frame_equal(a.tests(), b.tests())
    pd.testing.assert_frame_equal(a.verdicts(), b.verdicts())
    assert a.decided == b.decided
    assert not np.allclose(
        compared(which=NAMES[:2], metrics=asked, seed=1).scores.cells[0].values, a.scores.cells[0].values
    )


def test_the_read_of_the_target_is_watched_for_all_methods(no_digits):
    net, x = picture_net(), rows(ROWS, 1, 8, 8)
    c = compared(net, x, target=Target(1, "prob"), metrics=FEW)
    full = net(x).softmax(1)[:, 1].detach()
    for cell in c.scores.cells[:4]:
        assert np.allclose(cell.curve[:, -1], full, atol=1e-6)
    called = compared(net, x, target=Target(read=lambda out: out[:, 0]), metrics=FEW)
    assert called.probabilities is None
    assert np.allclose(called.scores.cells[0].curve[:, -1], net(x)[:, 0].detach(), atol=1e-5)


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


# ---------------------------------------------------------------- check 1


def test_beating_random_is_insertion_minus_deletion_against_ten_orders(no_digits):
    c = compared(metrics=FEW)
    up, down = c.scores.metrics
    table = c.tests().set_index(["method", "metric"])
    for name in NAMES:
        net = table.loc[(name, up), "better_by"] + table.loc[(name, down), "better_by"]
        assert check(c, name, 1).figure == pytest.approx(net)
        assert check(c, name, 1).low < net < check(c, name, 1).high


def test_a_comparison_without_a_pair_has_no_first_check(no_digits):
    c = compared(metrics=[metrics.insertion(0.0), metrics.deletion("mean"), metrics.completeness()])
    for number in (1, 3):
        assert not check(c, "saliency", number).applies
    assert word(c, "saliency") == "unclear"


def test_the_pair_that_speaks_is_the_unmatched_one_on_the_grid(no_digits):
    asked = [
        m(r, grid=g) for r in (0.0, "mean", "uniform") for g in (None, 4) for m in (metrics.insertion, metrics.deletion)
    ]
    c = compared(metrics=[*asked, metrics.insertion("mean", read="prob"), metrics.deletion("mean", read="prob")])
    table = c.tests().set_index(["method", "metric"])
    first = sum(
        table.loc[("saliency", f"{m}, mean reference, 4 x 4 patches"), "better_by"] for m in ("insertion", "deletion")
    )
    assert check(c, "saliency", 1).figure == pytest.approx(first)


# ---------------------------------------------------------------- check 2


def test_a_method_that_ignores_the_weights_is_found_out(no_digits):
    c = compared(which=[Edges(), "input_x_gradient", "saliency"], metrics=FEW)
    second = check(c, "edges", 2)
    assert second.passed is False
    assert second.figure == pytest.approx(1)
    assert "hardly changes when the last layer is randomised" in second.reason
    assert word(c, "edges") == "do not trust"
    for name in ("input_x_gradient", "saliency"):
        assert check(c, name, 2).passed is True
        assert check(c, name, 2).high < 0.7


def test_the_class_is_held_fixed_when_weights_are_drawn(no_digits, monkeypatch):
    net, x = linear_net(), rows(ROWS, 1, 8, 8)
    drawn = []

    def record(model, seed):
        drawn.append(original(model, seed))
        return drawn[-1]

    original = TorchModel.randomised
    monkeypatch.setattr(TorchModel, "randomised", record)
    c = compared(net, x, ["input_x_gradient"], target=[0, 1] * 7, metrics=FEW)
    weights = [model._replica[1].weight.detach() for model in drawn]
    assert len(weights) == judging.REDRAWS + judging.REDRAWS  # for the method and for the control
    mine, correlations = net[1].weight.detach(), []
    share = -(-len(x) // judging.REDRAWS)  # each draw of the weights has its own rows
    for row, column in enumerate([0, 1] * 7):
        before, after = ((w[column] * x[row].flatten()).numpy() for w in (mine, weights[row // share]))
        correlations.append(pd.Series(before).corr(pd.Series(after), method="spearman"))
    assert check(c, "input_x_gradient", 2).figure == pytest.approx(np.mean(correlations), abs=1e-6)
    assert not any(torch.equal(weight, mine) for weight in weights)  # drawn under seed 1, as a user may have done


def test_more_rows_than_the_second_check_looks_at(no_digits):
    """A baseline given for each row goes with the rows that are explained again."""
    x = rows(judging.REDRAWN_ROWS + 3, 1, 8, 8)
    own = rows(len(x), 1, 8, 8, seed=7)
    which = {"each": methods.integrated_gradients(steps=4, baseline=own), "one": methods.feature_ablation(own[:1])}
    c = compared(linear_net(), x, which, metrics=FEW)
    assert check(c, "each", 2).passed is True
    assert check(c, "one", 2).passed is True
    assert len(c.explanations["each"]) == len(x)


def test_a_model_without_weights_has_no_second_check(no_digits):
    c = compared(lambda z: z.flatten(1)[:, :3], which=["input_x_gradient"], metrics=FEW)
    assert not check(c, "input_x_gradient", 2).applies


# ---------------------------------------------------------------- check 3


def test_survival_counts_places_under_two_references(no_digits):
    which = ["saliency", "input_x_gradient", Edges(), Backwards(), Flat()]
    asked = [m(r) for r in ("mean", 0.0) for m in (metrics.insertion, metrics.deletion)]
    net, x = linear_net(), rows(ROWS, 1, 8, 8)
    c = compared(net, x, which, metrics=asked, seed=3)
    names = [n for n in c.explanations if n != "random_attribution"]
    nets = []
    for a, b in (c.scores.metrics[:2], c.scores.metrics[2:]):
        nets.append(np.array([c.scores.cell(m, a).values - c.scores.cell(m, b).values for m in names]))
    draws = np.random.default_rng(3).integers(0, ROWS, (1000, ROWS))
    for i, name in enumerate(names):
        kept = 0
        for draw in draws:
            places = [sum(side[j, draw].mean() > side[i, draw].mean() for j in range(len(names))) for side in nets]
            kept += abs(places[0] - places[1]) <= 1
        assert check(c, name, 3).figure == pytest.approx(kept / 1000, abs=0.01)
    assert check(c, "backwards", 3).passed is True  # last under both
    assert not check(c, "random_attribution", 3).applies


def test_a_change_of_read_is_no_change_of_reference(no_digits):
    asked = [m(0.0, read=r) for r in (None, "prob") for m in (metrics.insertion, metrics.deletion)]
    assert not check(compared(metrics=asked), "saliency", 3).applies
    mixed = [*asked, metrics.insertion("mean"), metrics.deletion("mean")]
    assert check(compared(metrics=mixed), "saliency", 3).applies


def test_fewer_than_three_methods_have_no_places_to_change(no_digits):
    assert not check(compared(which=["saliency", "input_x_gradient"]), "saliency", 3).applies


# ---------------------------------------------------------------- check 4


def test_the_tag_is_found_by_those_who_see_it(small_digits):
    c = compared(which=["input_x_gradient", "saliency", Flat(), Edges()], metrics=FEW)
    assert check(c, "input_x_gradient", 4).figure == 1
    assert check(c, "input_x_gradient", 4).passed is True
    assert check(c, "flat", 4).figure == pytest.approx(2 / 36)  # ties share the two places
    assert check(c, "flat", 4).passed is False
    assert word(c, "flat") == "do not trust"
    values = Edges().attribute(SimpleNamespace(z=small_digits.x)).numpy().reshape(9, 36)
    top = np.argsort(-values, 1)[:, :2]
    assert check(c, "edges", 4).figure == pytest.approx(np.isin(top, [7, 8]).mean())


def test_a_method_set_up_for_the_users_pictures_is_set_up_anew(small_digits, monkeypatch):
    from pellucid import data

    monkeypatch.setattr(data, "tagged_digits", lambda split: SimpleNamespace(x=rows(30, 1, 6, 6) * 0.4))
    x = rows(ROWS, 1, 8, 8)
    which = {
        "array": methods.feature_ablation(x[0]),
        "background": methods.feature_ablation(removal.marginal(x[:5])),
        "sampled": methods.feature_ablation(removal.marginal(x, draws=3)),
    }
    c = compared(x=x, which=which, metrics=FEW)
    for name in which:
        assert check(c, name, 4).figure == 1


def test_a_method_that_cannot_run_there_has_no_fourth_check(small_digits):
    c = compared(which=[Breaks(), "saliency"], metrics=FEW)
    fourth = check(c, "breaks", 4)
    assert not fourth.applies
    assert fourth.passed is None
    assert "could not run on the tagged digits" in fourth.reason


def test_two_methods_of_one_name_are_not_mixed_up(small_digits):
    def named(sign):
        @dataclass(frozen=True)
        class Same(Method):
            name: str = "same"

            def attribute(self, question):
                return sign * question.z.unsqueeze(-1)

        return Same()

    for sign, figure in ((1, 1.0), (-1, 0.0)):
        assert check(compared(which=[named(sign)], metrics=FEW), "same", 4).figure == figure


def test_what_happens_on_the_digits_is_not_said_of_the_users_rows(small_digits):
    coarse = methods.integrated_gradients(steps=1, rule="left")
    with pytest.warns(Unreliable) as caught:
        c = compared(which=[coarse], metrics=FEW)
    assert len(caught) == len(c.warnings) == 1  # from the user's rows


def test_without_the_digits_the_check_does_not_apply(no_digits):
    c = compared(metrics=FEW)
    assert not check(c, "saliency", 4).applies
    assert "not installed" in check(c, "saliency", 4).reason


def test_the_real_tag(monkeypatch):
    pytest.importorskip("mlxtend")
    judging._tag_precision.cache_clear()
    c = compared(which=["saliency", "input_x_gradient", Edges()], metrics=FEW)
    assert check(c, "saliency", 4).passed is True
    assert check(c, "input_x_gradient", 4).passed is True
    noise = check(c, "random_attribution", 4)
    assert noise.low <= 8 / 784 + 0.005  # eight bright pixels of 784
    assert noise.high < 0.06
    assert noise.passed is False
    assert check(c, "edges", 4).figure < check(c, "saliency", 4).low  # decoys have edges too


# ---------------------------------------------------------------- verdicts


def outcome(passed, name="a check"):
    applies = passed != "n/a"
    return Check(name, 0.0, 0.0, 0.0, 0.0, passed if applies else None, f"{name} reason", applies)


@pytest.mark.parametrize("first", [True, False, None, "n/a"])
def test_the_word_for_every_outcome(first):
    for outcomes in itertools.product([first], *[[True, False, None, "n/a"]] * 4):
        checks = tuple(outcome(passed, f"check {i}") for i, passed in enumerate(outcomes, 1))
        verdict, reason = judging.verdict_of(checks)
        fails = [outcomes[i] is False for i in (0, 1, 3)]
        if any(fails):
            assert verdict == "do not trust"
            assert reason == f"check {(1, 2, 4)[fails.index(True)]} reason"
        elif first is True and outcomes.count(True) >= 3 and False not in outcomes:
            assert verdict == "trust"
            assert reason == f"{outcomes.count(True)} of 5 checks pass and none fails"
        else:
            assert verdict == "unclear"
            named = int(reason.split()[1])
            assert outcomes[named - 1] is not True
            # A failed check says more than an open one.
            assert outcomes[2] is not False or named == 3
            assert outcomes[4] is not False or outcomes[2] is False or named == 5


def test_an_oracle_is_trusted_and_noise_is_the_control(small_digits):
    net, x = linear_net(), rows(20, 1, 8, 8)
    which = {
        "oracle": methods.feature_ablation(),
        "slopes": "saliency",
        "edges": Edges(),
        "noise": "random_attribution",
    }
    c = compared(net, x, which)
    assert word(c, "oracle") == "trust"
    assert [check(c, "oracle", i).passed for i in (1, 2, 3, 4)] == [True] * 4
    assert word(c, "edges") == "do not trust"
    assert word(c, "noise") == "control"
    verdicts = c.verdicts()
    assert set(verdicts["verdict"]) <= {"trust", "unclear", "do not trust", "control"}
    assert verdicts["reason"].str.len().min() > 10
    for column in ("check", "figure", "threshold", "passed", "applies"):
        assert column in verdicts


def test_noise_under_another_name_is_not_trusted(small_digits):
    @dataclass(frozen=True)
    class Noise(Method):
        draw: int = 0
        name: str = "noise"
        control: ClassVar[bool] = False
        extra: Any = field(default=None, repr=False)

        def attribute(self, question):
            generator = torch.Generator().manual_seed(100 + self.draw)
            return torch.rand(*question.z.shape, 1, generator=generator)

    net, x = linear_net(), rows(20, 1, 8, 8)
    c = compared(net, x, {str(d): Noise(d) for d in range(6)})
    assert all(word(c, str(d)) == "do not trust" for d in range(6))
    assert not any(check(c, str(d), 1).passed for d in range(6))


def test_the_interval_of_the_first_check_decides_with_its_p_value(no_digits):
    """White box: the outcome follows from the figures that are shown."""
    c = compared(which=["saliency", "input_x_gradient", Edges(), Backwards(), Flat()], metrics=FEW)
    up, down = c.scores.metrics
    control = {}
    for name in c.explanations:
        values = c.scores.cell(name, up).values - c.scores.cell(name, down).values
        found = check(c, name, 1)
        control[name] = values.mean() - found.figure
        p = float(found.reason.split("p = ")[1].split()[0])
        expected = True if found.low > 0 and p < 0.05 else False if found.high <= 0 else None
        assert found.passed is expected
    assert np.ptp(list(control.values())) < 1e-6
    assert paired(values, np.zeros(ROWS)).rows == ROWS
