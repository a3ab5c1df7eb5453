"""The fifth check, for robust anchors; and what cannot be scored by its robustness."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn

import pellucid
from pellucid import BadInput, Run, Unsupported, api, attack, metrics, players
from pellucid.core import rng
from pellucid.core.method import Method
from pellucid.metrics import anchoring
from tests.reference.robust import FAST, cell, linear, ordered, rows


@dataclass(frozen=True)
class Slopes(Method):
    """By the size of the slope, or the other way round."""

    sign: float = 1.0
    name: str = "slopes"

    def attribute(self, question):
        return self.sign * question.gradient(question.z, question.every_row())[1].abs()


def anchors(model, x, which, **options):
    options = {"metrics": [metrics.insertion(0.0)], **options}
    found = pellucid.compare(model, x, which, **options).decided
    return {verdict.method: next(c for c in verdict.checks if c.name == "robust anchors") for verdict in found}


def opposed(features):
    """Two classes whose scores are one another's negatives: the slopes of either are those of the margin."""
    weights, _ = linear(features, 1)
    both = torch.cat([-weights, weights])
    return both, pellucid.wrap(lambda x: x.flatten(1) @ both.T, scale="logit")


def test_the_slopes_of_a_linear_model_guide_an_attack_and_their_reverse_does_not(no_digits):
    _, model = opposed(196)
    x = rows(16, 1, 14, 14)
    found = anchors(model, x, {"right": Slopes(), "wrong": Slopes(-1.0)})
    assert found["right"].passed is True
    assert found["right"].low > 0
    assert found["wrong"].passed is False
    assert found["wrong"].high < 0
    assert found["random_attribution"].passed is not True
    assert "guides an attack no better than chance" in found["wrong"].reason


def test_its_figure_is_the_weaker_of_both_gains_over_random_orders(no_digits):
    weights, model = opposed(64)
    x = rows(16, 1, 8, 8)
    found = anchors(model, x, {"right": Slopes()})["right"]
    scores = (weights[1] - weights[0]).abs().reshape(1, 1, 8, 8).numpy()
    cells = players.grid(7).divide(x, ("channel", "height", "width"), None)
    sums = cells.gather(torch.from_numpy(np.broadcast_to(scores, x.shape).copy()))

    def radius(order, relevant):
        top = torch.zeros(16, 49, dtype=torch.bool).scatter_(1, order[:, :10], True)
        free = cells.mask((top if relevant else ~top).unsqueeze(1).double())[:, 0].flatten(1) > 0.5
        z = (x.flatten(1) @ weights.T).sort(1).values
        return ((z[:, 1] - z[:, 0]) / ((weights[1] - weights[0]) * free).norm(dim=1)).numpy()

    orders = [rng.uniform(0, "compare.control", draw, 0, 16, 49).argsort(1, descending=True) for draw in range(5)]
    mine = sums.argsort(1, descending=True)
    chance = [np.mean([radius(order, relevant) for order in orders], 0) for relevant in (False, True)]
    gains = radius(mine, False) / chance[0] - 1, 1 - radius(mine, True) / chance[1]
    assert found.figure == pytest.approx(min(gain.mean() for gain in gains), rel=5e-3)
    question = api.ask(model, x, None, None, None, 0, Run())
    e = pellucid.explain(model, x, Slopes())
    radii = anchoring.measured(question, {"right": e}, 0, lambda done, total: None)["right"]
    for got, wanted in zip((radii.held_chance, radii.moved_chance), chance, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-3)
    np.testing.assert_allclose(radii.held, radius(mine, False), rtol=2e-3)
    np.testing.assert_allclose(radii.moved, radius(mine, True), rtol=2e-3)


