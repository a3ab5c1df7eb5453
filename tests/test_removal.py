"""Removals: what an absent feature becomes, seen through a model that gives back its input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

import pellucid
from pellucid import BadInput, methods, removal


def same(x):
    return x.flatten(1)


def stand_in(rule, x, bounds=None, axis=1, **options):
    """What x becomes when everything is taken away, averaged over the draws: (B, *dims).

    The model returns its input, so the one player that holds all of it counts for x minus its stand-in.
    """
    net = pellucid.wrap(same, bounds=bounds, axis=axis)
    everything = np.zeros(tuple(x.shape[1:]), int)
    e = pellucid.explain(net, x, methods.feature_ablation(rule), target="all", players=everything, **options)
    return x.numpy() - e.values[:, 0].reshape(x.shape)


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def shares(background_rows, rule_of, b=4, **options):
    """How often each background row stands in for each row of x, (B, R): a background row carries its own number."""
    x = torch.zeros(b, 1, dtype=torch.float64)
    numbers = torch.arange(background_rows, dtype=torch.float64)[:, None]

    def one_hot(z):
        return (z == numbers.T).double()

    e = pellucid.explain(one_hot, x, methods.feature_ablation(rule_of(numbers)), target="all", **options)
    here = np.eye(background_rows)[0]  # x is the number of row 0
    return here - e.values[:, 0]


# ---------------------------------------------------------------- what the model is asked about


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_kept_entry_is_itself_and_an_absent_one_its_stand_in_to_the_last_bit(dtype):
    seen = []

    def net(z):
        seen.append(z.clone())
        return z.sum(1, keepdim=True)

    x = torch.tensor([[0.1, -3e-7, 1e6, 1 / 3, -0.7], [2.0, 1e-30, 0.3, -1e20, 5.0]], dtype=dtype)
    other = torch.tensor([[1e12, 0.1, -1 / 7, 3e-9, 0.2], [-0.3, 1e9, 1 / 3, 7.0, 1e-4]], dtype=dtype)
    pellucid.explain(net, x, methods.exact_shapley(removal=removal.marginal(other)), target=0)
    asked = torch.cat(seen)
    kept = (asked[:, None] == x).unsqueeze(2)
    absent = asked[:, None, None] == other
    assert bool((kept | absent).all(3).any(2).any(1).all())  # each is a row on S and one stand-in elsewhere
    assert len(torch.unique(asked, dim=0)) == 2 * (2 * 30 + 1) + 2  # some kept, all kept; nobody is one for both rows


def test_an_output_that_is_not_finite_is_refused_and_a_huge_one_is_not():
    x = torch.ones(8, 3)
    huge = pellucid.explain(lambda z: z[:, :1] * 3e38, x, methods.feature_ablation(), target=0)
    assert np.allclose(huge.values[:, 0], 3e38)
    with pytest.raises(BadInput, match="NaN or infinite"):
        pellucid.explain(lambda z: 1 / z[:, :1], x, methods.feature_ablation(), target=0)


# ---------------------------------------------------------------- a fixed value


@pytest.mark.parametrize("value", [0.0, 1, np.float32(0.25), -2.5])
def test_a_number_fills_everything(value):
    assert (stand_in(value, rows(2, 3, 4, 4)) == np.full((2, 3, 4, 4), float(value))).all()


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, list, lambda a: a.astype(np.float32)])
def test_an_array_like_one_row_serves_all_rows(kind):
    x, value = rows(3, 5), np.round(np.random.default_rng(0).random(5), 2)
    assert np.allclose(stand_in(kind(value), x), np.broadcast_to(value, (3, 5)), atol=1e-7)
    assert np.allclose(stand_in(kind(value[None]), x), np.broadcast_to(value, (3, 5)), atol=1e-7)


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_an_array_like_the_batch_gives_each_row_its_own(batch_size):
    x, value = rows(5, 2, 3, 3), rows(5, 2, 3, 3, seed=8)
    found = stand_in(value, x, run=pellucid.Run(batch_size=batch_size))
    assert np.allclose(found, value, atol=1e-15)


def test_a_removal_passes_through_and_names_stand_for_recipes():
    x = rows(2, 3, 4, 4)
    assert (stand_in(removal.baseline(0.5), x) == 0.5).all()
    assert np.array_equal(stand_in("mean", x), stand_in(removal.mean(), x))
    assert np.array_equal(stand_in("uniform", x), stand_in(removal.uniform(), x))
    assert np.array_equal(stand_in("blur", x), stand_in(removal.blur(), x))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.zeros(4), r"shaped like x, \(5,\)"),
        (np.zeros((2, 5)), r"batch of 1 or 3; got \(2, 5\)"),
        (np.zeros((3, 5, 1)), "shaped like x"),
        (np.nan, "finite"),
        (np.inf, "finite"),
        (np.full(5, np.nan), "NaN"),
        (True, "number or an array"),
        (None, "number or an array"),
        ("black", "'black' is not known; use .*'uniform'"),
        (np.array(["a"] * 5), "array of numbers"),
        (np.ones(5, complex), "numbers"),
        (torch.ones(5, dtype=torch.complex64), "real numbers"),
        (object(), "array of numbers"),
    ],
)
def test_what_cannot_stand_in(value, says):
    with pytest.raises(BadInput, match=says):
        stand_in(value, rows(3, 5))


def test_equal_removals_are_equal_and_hash_alike():
    array = np.arange(3.0)
    assert removal.baseline(array) == removal.baseline(torch.from_numpy(array))
    assert hash(removal.baseline(array)) == hash(removal.baseline(array.copy()))
    assert removal.baseline(array) != removal.baseline(array + 1)
    assert removal.baseline(0.0) != removal.baseline(array)
    assert removal.baseline(0.0) == removal.baseline(0)
    assert removal.marginal(array[:, None]) == removal.marginal(array[:, None])
    assert removal.marginal(array[:, None]) != removal.marginal(array[:, None], draws=3)
    assert removal.blur(2) != removal.blur(3)


def test_a_removal_keeps_its_own_copy():
    array = np.zeros(5)
    rule = removal.baseline(array)
    array[:] = 9
    assert (stand_in(rule, rows(2, 5)) == 0).all()


# ---------------------------------------------------------------- mean and blur


@pytest.mark.parametrize(
    ("shape", "axis", "over"),
    [((3, 5, 6), 1, (2, 3)), ((5, 6, 3), -1, (1, 2)), ((2, 9), 1, (2,)), ((9, 4), 2, (1,))],
    ids=["picture", "channels last", "signal", "tokens"],
)
def test_mean_is_the_mean_of_each_channel_of_the_row(shape, axis, over):
    x = rows(2, *shape)
    expected = np.broadcast_to(x.numpy().mean(over, keepdims=True), x.shape)
    assert np.allclose(stand_in("mean", x, axis=axis), expected, atol=1e-14)


@pytest.mark.parametrize("rule", ["mean", "blur"])
def test_tables_have_no_neighbours(rule):
    with pytest.raises(BadInput, match=r"axes \('feature',\).*removal.marginal"):
        stand_in(rule, rows(2, 5))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_scipys_away_from_the_border(sigma):
    x = rows(2, 3, 40, 44)
    margin = int(np.ceil(8 * sigma))
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    expected = gaussian_filter(x.numpy(), (0, 0, sigma, sigma), truncate=8)
    found = stand_in(removal.blur(sigma), x)
    assert found[inside].size > 0
    assert np.abs(found[inside] - expected[inside]).max() < 1e-12


def test_blur_at_the_border_averages_what_there_is():
    x, sigma = rows(1, 2, 7), 1.5
    found = stand_in(removal.blur(sigma), x)  # a signal (channel, time)
    for t in range(7):
        weight = np.array([np.exp(-((t - u) ** 2) / (2 * sigma**2)) for u in range(7)])
        assert np.allclose(found[0, :, t], (x[0].numpy() * weight).sum(1) / weight.sum(), atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_blur_leaves_a_constant_alone(dtype):
    x = torch.full((1, 1, 4, 30), 0.7, dtype=dtype)
    found = pellucid.explain(same, x, methods.feature_ablation(removal.blur(3.0)), target=5).values
    assert np.abs(found).max() <= 4 * torch.finfo(dtype).eps


def test_blur_of_a_picture_wider_than_bfloat16_counts():
    """In bfloat16 261 is 260; a spike there must still spread to its neighbours as anywhere."""
    x = torch.zeros(1, 1, 1, 300, dtype=torch.float64)
    x[..., 260] = 1
    e = pellucid.explain(
        same, x.bfloat16(), methods.feature_ablation(removal.blur(1.0)), target=261, players=np.zeros((1, 1, 300), int)
    )
    assert -e.values[0, 0] == pytest.approx(np.exp(-0.5) / np.sqrt(2 * np.pi), abs=0.005)


@pytest.mark.parametrize("sigma", [0, -1.0, float("nan")])
def test_blur_needs_a_width(sigma):
    with pytest.raises(BadInput, match="sigma must be positive"):
        removal.blur(sigma)


# ---------------------------------------------------------------- uniform


def test_uniform_is_drawn_within_the_bounds_afresh_for_each_row():
    x = torch.zeros(40, 3, 8, 8, dtype=torch.float64)
    found = stand_in("uniform", x, bounds=(-2.0, 6.0))
    assert -2 <= found.min() < -1.9
    assert 5.9 < found.max() <= 6
    assert abs(found.mean() - 2) < 4 * 8 / np.sqrt(12 * found.size)
    assert len(np.unique(found)) == found.size
    assert (stand_in("uniform", x) < 1).all()  # x lies in [0, 1], so that is the range


def test_uniform_is_keyed_by_seed_and_row():
    x = rows(5, 1, 4, 4)
    whole = stand_in("uniform", x, seed=3)
    assert np.array_equal(whole, stand_in("uniform", x, seed=3))
    assert not np.isclose(whole, stand_in("uniform", x, seed=4)).any()
    assert np.array_equal(whole, stand_in("uniform", x, seed=3, run=pellucid.Run(batch_size=1)))
    for i in range(5):
        assert np.array_equal(whole[i : i + 1], stand_in("uniform", x[i : i + 1], seed=3, first_row=i))


def test_uniform_needs_to_know_the_range():
    with pytest.raises(BadInput, match=r"x leaves \[0, 1\].*bounds"):
        stand_in("uniform", rows(2, 5) * 3)


# ---------------------------------------------------------------- marginal


def test_marginal_averages_f_over_all_rows_exactly():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double().eval()
    x, background = rows(3, 4), rows(17, 4, seed=9)
    e = pellucid.explain(net, x, methods.feature_ablation(removal.marginal(background)), target="all")
    for i in range(4):
        mixed = x[:, None].repeat(1, 17, 1)
        mixed[:, :, i] = background[:, i]
        expected = (net(x) - net(mixed).mean(1)).detach()
        assert np.allclose(e.values[:, i], expected, atol=1e-14)


@pytest.mark.parametrize(("draws", "low", "high"), [(3, 0, 1), (7, 1, 1), (14, 2, 2), (17, 2, 3)])
def test_a_balanced_sample_uses_each_row_once_a_pass(draws, low, high):
    used = shares(7, lambda b: removal.marginal(b, draws=draws)) * draws
    assert np.allclose(used, np.round(used))
    assert np.round(used).min() >= low
    assert np.round(used).max() <= high
    assert np.allclose(used.sum(1), draws)
    if low < high:
        assert len(np.unique(used, axis=0)) > 1  # rows of x are served differently


def test_every_background_row_is_drawn_as_often():
    used = shares(6, lambda b: removal.marginal(b, draws=2), b=3000)
    error = np.sqrt((1 / 6) * (1 / 3) / 3000)  # each draw takes a row with 1/3, counted as 1/2
    assert np.abs(used.mean(0) - 1 / 6).max() < 4 * error


def test_the_sample_is_keyed_by_seed_and_row():
    def rule(b):
        return removal.marginal(b, draws=4)

    whole = shares(9, rule, b=6, seed=2)
    assert np.array_equal(whole, shares(9, rule, b=6, seed=2, run=pellucid.Run(batch_size=1)))
    assert not np.array_equal(whole, shares(9, rule, b=6, seed=3))
    for i in range(6):
        assert np.array_equal(whole[i : i + 1], shares(9, rule, b=1, seed=2, first_row=i))


def test_stand_ins_of_a_row_are_shared_by_all_its_players():
    """One draw takes whole background rows: every player's absence is filled from the same one."""
    x, background = rows(4, 6), rows(50, 6, seed=4)
    e = pellucid.explain(same, x, methods.feature_ablation(removal.marginal(background, draws=1)), target="all")
    filled = x.numpy() - np.einsum("bii->bi", e.values)
    matches = np.isclose(filled[:, None], background.numpy()[None]).all(2)
    assert (matches.sum(1) == 1).all()


