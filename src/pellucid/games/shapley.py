"""Shapley values by enumeration of all coalitions."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core.method import Result
from pellucid.core.removal import Removal
from pellucid.core.state import Sums
from pellucid.games.coalitional import COALITIONS_PER_CHUNK, Board, Coalitional, check_players
from pellucid.games.coalitions import every
from pellucid.games.contributions import Contributions

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

    def play(self, board: Board, index: int, weights: Tensor) -> Sums | Contributions:
        """One chunk: Σ weight of S for i times v(S), and the value of nobody."""
        if not self.sampled:
            return self._part(board, index, 0, weights)
        found = []
        for turn in range(index * self._times, min((index + 1) * self._times, self.times)):
            parts = [self._part(board, part, turn, weights) for part in range(self._chunks)]
            found.append(functools.reduce(Sums.merge, parts))
        values = torch.stack([sums["with"] + sums["without"] for sums in found])
        return Contributions.of(values, torch.stack([sums["empty"] for sums in found]))

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
    if isinstance(state, Contributions):
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

    def play(self, board: Board, index: int) -> Sums | Contributions:
        return self._enumeration(board.n).play(board, index, shapley_weights(board.n))

    def settle(self, board: Board, state: Any) -> Result:
        return enumerated_result(self.name, state)
