"""Divisions by meaning: one-hot columns, tokens, windows of a series, superpixels; and masks that need no look-up."""

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

NAMES = ["age", "job_a", "colour_red", "job_title_x", "colour_blue", "job_b", "job_title_y"]
FRAME = pd.DataFrame(np.random.default_rng(1).random((3, 7)), columns=NAMES)


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def divided(x, by, model=None):
    """Contributions to a sum."""
    model = model or (lambda z: z.flatten(1).sum(1))
    return pellucid.explain(model, x, methods.feature_ablation(), players=by)


def total(frame):
    return frame.to_numpy().sum(1)


@pytest.mark.parametrize(
    ("by", "names", "members"),
    [
        (["job_", "colour_"], ("age", "job", "colour"), ([0], [1, 3, 5, 6], [2, 4])),
        (
            ["job_", "job_title_"],
            ("age", "job", "colour_red", "job_title", "colour_blue"),
            ([0], [1, 5], [2], [3, 6], [4]),
        ),
        (
            "colour_",
            ("age", "job_a", "colour", "job_title_x", "job_b", "job_title_y"),
            ([0], [1], [2, 4], [3], [5], [6]),
        ),
        (
            {"c": ["colour_red", "colour_blue"], "j": [1, 5]},
            ("age", "j", "c", "job_title_x", "job_title_y"),
            ([0], [1, 5], [2, 4], [3], [6]),
        ),
        (
            {"age": [1, 2]},
            ("age", "age", "job_title_x", "colour_blue", "job_b", "job_title_y"),
            ([0], [1, 2], [3], [4], [5], [6]),
        ),
    ],
)
def test_columns_of_one_category_go_together(by, names, members):
    e = divided(FRAME, players.columns(by), total)
    assert e.feature_names == names
    expected = np.stack([FRAME.to_numpy()[:, each].sum(1) for each in members], 1)
    assert np.allclose(e.values, expected, atol=1e-14)


def test_columns_by_number_need_no_names():
    e = divided(rows(2, 4), players.columns({"both": [1, 3]}))
    assert e.feature_names == ("x0", "both", "x2")


@pytest.mark.parametrize(
    ("x", "by", "says"),
    [
        (FRAME, ["shape_"], "no column for 'shape_'; have 'age', 'job_a'"),
        (FRAME, {"a": []}, "no column for 'a'"),
        (FRAME, {"a": [0], "b": ["age"]}, "column 'age' is in two groups, 'a' and 'b'"),
        (FRAME, {"a": ["hight"]}, "column 'hight' not found"),
        (FRAME, {"a": [7]}, "out of range 0..6"),
        (rows(1, 3, 5, 5), ["a"], "needs a table"),
    ],
)
def test_columns_that_are_not_there(x, by, says):
    with pytest.raises(BadInput, match=says):
        divided(x, players.columns(by), total if x is FRAME else None)


def test_tokens_hold_their_embedding():
    x = rows(2, 5, 4)
    e = divided(x, players.tokens(), pellucid.wrap(lambda z: z.sum((1, 2)), axis=2))
    assert e.feature_names == tuple(f"token {i}" for i in range(5))
    assert np.allclose(e.values, x.sum(2), atol=1e-14)
    table = nn.Sequential(nn.Embedding.from_pretrained(rows(6, 1)), nn.Flatten(), nn.Linear(3, 1, bias=False).double())
    table[2].weight.data.fill_(1.0)
    ids = torch.tensor([[1, 5, 2]])
    e = pellucid.explain(table.eval(), ids, methods.feature_ablation(), players=players.tokens())
    assert np.allclose(e.values, (rows(6, 1)[ids] - rows(6, 1)[0])[..., 0], atol=1e-14)


@pytest.mark.parametrize(("length", "cuts"), [(4, [0, 4, 8, 11]), (1, range(12)), (11, [0, 11])])
def test_windows_of_a_series(length, cuts):
    x, bounds = rows(2, 3, 11), list(cuts)
    e = divided(x, players.windows(length))
    expected = [x[:, :, a:b].sum((1, 2)) for a, b in itertools.pairwise(bounds)]
    assert np.allclose(e.values, torch.stack(expected, 1), atol=1e-13)
    assert e.feature_names[0] == f"0..{bounds[1] - 1}"
    assert e.feature_names[-1] == f"{bounds[-2]}..10"
    assert np.allclose(divided(x[:, 0], players.windows(length)).values.sum(1), x[:, 0].sum(1))  # one channel