def test_more_than_a_thousand_rows_are_refused_with_the_way_out():
    with pytest.raises(BadInput, match=r"1001 background rows is refused \(the limit is 1000\).*draws=k"):
        removal.marginal(np.zeros((1001, 3)))
    assert removal.marginal(np.zeros((1000, 3))).draws == 1000
    assert removal.marginal(np.zeros((1001, 3)), draws=20).draws == 20


@pytest.mark.parametrize(
    ("background", "draws", "says"),
    [
        (np.zeros(3), None, r"batch of rows \(R, ...\)"),
        (np.zeros((0, 3)), None, "batch of rows"),
        (np.array([[0, np.nan, 0]]), None, "NaN"),
        (np.array([["a", "b", "c"]]), None, "array of numbers"),
        (np.zeros((4, 3)), 0, "draws must be at least 1"),
        (np.zeros((4, 2)), None, r"shaped like x, \(3,\); got \(2,\)"),
        (np.zeros((4, 2)), 2, r"shaped like x, \(3,\); got \(2,\)"),
    ],
)
def test_what_is_no_background(background, draws, says):
    with pytest.raises(BadInput, match=says):
        stand_in(removal.marginal(background, draws=draws), rows(2, 3))


def test_a_background_may_be_a_frame():
    frame = pd.DataFrame(rows(5, 3).numpy(), columns=["a", "b", "c"])
    rule = removal.marginal(frame[["c", "a", "b"]].iloc[2:])  # matched by name, not by place

    e = pellucid.explain(lambda f: f["a"] + 10 * f["b"], frame, methods.feature_ablation(rule))
    gone = frame.to_numpy() - frame.to_numpy()[2:].mean(0)
    assert np.allclose(e.values, gone * [1, 10, 0], atol=1e-14)
