"""pellucid.check: every fault that was planted is found, and nothing else; costs are those of the real thing."""

import json
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pellucid
from pellucid import methods
from pellucid.core.verdict import Check

X = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0], [0.0, 1.0, 0.0], [2.0, 2.0, 1.0], [0.3, 0.2, 0.1]])
FREE = ("feature_ablation", "random_attribution")


def net(*more):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4), *more).eval()


def line(report, method):
    (found,) = report.table[report.table["method"] == method].to_dict("records")
    return found


class Forward(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.net, self.function = net(), function

    def forward(self, x):
        return self.function(self.net, x)


def test_a_sound_model_has_no_problems_and_is_left_alone():
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    report = pellucid.check(model, X)
    assert report.problems == []
    assert set(report.table["method"]) == {recipe.__name__ for recipe in methods.CATALOGUE}
    assert report.about["scale"] == "logit"
    assert report.about["outputs"] == 4
    for name in ("saliency", "integrated_gradients", *FREE):
        assert line(report, name)["applies"] is True
        assert line(report, name)["tried"] == "yes"
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


LOGITS = net()(X).detach()

PLANTED = {
    "noise": (
        lambda: Forward(lambda f, x: nn.functional.dropout(f(x), 0.5, training=True)).eval(),
        "not deterministic",
    ),
    "rows": (lambda: Forward(lambda f, x: f(x) - f(x).mean(0)).eval(), "change by .* with the rows it comes with"),
    "NaN": (lambda: Forward(lambda f, x: f(x) / (x[:, 1:2] != 0.5)).eval(), "NaN or infinite, first in row 1"),
    "probabilities": (lambda: net(nn.Softmax(1)), "scale='prob'"),
    "not probabilities": (lambda: pellucid.wrap(net(), scale="prob"), "taken for probabilities"),
    "train mode": (lambda: net().train(), "train mode"),
    "bfloat16": (lambda: net().bfloat16(), "bfloat16, which keeps 2 to 3 digits"),
    "bounds": (lambda: pellucid.wrap(net(), bounds=(0, 2)), r"13\.3% of the entries of x lie outside .* from -1 to 3"),
    "blind": (lambda: Forward(lambda f, x: f(x * 0)).eval(), "does not look at x"),
    "numpy rows": (
        lambda: lambda x: np.asarray(net()(torch.as_tensor(x - x.mean(0))).detach()),
        "the rows it comes with",
    ),
}


@pytest.mark.parametrize(("make", "words"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found_and_nothing_else(make, words):
    report = pellucid.check(make(), X.numpy(), ["random_attribution"])
    (problem,) = report.problems
    assert pd.Series([problem]).str.contains(words, regex=True).all()


def test_one_row_is_enough_to_see_that_rows_change_one_another():
    (problem,) = pellucid.check(PLANTED["rows"][0](), X[:1], ["random_attribution"]).problems
    assert "rows it comes with" in problem
    assert pellucid.check(net(), X[:1], ["random_attribution"]).problems == []


def test_a_batch_norm_without_statistics_is_named():
    report = pellucid.check(net(nn.BatchNorm1d(4, track_running_stats=False)), X, ["random_attribution"])
    assert "layer '3' is a batch norm" in report.problems[0]
    assert "a row cannot be computed alone" in report.problems[1]
    assert pellucid.check(net(nn.BatchNorm1d(4)), X, ["random_attribution"]).problems == []


def test_sound_models_of_other_kinds_have_no_problems():
    words = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(12, 2)).eval()
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    for model, x in (
        (net().double(), X),
        (pellucid.wrap(net(nn.Softmax(1)), scale="prob"), X),
        (net(nn.Sigmoid()), X),
        (pellucid.wrap(net(), bounds=(-1, 3)), X),
        (lambda x: x.sum(1), X.numpy()),
        (lambda x: torch.sigmoid(x.sum(1)), X),
        (words, ids),
    ):
        assert pellucid.check(model, x, ["random_attribution"]).problems == []


# ---------------------------------------------------------------- which methods apply


def test_methods_that_do_not_apply_say_why():
    everything = {recipe.__name__ for recipe in methods.CATALOGUE}
    ids = torch.tensor([[1, 2, 3]])
    words = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(9, 2)).eval()
    for model, x, reason in (
        (lambda x: x.sum(1), X.numpy(), "a function of numpy arrays has none"),
        (lambda x: x.detach().sum(1), X, "no gradient flows"),
        (lambda x: torch.as_tensor(x.numpy().sum(1)), X, "leaves torch for numpy"),
        (words, ids, "explain their embeddings instead"),
    ):
        report = pellucid.check(model, x)
        assert set(report.table["method"]) == everything
        assert line(report, "saliency")["applies"] is False
        assert reason in line(report, "saliency")["why"]
        assert line(report, "saliency")["tried"] == "no"
        assert all(line(report, name)["applies"] for name in FREE)
        assert report.cost["backwards"] == 0
    assert "convolution" in line(pellucid.check(net(), X), "grad_cam")["why"]
    conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    assert line(pellucid.check(conv, torch.rand(2, 1, 8, 8)), "grad_cam")["applies"] is True


def test_an_estimator_on_text_is_checked():
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    people = pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0] * 5, "city": ["Oslo", "Rome"] * 10})
    fitted = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough"), LogisticRegression()
    ).fit(people, people["age"] > 30)
    report = pellucid.check(fitted, people)
    assert report.problems == []
    assert report.about["scale"] == "prob"
    assert "LogisticRegression does not give" in line(report, "saliency")["why"]
    assert line(report, "feature_ablation")["applies"] is True
    assert "stands for a category" in line(report, "feature_ablation")["why"]


