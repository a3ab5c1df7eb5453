"""rise: closed forms, a slow twin of the authors' recipe, standard errors, memory, and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Run, Target, Unreliable, Unsupported, games, methods, players, removal
from pellucid.games.masks import enlargement
from tests.reference import masks


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def net(*shape, outputs=3):
    torch.manual_seed(0)
    size = int(np.prod(shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 6), nn.Tanh(), nn.Linear(6, outputs)).double().eval()


def one(model, target):
    return lambda x: float(model(torch.from_numpy(np.array(x))[None])[0, target].detach())


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize(
    ("shape", "cells", "keep"),
    [((9, 7), 3, 0.5), ((9, 7), 7, 0.3), ((4, 4), 7, 0.5), ((5, 6), 1, 0.4), ((21,), 4, 0.5)],
)
def test_it_is_the_slow_recipe_with_the_same_draws(shape, cells, keep):
    inner, x, budget = net(3, *shape), rows(3, 3, *shape), 70  # two calls of the generator, one of them cut short
    model = lambda z: inner(z).detach()  # noqa: E731
    e = pellucid.explain(model, x, methods.rise(budget, cells, keep, removal=0.2), target=1, seed=5, first_row=4)
    assert e.values.shape == (3, *shape)
    for row in range(3):
        drawn = masks.soft_masks(shape, cells, keep, budget, seed=5, row=4 + row)
        values, errors = masks.rise(one(model, 1), x[row].numpy(), drawn, background=0.2)
        assert np.abs(e.values[row] - values).max() < 1e-12
        assert np.abs(e.std_error[row] - errors).max() < 1e-8  # of variances, the root of rounding


@pytest.mark.parametrize(("cells", "size"), [(7, 36), (1, 8), (2, 9), (8, 18), (3, 4), (5, 6)])
def test_enlarging_is_what_scikit_image_does(cells, size):
    from skimage.transform import resize

    grid, weights = rows(cells, cells).numpy(), enlargement(size, cells).numpy()
    assert np.allclose(weights.sum(1), 1, atol=1e-15)
    assert (weights >= 0).all()
    expected = resize(grid, (size, size), order=1, mode="reflect", anti_aliasing=False)
    assert np.abs(weights @ grid @ weights.T - expected).max() < 1e-14


@pytest.mark.parametrize("options", [{}, {"players": players.grid(2)}, {"players": players.grid(4)}])
def test_a_constant_explains_as_itself(options):
    model = lambda x: torch.full((len(x),), 3.5, dtype=x.dtype)  # noqa: E731
    e = pellucid.explain(model, rows(2, 1, 8, 8), methods.rise(64), **options)
    assert np.abs(e.values - 3.5).max() < 1e-14
    assert np.abs(e.std_error).max() < 1e-7


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_independent_masks_and_a_linear_model_have_a_closed_form(keep):
    weight, x = rows(3, 6, seed=3) - 0.5, rows(4, 6)
    linear = nn.Linear(6, 3, bias=False).double().eval()
    linear.weight.data = weight
    e = pellucid.explain(linear, x, methods.rise(64, keep=keep, removal=0.25), target="all")
    gains = (x - 0.25)[:, :, None] * weight.T  # what showing a column adds
    expected = 0.25 * weight.sum(1) + keep * gains.sum(1, keepdim=True) + (1 - keep) * gains
    assert np.abs(e.values - expected.numpy()).max() < 1e-13
    assert (e.std_error == 0).all()  # 2^6 coalitions fit the budget
    assert e.details["exact"]
    mean = 0.25 * weight.sum(1) + keep * gains.sum(1)
    assert np.abs(e.details["mean_output"] - mean.numpy()).max() < 1e-13


def test_players_and_games_are_kept_one_by_one():
    """The expectation over all coalitions, each with its probability."""
    model, x, keep = net(1, 4, 4), rows(2, 1, 4, 4), 0.3
    e = pellucid.explain(model, x, methods.rise(16, keep=keep), target=0, players=players.grid(2))
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    share = (keep**every * (1 - keep) ** (1 - every)).prod(1, keepdim=True)
    for row in range(2):
        plane = every.reshape(16, 1, 2, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
        scores = model(plane * x[row])[:, :1].detach()
        expected = (share * every * scores).sum(0) / (share * every).sum(0)
        assert np.abs(e.values[row] - expected.numpy()).max() < 1e-13
    game = games.FunctionGame(4, lambda s: (s.sum(1) >= 3).double())
    played = pellucid.play(game, methods.rise(16)).values
    assert np.allclose(played, 0.5)  # of the other three, two or three: (3 + 1) / 8
    assert played.shape == (1, 4)


def test_what_shows_through_is_the_removal():
    x, weight = rows(2, 3, 12, 12), rows(3, 12, 12, seed=4)
    model = lambda z: (z * weight).sum((1, 2, 3))  # noqa: E731
    blurred = removal.blur(2.0)
    e = pellucid.explain(model, x, methods.rise(64, removal=blurred))
    axis = torch.arange(12, dtype=torch.float64)
    kernel = torch.exp(-((axis[:, None] - axis) ** 2) / 8)
    kernel /= kernel.sum(1, keepdim=True)
    behind = kernel @ x @ kernel.T
    for row in range(2):
        drawn = masks.soft_masks((12, 12), 7, 0.5, 64, seed=0, row=row)
        values, _ = masks.rise(lambda z: float((z * weight.numpy()).sum()), x[row].numpy(), drawn, behind[row].numpy())
        assert np.abs(e.values[row] - values).max() < 1e-11


def test_the_paper_reads_a_probability():
    model, x = net(1, 6, 6), rows(1, 1, 6, 6)
    soft = nn.Sequential(model, nn.Softmax(1)).eval()
    read = pellucid.explain(model, x, methods.rise(64), target=Target(1, read="prob"))
    wrapped = pellucid.explain(pellucid.wrap(soft, scale="prob"), x, methods.rise(64), target=1)
    assert np.abs(read.values - wrapped.values).max() < 1e-14
    assert read.values.max() < 1


def test_all_outputs_come_from_the_same_forwards():
    model, x = net(1, 6, 6), rows(2, 1, 6, 6)
    every, alone = (pellucid.explain(model, x, methods.rise(80), target=t) for t in ("all", 2))
    assert every.values.shape == (2, 6, 6, 3)
    assert every.map().shape == (2, 6, 6, 3)
    assert np.abs(every.values[..., 2] - alone.values).max() < 1e-13
    assert every.cost["forwards"] == alone.cost["forwards"] <= 2 * 80 + 4


def test_it_finds_where_the_evidence_is():
    """A bright square decides; its pixels must come out on top, well beyond their errors."""
    x = torch.zeros(1, 1, 28, 28)
    x[:, :, 4:12, 16:24] = 1.0
    e = pellucid.explain(lambda z: torch.sigmoid(z[:, 0, 4:12, 16:24].mean((1, 2)) * 8 - 4), x, methods.rise(1000))
    inside = np.zeros((28, 28), bool)
    inside[6:10, 18:22] = True
    outside = np.ones((28, 28), bool)
    outside[:16, 12:28] = False
    assert e.values[0][inside].min() > e.values[0][outside].max() + 3 * e.std_error.max()


# ---------------------------------------------------------------- standard errors


def coverage(e, truth):
    """The share of t-intervals that hold the truth."""
    from scipy.stats import t

    reach = t.ppf(0.975, e.details["degrees_of_freedom"]) * e.std_error
    return float((np.abs(e.values - truth) <= reach).mean())


def test_errors_are_calibrated_where_the_truth_is_enumerated():
    """Rows that are alike have draws of their own, so 400 rows are 400 replicates."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 1)).double().eval()
    x = rows(1, 8) + 0.5
    truth = pellucid.explain(model, x, methods.rise(256, keep=0.4)).values
    e = pellucid.explain(model, x.expand(400, -1), methods.rise(120, keep=0.4), seed=2)
    assert 0.935 < coverage(e, truth) < 0.965
    assert np.abs(e.values.mean(0) - truth).max() < 4 * e.std_error.mean() / 20 + 0.01 * np.abs(truth).max()


