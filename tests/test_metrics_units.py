"""What insertion and deletion rank, and what they put in place of what they take away."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import methods, metrics, players, removal
from pellucid.core.removal import Uniform
from tests.reference import perturbation as slow
from tests.reference.scored import as_numpy, cell, linear, picture_net, rows


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
