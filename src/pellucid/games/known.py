"""Games whose Shapley values are known in closed form, for any number of players: to test and to measure estimators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.games.function import FunctionGame


@dataclass(frozen=True)
class Known:
    """A game and its Shapley values (n,)."""

    game: FunctionGame
    values: Tensor


def sickness() -> Known:
    """Two symptoms of which either alone counts 5 and both together 2: each is worth 1 (lundberg2017, figure 4).

    >>> sickness().values.tolist()
    [1.0, 1.0]
    """
    game = FunctionGame(2, lambda s: 5.0 * s.any(1) - 3.0 * s.all(1), ("fever", "cough"))
    return Known(game, torch.ones(2, dtype=torch.float64))


def airport(costs: Sequence[float]) -> Known:
    """The costliest member decides, v(S) = max cost over S: every step of the cost is shared by all who need it.

    With costs 5, 4 and 0 it is the profit game of lundberg2017, figure 4. Source: littlechild1973.

    >>> airport([5.0, 4.0, 0.0]).values.tolist()
    [3.0, 2.0, 0.0]
    """
    cost = torch.tensor(costs, dtype=torch.float64)
    if cost.ndim != 1 or len(cost) == 0 or bool((cost < 0).any()):
        raise BadInput(f"known.airport: costs must be a list of numbers of at least 0, got {costs!r}")
    order = cost.argsort()
    steps = cost[order].diff(prepend=torch.zeros(1, dtype=torch.float64)) / torch.arange(len(cost), 0, -1)
    values = torch.empty_like(cost)
    values[order] = steps.cumsum(0)
    return Known(FunctionGame(len(cost), lambda s: (s * cost).amax(1)), values)


def unanimity(n: int, terms: int = 50, largest: int = 5, seed: int = 0) -> Known:
    """A sum of ``terms`` random unanimity games: v(S) = Σ c_T [T ⊆ S], which T shares equally: φ_i = Σ c_T / |T|.

    T has 1..``largest`` members, c_T is standard normal.
    """
    sizes = 1 + rng.integers(seed, "games.known.size", 0, 0, terms, 1, min(largest, n))
    place = rng.permutation(seed, "games.known.members", 0, 0, terms, n)
    members = (place < sizes).double()
    worth = rng.normal(seed, "games.known.worth", 0, 0, terms, 1)[:, 0]

    def value(s: Tensor) -> Tensor:
        return ((s.double() @ members.T) == sizes.T).double() @ worth

    return Known(FunctionGame(n, value), members.T @ (worth / sizes[:, 0]))


def glove(left: int, right: int) -> Known:
    """Left and right gloves, v(S) = number of pairs in S; by counting who comes before a player."""
    n = left + right

    def share(mine: int, theirs: int) -> float:  # a glove is worth 1 where the other side is ahead
        before = range(mine)
        return math.fsum(
            math.comb(mine - 1, a) * math.comb(theirs, b) / (n * math.comb(n - 1, a + b))
            for a in before
            for b in range(a + 1, theirs + 1)
        )

    values = torch.tensor([share(left, right)] * left + [share(right, left)] * right, dtype=torch.float64)
    return Known(FunctionGame(n, lambda s: torch.minimum(s[:, :left].sum(1), s[:, left:].sum(1))), values)


def voting(weights: Sequence[int], quota: int) -> Known:
    """A vote with whole weights that passes with ``quota``; by counting coalitions of every size and weight.

    >>> voting([3, 2, 1], 4).values.round(decimals=4).tolist()
    [0.6667, 0.1667, 0.1667]
    """
    n, total = len(weights), sum(weights)
    if n == 0 or any(not isinstance(w, int) or w < 0 for w in weights):
        raise BadInput(f"known.voting: weights must be whole numbers of at least 0, got {weights!r}")

    def pivotal(voter: int) -> float:
        count = [[0] * (total + 1) for _ in range(n)]  # coalitions of the others by size and weight, whole numbers
        count[0][0] = 1
        for other in (w for i, w in enumerate(weights) if i != voter):
            for size in range(n - 2, -1, -1):
                for weight in range(total - other, -1, -1):
                    count[size + 1][weight + other] += count[size][weight]
        wins = range(max(0, quota - weights[voter]), min(quota, total + 1))
        return math.fsum(sum(count[size][w] for w in wins) / (n * math.comb(n - 1, size)) for size in range(n))

    mass = torch.tensor(weights, dtype=torch.float64)
    values = torch.tensor([pivotal(voter) for voter in range(n)], dtype=torch.float64)
    return Known(FunctionGame(n, lambda s: (s.double() @ mass >= quota).double()), values)
