"""Insertion and deletion: slow twins, closed forms, theorems, and what a score may not depend on."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Run, Target, Unreliable, metrics
from pellucid.metrics.perturbation import FRACTIONS
from tests.reference import perturbation as slow
from tests.reference.scored import BOTH, as_numpy, cell, linear, picture_net, rows


@BOTH
@pytest.mark.parametrize("grid", [None, 3, 4])
@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "random_attribution"])
def test_the_curve_is_the_slow_loop(method, grid, metric):
    net, x = picture_net(), rows(3, 2, 6, 6)
    e = pellucid.explain(net, x, method, target=0)
    found = cell(net, e, metric(0.25, grid=grid))
    values = e.values
    joined = np.abs(values).sum(1) if method == "saliency" else values.sum(1)
    if grid is None:
        members, scores = slow.pixels((2, 6, 6)), joined.reshape(3, -1)
    else:
        members = slow.cells((2, 6, 6), grid)
        scores = np.stack([sum(joined[:, h, w] for c, h, w in unit if c == 0) for unit in members], 1)
    n = len(members)
    counts = list(range(n + 1)) if n <= 20 else [round(f * n) for f in FRACTIONS]
    reference = np.full(x.shape, 0.25)
    expected = slow.curve(as_numpy(net), x.numpy(), members, scores, reference, counts, found.family == "insertion")
    assert np.allclose(found.fractions, np.array(counts) / n)
    assert np.abs(found.curve - expected).max() < 1e-12
    assert np.allclose(found.values, [slow.area(found.fractions, height) for height in expected])
    assert found.mean == pytest.approx(found.values.mean())


@BOTH
@pytest.mark.parametrize(
    ("reference", "filled"),
    [
        (0.5, lambda x: np.full_like(x, 0.5)),
        (rows(2, 6, 6, seed=4), lambda x: rows(2, 6, 6, seed=4).numpy()[None].repeat(4, 0)),
        (rows(4, 2, 6, 6, seed=4), lambda x: rows(4, 2, 6, 6, seed=4).numpy()),
        ("mean", lambda x: np.broadcast_to(x.mean((2, 3), keepdims=True), x.shape)),
    ],
    ids=["number", "row", "batch", "removal"],
)
def test_the_ends_are_f_at_x_and_at_the_reference(reference, filled, metric):
    net, x = picture_net(), rows(4, 2, 6, 6)
    e = pellucid.explain(net, x, "saliency", target=[0, 1, 2, 1])
    found = cell(net, e, metric(reference))
    index = np.array([0, 1, 2, 1])[:, None]
    here = np.take_along_axis(net(x).detach().numpy(), index, 1)[:, 0]
    there = np.take_along_axis(net(torch.from_numpy(filled(x.numpy()).copy())).detach().numpy(), index, 1)[:, 0]
    first, last = (there, here) if found.family == "insertion" else (here, there)
    assert found.fractions[0] == 0
    assert found.fractions[-1] == 1
    assert np.allclose(found.curve[:, 0], first, atol=1e-12)
    assert np.allclose(found.curve[:, -1], last, atol=1e-12)
    assert np.allclose(here, e.outputs)


def test_the_curves_come_in_long_form():
    net, x = picture_net(), rows(3, 2, 6, 6)
    scores = pellucid.evaluate(net, pellucid.explain(net, x, "saliency", target=0), "insertion")
    found = scores.cells[0]
    assert list(scores.curves.columns) == ["method", "metric", "row", "fraction", "value"]
    assert np.allclose(scores.curves["value"].to_numpy().reshape(3, -1), found.curve)
    assert np.allclose(scores.curves["fraction"].to_numpy().reshape(3, -1), found.fractions)
    assert scores.curves["row"].tolist() == [row for row in range(3) for _ in found.fractions]


@pytest.mark.parametrize("read", ["raw", "logit", "centred", "prob", "logprob", "margin", "loss"])
def test_each_read_is_the_one_computed_by_hand(read):
    net, x = picture_net(), rows(2, 2, 6, 6)
    e = pellucid.explain(net, x, "saliency", target=1)

    def by_hand(z):
        z = net(torch.from_numpy(z)).detach().numpy()
        prob = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        return {
            "raw": z[:, 1],
            "logit": z[:, 1],
            "centred": z[:, 1] - z.mean(1),
            "prob": prob[:, 1],
            "logprob": np.log(prob[:, 1]),
            "loss": -np.log(prob[:, 1]),
            "margin": z[:, 1] - np.maximum(z[:, 0], z[:, 2]),
        }[read]

    found = cell(net, e, metrics.deletion(0.0, read=read, fractions=(0.0, 0.5, 1.0)))
    scores = np.abs(e.values).sum(1).reshape(2, -1)
    units, blank = slow.pixels((2, 6, 6)), np.zeros(x.shape)
    expected = slow.curve(by_hand, x.numpy(), units, scores, blank, [0, 18, 36], inserting=False)
    assert np.allclose(found.curve, expected, atol=1e-12)
    assert found.read == read
    assert read in found.metric


def test_without_a_read_what_was_explained_is_watched():
    net, x = picture_net(), rows(2, 2, 6, 6)
    e = pellucid.explain(net, x, "saliency", target=Target(2, "prob"))
    found = cell(net, e, metrics.insertion(0.0))
    assert np.allclose(found.curve[:, -1], net(x).softmax(1)[:, 2].detach(), atol=1e-12)
    given = cell(net, e, metrics.insertion(0.0, read="raw"))
    assert np.allclose(given.curve[:, -1], net(x)[:, 2].detach(), atol=1e-12)


def test_a_callable_is_passed_again():
    net, x = picture_net(), rows(3, 2, 6, 6)
    target = Target(read=lambda out: out[:, 0] - out[:, 1])
    e = pellucid.explain(net, x, "saliency", target=target)
    with pytest.raises(BadInput, match=r"reads a callable.*pass it again"):
        pellucid.evaluate(net, e, "insertion")
    found = cell(net, e, metrics.insertion(0.0), target=target)
    assert np.allclose(found.curve[:, -1], (net(x)[:, 0] - net(x)[:, 1]).detach(), atol=1e-12)
    with pytest.raises(BadInput, match="read='prob' needs a class"):
        pellucid.evaluate(net, e, metrics.insertion(0.0, read="prob"), target=target)


# ---------------------------------------------------------------- areas


@BOTH
def test_points_are_the_area_from_5_to_45_percent_in_percent_points(metric):
    """On 100 pixels the paper's sizes are whole: 5, 10, .. 45 of them, the axis in percent."""
    torch.manual_seed(0)
    net, x = picture_net(channels=1, size=10), rows(3, 1, 10, 10)
    e = pellucid.explain(net, x, "input_x_gradient", target=0)
    found = cell(net, e, metric(0.0))
    sizes = list(range(5, 50, 5))
    scores, blank = e.values.reshape(3, -1), np.zeros(x.shape)
    heights = slow.curve(
        as_numpy(net), x.numpy(), slow.pixels((1, 10, 10)), scores, blank, sizes, metric is metrics.insertion
    )
    assert np.allclose(found.points, [slow.area(sizes, height) for height in heights], atol=1e-10)


