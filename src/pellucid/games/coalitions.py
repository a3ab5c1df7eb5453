"""Which coalitions to ask about: all of them, or pairs (a coalition and its complement) without replacement."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.core import rng

_LISTED = 20_000
"""Sizes with at most this many pairs are listed and shuffled; larger ones are drawn, and what comes twice is drawn
again."""


def every(n: int, start: int = 0, stop: int | None = None) -> Tensor:
    """Coalitions number start..stop of all 2^n, (stop - start, n) bool; bit i of the number says whether player i is
    in."""
    numbers = torch.arange(start, 2**n if stop is None else stop)
    return (numbers.unsqueeze(1) >> torch.arange(n)) & 1 == 1


@dataclass(frozen=True)
class Stratum:
    """All pairs whose smaller side has ``size`` players: how many there are, and how many are drawn."""

    size: int
    pairs: int
    drawn: int


def pairs_of(n: int, size: int) -> int:
    """How many pairs have a smaller side of this size."""
    return math.comb(n, size) if 2 * size < n else math.comb(n, size) // 2


def plan(n: int, pairs: int, share: str) -> tuple[Stratum, ...]:
    """How many pairs of every size to draw, ``pairs`` in all (or every pair there is).

    ``share``: "kernel", sizes in proportion to their mass under the Shapley kernel, 1 / (s (n - s)); "equal", which is
    in proportion to statistical leverage (musco2025); "uniform", in proportion to how many there are. A size never gets
    more pairs than it has; what it cannot take goes to the others.
    """
    sizes = range(1, n // 2 + 1)
    mass = {
        "kernel": [1 / (s * (n - s)) for s in sizes],
        "equal": [1.0 for _ in sizes],
        "uniform": [math.comb(n, s) / 2**n for s in sizes],
    }[share]
    there = [pairs_of(n, s) for s in sizes]
    masses = [m * (1.0 if 2 * s < n else 0.5) for s, m in zip(sizes, mass, strict=True)]
    wanted = _fill(there, masses, min(pairs, sum(there)))
    return tuple(Stratum(s, count, drawn) for s, count, drawn in zip(sizes, there, wanted, strict=True) if drawn)


def _fill(there: list[int], share: list[float], pairs: int) -> list[int]:
    """Shares of ``pairs`` in proportion to ``share``, none above its cap, rounded by largest remainder."""
    full: set[int] = set()
    while True:
        left = pairs - sum(there[i] for i in full)
        mass = sum(share[i] for i in range(len(share)) if i not in full)
        level = left / mass if mass else 0.0
        over = {i for i in range(len(share)) if i not in full and share[i] * level >= there[i]}
        if not over:
            break
        full |= over
    exact = [float(there[i]) if i in full else share[i] * level for i in range(len(share))]
    whole = [int(value) for value in exact]
    rest = sorted(range(len(exact)), key=lambda i: (whole[i] - exact[i], i))
    for i in rest[: pairs - sum(whole)]:
        whole[i] += 1
    return whole


@functools.lru_cache(maxsize=4)
def draw(
    strata: tuple[Stratum, ...], n: int, seed: int, first_row: int, rows: int, stream: str = "games.pairs"
) -> tuple[Tensor, Tensor]:
    """The smaller side of every planned pair, in one random order for each row: (B, m, n) bool, and its size (B, m)."""
    sides = [torch.zeros(rows, 0, n, dtype=torch.bool)]
    which = [torch.zeros(rows, 0, dtype=torch.long)]
    for stratum in strata:
        sides.append(_subsets(stratum, n, seed, first_row, rows, f"{stream}.{stratum.size}"))
        which.append(torch.full((rows, stratum.drawn), stratum.size))
    side, place = torch.cat(sides, 1), torch.cat(which, 1)
    order = rng.permutation(seed, f"{stream}.order", 0, first_row, rows, side.shape[1])
    return side.gather(1, order.unsqueeze(-1).expand_as(side)), place.gather(1, order)


def in_stages(n: int, size: Tensor, ends: range, share: str) -> Tensor:
    """An order (B, m) of pairs of these sizes (B, m) in which the first ends[k] are spread over the sizes as ``plan``
    spreads them, for every k; those of one size keep their order."""
    stage = torch.zeros_like(size)
    for each, planned in enumerate(_planned(n, ends, share), start=1):
        mine = size == each
        rank = (mine.cumsum(1) - 1).clamp_min(0)
        stage = torch.where(mine, torch.searchsorted(planned, rank, right=True), stage)
    return stage.argsort(dim=1, stable=True)


@functools.lru_cache(maxsize=4)
def _planned(n: int, ends: range, share: str) -> Tensor:
    """How many pairs of each size, from 1 up, are drawn at every end: (sizes, ends)."""
    planned = torch.zeros(n // 2, len(ends), dtype=torch.long)
    for stage, end in enumerate(ends):
        for stratum in plan(n, end, share):
            planned[stratum.size - 1, stage] = stratum.drawn
    return planned.cummax(1).values  # rounding may take one back


def _subsets(stratum: Stratum, n: int, seed: int, first_row: int, rows: int, stream: str) -> Tensor:
    """Distinct subsets of one size for each row, (B, drawn, n) bool; of size n / 2 only those that hold player 0."""
    half = 2 * stratum.size == n
    if stratum.pairs <= _LISTED or stratum.drawn == stratum.pairs:
        chosen = _listed(n, stratum.size, half)
        if stratum.drawn == stratum.pairs:
            return chosen.expand(rows, -1, -1)
        order = rng.permutation(seed, stream, 0, first_row, rows, stratum.pairs)[:, : stratum.drawn]
        return chosen[order]
    found = [torch.zeros(0, n, dtype=torch.bool) for _ in range(rows)]
    turn, missing = 0, stratum.drawn
    while missing:
        # as many for every row, so that a row's draws do not depend on what its neighbours still miss
        fresh = _random_subsets(n, stratum.size, half, seed, stream, turn, first_row, rows, stratum.drawn)
        for row in range(rows):
            both = torch.cat([found[row], fresh[row]])
            code = [bits.tobytes() for bits in both.numpy()]
            first = list(dict(zip(reversed(code), range(len(code) - 1, -1, -1), strict=True)).values())
            found[row] = both[torch.tensor(sorted(first))][: stratum.drawn]
        missing = max(stratum.drawn - len(side) for side in found)
        turn += 1
    return torch.stack(found)


def _random_subsets(
    n: int, size: int, half: bool, seed: int, stream: str, turn: int, first_row: int, rows: int, count: int
) -> Tensor:
    uniform = rng.uniform(seed, stream, turn, first_row, rows, count * n).reshape(rows, count, n)
    if half:
        uniform[..., 0] = -1.0  # player 0 comes first, hence is in
    place = uniform.argsort(-1)[..., :size]
    return torch.zeros(rows, count, n, dtype=torch.bool).scatter_(2, place, True)


@functools.lru_cache(maxsize=64)
def _listed(n: int, size: int, half: bool) -> Tensor:
    """All subsets of one size (with player 0 if ``half``) as rows of a bool matrix."""
    combos = itertools.combinations(range(1, n), size - 1) if half else itertools.combinations(range(n), size)
    listed = list(combos)
    members = torch.tensor(listed, dtype=torch.long).reshape(len(listed), size - half)
    subsets = torch.zeros(len(members), n, dtype=torch.bool).scatter_(1, members, True)
    if half:
        subsets[:, 0] = True
    return subsets