def test_it_passes_where_both_criteria_do_and_fails_where_either_does():
    model, x = opposed(64)[1], rows(20, 1, 8, 8)
    e = pellucid.explain(model, x, "saliency")
    question = api.ask(model, x, None, None, None, 0, Run())
    one, noise = np.ones(20), rows(20, seed=3).numpy() / 100

    def outcome(held, moved):
        radii = {"m": anchoring.Radii(one + held, one - moved, one, one)}
        return anchoring.decided(radii, {"m": e}, question, 0)["m"]

    clear, turned, open_ = 0.1 + noise, -0.1 - noise, noise - noise.mean()
    wanted = {True: clear, False: turned, None: open_}
    for a, held in wanted.items():
        for b, moved in wanted.items():
            passed = False if False in (a, b) else None if None in (a, b) else True
            assert outcome(held, moved).passed is passed
    assert outcome(clear, 2 * clear).figure == pytest.approx(clear.mean())
    assert outcome(2 * clear, clear).figure == pytest.approx(clear.mean())
    assert outcome(np.full(20, np.nan), np.full(20, np.nan)).applies is False
    rare = np.where(np.arange(20) < 6, 0.1, 0.0) + 1e-6  # above 0 in the mean, and no more than that to be sure of
    assert outcome(np.where(np.arange(20) < 14, rare, -0.01), clear).passed is None


def test_rows_that_do_not_count_are_left_out_of_both():
    counts = np.array([True, False])
    held, moved = anchoring.Radii(*np.array([[2.0, 9.0], [0.5, 9.0], [1.0, 1.0], [1.0, 1.0]])).gains(counts)
    np.testing.assert_array_equal(held, [1.0, np.nan])
    np.testing.assert_array_equal(moved, [0.5, np.nan])


def test_metrics_that_are_asked_for_speak_instead(no_digits):
    model, x = linear(64)[1], rows(13, 1, 8, 8)
    pair = [make((0.4,), grid=4, method=FAST) for make in (metrics.robustness_irrelevant, metrics.robustness_relevant)]
    c = pellucid.compare(model, x, {"right": Slopes()}, metrics=pair)
    found = next(check for check in c.decided[0].checks if check.name == "robust anchors")
    tests = c.tests().set_index("metric")
    assert found.passed is True
    held, moved = (tests.loc[metric.label] for metric in pair)
    assert held["better_by"] > 0
    assert moved["better_by"] > 0
    once = anchors(model, x, {"right": Slopes()})["right"]
    assert once.figure != found.figure


def test_only_rows_whose_predicted_class_is_explained_count(no_digits):
    weights, model = linear(64)
    x = rows(40, 1, 8, 8)
    own = (x.flatten(1) @ weights.T).argmax(1)
    assert anchors(model, x, {"right": Slopes()}, target=own.tolist())["right"].passed is True
    found = anchors(model, x, {"right": Slopes()}, target=(1 - own).tolist())["right"]
    assert not found.applies
    assert "in no row" in found.reason
    some = torch.where(torch.arange(40) < 8, own, 1 - own)
    few = anchors(model, x, {"right": Slopes()}, target=some.tolist())["right"]
    assert few.passed is None
    assert "under 12 rows" in few.reason


def test_one_column_stands_for_two_classes(no_digits):
    weights, _ = linear(64)
    slope = weights[1] - weights[0]
    model = pellucid.wrap(lambda x: (x.flatten(1) - 0.5) @ slope, scale="logit")
    x = rows(60, 1, 8, 8)
    positive = int((((x[:40].flatten(1) - 0.5) @ slope) > 0).sum())
    assert 12 <= positive < 40
    question = api.ask(model, x, 0, None, None, 0, Run())
    assert anchoring.predicted(question, 40).sum() == positive
    assert anchors(model, x, {"right": Slopes()}, target=0)["right"].passed is True