@pytest.mark.parametrize("size", [5, 7, 9, 28])
def test_a_flat_curve_has_forty_points_whatever_the_rounding(size):
    e = pellucid.explain(lambda x: x.new_full((len(x),), 3.0), rows(2, 1, size, size), "random_attribution")
    found = cell(lambda x: x.new_full((len(x),), 3.0), e, metrics.insertion(0.0))
    assert np.allclose(found.points, 120)
    assert np.allclose(found.values, 3)


def test_points_need_the_papers_sizes():
    e = pellucid.explain(linear(rows(6)), rows(2, 6), "random_attribution")
    assert cell(linear(rows(6)), e, metrics.insertion(0.0)).points is None
    wide = pellucid.explain(linear(rows(40)), rows(2, 40), "random_attribution")
    assert cell(linear(rows(40)), wide, metrics.insertion(0.0, fractions=(0.0, 0.5, 1.0))).points is None
    assert cell(linear(rows(40)), wide, metrics.insertion(0.0)).points is not None


def test_a_range_of_sizes_is_averaged_over_that_range():
    weight, x = rows(50) - 0.5, rows(2, 50)
    e = pellucid.explain(linear(weight), x, "input_x_gradient")
    found = cell(linear(weight), e, metrics.insertion(0.0, fractions=(0.2, 0.4, 0.5)))
    assert np.allclose(found.fractions, [0.2, 0.4, 0.5])
    ordered = np.sort((x * weight).numpy(), 1)[:, ::-1].cumsum(1)
    heights = ordered[:, [9, 19, 24]]
    assert np.allclose(found.curve, heights, atol=1e-12)
    assert np.allclose(found.values, [slow.area((0.2, 0.4, 0.5), h) / 0.3 for h in heights])


# ---------------------------------------------------------------- theorems