@pytest.mark.parametrize(
    ("x", "by", "says"),
    [
        (rows(1, 3, 8), lambda: players.windows(9), "windows of 9 steps do not fit a series of 8"),
        (rows(1, 3, 8), lambda: players.windows(0), "length must be a whole number of at least 1"),
        (rows(1, 3, 8), lambda: players.windows(2.0), "length must be a whole number"),
        (rows(1, 3, 8, 8), lambda: players.windows(2), "needs a sequence, with an axis 'time' or 'token'"),
        (rows(1, 3, 8), players.tokens, r"needs a sequence, with an axis 'token'.*wrap\(..., axis=...\)"),
        (rows(1, 3, 8), players.segments, "needs images"),
        (rows(1, 3, 8, 8), lambda: players.segments(0), "count must be a whole number of at least 1"),
        (rows(1, 3, 8, 8), lambda: players.segments(2.5), "count must be a whole number"),
    ],
)
def test_what_cannot_be_cut_so(x, by, says):
    with pytest.raises(BadInput, match=says):
        divided(x, by())


def blocks(*offsets):
    """Pictures of four flat quarters, whose colours lie far apart."""
    x = torch.zeros(len(offsets), 3, 16, 16)
    for row, offset in enumerate(offsets):
        x[row, 0, :8], x[row, 1, :, :8], x[row, 2, 8:, 8:] = 0.9 - offset, 0.8, 0.5 + offset
    return x


def test_segments_follow_the_picture():
    x = blocks(0.0, 0.3)
    by = players.segments(4).divide(x, ("channel", "height", "width"), None)
    assert by.labels.shape == x.shape
    assert (by.labels == by.labels[:, :1]).all()  # channels go together
    for row in range(2):
        for segment in range(int(by.labels[row].max()) + 1):
            inside = by.labels[row, 0] == segment
            assert inside.any()
            assert (x[row, :, inside] == x[row, :, inside][:, :1]).all()  # one colour each


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 255.0])
def test_about_as_many_segments_as_asked_for_of_any_picture(channels, scale):
    x = rows(2, channels, 48, 48) * scale
    by = players.segments(40).divide(x, ("channel", "height", "width"), None)
    assert 30 <= by.n <= 55
    assert by.names[-1] == f"segment {by.n - 1}"


def test_segments_of_a_row_do_not_depend_on_the_others():
    x = torch.cat([blocks(0.1), rows(2, 3, 16, 16).float()])
    every = players.segments(9).divide(x, ("channel", "height", "width"), None)
    numbers = []
    for row in range(3):
        alone = players.segments(9).divide(x[row : row + 1], ("channel", "height", "width"), None)
        assert (alone.labels[0] == every.labels[row]).all()
        numbers.append(alone.n)
    assert every.n == max(numbers) > min(numbers)
    e = divided(x, players.segments(9))
    for row in range(3):
        assert np.abs(e.values[row].sum() - float(x[row].sum())) < 1e-3
        assert (e.values[row, numbers[row] :] == 0).all()
    assert e[1].map().shape == (1, 16, 16)


def test_segments_of_channels_last_and_bfloat16():
    x = blocks(0.0)
    first = players.segments(6).divide(x, ("channel", "height", "width"), None)
    last = players.segments(6).divide(x.permute(0, 2, 3, 1), ("height", "width", "channel"), None)
    assert (first.labels.permute(0, 2, 3, 1) == last.labels).all()
    assert players.segments(6).divide(x.bfloat16(), ("channel", "height", "width"), None).n == first.n


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 5), (3, 1, 5)])
def test_masks_that_only_repeat_are_what_the_look_up_gives(shape):
    """Positions need no look-up: presence is repeated along the channels. Labels in another order do need one."""
    by = players.positions().divide(torch.zeros(1, *shape), ("channel", "height", "width"), None)
    s = rows(2, 3, by.n)
    shuffled = torch.from_numpy(np.random.default_rng(2).permutation(by.n))
    looked_up = Players(shuffled[by.labels], tuple(map(str, range(by.n))))
    assert (by.mask(s[..., shuffled]) == looked_up.mask(s)).all()
    assert (by.mask(s) == Players(by.labels.clone(), by.names).mask(s)).all()
