"""The numbers of compare: signs, paired tests, the control, and how methods disagree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import pellucid
from pellucid import Run, Target, comparing, metrics
from pellucid.metrics.statistics import holm
from tests.reference.contestants import (
    FEW,
    NAMES,
    ROWS,
    Backwards,
    Edges,
    Flat,
    compared,
    linear_net,
    picture_net,
    rows,
    word,
)


def test_better_is_positive_for_insertion_and_for_deletion(no_digits):
    net, x = linear_net(), rows(ROWS, 1, 8, 8)
    c = compared(net, x, ["input_x_gradient", Backwards()], target=1, metrics=FEW)
    table = c.tests().set_index(["method", "metric"])
    for metric in c.scores.metrics:
        assert table.loc[("input_x_gradient", metric), "low"] > 0
        assert table.loc[("backwards", metric), "high"] < 0
    assert word(c, "backwards") == "do not trust"
    assert "does not beat random order" in next(v.reason for v in c.decided if v.method == "backwards")


def test_the_tests_are_the_paired_ones_against_the_control(no_digits):
    c = compared()
    table = c.tests()
    assert (table["rows"] == ROWS).all()
    for name in ("p_wilcoxon", "p_t"):
        assert table[f"{name}_holm"].tolist() == holm(table[name].tolist())
        assert (table[f"{name}_holm"] >= table[name]).all()
    assert (table["note"] == "").all()
    # the control of one metric is one number a row, the same for all methods with the same units
    shift = {}
    for line in table.itertuples():
        cell = c.scores.cell(line.method, line.metric)
        shift.setdefault(line.metric, []).append(cell.better * cell.mean - line.better_by)
    assert all(np.ptp(values) < 1e-9 for values in shift.values())


@pytest.mark.parametrize("size", [7, 8])
def test_the_control_is_the_mean_of_ten_orders_that_favour_no_cell(no_digits, size):
    """On a grid that does not divide the picture the cells have 1, 2 or 4 pixels, and no size may come first.

    f counts pixels: the curve of an order is the share of pixels moved, on average a straight line with area n / 2.
    """
    x = torch.ones(60, 1, size, size)
    c = compared(lambda z: z.flatten(1).sum(1), x, ["feature_ablation"], metrics=[metrics.insertion(0.0, grid=7)])
    cell, test = c.scores.cells[0], c.tests().iloc[0]
    control = cell.mean - test["better_by"]
    pixels = size * size
    parts = np.array([len(a) * len(b) for a in np.array_split(range(size), 7) for b in np.array_split(range(size), 7)])
    spread = parts.std() * np.sqrt(49 / 12)  # of the area of one random order, about
    assert control == pytest.approx(pixels / 2, abs=max(1e-4, 4 * spread / np.sqrt(60 * 10)))
    assert comparing.CONTROL_DRAWS >= 10


def test_the_control_is_the_mean_over_draws(no_digits):
    """The variance of a mean of ten is a tenth: seen over rows of one and the same input."""
    weight = rows(30, seed=3) - 0.5
    x = torch.ones(400, 30)
    model = lambda z: z @ weight  # noqa: E731
    e = pellucid.explain(model, x, "random_attribution")
    question = comparing.ask(pellucid.wrap(model), x, None, None, None, 0, Run())
    asked = {"one": metrics.insertion(0.0)}
    control = comparing._control(question, {"e": e}, asked, 0, Run())[0]["e", "one"]
    single = pellucid.evaluate(model, e, metrics.insertion(0.0)).cells[0].values
    assert control.shape == (400,)
    assert control.var() == pytest.approx(single.var() / 10, rel=0.25)
    assert control.mean() == pytest.approx(single.mean(), abs=4 * single.std() / np.sqrt(400))


def test_under_twelve_rows_there_are_intervals_and_the_reason_for_no_test(no_digits):
    c = compared(x=rows(11, 1, 8, 8), metrics=FEW)
    table = c.tests()
    assert table["p_wilcoxon"].isna().all()
    assert table["p_t_holm"].isna().all()
    assert np.isfinite(table[["better_by", "low", "high"]].to_numpy()).all()
    assert table["note"].str.contains("fewer than 12 rows").all()
    for verdict in c.decided:
        assert verdict.checks[0].passed is None
        assert "under 12 rows" in verdict.checks[0].reason
        assert verdict.word != "trust"
    assert compared(x=rows(2, 1, 8, 8), metrics=FEW).tests()["low"].notna().all()


def test_disagreement_is_symmetric_with_one_on_the_diagonal(no_digits):
    c = compared(which=["saliency", "input_x_gradient", Edges(), Flat()], metrics=FEW)
    a = c.agreement
    assert a.methods == tuple(c.explanations)
    for matrix in (a.correlation, a.overlap):
        assert matrix.shape == (5, 5)
        assert np.array_equal(matrix, matrix.T, equal_nan=True)
        assert (np.diag(matrix) == 1).all()
    flat = a.methods.index("flat")
    assert np.isnan(np.delete(a.correlation[flat], flat)).all()
    assert np.allclose(np.delete(a.overlap[flat], flat), a.chance)  # a map without an order overlaps by chance
    assert a.chance == pytest.approx(6 / 64)
    pairs = c.disagreement()
    assert len(pairs) == 10
    maps = [
        np.abs(c.explanations["saliency"].values).reshape(ROWS, -1),
        c.explanations["edges"].values.reshape(ROWS, -1),
    ]
    by_hand = [pd.Series(m).corr(pd.Series(n), method="spearman") for m, n in zip(*maps, strict=True)]
    assert a.correlation[0, 2] == pytest.approx(np.mean(by_hand), abs=1e-9)


def test_repeats_and_batches(no_digits):
    asked = [
        metrics.insertion(),
        metrics.deletion(),
        metrics.insertion("mean", grid=3),
        metrics.deletion("mean", grid=3),
    ]
    a, b, c = (compared(which=NAMES[:2], metrics=asked, run=run) for run in (Run(), Run(), Run(batch_size=6)))
    for left, right, other in zip(a.scores.cells, b.scores.cells, c.scores.cells, strict=True):
        assert np.array_equal(left.values, right.values, equal_nan=True)
        assert np.allclose(left.values, other.values, atol=1e-5, equal_nan=True)
    pd.testing.assert_frame_equal(a.tests(), b.tests())
    pd.testing.assert_frame_equal(a.verdicts(), b.verdicts())
    assert a.decided == b.decided
    assert not np.allclose(
        compared(which=NAMES[:2], metrics=asked, seed=1).scores.cells[0].values, a.scores.cells[0].values
    )


def test_the_read_of_the_target_is_watched_for_all_methods(no_digits):
    net, x = picture_net(), rows(ROWS, 1, 8, 8)
    c = compared(net, x, target=Target(1, "prob"), metrics=FEW)
    full = net(x).softmax(1)[:, 1].detach()
    for cell in c.scores.cells[:4]:
        assert np.allclose(cell.curve[:, -1], full, atol=1e-6)
    called = compared(net, x, target=Target(read=lambda out: out[:, 0]), metrics=FEW)
    assert called.probabilities is None
    assert np.allclose(called.scores.cells[0].curve[:, -1], net(x)[:, 0].detach(), atol=1e-5)