def test_errors_of_soft_masks_are_the_spread_between_rows():
    model, x = net(1, 10, 10), rows(1, 1, 10, 10)
    e = pellucid.explain(model, x.expand(300, -1, -1, -1), methods.rise(128, cells=4), target=0)
    ratio = e.values.std(0, ddof=1) / e.std_error.mean(0)
    assert abs(ratio.mean() - 1) < 0.06


def test_a_random_background_enters_the_error():
    x, background = torch.ones(200, 4, dtype=torch.float64), rows(50, 4) * 4
    model = lambda z: z.sum(1)  # noqa: E731
    whole = pellucid.explain(model, x, methods.rise(128, removal=removal.marginal(background)))
    drawn = pellucid.explain(model, x, methods.rise(128, removal=removal.marginal(background, draws=1)))
    assert whole.details["std_error_covers"] == "nothing: all coalitions were valued"
    assert drawn.details["std_error_covers"] == "the masks and the background"
    assert 0.93 < coverage(drawn, whole.values) < 0.97


def test_one_mask_has_no_error_and_says_so():
    with pytest.warns(Unreliable, match="1 independent draws are too few"):
        e = pellucid.explain(net(1, 6, 6), rows(1, 1, 6, 6), methods.rise(1, cells=1, keep=0.99), target=0)
    assert np.isnan(e.std_error).all()


