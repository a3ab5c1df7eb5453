"""Intervals and tests against hand counts, scipy and simulation, degenerate inputs included."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pellucid.metrics.statistics import LEAST_ROWS, holm, interval, overlap, paired, rank_correlation, signed_rank, top

# ---------------------------------------------------------------- Holm


def slow_holm(p_values):
    """For each p the largest (m - j) x the j-th smallest p, j from 0, among those not larger than it; at most 1."""
    ordered = sorted(p_values)
    m = len(ordered)
    return [max(min(1.0, (m - j) * ordered[j]) for j in range(m) if ordered[j] <= p) for p in p_values]


def test_holm_on_the_textbook_example():
    """Ten p-values; by hand 10 x .0001, 9 x .004, 8 x .019, and from there on the running maximum."""
    p = [0.0001, 0.0040, 0.0190, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    expected = [0.001, 0.036, 0.133, 0.076, 0.133, 0.139, 0.139, 0.139, 0.139, 0.324]
    assert holm(p) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_definition(seed):
    generator = np.random.default_rng(seed)
    p = np.round(generator.random(8) ** 3, 2).tolist()  # with ties
    assert holm(p) == pytest.approx(slow_holm(p), abs=1e-12)
    order = generator.permutation(8)
    assert holm([p[i] for i in order]) == pytest.approx([holm(p)[i] for i in order], abs=1e-12)


def test_holm_leaves_out_the_tests_that_were_not_made():
    assert holm([]) == []
    assert holm([None, None]) == [None, None]
    assert holm([None, 0.02, None, 0.03]) == [None, 0.04, None, 0.04]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_intervals_hold_the_mean_about_as_often_as_they_say(draw):
    """95 % nominal; the percentile bootstrap of 30 rows is known to hold a little less often, more so when skewed."""
    generator = np.random.default_rng(0)
    inside = 0
    for seed in range(300):
        rows = generator.normal(1, 2, 30) if draw == "normal" else generator.exponential(1, 30)
        low, high = interval(rows, seed)
        inside += low <= 1 <= high
    assert 0.88 <= inside / 300 <= 0.98


def test_an_interval_is_a_function_of_rows_and_seed():
    rows = np.random.default_rng(0).normal(size=20)
    assert interval(rows, 3) == interval(rows, 3)
    assert interval(rows, 3) != interval(rows, 4)
    low, high = interval(rows, 3)
    assert low < rows.mean() < high
    error = rows.std(ddof=1) / math.sqrt(20)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_intervals_of_few_or_equal_or_missing_rows():
    assert all(math.isnan(end) for end in interval(np.array([])))
    assert all(math.isnan(end) for end in interval(np.array([3.0])))
    assert all(math.isnan(end) for end in interval(np.array([3.0, np.nan, np.inf])))
    assert interval(np.full(5, 2.5)) == (2.5, 2.5)
    rows = np.array([1.0, 2.0, np.nan, 4.0])
    assert interval(rows) == interval(rows[[0, 1, 3]])


# ---------------------------------------------------------------- paired tests


def test_p_values_are_scipys():
    generator = np.random.default_rng(0)
    a, b = generator.normal(0.5, 1, 25), generator.normal(0, 1, 25)
    found = paired(a, b)
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(a, b).pvalue, rel=1e-12)
    assert found.p_t == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    assert found.mean == pytest.approx((a - b).mean())
    assert (found.low, found.high) == interval(a - b)
    assert found.rows == 25


@pytest.mark.parametrize("rows", [12, 50, 51, 80])
def test_wilcoxon_is_scipys_where_nothing_ties(rows):
    difference = np.random.default_rng(rows).normal(0.3, 1, rows)
    assert signed_rank(difference) == pytest.approx(stats.wilcoxon(difference).pvalue, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_wilcoxon_with_ties_and_zeros_counts_all_signs(seed):
    difference = np.random.default_rng(seed).integers(-3, 5, 9).astype(float)
    ranks = stats.rankdata(np.abs(difference[difference != 0]))
    sums = [ranks[list(signs)].sum() for signs in itertools.product([True, False], repeat=len(ranks))]
    seen = ranks[difference[difference != 0] > 0].sum()
    one_sided = min(np.mean(np.array(sums) <= seen + 1e-9), np.mean(np.array(sums) >= seen - 1e-9))
    assert signed_rank(difference) == pytest.approx(min(1, 2 * one_sided), abs=1e-12)
    assert signed_rank(-difference) == pytest.approx(signed_rank(difference), abs=1e-12)


def test_the_difference_is_a_minus_b():
    a, b = np.arange(14.0) + 1, np.arange(14.0) * 0.5
    there, back = paired(a, b), paired(b, a)
    assert there.mean > 0
    assert there.low > 0
    assert back.mean == -there.mean
    assert back.p_wilcoxon == pytest.approx(there.p_wilcoxon)
    assert back.p_t == pytest.approx(there.p_t)


@pytest.mark.parametrize(("rows", "tested"), [(1, False), (2, False), (11, False), (12, True), (13, True)])
def test_no_test_under_twelve_rows(rows, tested):
    assert LEAST_ROWS == 12
    a = np.random.default_rng(0).random(rows)
    found = paired(a, np.zeros(rows))
    assert (found.p_wilcoxon is not None) is tested
    assert (found.p_t is not None) is tested
    assert found.mean == pytest.approx(a.mean())
    assert math.isnan(found.low) is (rows == 1)


def test_rows_without_a_number_do_not_count():
    a = np.random.default_rng(0).random(15)
    b = np.zeros(15)
    a[3], b[5] = np.nan, np.inf
    kept = np.delete(a, [3, 5])
    found = paired(a, b)
    assert found.rows == 13
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(kept).pvalue)
    a[:4] = np.nan
    assert paired(a, b).p_wilcoxon is None  # 10 rows are left
    nothing = paired(np.full(15, np.nan), b)
    assert nothing.rows == 0
    assert math.isnan(nothing.mean)
    assert nothing.p_t is None


def test_equal_rows_have_no_difference():
    a = np.random.default_rng(0).random(20)
    found = paired(a, a.copy())
    assert (found.mean, found.low, found.high, found.p_wilcoxon, found.p_t) == (0, 0, 0, 1, 1)


@pytest.mark.parametrize("spread", [0.0, 1e-16])
def test_rows_that_all_differ_alike_are_no_more_certain_than_their_number_allows(spread):
    """Wilcoxon's exact p of 12 equal signs is 2 / 2^12; a p of 0 would claim more than 12 rows can show."""
    a = 1 + spread * np.arange(12)
    found = paired(a, np.zeros(12))
    assert found.p_wilcoxon == pytest.approx(2 / 2**12)
    assert found.p_t < 1e-12
    assert (found.low, found.high) == pytest.approx((1, 1))


