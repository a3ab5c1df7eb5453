"""Robustness as a score: closed forms on linear models, sets that nothing succeeds on, gaps, and what methods share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn

import pellucid
from pellucid import BadInput, Run, Unsupported, api, attack, judging, metrics, players
from pellucid.core import rng
from pellucid.core.method import Method
from pellucid.evaluating import ask_again
from pellucid.metrics import anchoring
from pellucid.metrics.metric import Desk
from pellucid.metrics.robustness import SIZES

FAST = attack.minimum_norm(20)
BOTH = pytest.mark.parametrize("relevant", [False, True], ids=["irrelevant", "relevant"])


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def linear(features, classes=2, bounds=None, seed=0):
    weights = torch.from_numpy(np.random.default_rng(seed).normal(size=(classes, features)))
    return weights, pellucid.wrap(lambda x: x.flatten(1) @ weights.T, scale="logit", bounds=bounds)


def ordered(model, x, scores):
    """An explanation that ranks entries by these scores."""
    e = pellucid.explain(model, x, "random_attribution")
    return replace(e, values=np.array(np.broadcast_to(scores, e.values.shape), dtype=np.float64))


def metric(relevant, **options):
    return (metrics.robustness_relevant if relevant else metrics.robustness_irrelevant)(**options)


def cell(model, e, asked, **options):
    return pellucid.evaluate(model, e, asked, **options).cells[0]


def expected(weights, x, scores, counts, relevant, norm=2):
    """Margin / dual norm of the free part of a difference of weights, set by set."""
    dual = {1: math.inf, 2: 2, math.inf: 1}[norm]
    z = x.flatten(1) @ weights.T
    scores = np.broadcast_to(scores, x.shape).reshape(len(x), -1)
    curve = np.full((len(x), len(counts)), math.inf)
    for b in range(len(x)):
        order, own = np.argsort(-scores[b]), int(z[b].argmax())
        for j, count in enumerate(counts):
            free = order[:count] if relevant else order[count:]
            for rival in range(len(weights)):
                slope = (weights[rival] - weights[own])[free.copy()]
                if rival != own:
                    size = float(torch.linalg.vector_norm(slope, dual))
                    curve[b, j] = min(curve[b, j], float(z[b, own] - z[b, rival]) / size)
    return curve


# ---------------------------------------------------------------- closed forms


@BOTH
@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("classes", [2, 4])
def test_without_a_box_a_linear_model_has_the_distances_to_its_planes(relevant, norm, classes):
    weights, model = linear(40, classes)
    x = rows(4, 40)
    scores = rows(4, 40, seed=3).numpy()
    found = cell(model, ordered(model, x, scores), metric(relevant, norm=norm, method=FAST))
    counts = [round(f * 40) for f in SIZES]
    curve = expected(weights, x, scores, counts, relevant, norm)
    np.testing.assert_allclose(found.fractions, np.array(counts) / 40)
    np.testing.assert_allclose(found.curve, curve, rtol=2e-3)
    np.testing.assert_allclose(found.values, np.trapezoid(curve, SIZES, axis=1) / 0.4, rtol=2e-3)
    np.testing.assert_allclose(found.points, np.trapezoid(curve, 100 * np.array(SIZES), axis=1), rtol=2e-3)
    assert (found.censored == 0).all()


@BOTH
def test_few_features_are_taken_one_to_five(relevant):
    weights, model = linear(12)
    x, scores = rows(3, 12), rows(3, 12, seed=3).numpy()
    found = cell(model, ordered(model, x, scores), metric(relevant, method=FAST))
    curve = expected(weights, x, scores, [1, 2, 3, 4, 5], relevant)
    np.testing.assert_allclose(found.fractions * 12, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(found.curve, curve, rtol=2e-3)
    np.testing.assert_allclose(found.points, np.trapezoid(curve, axis=1), rtol=2e-3)
    named = cell(model, ordered(model, x, scores), metric(relevant, method=FAST, fractions=(0.5,)))
    np.testing.assert_allclose(named.values, expected(weights, x, scores, [6], relevant)[:, 0], rtol=2e-3)


@BOTH
@pytest.mark.parametrize("division", ["grid", "players"])
def test_patches_and_players_move_whole(relevant, division):
    weights, model = linear(64)
    x = rows(3, 1, 8, 8)
    patch = (torch.arange(8) // 2).reshape(8, 1) * 4 + torch.arange(8) // 2
    cells = rows(3, 16, seed=5)
    if division == "grid":
        spread = cells[:, patch].unsqueeze(1).numpy()
        e, options = ordered(model, x, spread), {"grid": 4}
    else:
        e = pellucid.explain(model, x, "random_attribution", players=players.grid(4))
        e, options = replace(e, values=cells.numpy()), {}
    found = cell(model, e, metric(relevant, method=FAST, fractions=(0.25, 0.5), **options))
    scores = cells[:, patch].unsqueeze(1).numpy()
    np.testing.assert_allclose(found.curve, expected(weights, x, scores, [16, 32], relevant), rtol=2e-3)


@BOTH
def test_the_weights_themselves_are_the_best_order_and_their_reverse_the_worst(relevant):
    weights, model = linear(40)
    x = rows(3, 40)
    size = (weights[1] - weights[0]).abs().numpy()
    orders = {"best": ordered(model, x, size), "worst": ordered(model, x, -size)}
    for draw in range(3):
        orders[f"random {draw}"] = ordered(model, x, rows(3, 40, seed=draw + 10).numpy())
    found = pellucid.evaluate(model, orders, metric(relevant, method=FAST))
    means = {c.method: c.better * c.mean for c in found.cells}
    assert means["best"] == max(means.values())
    assert means["worst"] == min(means.values())
    assert found.summary()["method"][0] == "best"


@BOTH
def test_slopes_are_ranked_by_size_and_contributions_by_sign(relevant):
    weights, model = linear(40)
    x = rows(2, 40)
    values = (weights[0] - weights[1]).numpy()
    slopes, signed = ordered(model, x, values), ordered(model, x, values)
    slopes = replace(slopes, details={**slopes.details, "ranking": "absolute"})
    sizes = [round(f * 40) for f in SIZES]
    for e, scores in ((slopes, np.abs(values)), (signed, values)):
        found = cell(model, e, metric(relevant, method=FAST))
        np.testing.assert_allclose(found.curve, expected(weights, x, scores, sizes, relevant), rtol=2e-3)


def test_towards_a_class():
    weights, model = linear(30, 3)
    x = rows(4, 30)
    own = (x @ weights.T).argmax(1)
    goal = (own + torch.tensor([1, 2, 1, 2])) % 3
    scores = rows(4, 30, seed=3).numpy()
    e = ordered(model, x, scores)
    given = metrics.robustness_relevant((1.0,), against=goal, method=FAST)
    any_class = metrics.robustness_relevant((1.0,), method=FAST)
    assert (cell(model, e, given).values >= 0.999 * cell(model, e, any_class).values).all()
    gap = (x * (weights[own] - weights[goal])).sum(1) / (weights[own] - weights[goal]).norm(dim=1)
    assert (cell(model, e, given).values >= 0.999 * gap.numpy()).all()
    whole, single = cell(model, e, given), cell(model, e, given, run=Run(batch_size=1))
    np.testing.assert_allclose(whole.values, single.values, rtol=3e-3)
    with pytest.raises(BadInput, match="already predicted"):
        cell(model, e, metrics.robustness_relevant(against=int(own[0]), method=FAST))
    with pytest.raises(BadInput, match="one class a row, 4 of them; got 2"):
        cell(model, e, metrics.robustness_relevant(against=[0, 1], method=FAST))


# ---------------------------------------------------------------- sets that nothing succeeds on


def half_blind(bounds):
    """A model of 24 features that looks at the first twelve."""
    weights = torch.zeros(2, 24, dtype=torch.float64)
    weights[1, :12] = 1.0
    return pellucid.wrap(lambda x: (x - 0.5) @ weights.T, scale="logit", bounds=bounds)


def test_a_set_without_a_way_out_counts_as_far_as_its_box_allows():
    model, x = half_blind((0.0, 1.0)), 0.5 + rows(3, 24) / 4
    blind_first, blind_last = np.arange(24.0), -np.arange(24.0)
    moved = cell(model, ordered(model, x, blind_first), metrics.robustness_relevant((0.25, 0.5), method=FAST))
    reach = torch.maximum(x, 1 - x)
    far = [reach[:, -count:].norm(dim=1) for count in (6, 12)]
    np.testing.assert_allclose(moved.curve, torch.stack(far, 1), rtol=1e-9)
    assert (moved.censored == 1).all()
    # Six of twelve held: the others suffice. All twelve held: nothing does.
    held = cell(model, ordered(model, x, blind_last), metrics.robustness_irrelevant((0.25, 0.5), method=FAST))
    assert (held.censored == 0.5).all()
    np.testing.assert_allclose(held.curve[:, 1], reach[:, 12:].norm(dim=1), rtol=1e-9)
    assert (held.curve[:, 0] < held.curve[:, 1]).all()
    table = pellucid.evaluate(model, ordered(model, x, blind_last), metrics.robustness_irrelevant((0.5,), method=FAST))
    assert table.table["censored"][0] == 1.0


def test_a_set_without_a_way_out_is_no_less_than_a_larger_one():
    """One blind entry left free allows less than the attack on more needed."""
    model, x = half_blind((0.0, 1.0)), torch.full((2, 24), 0.9, dtype=torch.float64)
    e = ordered(model, x, -np.arange(24.0))
    found = cell(model, e, metrics.robustness_irrelevant((0.25, 23 / 24), method=FAST))
    assert found.censored.tolist() == [0.5, 0.5]
    assert found.curve[0, 0] > 1 > 0.9
    np.testing.assert_allclose(found.curve[:, 1], found.curve[:, 0])


def test_without_bounds_it_counts_as_ten_times_what_all_features_take():
    model, x = half_blind(None), 0.5 + rows(3, 24) / 4
    e = ordered(model, x, np.arange(24.0))
    found = cell(model, e, metrics.robustness_relevant((0.5,), method=FAST))
    margin = (x[:, :12] - 0.5).sum(1)
    np.testing.assert_allclose(found.values, 10 * margin / math.sqrt(12), rtol=2e-3)
    assert (found.censored == 1).all()


def test_a_row_that_nothing_changes_has_no_number():
    model = pellucid.wrap(lambda x: torch.stack([x[:, 0] * 0, x[:, 0] * 0 + 1], 1), scale="logit")
    e = ordered(model, rows(3, 24), np.arange(24.0))
    found = cell(model, e, metrics.robustness_irrelevant((0.5,), method=FAST))
    assert np.isnan(found.values).all()
    assert math.isnan(found.mean)


# ---------------------------------------------------------------- any network


def net(size=8, outputs=3):
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * size * size, outputs)
    return nn.Sequential(*layers).double().eval()


@BOTH
def test_curves_never_turn(relevant):
    model = pellucid.wrap(net())
    e = pellucid.explain(model, rows(4, 1, 8, 8), "saliency")
    steps = np.diff(cell(model, e, metric(relevant, method=attack.minimum_norm(3))).curve, axis=1)
    assert ((steps <= 0) if relevant else (steps >= 0)).all()
    assert (steps != 0).any()


@BOTH
def test_neither_the_batch_nor_company_changes_the_scores(relevant):
    model, x = pellucid.wrap(net(), bounds=(0.0, 1.0)), rows(4, 1, 8, 8)
    asked = metric(relevant, fractions=(0.1, 0.3), grid=4, method=[FAST, attack.pgd(5, restarts=2)])
    both = {name: pellucid.explain(model, x, name) for name in ("saliency", "input_x_gradient")}
    together = pellucid.evaluate(model, both, asked)
    alone = cell(model, both["input_x_gradient"], asked, run=Run(batch_size=1))
    # Rounding may send a search another way, within the tolerance of a radius.
    np.testing.assert_allclose(together.cells[1].values, alone.values, rtol=3e-3)
    np.testing.assert_allclose(together.cells[1].gap, alone.gap, rtol=0.3)


def test_a_set_is_attacked_once():
    model, x = pellucid.wrap(net(), bounds=(0.0, 1.0)), rows(3, 1, 8, 8)
    e = pellucid.explain(model, x, "saliency")
    twin = replace(e, values=3 * e.values)
    found = pellucid.evaluate(model, {"one": e, "twin": twin}, metrics.robustness_irrelevant((0.1, 0.2), method=FAST))
    one, two = found.cells
    np.testing.assert_array_equal(one.curve, two.curve)
    assert one.forwards > 0
    assert two.forwards == 0


@BOTH
def test_sets_attacked_ahead_for_several_methods_cost_no_more_attacks(relevant):
    model, x = pellucid.wrap(net(), bounds=(0.0, 1.0)), rows(2, 1, 8, 8)
    asked = metric(relevant, fractions=(0.1, 0.2, 0.3), grid=4, method=FAST)
    each = {name: pellucid.explain(model, x, name) for name in ("saliency", "input_x_gradient")}
    desk = Desk(ask_again(model, each, 0, Run()))
    asked.ahead(desk, [*each.values(), each["saliency"]], 0)
    before = desk.question.executor.cost.forwards
    found = [asked.marks(desk, e, 0) for e in each.values()]
    assert desk.question.executor.cost.forwards == before
    alone = pellucid.evaluate(model, each, asked).cells
    for marks, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(marks.curve, other.curve, rtol=0.01)


def test_a_stronger_second_attack_lowers_the_radius_and_the_gap_says_by_how_much():
    model, x = pellucid.wrap(net(), bounds=(0.0, 1.0)), rows(3, 1, 8, 8)
    e = pellucid.explain(model, x, "saliency")
    weak, strong = attack.minimum_norm(1), attack.minimum_norm(40)
    asked = [metrics.robustness_irrelevant((0.3,), method=m) for m in (weak, [weak, strong])]
    alone, both = (cell(model, e, m) for m in asked)
    assert alone.gap is None
    assert (both.values <= alone.values).all()
    np.testing.assert_allclose(both.gap, alone.values - both.values + 0.01 * both.values)
    assert (both.gap > 0.011 * both.values).any()


def test_methods_nearer_than_the_gap_are_marked():
    size = np.arange(40, 0, -1.0)
    size[7] = size[8] + 1e-3
    weights, x = torch.stack([torch.zeros(40).double(), torch.from_numpy(size)]), rows(3, 40)
    model = pellucid.wrap(lambda x: x @ weights.T, scale="logit")
    swapped = size.copy()
    swapped[[7, 8]] = size[[8, 7]]  # their order decides a set of eight, by next to nothing
    three = {"a": ordered(model, x, size), "b": ordered(model, x, swapped), "c": ordered(model, x, -size)}
    asked = metrics.robustness_irrelevant((0.2,), method=[FAST, attack.pgd(5)])
    table = pellucid.evaluate(model, three, asked).table
    assert table["within_gap"].tolist() == [True, True, False]
    alone = pellucid.evaluate(model, three, metrics.robustness_irrelevant((0.2,), method=FAST)).table
    assert not alone["within_gap"].any()


def test_the_usual_attacks_are_two():
    model = pellucid.wrap(net().float(), bounds=(0.0, 1.0))
    e = pellucid.explain(model, rows(2, 1, 8, 8).float(), "saliency")
    found = cell(model, e, metrics.robustness_irrelevant((0.2,)))
    once = cell(model, e, metrics.robustness_irrelevant((0.2,), method=attack.minimum_norm()))
    assert (found.values <= once.values).all()
    assert (found.gap >= 0.0099 * found.values).all()


def test_what_searches_for_the_order_is_marked():
    model, x = linear(40)[1], rows(2, 40)
    e = ordered(model, x, np.arange(40.0))
    search = replace(e, method={"name": "greedy_as", "fields": {"criterion": "relevant"}})
    found = pellucid.evaluate(model, [e, search], metrics.robustness_relevant((0.2,), method=FAST)).table
    assert found["matched"].tolist() == [False, True]


def test_the_predicted_class_is_changed_whatever_was_explained():
    model, x = linear(40, 3)[1], rows(3, 40)
    scores = rows(3, 40, seed=2).numpy()
    e = ordered(model, x, scores)
    other = pellucid.explain(model, x, "random_attribution", target=0)
    other = replace(other, values=e.values)
    asked = metrics.robustness_irrelevant((0.2,), method=FAST)
    np.testing.assert_allclose(cell(model, e, asked).values, cell(model, other, asked).values)


# ---------------------------------------------------------------- the check for robust anchors


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


@pytest.fixture
def no_digits(monkeypatch):
    def missing():
        raise ImportError("the digits are not installed")

    judging._tag_precision.cache_clear()
    monkeypatch.setattr(judging, "_tagged", missing)


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
        ({"method": "pgd"}, "expected an attack"),
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