def test_where_it_does_not_apply_it_says_why(no_digits):
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
    x = rows(4, 1, 6, 6).float()

    def reason(model, data=x, which=None, **options):
        found = next(iter(anchors(model, data, which or {"right": Slopes()}, **options).values()))
        assert not found.applies
        assert found.passed is None
        return found.reason

    assert "values, not classes" in reason(pellucid.wrap(net, scale="value"), target=0)
    assert "not the score of a class" in reason(net, target=pellucid.Target(0, "loss"))
    assert "not the score of a class" in reason(net, target=pellucid.Target(read=lambda raw: raw[:, 0]))
    blind = pellucid.wrap(lambda x: net(torch.from_numpy(x)).detach().numpy(), scale="logit")
    assert "without gradients" in reason(blind, x.numpy(), {"noise": "random_attribution"})
    columns = nn.Linear(6, 2).eval()
    assert "units of their own" in reason(columns, rows(2, 6).float())
    assert anchors(pellucid.wrap(columns, bounds=(0, 1)), rows(2, 6).float(), {"right": Slopes()})["right"].applies
    large = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 2)).eval()
    assert "10,404 entries" in reason(large, rows(2, 1, 102, 102).float())
    e = pellucid.explain(net, x, "saliency")
    search = replace(e, method={"name": "greedy_as", "fields": {}})
    assert "searches for these radii itself" in reason(net, which={"search": search})
    few = anchors(net, x, {"right": Slopes()})["right"]
    assert few.applies
    assert few.passed is None


def test_a_forest_is_scored_by_its_predictions():
    x = np.random.default_rng(0).random((200, 4)).astype(np.float32)
    forest = RandomForestClassifier(10, random_state=0).fit(x, (x[:, 0] > 0.5).astype(int))
    model = pellucid.wrap(forest, bounds=(0.0, 1.0))
    e = pellucid.explain(model, x[:3], "random_attribution")
    right, wrong = (replace(e, values=np.tile(values, (3, 1))) for values in ([4.0, 3, 2, 1], [1.0, 2, 3, 4]))
    asked = metrics.robustness_relevant((0.25,), method=attack.boundary(200))
    found = pellucid.evaluate(model, {"right": right, "wrong": wrong}, asked)
    best, worst = found.cells
    assert (best.censored == 0).all()
    # The threshold at one half, as far as the data say where it is.
    np.testing.assert_allclose(best.values, np.abs(x[:3, 0] - 0.5), atol=0.05)
    assert (worst.values > best.values).all()
    assert metrics.robustness_relevant().attacks(differentiable=False)[0].name == "boundary"


# ---------------------------------------------------------------- what cannot be scored


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fractions": (0.4, 0.2)}, "fractions must increase"),
        ({"fractions": (0.5, 1.5)}, "fractions must increase"),
        ({"fractions": ()}, "fractions must increase"),
        ({"grid": 0}, "grid must be a number of cells"),
        ({"norm": 3}, "norm must be 1, 2 or math.inf"),
        ({"method": "pgd"}, "must be an Attack"),
        ({"method": []}, "expected an attack"),
    ],
    ids=["falling", "above one", "none", "no cells", "norm", "a name", "no attack"],
)
def test_wrong_settings_are_refused_in_words(options, words):
    with pytest.raises(BadInput, match=words):
        metrics.robustness_irrelevant(**options)


def test_values_are_no_classes():
    model = pellucid.wrap(lambda x: x.sum(1), scale="value")
    e = pellucid.explain(model, rows(2, 6), "random_attribution", target=0)
    with pytest.raises(Unsupported, match="gives values, not classes"):
        cell(model, e, metrics.robustness_irrelevant(method=FAST))


def test_a_single_feature_has_no_order():
    _, model = linear(1)
    e = ordered(model, rows(2, 1), 1.0)
    with pytest.raises(BadInput, match="1 feature has no order"):
        cell(model, e, metrics.robustness_irrelevant(method=FAST))


def test_bounds_that_exclude_x_are_refused():
    _, model = linear(40, bounds=(0.0, 0.1))
    with pytest.raises(BadInput, match="outside the model's bounds"):
        cell(model, ordered(model, rows(2, 40), 1.0), metrics.robustness_irrelevant(method=FAST))


def test_labels_tell_settings_apart():
    asked = [
        metrics.robustness_relevant(),
        metrics.robustness_relevant(grid=7),
        metrics.robustness_relevant(norm=math.inf),
        metrics.robustness_relevant(against=3),
        metrics.robustness_relevant(method=[attack.minimum_norm(), attack.pgd()]),
    ]
    assert [m.label for m in asked] == [
        "robustness_relevant, features",
        "robustness_relevant, 7 x 7 patches",
        "robustness_relevant, features, ∞-norm",
        "robustness_relevant, features, towards 3",
        "robustness_relevant, features, minimum_norm and pgd",
    ]