@pytest.mark.parametrize("zeros", [1, 5, 11])
def test_rows_without_a_difference_raise_no_warning(zeros):
    a = np.random.default_rng(0).random(12)
    a[:zeros] = 0
    found = paired(a, np.zeros(12))
    assert 0 < found.p_wilcoxon <= 1
    assert 0 < found.p_t <= 1


# ---------------------------------------------------------------- agreement


def test_rank_correlation_is_spearmans_with_ties():
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 5, (6, 20)).astype(float), generator.random((6, 20))
    expected = [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    assert np.allclose(rank_correlation(a, b), expected)
    assert np.allclose(rank_correlation(a, a * 3 + 1), 1)
    assert np.allclose(rank_correlation(b, -b), -1)


def test_a_flat_row_has_no_rank_correlation():
    a = np.array([[1.0, 1, 1], [1, 2, 3]])
    assert np.isnan(rank_correlation(a, a)[0])
    assert rank_correlation(a, a)[1] == pytest.approx(1)


def test_overlap_counts_shared_places():
    a = np.array([[9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0]])
    b = np.array([[9.0, 0, 7, 1, 2, 3, 4, 5, 6, 8]])
    assert overlap(a, b, 0.3) == pytest.approx([2 / 3])  # {0, 1, 2} and {0, 9, 2}
    assert overlap(a, a, 0.3) == pytest.approx([1])
    assert overlap(a, -a, 0.3) == pytest.approx([0])
    assert overlap(a, b, 0.001) == pytest.approx([1])  # at least one place


def test_overlap_of_ties_is_what_random_ties_would_give():
    """Two flat maps say nothing: they share by chance, not wholly because both list the same pixel first."""
    flat = np.zeros((1, 20))
    assert overlap(flat, flat, 0.1) == pytest.approx([0.1])
    one = flat.copy()
    one[0, 3] = 1.0
    generator = np.random.default_rng(0)
    simulated = []
    for _ in range(4000):
        sides = [np.argsort(-(one + 1e-6 * generator.random((1, 20))))[0, :4] for _ in range(2)]
        simulated.append(len(set(sides[0]) & set(sides[1])) / 4)
    assert overlap(one, one, 0.2)[0] == pytest.approx(np.mean(simulated), abs=0.02)


def test_top_shares_the_last_places():
    scores = np.array([[3.0, 1, 1, 1, 0], [5, 4, 3, 2, 1]])
    assert np.allclose(top(scores, 2), [[1, 1 / 3, 1 / 3, 1 / 3, 0], [1, 1, 0, 0, 0]])
    assert np.allclose(top(scores, np.array([1, 4])), [[1, 0, 0, 0, 0], [1, 1, 1, 1, 0]])
    assert np.allclose(top(scores, 5), 1)
