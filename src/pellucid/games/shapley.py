"""Shapley values by enumeration and by walks through random orders."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.method import Result
from pellucid.core.removal import Marginal, Removal
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
from pellucid.games.removal import RemovalGame

MOST_PLAYERS = 20
"""Players whose 2^n coalitions are still enumerated on request (about a million)."""
TIMES = 5
"""Enumerations of ``exact_shapley`` where stand-ins are random, since one alone says nothing about their variance."""
COVERS = "the coalitions"


def shapley_weights(n: int) -> Tensor:
    """Weights of v(S) in the Shapley value, by |S|: row 0 for players outside S, row 1 for players inside, (2, n +
    1)."""
    outside = [-1 / (n * math.comb(n - 1, s)) if s < n else 0.0 for s in range(n + 1)]
    inside = [1 / (n * math.comb(n - 1, s - 1)) if s > 0 else 0.0 for s in range(n + 1)]
    return torch.tensor([outside, inside], dtype=torch.float64)


def enumerated(n: int, budget: int, sampled: bool) -> bool:
    """Whether all coalitions fit the budget, and valuing each once is exact. With random stand-ins it is not: there
    many coalitions, each on stand-ins of its own, say more than all of them on few stand-ins."""
    return not sampled and n <= MOST_PLAYERS and 2**n <= budget


@dataclass(frozen=True)
class Enumeration:
    """All 2^n coalitions, valued once where that is exact, else ``times`` times on fresh stand-ins."""

    n: int
    times: int = 1
    sampled: bool = False

    @property
    def _chunks(self) -> int:
        return -(-(1 << self.n) // COALITIONS_PER_CHUNK)

    @property
    def _times(self) -> int:
        return max(1, COALITIONS_PER_CHUNK >> self.n)  # of one chunk, where stand-ins are random

    @property
    def rounds(self) -> int:
        """Chunks of work."""
        return -(-self.times // self._times) if self.sampled else self._chunks

    def play(self, board: Board, index: int, weights: Tensor) -> Sums | WalkState:
        """One chunk: Σ weight of S for i times v(S), and the value of nobody."""
        if not self.sampled:
            return self._part(board, index, 0, weights)
        found = []
        for turn in range(index * self._times, min((index + 1) * self._times, self.times)):
            parts = [self._part(board, part, turn, weights) for part in range(self._chunks)]
            found.append(functools.reduce(Sums.merge, parts))
        values = torch.stack([sums["with"] + sums["without"] for sums in found])
        return WalkState(Moments.of(values, 0), Moments.of(torch.stack([sums["empty"] for sums in found]), 0))

    def _part(self, board: Board, index: int, turn: int, weights: Tensor) -> Sums:
        n, start = self.n, index * COALITIONS_PER_CHUNK
        s = every(n, start, min(2**n, start + COALITIONS_PER_CHUNK))
        values = board.value(s.float(), torch.full((len(s),), turn))
        share = weights[s.long(), s.sum(1, keepdim=True)]
        empty = values[:, 0] if index == 0 else torch.zeros_like(values[:, 0])
        board.remember(values, first=index == 0, last=index == self._chunks - 1)
        # Coalitions with a player, and without: sums of the same length in the same order, whatever the chunk, so that
        # they cancel to exactly nothing for a player that makes no difference.
        sums = [
            torch.stack([(share[s[:, i] == here, i, None] * values[:, s[:, i] == here]).sum(1) for i in range(n)], 1)
            for here in (True, False)
        ]
        return Sums({"with": sums[0], "without": sums[1], "empty": empty})


def enumerated_result(name: str, state: Any) -> Result:
    """The exact answer, of which no standard error is left; from repeated enumerations their mean."""
    if isinstance(state, WalkState):
        return state.result(name, "the background; all coalitions were valued")
    values, covers = state["with"] + state["without"], "nothing: all coalitions were valued"
    return Result(values, torch.zeros_like(values), covers, state["empty"], details={"exact": True})


@dataclass(frozen=True)
class Exact(Coalitional):
    """Shapley values over all 2^n coalitions (see ``methods.exact_shapley``)."""

    removal: Removal
    name: str = "exact_shapley"
    promise: ClassVar[str | None] = "completeness"

    def rounds(self, n: int) -> int:
        check_players(self.name, n, MOST_PLAYERS, "kernel_shap() or permutation_shapley()")
        return self._enumeration(n).rounds

    def _enumeration(self, n: int) -> Enumeration:
        return Enumeration(n, TIMES, True) if self.removal.sampled else Enumeration(n)

    def play(self, board: Board, index: int) -> Sums | WalkState:
        return self._enumeration(board.n).play(board, index, shapley_weights(board.n))

    def settle(self, board: Board, state: Any) -> Result:
        return enumerated_result(self.name, state)


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
        """Draws that the budget pays for; a budget under one antithetic pair still pays for one walk. With random
        stand-ins every draw after the first also values nobody afresh."""
        cost = self.cost(n) + self.removal.sampled
        return max(1, (self.budget - self._spent - 2 + self.removal.sampled) // max(1, cost))

    @property
    def _spent(self) -> int:
        """Coalitions that go into the exact worth of nobody, where a tolerance is to be met soon and they are no more
        than a tenth of the budget."""
        toward = getattr(self, "tolerance", None) is not None
        if not toward or not isinstance(self.removal, Marginal) or not self.removal.sampled:
            return 0
        size = -(-len(self.removal.background) // self.removal.draws)
        return size if 10 * size <= self.budget else 0

    def per_chunk(self, n: int) -> int:
        """Draws of one chunk."""
        return max(1, min(self.draws(n), COALITIONS_PER_CHUNK // (self.cost(n) + 2)))

    def rounds(self, n: int) -> int:
        check_budget(self.name, self.budget, n)
        if enumerated(n, self.budget, self.removal.sampled):
            return Enumeration(n).rounds
        return -(-self.draws(n) // self.per_chunk(n))

    def play(self, board: Board, index: int) -> Sums | WalkState:
        n = board.n
        if enumerated(n, self.budget, self.removal.sampled):
            return Enumeration(n).play(board, index, shapley_weights(n))
        share = self.per_chunk(n)
        turns = range(index * share, min((index + 1) * share, self.draws(n)))
        return WalkState.of(*self._draws(board, turns), self._nobody(board))

    def _nobody(self, board: Board) -> Tensor | None:
        """The exact worth of nobody, where the budget has room for it."""
        if "nobody" not in board.memo:
            exact = board.game.nobody() if self._spent and isinstance(board.game, RemovalGame) else None
            board.memo["nobody"] = torch.zeros(0) if exact is None else exact.double().cpu()
        known = board.memo["nobody"]
        return known if len(known) else None

    def _draws(self, board: Board, turns: range) -> tuple[Tensor, Tensor]:
        """Marginal contributions (T, B, n, J) of some draws, and the values of nobody (T, B, J), asked in one go."""
        n, rows = board.n, board.rows
        alone = self.orders == 1 or self.budget < 2 + self.cost(n)
        drawn = rng.permutations(board.seed, f"{self.name}.order", turns, board.first_row, rows, n)
        order = torch.stack([drawn] if alone else [drawn, drawn.flip(2)], 1)  # (T, P, B, n)
        inner = _prefixes(order.flatten(0, 2))[:, :-1].unflatten(0, order.shape[:3])  # (T, P, B, n - 1, n)
        s, ends = inner.permute(2, 0, 1, 3, 4).flatten(1, 3), board.ends()
        which = torch.tensor(turns).repeat_interleave(order.shape[1] * (n - 1))
        # A fresh background makes a fresh value of nobody; that of turn 0 is known.
        fresh = [turn for turn in turns if self.removal.sampled and turn > 0]
        asked = torch.cat([torch.zeros(rows, len(fresh), n), s], 1)
        values = board.value(asked, torch.cat([torch.tensor(fresh, dtype=torch.long), which]))
        empty = ends[:, :1].expand(-1, len(turns), -1).clone()
        if fresh:
            empty[:, len(turns) - len(fresh) :] = values[:, : len(fresh)]
        inside = values[:, len(fresh) :].unflatten(1, (len(turns), order.shape[1], n - 1))  # (B, T, P, n - 1, J)
        first = empty[:, :, None, None].expand(-1, -1, order.shape[1], -1, -1)
        last = ends[:, None, None, 1:].expand_as(first)
        steps = torch.cat([first, inside, last], 3).diff(dim=3)
        place = order.permute(2, 0, 1, 3).unsqueeze(-1).expand_as(steps)
        contributions = torch.zeros_like(steps).scatter_(3, place, steps).mean(2)
        return contributions.movedim(1, 0), empty.movedim(1, 0)

    def settle(self, board: Board, state: Any) -> Result:
        if isinstance(state, Sums):
            return enumerated_result(self.name, state)
        covers = COVERS + (" and the background" if self.removal.sampled else "")
        found: Result = state.result(self.name, covers)
        return found


@dataclass(frozen=True)
class WalkState:
    """Moments over draws of the contributions and of the value of nobody; where that is known exactly, also what they
    have in common, so that it serves as a control variate.

    A draw's contributions sum to f(x) - f(stand-in). Of a regression of each on f(stand-in), whose mean is known, the
    slopes sum to -1, so the corrected values sum to f(x) - E f exactly; a player that does nothing keeps its zero.
    """

    values: Moments
    empty: Moments
    cross: Tensor | None = None
    base: Tensor | None = None

    @classmethod
    def of(cls, values: Tensor, empty: Tensor, base: Tensor | None) -> WalkState:
        """From contributions (draws, B, n, J) and values of nobody (draws, B, J)."""
        both = Moments.of(values, 0), Moments.of(empty, 0)
        if base is None:
            return cls(*both)
        cross = torch.einsum("dbnj,dbj->bnj", values - both[0].mean, empty - both[1].mean)
        return cls(*both, cross, base)

    def merge(self, other: WalkState) -> WalkState:
        """Both sets of draws."""
        values, empty = self.values.merge(other.values), self.empty.merge(other.empty)
        if self.cross is None or other.cross is None:
            return WalkState(values, empty)
        apart = (other.values.mean - self.values.mean) * (other.empty.mean - self.empty.mean).unsqueeze(1)
        cross = self.cross + other.cross + apart * (self.values.count * other.values.count / values.count)
        return WalkState(values, empty, cross, self.base)

    def estimate(self) -> tuple[Tensor, Tensor, Tensor]:
        """Values and their standard errors (B, n, J), and the value of nobody (B, J)."""
        count, mean, spread = self.values.count, self.values.mean, self.empty.m2.unsqueeze(1)
        if self.cross is None or self.base is None or count < LEAST_DRAWS or not bool((spread > 0).any()):
            return mean, self.values.std_error, self.empty.mean
        slope = torch.where(spread > 0, self.cross / spread.clamp_min(torch.finfo(spread.dtype).tiny), 0.0)
        left = (self.values.m2 - slope * self.cross).clamp_min(0)
        gap = self.empty.mean - self.base
        base = torch.where(spread[:, 0] > 0, self.base, self.empty.mean)
        return mean - slope * gap.unsqueeze(1), (left / (count - 2) / count).sqrt(), base

    def within(self, tolerance: float) -> bool:
        """Whether every standard error is under the tolerance, by enough draws to say so."""
        return self.values.count >= LEAST_DRAWS and bool((self.estimate()[1] <= tolerance).all())

    def result(self, name: str, covers: str) -> Result:
        """Means over the draws, with their standard errors."""
        draws = self.values.count
        if draws < 2:
            warn_few(name, draws)
        values, errors, base = self.estimate()
        details = {"draws": draws, "degrees_of_freedom": draws - 1}
        return Result(values, errors, covers, base, details=details)


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
        if self.tolerance is None or isinstance(state, Sums):
            return False
        return bool(state.within(self.tolerance))


LEAST_DRAWS = 10
"""Draws before an error estimate may stop the work: with fewer it is too uncertain itself."""


def _prefixes(order: Tensor) -> Tensor:
    """Coalitions after each step of an order (B, n): (B, n, n), the last one everybody."""
    n = order.shape[1]
    place = torch.empty_like(order).scatter_(1, order, torch.arange(n).expand_as(order))
    return (place.unsqueeze(1) <= torch.arange(n).reshape(1, n, 1)).float()