def test_a_background_is_lent_and_other_arguments_are_asked_for(monkeypatch):
    def contrast(foil, weight=1.0):
        return methods.saliency()

    monkeypatch.setattr(methods, "CATALOGUE", (methods.expected_gradients, contrast))
    report = pellucid.check(net(), X)
    lent = line(report, "expected_gradients")
    assert (lent["applies"], lent["tried"], lent["backwards"]) == (True, "yes", 200)
    assert "needs a background" in lent["why"]
    assert line(report, "contrast")["why"] == "needs foil: methods.contrast(foil=...)"
    assert line(report, "contrast")["tried"] == "no"


def test_an_operation_without_a_derivative_is_reported():
    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

    report = pellucid.check(lambda x: Rounded.apply(x).sum(1), X, ["saliency", "feature_ablation"])
    assert line(report, "saliency")["applies"] is False
    assert "NotImplementedError" in line(report, "saliency")["why"]
    assert line(report, "feature_ablation")["applies"] is True


def test_nothing_is_tried_where_outputs_are_not_finite():
    report = pellucid.check(PLANTED["NaN"][0](), X)
    assert set(report.table["tried"]) == {"no"}
    assert report.cost["seconds"] is None
    assert "cannot be said" in str(report)


def test_values_and_names_may_be_given():
    report = pellucid.check(net(), X, [methods.integrated_gradients(steps=7), "saliency"])
    assert report.table["method"].tolist() == ["integrated_gradients", "saliency"]
    assert line(report, "integrated_gradients")["backwards"] == 7
    for wrong, words in ((["sailency"], "'sailency' not found"), ([], "empty"), ([methods.saliency], "call it")):
        with pytest.raises(pellucid.BadInput, match=words):
            pellucid.check(net(), X, wrong)


def test_only_the_first_rows_are_computed():
    def careful(x):
        if bool((x > 90).any()):
            raise RuntimeError("row 4 and later were not asked for")
        return x.sum(1)

    x = torch.cat([X[:4], torch.full((500, 3), 99.0)])
    assert pellucid.check(careful, x).problems == []


# ---------------------------------------------------------------- what it costs


def test_counts_are_those_of_the_methods():
    report = pellucid.check(net(), X)
    for name in ("saliency", "integrated_gradients", "smooth_grad", "feature_ablation"):
        cost = pellucid.explain(net(), X, name).cost
        found = line(report, name)
        assert found["backwards"] * len(X) == cost["backwards"]
        assert abs(found["forwards"] * len(X) - cost["forwards"]) <= 2 * len(
            X
        )  # the prediction and f(x) are counted there
    report = pellucid.check(net(), X.repeat(20, 1))
    assert line(report, "integrated_gradients")["seconds"] > 30 * line(report, "saliency")["seconds"]


