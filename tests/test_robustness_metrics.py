"""Robustness of what is kept and of what is changed: closed forms, sets that resist, and any network."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Run, attack, metrics, players
from pellucid.evaluating import ask_again
from pellucid.metrics.metric import Desk
from pellucid.metrics.robustness import SIZES
from tests.reference.robust import BOTH, FAST, cell, expected, linear, metric, ordered, rows


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
