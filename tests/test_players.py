"""Players: every way to divide an input, what goes wrong, and that values, masks and maps agree with slow loops."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, methods, players
from pellucid.core.players import Players


def linear(*shape, outputs=1, seed=0):
    """A linear model of inputs of this shape, in float64, and its weights (outputs, *shape)."""
    torch.manual_seed(seed)
    weight = torch.randn(outputs, *shape, dtype=torch.float64)

    def model(x):
        return x.flatten(1) @ weight.flatten(1).T

    return model, weight


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def divided(x, by):
    """What a linear model says of players, and its parts w * x that they should sum."""
    model, weight = linear(*x.shape[1:])
    e = pellucid.explain(model, x, methods.input_x_gradient(), target=0, players=by)
    return e, (weight * x).numpy()


# ---------------------------------------------------------------- ways to divide


def test_each_entry_is_a_player():
    x = rows(3, 2, 4, 5)
    e, parts = divided(x, players.each())
    assert e.values.shape == (3, 40)
    assert np.allclose(e.values, parts.reshape(3, 40), atol=1e-14)
    assert e.feature_names[7] == "0,1,2"


@pytest.mark.parametrize(
    ("shape", "joined"),
    [((3, 4, 5), 0), ((6, 5, 3), 2), ((1, 4, 5), 0), ((3, 1, 5), 0)],
    ids=["channels first", "channels last", "one channel", "one pixel high"],
)
def test_positions_join_the_channels(shape, joined):
    x = rows(2, *shape)
    e, parts = divided(x, players.positions())
    assert np.allclose(e.values, parts.sum(1 + joined).reshape(2, -1), atol=1e-14)
    assert len(set(e.feature_names)) == e.values.shape[1]
    assert np.allclose(e.map().reshape(2, -1), e.values, atol=1e-14)


def test_positions_of_a_sequence_are_tokens_and_of_a_table_its_columns():
    model, weight = linear(4, 6)
    x = rows(2, 4, 6)
    net = pellucid.wrap(model, axis=2)
    e = pellucid.explain(net, x, methods.input_x_gradient(), target=0, players=players.positions())
    assert np.allclose(e.values, (weight * x).sum(2), atol=1e-14)
    frame = pd.DataFrame(rows(2, 3).numpy(), columns=["age", "dose", "site"])
    e = pellucid.explain(lambda f: f.to_numpy().sum(1), frame, "feature_ablation", players=players.positions())
    assert e.feature_names == ("age", "dose", "site")
    assert np.allclose(e.values, frame.to_numpy(), atol=1e-14)


@pytest.mark.parametrize(("size", "cells"), [((6, 6), (3, 3)), ((7, 5), (3, 2)), ((9, 4), (4, 4)), ((3, 3), (1, 1))])
def test_grid_cells_are_rectangles_of_nearly_one_size(size, cells):
    x = rows(2, 3, *size)
    e, parts = divided(x, players.grid(*cells))
    height, width = size
    for i, j in itertools.product(range(cells[0]), range(cells[1])):
        down = [h for h in range(height) if h * cells[0] // height == i]
        across = [w for w in range(width) if w * cells[1] // width == j]
        assert down == list(range(down[0], down[-1] + 1))
        assert 0 <= len(down) - height // cells[0] <= 1
        assert 0 <= len(across) - width // cells[1] <= 1
        sum_ = parts[:, :, down][..., across].sum((1, 2, 3))
        assert np.allclose(e.values[:, i * cells[1] + j], sum_, atol=1e-14)
    assert e.feature_names[-1] == f"cell {cells[0] - 1},{cells[1] - 1}"


def test_grid_of_pictures_with_channels_last():
    x = rows(2, 6, 4, 3)
    e, parts = divided(x, players.grid(3, 2))
    assert np.allclose(e.values, parts.reshape(2, 3, 2, 2, 2, 3).sum((2, 4, 5)).reshape(2, 6), atol=1e-14)


@pytest.mark.parametrize(
    "by",
    [
        {"size": [0, 2], "colour": [3]},
        {"size": np.array([0, 2]), "colour": torch.tensor([3])},
        {"size": (0, 2), "colour": 3},
        players.groups({"size": [0, 2], "colour": [3]}),
    ],
    ids=["lists", "arrays", "a single entry", "division"],
)
def test_groups_by_name(by):
    e, parts = divided(rows(3, 5), by)
    assert e.feature_names == ("size", "colour")
    assert np.allclose(e.values, np.stack([parts[:, 0] + parts[:, 2], parts[:, 3]], 1), atol=1e-14)
    assert (e.players == [0, -1, 0, 1, -1]).all()


@pytest.mark.parametrize(
    "by", [[[0, 2], [3]], players.groups([[0, 2], [3]]), [0, -1, 0, 1, -1], np.array([0, -1, 0, 1, -1], np.int8)]
)
def test_groups_by_number(by):
    e, parts = divided(rows(3, 5), by)
    assert np.allclose(e.values, np.stack([parts[:, 0] + parts[:, 2], parts[:, 3]], 1), atol=1e-14)


def test_groups_of_columns_of_a_frame():
    frame = pd.DataFrame(rows(3, 4).numpy(), columns=["age", "dose", "site", "sex"])
    weight = np.array([1.0, -2.0, 3.0, 0.5])
    by = {"who": ["age", "sex"], "what": "dose"}
    e = pellucid.explain(lambda f: f.to_numpy() @ weight, frame, "feature_ablation", players=by)
    parts = frame.to_numpy() * weight
    assert np.allclose(e.values, np.stack([parts[:, 0] + parts[:, 3], parts[:, 1]], 1), atol=1e-14)
    assert e.to_dataframe()["feature"].tolist() == ["who", "what"] * 3


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, torch.int64, torch.int32])
def test_labels_like_one_row_or_like_its_positions(dtype):
    plane = np.array([[0, 0, 1], [2, -1, 1]])
    x = rows(2, 3, 2, 3)
    for labels in (plane, np.broadcast_to(plane, (3, 2, 3)).copy()):
        by = torch.tensor(labels, dtype=dtype) if isinstance(dtype, torch.dtype) else labels.astype(dtype)
        e, parts = divided(x, by)
        for player in range(3):
            assert np.allclose(e.values[:, player], (parts * (plane == player)).sum((1, 2, 3)), atol=1e-14)


@pytest.mark.parametrize("channels", [True, False], ids=["like the batch", "like its positions"])
@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_labels_of_each_row_may_differ_in_number(channels, batch_size):
    """Superpixels: the second row has two segments, the third none; blocks of rows must not trip over it."""
    labels = np.array([[[0, 0, 1], [2, 3, 1]], [[1, 1, 1], [0, -1, 0]], [[-1, -1, -1], [-1, -1, -1]]])
    x = rows(3, 4, 2, 3)
    by = np.repeat(labels[:, None], 4, 1) if channels else labels
    run = pellucid.Run(batch_size=batch_size)
    for method in (methods.input_x_gradient(), methods.feature_ablation()):
        model, weight = linear(4, 2, 3)
        e = pellucid.explain(model, x, method, target=0, players=by, run=run)
        parts = (weight * x).sum(1).numpy()
        expected = [[(parts[i] * (labels[i] == p)).sum() for p in range(4)] for i in range(3)]
        assert np.allclose(e.values, expected, atol=1e-13)
        for i in range(3):
            assert np.allclose(e[i].map(), e.map()[i : i + 1])
            assert np.allclose(e[i].map().sum(), e.values[i].sum())


def test_players_object_is_taken_as_it_is():
    mine = Players(torch.tensor([0, 1, 1]), ("a", "b"))
    e, parts = divided(rows(2, 3), mine)
    assert e.feature_names == ("a", "b")
    assert np.allclose(e.values[:, 1], parts[:, 1:].sum(1), atol=1e-14)


# ---------------------------------------------------------------- what players mean


def test_entries_without_a_player_stay_when_players_leave():
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double().eval()
    x = rows(3, 4)
    e = pellucid.explain(net, x, methods.feature_ablation(0.25), target=0, players=[0, -1, 1, 0])
    for row, taken in itertools.product(range(3), range(2)):
        absent = x[row : row + 1].clone()
        absent[:, [0, 3] if taken == 0 else [2]] = 0.25
        expected = (net(x[row : row + 1]) - net(absent)).item()
        assert e.values[row, taken] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("target", [0, "all"])
@pytest.mark.parametrize(
    "by", [players.each(), players.positions(), players.grid(3, 2), players.groups([[0, 5, 30], [7]])]
)
@pytest.mark.parametrize("method", ["input_x_gradient", "feature_ablation", "random_attribution"])
def test_map_sums_to_the_values(method, by, target):
    model, _ = linear(3, 5, 4, outputs=3)
    e = pellucid.explain(model, rows(2, 3, 5, 4), method, target=target, players=by)
    extra = (3,) if target == "all" else ()
    assert e.map().shape == (2, 5, 4, *extra)
    assert np.allclose(e.map().sum((1, 2)), e.values.sum(1), atol=1e-12)


def test_map_spreads_a_player_evenly_and_leaves_the_rest_at_zero():
    e, _ = divided(rows(2, 1, 2, 3), np.array([[0, 0, -1], [1, 0, -1]]))
    third = e.values[:, 0] / 3
    zero = np.zeros(2)
    expected = np.stack([third, third, zero, e.values[:, 1], third, zero], 1).reshape(2, 2, 3)
    assert np.allclose(e.map(), expected, atol=1e-15)


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("tail", [(), (2,)])
def test_gather_scatter_and_mask_are_the_slow_loops(by_row, tail):
    generator = np.random.default_rng(3)
    n, b, dims = 4, 3, (3, 5)
    labels = generator.permuted(np.resize(np.arange(-1, n), (b, 15)), axis=1).reshape(b, *dims)
    if not by_row:
        labels = labels[:1].repeat(b, 0)
    mine = Players(torch.from_numpy(labels if by_row else labels[0]), tuple("abcd"), by_row)
    values = generator.random((b, *dims, *tail))
    gathered = mine.gather(torch.from_numpy(values)).numpy()
    spread = mine.scatter(torch.from_numpy(gathered)).numpy()
    s = torch.from_numpy(generator.random((b, 2, n)))
    mask = mine.mask(s).numpy()
    for i, place in itertools.product(range(b), np.ndindex(*dims)):
        p = labels[(i, *place)]
        members = [other for other in np.ndindex(*dims) if labels[(i, *other)] == p]
        assert np.allclose(spread[(i, *place)], 0 if p < 0 else gathered[i, p] / len(members))
        assert np.allclose(mask[(i, slice(None), *place)], 1 if p < 0 else s[i, :, p])
        if p >= 0:
            assert np.allclose(gathered[i, p], sum(values[(i, *other)] for other in members))


def test_saved_players_come_back(tmp_path):
    e, _ = divided(rows(3, 1, 2, 3), np.array([[[0, 0, 1]] * 2, [[0, 1, -1]] * 2, [[1, 0, 0]] * 2]))
    e.save(tmp_path / "e.npz")
    again = pellucid.load(tmp_path / "e.npz")
    assert again == e
    assert (again[1].map() == e.map()[1:2]).all()


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("by", "says"),
    [
        (np.array([0.0, 1.0, 1.0]), "whole numbers"),
        (np.array([True, False, True]), "whole numbers"),
        (np.array(["a", "b", "b"]), "whole numbers"),
        (np.array([0, 1]), r"shape of one row of z \(3,\)"),
        (np.zeros((5, 3), int), "shape of one row"),
        (np.array([-1, -1, -1]), "no player"),
        (np.array([-2, 0, 1]), "from -2"),
        (np.array([0, 2, 2]), "none empty"),
        (np.array([0, 10**12, 1]), "none empty"),
        ([], "no player"),
        ({}, "no player"),
        ({"a": [0], "b": []}, "none empty"),
        ({"a": [0, 1], "b": [1]}, "two groups, 'a' and 'b'"),
        ({"a": [3]}, "out of range 0..2"),
        ({"a": [-1]}, "out of range"),
        ({"a": [0.5]}, "numbers of entries or column names"),
        ({"a": np.array([True, False, True])}, "numbers of entries or column names"),
        ({"a": ["age"]}, "column 'age' not found"),
        (Players(torch.tensor([0, 1]), ("a", "b")), r"z needs \(3,\)"),
        (players.grid(2), "needs images"),
        ("grid", "expected players"),
        (3, "expected players"),
    ],
)
def test_what_is_no_division_of_a_row_of_three(by, says):
    with pytest.raises(BadInput, match=says):
        divided(rows(2, 3), by)


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    frame = pd.DataFrame(rows(2, 2).numpy(), columns=["age", "dose"])
    with pytest.raises(BadInput, match="'hight' not found; have 'age', 'dose'"):
        pellucid.explain(lambda f: f.to_numpy().sum(1), frame, "feature_ablation", players={"a": ["hight"]})


@pytest.mark.parametrize("size", [(0,), (3, -1), (2.0,), ("2",)])
def test_grid_sizes(size):
    with pytest.raises(BadInput, match="whole numbers from 1 on"):
        players.grid(*size)


def test_grid_finer_than_the_picture():
    with pytest.raises(BadInput, match="9 x 2 cells do not fit an image of 8 x 8"):
        divided(rows(1, 1, 8, 8), players.grid(9, 2))


@pytest.mark.parametrize("labels", [torch.tensor([0.0, 1.0]), torch.tensor([True, False]), torch.tensor([], dtype=int)])
def test_players_need_whole_labels(labels):
    with pytest.raises(BadInput, match="whole numbers"):
        Players(labels, ("a", "b"))


def test_players_need_as_many_names_as_labels():
    with pytest.raises(BadInput, match="for 3 names"):
        Players(torch.tensor([0, 1]), ("a", "b", "c"))
    with pytest.raises(BadInput, match="for 1 names"):
        Players(torch.tensor([[0, 1]]), ("a",), by_row=True)