def test_a_slow_method_is_stopped_and_its_cost_extrapolated():
    def slow(x):
        time.sleep(0.02)
        return x.sum(1)

    start = time.perf_counter()
    report = pellucid.check(slow, torch.rand(3, 6000), ["feature_ablation"])
    assert time.perf_counter() - start < 5
    found = line(report, "feature_ablation")
    assert found["tried"] == "in part"
    assert abs(found["forwards"] / 6001 - 1) < 0.05


def test_the_comparison_costs_what_was_said(monkeypatch):
    untagged = Check("finds a planted tag", *(np.nan,) * 4, None, "left out to save time", applies=False)
    monkeypatch.setattr("pellucid.judging.finds_tag", lambda method: untagged)
    conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 3)).eval()
    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    names = ["saliency", "integrated_gradients"]
    report = pellucid.check(conv, x, names)
    comparison = pellucid.compare(conv, x, names)
    explained = sum(e.cost["forwards"] for e in comparison.explanations.values())
    backwards = sum(e.cost["backwards"] for e in comparison.explanations.values())
    scored = comparison.scores.cost["forwards"]
    redrawn = 1  # every row once more, with random weights
    assert abs(report.cost["forwards"] / (scored + (1 + redrawn) * explained) - 1) < 0.2
    attacked = 2 * 12 * (3 + 5) * 15  # criteria, rows, methods and random orders, steps
    spent = comparison.scores.cost["backwards"]
    assert report.cost["backwards"] == (1 + redrawn) * backwards + attacked
    assert abs(spent / attacked - 1) < 0.1
    assert report.cost["seconds"] == pytest.approx(sum(report.cost["parts"].values()))
    assert "estimate" in str(report)


# ---------------------------------------------------------------- how it is shown


def test_radii_are_priced_where_there_is_a_prediction_to_change():
    x = torch.rand(6, 30, generator=torch.Generator().manual_seed(0))
    linear = nn.Linear(30, 2).eval()
    report = pellucid.check(linear, x, ["saliency"])
    price = report.cost["robustness"]
    sets = 6 * 2 * 9
    forwards, backwards = sets * (53 + 1010), sets * (40 + 1010)
    ahead, back = report.cost["forward_seconds"], report.cost["backward_seconds"]
    assert price["seconds_a_method"] == pytest.approx(forwards * ahead + backwards * back)
    assert price["seconds_of_random_orders"] == pytest.approx(10 * price["seconds_a_method"])
    assert "robustness_relevant() would add up to" in str(report)
    values = pellucid.check(pellucid.wrap(linear, scale="value"), x, ["saliency"])
    assert values.cost["robustness"] is None
    assert values.cost["parts"]["attacks"] == 0


def test_a_report_is_text_html_and_json():
    model = pellucid.wrap(net(nn.Softmax(1)))
    model.name = "<b>net</b>"
    report = pellucid.check(model, X, ["saliency", "grad_cam"])
    text = str(report)
    assert "saliency" in text
    assert "scale='prob'" in text
    assert "A comparison of 1 methods on 5 rows" in text
    page = report._repr_html_()
    assert "<b>net" not in page
    assert "&lt;b&gt;net" in page
    back = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [m["method"] for m in back["methods"]] == ["saliency", "grad_cam"]
    assert back["methods"][1]["forwards"] is None
    assert back["problems"] == report.problems


def test_what_a_call_costs_of_itself_is_not_charged_to_each_row():
    def slow_to_start(x):
        time.sleep(0.005)
        return x[:, :2]

    report = pellucid.check(slow_to_start, torch.rand(6, 3), ["feature_ablation"])
    assert report.cost["forward_seconds"] < 0.005 / 100  # of calls of 2,048 rows, not of 4
    assert "digits of a small network" in str(report)


def test_a_slow_machine_does_not_stop_the_check(monkeypatch):
    monkeypatch.setattr("pellucid.checking.SECONDS", -1.0)  # time is up at the first look, also while a method sets up
    found = line(pellucid.check(net(), X), "linear_shap")
    assert found["tried"] == "in part"
    assert "costs at least this much" in found["why"]