# ---------------------------------------------------------------- how it is computed


@pytest.mark.parametrize("options", [{}, {"players": players.grid(5)}], ids=["masks", "players"])
def test_neither_the_batch_nor_the_other_rows_matter(options):
    model, x = net(1, 10, 9), rows(5, 1, 10, 9)
    e = pellucid.explain(model, x, methods.rise(100), target=0, seed=3, **options)
    for batch_size in (1, 33):
        again = pellucid.explain(
            model, x, methods.rise(100), target=0, seed=3, run=Run(batch_size=batch_size), **options
        )
        assert np.abs(e.values - again.values).max() < 1e-13
    alone = pellucid.explain(model, x[3:4], methods.rise(100), target=0, seed=3, first_row=3, **options)
    for name in ("values", "std_error"):
        assert np.abs(getattr(e, name)[3] - getattr(alone, name)[0]).max() < 1e-13
    assert np.abs(e.details["mean_output"][3:4] - alone.details["mean_output"]).max() < 1e-13
    same, other = (pellucid.explain(model, x, methods.rise(100), target=0, seed=s, **options) for s in (3, 4))
    assert (same.values == e.values).all()
    assert (other.values != e.values).any()


def test_rows_divided_into_fewer_players_lack_the_last_ones():
    labels = np.array([[[0, 0, 1, 1, 2, 2, 3, 3]] * 4, [[0, 0, 0, 1, 1, 1, 1, 1]] * 4])
    model, x = net(1, 4, 8), rows(2, 1, 4, 8)
    e = pellucid.explain(model, x, methods.rise(10), target=0, players=labels)
    assert (e.values[1, 2:] == 0).all()
    assert (e.std_error[1, 2:] == 0).all()
    assert (e.values[1, :2] != 0).all()
    assert np.allclose(e[1].map().sum(), e.values[1].sum())


def test_masks_are_never_held_together(tmp_path):
    """Of 4,000 masks of 64 x 64 only sums are kept: a stored chunk holds a few numbers a position."""
    x = rows(1, 1, 64, 64).float()
    weight = rows(64, 64, seed=2).float()
    e = pellucid.explain(lambda z: (z[:, 0] * weight).mean((1, 2)), x, methods.rise(), run=Run(store=tmp_path))
    assert e.cost["forwards"] >= 4000
    assert e.cost["peak_bytes"] < 4000 * 64 * 64 * 4
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.npz")]
    assert len(sizes) > 4
    assert max(sizes) < 10 * 64 * 64 * 8


class Words(nn.Module):
    """A number for each id, summed over all of them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Embedding.from_pretrained(torch.tensor([[0.0], [1.0], [-2.0], [3.0], [0.5]]).double())

    def forward(self, ids):
        return self.weight(ids).flatten(1).sum(1)


def test_ids_are_kept_one_by_one():
    ids = torch.tensor([[1, 2, 3, 4, 4], [4, 3, 2, 1, 1]])
    e = pellucid.explain(Words().eval(), ids, methods.rise(32))
    gains = Words().weight(ids)[..., 0]
    expected = 0.5 * gains.sum(1, keepdim=True) + 0.5 * gains
    assert e.dims == ("token",)
    assert np.abs(e.values - expected.numpy()).max() < 1e-13


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget": 0}, "budget must be a whole number of at least 1, got 0"),
        ({"budget": 2.5}, "budget must be a whole number"),
        ({"budget": True}, "budget must be a whole number"),
        ({"cells": 0}, "cells must be a whole number"),
        ({"keep": 0.0}, "keep must lie between 0 and 1, got 0.0"),
        ({"keep": 1.0}, "keep must lie between 0 and 1"),
        ({"removal": "grey"}, "'grey' is not known"),
    ],
)
def test_settings_that_make_no_masks(options, says):
    with pytest.raises(BadInput, match=says):
        methods.rise(**options)


def test_whole_numbers_cannot_be_shown_in_part():
    with pytest.raises(Unsupported, match=r"cannot be masked in part; pass players=players.positions\(\), or use"):
        pellucid.explain(Words().eval(), torch.ones(1, 1, 6, 6, dtype=torch.long), methods.rise())


def test_a_position_that_no_mask_showed_is_named():
    with pytest.warns(Unreliable, match=r"no mask showed some positions, whose values are NaN; raise budget=4 or keep"):
        e = pellucid.explain(lambda z: z.sum(1), rows(1, 30), methods.rise(4, keep=0.1))
    assert np.isnan(e.values).any()
    assert np.isfinite(e.values).any()
