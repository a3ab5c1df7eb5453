"""Insertion, deletion and completeness: slow twins, closed forms, theorems, and what a score may not depend on."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Run, Target, Unreliable, Unsupported, methods, metrics, players, removal
from pellucid.core.removal import Uniform
from pellucid.metrics.metric import Marks, Metric
from pellucid.metrics.perturbation import FRACTIONS
from tests.reference import perturbation as slow


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def picture_net(outputs=3, channels=2, size=6):
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * size * size, outputs)
    return nn.Sequential(*layers).double().eval()


def linear(weight):
    return lambda x: (x * weight).flatten(1).sum(1)


def as_numpy(net, column=0):
    return lambda x: net(torch.from_numpy(x)).detach().numpy()[:, column]


def cell(model, e, metric, **options):
    return pellucid.evaluate(model, e, metric, **options).cells[0]


BOTH = pytest.mark.parametrize("metric", [metrics.insertion, metrics.deletion], ids=["insertion", "deletion"])


# ---------------------------------------------------------------- the curve


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


# ---------------------------------------------------------------- units


def test_players_are_moved_whole():
    net, x = picture_net(), rows(3, 2, 6, 6)
    e = pellucid.explain(net, x, "feature_ablation", target=0, players=players.grid(3, 2))
    found = cell(net, e, metrics.insertion(0.3))
    members = [[] for _ in range(6)]
    for place in np.ndindex(2, 6, 6):
        members[e.players[place]].append(place)
    expected = slow.curve(as_numpy(net), x.numpy(), members, e.values, np.full(x.shape, 0.3), range(7), inserting=True)
    assert np.allclose(found.curve, expected, atol=1e-12)


def test_entries_without_a_player_stay_at_both_ends():
    weight, x = rows(4) + 1, rows(3, 4)
    e = pellucid.explain(linear(weight), x, "feature_ablation", players=[0, -1, 1, -1])
    own = pellucid.explain(linear(weight), x, "feature_ablation")
    for first in (e, own):  # what methods share must not leak from one division to another
        scores = pellucid.evaluate(linear(weight), [first, own if first is e else e], metrics.insertion(0.0))
        mine = next(c for c in scores.cells if c.curve.shape[1] == 3)
        kept = (weight * x)[:, [1, 3]].sum(1)
        assert np.allclose(mine.curve[:, 0], kept)
        assert np.allclose(mine.curve[:, -1], (weight * x).sum(1))
        other = next(c for c in scores.cells if c.curve.shape[1] == 5)
        assert np.allclose(other.curve[:, 0], 0)


def test_a_common_grid_ranks_all_methods_by_the_same_cells():
    net, x = picture_net(), rows(3, 2, 6, 6)
    pixel = pellucid.explain(net, x, "feature_ablation", target=0)
    by_cell = pellucid.explain(net, x, "feature_ablation", target=0, players=players.grid(3))
    scores = pellucid.evaluate(net, {"pixel": pixel, "cell": by_cell}, metrics.insertion(0.0, grid=3))
    members = slow.cells((2, 6, 6), 3)
    for found, values in zip(scores.cells, [pixel.values.sum(1), by_cell.map()], strict=True):
        sums = np.stack([sum(values[:, h, w] for c, h, w in unit if c == 0) for unit in members], 1)
        blank = np.zeros(x.shape)
        expected = slow.curve(as_numpy(net), x.numpy(), members, sums, blank, range(10), inserting=True)
        assert np.allclose(found.curve, expected, atol=1e-12)
        assert found.granularity == "3 x 3 patches"


def test_a_grid_finer_than_the_picture_is_its_pixels_and_tables_keep_their_columns():
    net, x = picture_net(), rows(2, 2, 6, 6)
    e = pellucid.explain(net, x, "saliency", target=0)
    coarse, own = (cell(net, e, metrics.deletion(0.0, grid=grid)) for grid in (50, None))
    assert np.allclose(coarse.curve, own.curve)
    table = pellucid.explain(linear(rows(5)), rows(3, 5), "feature_ablation", players=[0, 0, 1, 1, 1])
    assert cell(linear(rows(5)), table, metrics.deletion(0.0, grid=3)).curve.shape == (3, 6)
    assert cell(linear(rows(5)), table, metrics.deletion(0.0)).curve.shape == (3, 3)


def test_a_layers_map_is_ranked_at_input_size():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).eval()
    x = rows(4, 1, 8, 8).float()
    e = pellucid.explain(net, x, methods.grad_cam("1"), target=0)
    assert e.dims == ("layer_height", "layer_width")
    assert e.values.shape == (4, 4, 4)
    large = nn.functional.interpolate(torch.from_numpy(e.values)[:, None], (8, 8), mode="bilinear")[:, 0].numpy()
    assert np.allclose(e.map(), large, atol=1e-6)
    found = cell(net, e, metrics.insertion(0.0, fractions=(0.0, 0.05, 1.0)))
    assert found.curve.shape == (4, 3)
    for row in range(4):
        if len(np.unique(np.sort(large[row].ravel())[-4:])) == 4:  # no tie among the first three
            top = np.argsort(-large[row].ravel())[:3]
            picture = torch.zeros(64)
            picture[top] = x[row].flatten()[top]
            assert found.curve[row, 1] == pytest.approx(net(picture.reshape(1, 1, 8, 8))[0, 0].item(), abs=1e-5)


def test_tokens_of_a_sequence_are_moved_whole():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(20, 1)).double().eval()
    x = rows(2, 5, 3)
    e = pellucid.explain(net, x, "input_x_gradient", target=0)
    members = [[(t, k) for k in range(3)] for t in range(5)]
    found = cell(net, e, metrics.insertion(0.0))
    blank = np.zeros(x.shape)
    expected = slow.curve(as_numpy(net), x.numpy(), members, e.values.sum(2), blank, range(6), inserting=True)
    assert np.allclose(found.curve, expected, atol=1e-12)


# ---------------------------------------------------------------- references


def test_a_random_reference_is_drawn_for_each_row_and_shared_by_all_methods():
    net, x = pellucid.wrap(picture_net(), bounds=(0, 1)), rows(5, 2, 6, 6)
    two = [pellucid.explain(net, x, m, target=0, seed=s) for m, s in (("saliency", 0), ("random_attribution", 9))]
    scores = pellucid.evaluate(net, two, metrics.insertion("uniform"), seed=5)
    assert np.array_equal(scores.cells[0].curve[:, 0], scores.cells[1].curve[:, 0])
    assert len(np.unique(scores.cells[0].curve[:, 0])) == 5
    single = cell(net, two[0][3], metrics.insertion("uniform"), seed=5)
    assert np.allclose(single.curve, scores.cells[0].curve[3:4], atol=1e-12)


def test_a_background_is_averaged_over():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double().eval()
    x, background = rows(2, 3), rows(6, 3, seed=5)
    e = pellucid.explain(net, x, "input_x_gradient", target=0)
    found = cell(net, e, metrics.insertion(removal.marginal(background)))
    each = [cell(net, e, metrics.insertion(background[r])).curve for r in range(6)]
    assert np.allclose(found.curve, np.mean(each, axis=0), atol=1e-12)


@pytest.mark.parametrize(
    ("method", "reference", "matched"),
    [
        (methods.integrated_gradients(), 0.0, True),
        (methods.integrated_gradients(), 0.5, False),
        (methods.integrated_gradients(baseline="mean"), "mean", True),
        (methods.integrated_gradients(baseline=removal.blur(2)), removal.blur(2), True),
        (methods.integrated_gradients(baseline=removal.blur(2)), removal.blur(3), False),
        (methods.feature_ablation("uniform"), "uniform", True),
        (methods.feature_ablation("uniform"), Uniform(5), True),
        (methods.feature_ablation(rows(1, 6, 6)), rows(1, 6, 6), True),
        (methods.feature_ablation(rows(1, 6, 6)), rows(1, 6, 6, seed=2), False),
        (methods.expected_gradients(rows(4, 1, 6, 6), samples=8), removal.marginal(rows(4, 1, 6, 6), draws=3), True),
        (methods.saliency(), 0.0, False),
        (methods.random_attribution(), 0.0, False),
    ],
)
@pytest.mark.filterwarnings("ignore::pellucid.Unreliable")
def test_a_reference_that_is_the_methods_own_baseline_is_marked(method, reference, matched, tmp_path):
    net, x = picture_net(channels=1), rows(2, 1, 6, 6)
    e = pellucid.explain(net, x, method, target=0)
    e.save(tmp_path / "e.npz")
    for one in (e, pellucid.load(tmp_path / "e.npz"), pellucid.aggregate([e, e])):
        found = pellucid.evaluate(net, one, [metrics.insertion(reference), metrics.completeness()])
        assert [c.matched for c in found.cells] == [matched, False]
        assert found.table["matched"].tolist() == [matched, False]


def test_references_are_told_apart_by_name_or_number():
    net, x = picture_net(channels=1), rows(2, 1, 6, 6)
    e = pellucid.explain(net, x, "saliency", target=0)
    asked = [metrics.insertion(rows(1, 6, 6)), metrics.insertion(rows(1, 6, 6, seed=2)), metrics.insertion(0.0)]
    scores = pellucid.evaluate(net, e, [*asked, metrics.insertion(0.0)])
    assert scores.metrics == (
        "insertion, given reference, features",
        "insertion, given reference, features 2",
        "insertion, 0 reference, features",
    )
    assert len(scores.cells) == 3  # one and the same metric is measured once
    assert scores.cell("saliency", scores.metrics[0]).mean != scores.cell("saliency", scores.metrics[1]).mean


# ---------------------------------------------------------------- evaluate


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
