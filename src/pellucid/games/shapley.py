"""Shapley values by enumeration and by walks through random orders."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.method import Result
from pellucid.core.removal import Removal
from pellucid.core.state import Moments, Sums
from pellucid.games.coalitional import (
    COALITIONS_PER_CHUNK,
    Board,
    Coalitional,
    check_budget,
    check_players,
    warn_few,
)
from pellucid.games.coalitions import every

MOST_PLAYERS = 20
"""Players whose 2^n coalitions are still enumerated on request (about a million)."""
COVERS = "the coalitions"


def shapley_weights(n: int) -> Tensor:
    """Weights of v(S) in the Shapley value, by |S|: row 0 for players outside S, row 1 for players inside, (2, n +
    1)."""
    outside = [-1 / (n * math.comb(n - 1, s)) if s < n else 0.0 for s in range(n + 1)]
    inside = [1 / (n * math.comb(n - 1, s - 1)) if s > 0 else 0.0 for s in range(n + 1)]
    return torch.tensor([outside, inside], dtype=torch.float64)


def enumerated(n: int, budget: int) -> bool:
    """Whether all coalitions fit the budget."""
    return n <= MOST_PLAYERS and 2**n <= budget


def enumeration_rounds(n: int) -> int:
    """Chunks of an enumeration."""
    return -(-(1 << n) // COALITIONS_PER_CHUNK)


def enumerate_chunk(board: Board, index: int, weights: Tensor) -> Sums:
    """One chunk of an enumeration: Σ weight of S for i times v(S), and the value of nobody."""
    n, start = board.n, index * COALITIONS_PER_CHUNK
    s = every(n, start, min(2**n, start + COALITIONS_PER_CHUNK))
    values = board.value(s.float())
    share = weights[s.long(), s.sum(1, keepdim=True)]
    empty = values[:, 0] if index == 0 else torch.zeros_like(values[:, 0])
    if index == 0:
        board.memo["first"] = values[:, :1]
    if index == enumeration_rounds(n) - 1 and "first" in board.memo:
        board.memo["ends"] = torch.cat([board.memo["first"], values[:, -1:]], 1)
    return Sums({"values": torch.einsum("mn,bmj->bnj", share, values), "empty": empty})


def enumerated_result(state: Any, details: dict[str, Any] | None = None) -> Result:
    """The exact answer: no standard error is left."""
    values = state["values"]
    return Result(
        values,
        torch.zeros_like(values),
        "nothing: all coalitions were valued",
        state["empty"],
        details={"exact": True, **(details or {})},
    )


@dataclass(frozen=True)
class Exact(Coalitional):
    """Shapley values over all 2^n coalitions (see ``methods.exact_shapley``)."""

    removal: Removal
    name: str = "exact_shapley"
    promise: ClassVar[str | None] = "completeness"

    def rounds(self, n: int) -> int:
        check_players(self.name, n, MOST_PLAYERS, "kernel_shap() or permutation_shapley()")
        return enumeration_rounds(n)

    def play(self, board: Board, index: int) -> Sums:
        return enumerate_chunk(board, index, shapley_weights(board.n))

    def settle(self, board: Board, state: Any) -> Result:
        return enumerated_result(state)


@dataclass(frozen=True)
class Walks(Coalitional):
    """Shapley values as mean marginal contributions along random orders; subclasses say what one draw is."""

    budget: int
    removal: Removal
    promise: ClassVar[str | None] = "completeness by construction"
    orders: ClassVar[int] = 1

    def cost(self, n: int) -> int:
        """Coalitions of one draw, beside nobody and everybody."""
        return self.orders * (n - 1)

    def draws(self, n: int) -> int:
        """Draws that the budget pays for; a budget under one antithetic pair still pays for one walk."""
        return max(1, (self.budget - 2) // max(1, self.cost(n)))

    def per_chunk(self, n: int) -> int:
        """Draws of one chunk."""
        return max(1, min(self.draws(n), COALITIONS_PER_CHUNK // (self.cost(n) + 2)))

    def rounds(self, n: int) -> int:
        check_budget(self.name, self.budget, n)
        return enumeration_rounds(n) if enumerated(n, self.budget) else -(-self.draws(n) // self.per_chunk(n))

    def play(self, board: Board, index: int) -> Sums | WalkState:
        n = board.n
        if enumerated(n, self.budget):
            return enumerate_chunk(board, index, shapley_weights(n))
        share = self.per_chunk(n)
        turns = range(index * share, min((index + 1) * share, self.draws(n)))
        contributions, empties = zip(*(self._draw(board, turn) for turn in turns), strict=True)
        return WalkState(Moments.of(torch.stack(contributions), 0), Moments.of(torch.stack(empties), 0))

    def _draw(self, board: Board, turn: int) -> tuple[Tensor, Tensor]:
        """Marginal contributions (B, n, J) of one draw, and the value of nobody (B, J)."""
        n, rows = board.n, board.rows
        order = rng.permutation(board.seed, f"{self.name}.order", turn, board.first_row, rows, n)
        alone = self.orders == 1 or self.budget < 2 + self.cost(n)
        orders = [order] if alone else [order, order.flip(1)]
        walks = [_prefixes(each) for each in orders]
        ends, s = (
            board.ends(),
            torch.cat([torch.zeros(rows, self.removal.sampled, n), *(walk[:, :-1] for walk in walks)], 1),
        )
        values = board.value(s, torch.full((s.shape[1],), turn)) if s.shape[1] else ends[:, :0]
        if self.removal.sampled:  # a fresh background, hence a fresh value of nobody
            empty, values = values[:, :1], values[:, 1:]
        else:
            empty = ends[:, :1]
        full = ends[:, 1:]
        total = torch.zeros(rows, n, values.shape[2], dtype=torch.float64)
        for i, each in enumerate(orders):
            inner = values[:, i * (n - 1) : (i + 1) * (n - 1)]
            steps = torch.cat([empty, inner, full], 1).diff(dim=1)
            total += torch.zeros_like(total).scatter_(1, each.unsqueeze(-1).expand_as(steps), steps)
        return total / len(orders), empty[:, 0]

    def settle(self, board: Board, state: Any) -> Result:
        if isinstance(state, Sums):
            return enumerated_result(state)
        if state.values.count < 2:
            warn_few(self.name, state.values.count)
        covers = COVERS + (" and the background" if self.removal.sampled else "")
        details = {"draws": state.values.count, "degrees_of_freedom": state.values.count - 1}
        return Result(state.values.mean, state.values.std_error, covers, state.empty.mean, details=details)


@dataclass(frozen=True)
class WalkState:
    """Moments over draws of the contributions and of the value of nobody."""

    values: Moments
    empty: Moments

    def merge(self, other: WalkState) -> WalkState:
        """Both sets of draws."""
        return WalkState(self.values.merge(other.values), self.empty.merge(other.empty))


@dataclass(frozen=True)
class Sampling(Walks):
    """Independent random orders (see ``methods.shapley_sampling``)."""

    name: str = "shapley_sampling"


@dataclass(frozen=True)
class Permutation(Walks):
    """Antithetic pairs: a random order and its reverse (see ``methods.permutation_shapley``)."""

    tolerance: float | None = None
    name: str = "permutation_shapley"
    orders: ClassVar[int] = 2

    def settled(self, state: Any) -> bool:
        """Whether every standard error is under the tolerance, after at least ten pairs."""
        if self.tolerance is None or isinstance(state, Sums) or state.values.count < LEAST_DRAWS:
            return False
        return bool((state.values.std_error <= self.tolerance).all())


LEAST_DRAWS = 10
"""Draws before an error estimate may stop the work: with fewer it is too uncertain itself."""


def _prefixes(order: Tensor) -> Tensor:
    """Coalitions after each step of an order (B, n): (B, n, n), the last one everybody."""
    n = order.shape[1]
    place = torch.empty_like(order).scatter_(1, order, torch.arange(n).expand_as(order))
    return (place.unsqueeze(1) <= torch.arange(n).reshape(1, n, 1)).float()