@BOTH
def test_a_feature_equal_to_its_reference_leaves_the_score_unchanged(metric):
    """Theorem A.4 of hsieh2021: wherever the order puts it, it changes no picture; the others keep their sizes."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 1)).double().eval()
    x = rows(4, 8)
    x[:, 3] = 0.0
    e = pellucid.explain(net, x, "feature_ablation", target=0)

    def heights(position):
        order = [i for i in np.argsort(-e.values[0]) if i != 3]
        order.insert(position, 3)
        values = np.empty((4, 8))
        values[:, order] = np.arange(8, 0, -1.0)
        found = cell(net, replace(e, values=values), metric(0.0)).curve
        return np.delete(found, position, 1)  # the size at which the feature itself is moved says nothing new

    first = heights(0)
    for position in range(1, 8):
        assert np.allclose(heights(position), first, atol=1e-12)


@BOTH
def test_random_orders_of_a_linear_model_rise_in_a_straight_line(metric):
    weight, x = rows(30, seed=3) - 0.3, rows(1, 30, seed=4).repeat(4000, 1)
    e = pellucid.explain(linear(weight), x, "random_attribution")
    found = cell(linear(weight), e, metric(0.0))
    total = float((weight * x[0]).sum())
    k = found.fractions
    expected = total * (k if metric is metrics.insertion else 1 - k)
    parts = (weight * x[0]).numpy()
    error = np.sqrt(30 * parts.var() * k * (1 - k) / 4000 * 30 / 29)  # of a sample without replacement
    assert (np.abs(found.curve.mean(0) - expected) <= 4.5 * error + 1e-9).all()
    assert found.values.mean() == pytest.approx(total / 2, abs=5 * np.abs(parts).sum() / np.sqrt(4000))


def test_on_a_linear_model_no_order_beats_the_exact_contributions():
    weight, x = rows(5, seed=3) - 0.5, rows(1, 5, seed=4)
    exact = pellucid.explain(linear(weight), x, "feature_ablation")
    up, down = cell(linear(weight), exact, metrics.insertion(0.0)), cell(linear(weight), exact, metrics.deletion(0.0))
    others = [replace(exact, values=np.array([order], float)) for order in itertools.permutations(range(5))]
    scores = pellucid.evaluate(linear(weight), others, [metrics.insertion(0.0), metrics.deletion(0.0)])
    insertions = [c.mean for c in scores.cells if c.family == "insertion"]
    deletions = [c.mean for c in scores.cells if c.family == "deletion"]
    assert max(insertions) == pytest.approx(up.mean, abs=1e-14)
    assert min(deletions) == pytest.approx(down.mean, abs=1e-14)
    assert min(insertions) < up.mean - 0.1
    assert max(deletions) > down.mean + 0.1


# ---------------------------------------------------------------- order


def test_ties_are_broken_at_random_by_seed_and_row():
    weight, x = rows(40, seed=3), rows(1, 40).repeat(200, 1)
    flat = pellucid.explain(lambda z: z.new_ones(len(z)), x, "feature_ablation")
    assert (flat.values == 0).all()

    def curve(e, **options):
        with pytest.warns(Unreliable, match="outputs differ"):
            return cell(linear(weight), e, metrics.insertion(0.0), **options).curve

    found = curve(flat)
    half = found[:, list(np.round(pellucid_fractions(40), 3)).index(0.45)]
    assert len(np.unique(np.round(half, 9))) > 150  # each row has an order of its own
    assert abs(half.mean() - 0.45 * found[0, -1]) < 5 * half.std() / np.sqrt(200)  # and no place is preferred
    assert (curve(flat) == found).all()
    assert not np.allclose(curve(flat, seed=1), found)
    assert np.allclose(curve(flat, run=Run(batch_size=7)), found, atol=1e-12)
    assert np.allclose(curve(flat[20:23]), found[20:23], atol=1e-12)


def pellucid_fractions(n):
    return np.array([round(f * n) for f in FRACTIONS]) / n


@BOTH
def test_signed_methods_put_large_positive_values_first_and_slopes_large_sizes(metric):
    weight = torch.tensor([3.0, -4.0, 1.0], dtype=torch.float64)
    x = torch.ones(2, 3, dtype=torch.float64)
    for method, order in (("input_x_gradient", [0, 2, 1]), ("saliency", [1, 0, 2])):
        e = pellucid.explain(linear(weight), x, method)
        parts = weight.numpy()[order]
        up = np.concatenate([[0], parts.cumsum()])
        expected = up if metric is metrics.insertion else up[-1] - up
        assert np.allclose(cell(linear(weight), e, metric(0.0)).curve, expected)


def test_channels_of_a_slope_join_by_size_and_contributions_by_sum():
    """Pixel 0 has slopes +5 and -5, pixel 1 has 1 and 1: by size pixel 0 is first, by sum pixel 1."""
    weight = torch.tensor([[[5.0, 1.0, 0.0]], [[-5.0, 1.0, 0.5]], [[0.0, 0.0, 0.0]]], dtype=torch.float64)
    x = torch.ones(1, 3, 1, 3, dtype=torch.float64)
    net = linear(weight)
    slope = cell(net, pellucid.explain(net, x, "saliency"), metrics.insertion(0.0)).curve[0]
    sums = cell(net, pellucid.explain(net, x, "input_x_gradient"), metrics.insertion(0.0)).curve[0]
    assert np.allclose(slope, [0, 0, 2, 2.5])  # pixels 0, 1, 2
    assert np.allclose(sums, [0, 2, 2.5, 2.5])  # pixels 1, 2, 0
