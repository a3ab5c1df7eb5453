"""Random numbers by counter: the same address gives the same number, whatever is drawn beside it."""

import random

import numpy as np
import pytest
import torch
from scipy import stats

from pellucid.core import rng

DRAWS = {
    "uniform": rng.uniform,
    "normal": rng.normal,
    "integers": lambda *address: rng.integers(*address, 7),
    "permutation": rng.permutation,
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("size", [1, 4, 5, 11])
def test_a_row_is_the_same_alone_as_among_others(draw, size):
    block = draw(3, "a", 2, 10, 6, size)
    assert block.shape == (6, size)
    for row in range(6):
        assert torch.equal(draw(3, "a", 2, 10 + row, 1, size)[0], block[row])
    assert torch.equal(draw(3, "a", 2, 12, 3, size), block[2:5])


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_each_part_of_the_address_counts(draw):
    here = draw(3, "a", 2, 0, 8, 12)
    for other in (
        draw(4, "a", 2, 0, 8, 12),
        draw(3, "b", 2, 0, 8, 12),
        draw(3, "a", 1, 0, 8, 12),
        draw(3, "a", 2, 8, 8, 12),
    ):
        assert not torch.equal(here, other)


def test_no_number_comes_twice():
    """Addresses next to each other do not overlap on the counter, in rows, draws, streams or seeds."""
    blocks = [
        rng.uniform(seed, stream, draw, first, 50, 6)
        for seed in (0, 1)
        for stream in ("a", "b")
        for draw in (0, 1, 2)
        for first in (0, 50)
    ]
    numbers = torch.cat([block.reshape(-1) for block in blocks])
    assert len(torch.unique(numbers)) == len(numbers) == 2 * 2 * 3 * 2 * 50 * 6


def test_the_numbers_are_fixed():
    """They are part of every stored seed's meaning: a change here changes results of the past."""
    np.testing.assert_allclose(
        rng.uniform(0, "fixed", 1, 2, 1, 3)[0],
        [0.5739414058431613, 0.37896773096740055, 0.054647901122181874],
        rtol=0,
        atol=1e-15,
    )


def test_uniform_and_normal_are_what_they_say():
    numbers = rng.uniform(1, "law", 0, 0, 200, 500)
    assert 0 <= float(numbers.min()) < float(numbers.max()) < 1
    assert stats.kstest(numbers.reshape(-1), "uniform").pvalue > 1e-3
    normal = rng.normal(1, "law", 0, 0, 200, 500)
    assert stats.kstest(normal.reshape(-1), "norm").pvalue > 1e-3
    # Neighbours, in a row and between rows and draws, are uncorrelated: |r| < 4 / sqrt(n).
    other = rng.normal(1, "law", 1, 0, 200, 500)
    for a, b in ((normal[:, 1:], normal[:, :-1]), (normal[1:], normal[:-1]), (normal, other)):
        r = float(torch.corrcoef(torch.stack([a.reshape(-1), b.reshape(-1)]))[0, 1])
        assert abs(r) < 4 / a.numel() ** 0.5


def test_integers_are_even_and_in_range():
    numbers = rng.integers(2, "law", 0, 0, 100, 700, 7)
    counts = torch.bincount(numbers.reshape(-1), minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 1e-3


def test_permutations_are_whole_and_even():
    orders = rng.permutation(2, "law", 0, 0, 6000, 3)
    assert torch.equal(orders.sort(1).values, torch.arange(3).expand(6000, 3))
    _, counts = torch.unique(orders, dim=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_an_extreme_uniform_does_not_become_infinite(monkeypatch):
    monkeypatch.setattr(rng, "uniform", lambda *address: torch.tensor([[0.0, 1 - 2.0**-53]], dtype=torch.float64))
    assert torch.isfinite(rng.normal(0, "a", 0, 0, 1, 2)).all()


def test_global_states_are_neither_read_nor_moved():
    def states():
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002

    first = [draw(0, "a", 0, 0, 2, 3) for draw in DRAWS.values()]
    before = states()
    again = [draw(0, "a", 0, 0, 2, 3) for draw in DRAWS.values()]
    assert states() == before
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    moved = [draw(0, "a", 0, 0, 2, 3) for draw in DRAWS.values()]
    for a, b, c in zip(first, again, moved, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
