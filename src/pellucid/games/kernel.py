"""Shapley and Banzhaf values by regression on pairs of coalitions drawn without replacement."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core.errors import Unsupported
from pellucid.core.method import Result
from pellucid.core.removal import Removal
from pellucid.core.state import Sums
from pellucid.games import coalitions, regression
from pellucid.games.coalitional import (
    COALITIONS_PER_CHUNK,
    Board,
    Coalitional,
    Pieces,
    check_budget,
    check_players,
    warn_few,
)
from pellucid.games.contributions import Contributions
from pellucid.games.shapley import COVERS, TIMES, Enumeration, enumerated, enumerated_result, shapley_weights

MOST_PLAYERS = 2000
"""Players for which least squares is still solved: its normal matrix is n x n for every row."""
MOST_COALITIONS = 2**20
"""Coalitions that ``low_order_shap`` still lists."""


class Pairs(Coalitional):
    """Planned pairs, valued chunk by chunk and fitted at the end; subclasses are frozen and say which pairs."""

    promise: ClassVar[str | None] = "completeness by construction"

    @abstractmethod
    def plan(self, n: int) -> tuple[coalitions.Stratum, ...]:
        """How many pairs of each size."""

    def pairs(self, board: Board) -> tuple[Tensor, Tensor]:
        """One side of every pair (B, m, n) and its size (B, m), in the order in which they are valued."""
        return coalitions.draw(self.plan(board.n), board.n, board.seed, board.first_row, board.rows)

    def passes(self, n: int) -> int:
        """How often the planned pairs are valued, each time on fresh stand-ins."""
        return 1

    def whole(self, n: int) -> Enumeration | None:
        """The enumeration of all coalitions where it is due, as for a single player, who has no pairs."""
        return Enumeration(1, TIMES, self.removal.sampled) if n == 1 else None

    def weights(self, n: int) -> Tensor:
        """Exact weights of v(S), by membership and |S|, for the enumeration."""
        return shapley_weights(n)

    def rounds(self, n: int) -> int:
        check_players(self.name, n, MOST_PLAYERS, "permutation_shapley() or shapley_sampling()")
        whole = self.whole(n)
        return whole.rounds if whole else max(1, -(-self._pairs(n) // (COALITIONS_PER_CHUNK // 2)))

    def _pairs(self, n: int) -> int:
        return self.passes(n) * sum(stratum.drawn for stratum in self.plan(n))

    def play(self, board: Board, index: int) -> Sums | Contributions | Pieces:
        n, sampled = board.n, self.removal.sampled
        whole = self.whole(n)
        if whole:
            return whole.play(board, index, self.weights(n))
        share = COALITIONS_PER_CHUNK // 2
        turns = torch.arange(index * share, min((index + 1) * share, self._pairs(n)))
        side, size = self.pairs(board)
        place = turns % max(1, side.shape[1])
        side, size, ends = side[:, place], size[:, place], board.ends()
        s, turn = torch.cat([side, ~side], 1), torch.cat([turns, turns])
        if sampled:  # the worth that a pair shares out is that of its own stand-ins; nobody's at turn 0 is known
            nobody = turns[turns > 0]
            s = torch.cat([s, torch.zeros(len(side), len(nobody), n, dtype=torch.bool)], 1)
            turn = torch.cat([turn, nobody])
        values = board.value(s.float(), turn) if s.shape[1] else ends[:, :0]
        here, there, fresh = values.split([len(turns), len(turns), values.shape[1] - 2 * len(turns)], 1)
        empty = torch.cat([ends[:, :1], fresh], 1) if index == 0 else fresh
        parts = {"side": side, "size": size, "half": (here - there) / 2}
        if sampled or index == 0:
            parts |= {"total": ends[:, 1:] - empty}
        return Pieces.of({**parts, "full": ends[:, 1:]} if index == 0 else parts)

    def settle(self, board: Board, state: Any) -> Result:
        if not isinstance(state, Pieces):
            return enumerated_result(self.name, state)
        fitted = self.fit(state)
        self.doubt(fitted)
        details = {"pairs": fitted.pairs, "terms": fitted.terms, "order": fitted.order}
        details["degrees_of_freedom"] = fitted.freedom
        covers = COVERS + (" and the background" if self.removal.sampled else "")
        base = state["full"][:, 0] - state["total"].mean(1)
        return Result(fitted.values, fitted.std_error, covers, base, details=details)

    def doubt(self, fitted: regression.Fit) -> None:
        """Say where errors could not be estimated."""
        if not bool(torch.isfinite(fitted.std_error).all()):
            warn_few(self.name, fitted.pairs)

    def fit(self, state: Pieces) -> regression.Fit:
        """Values and errors from the pairs valued so far."""
        side, size, half, total = (state[name] for name in ("side", "size", "half", "total"))
        weight, open_share = self._weigh(side.shape[2], size)
        if self.removal.sampled:  # a stratum that is drawn whole still has the variance of its stand-ins
            open_share = torch.ones_like(open_share)
        return self.solve(side, half, weight, open_share, total)

    def _weigh(self, n: int, size: Tensor) -> tuple[Tensor, Tensor]:
        """Kernel weight divided by the share of its stratum that was drawn, and the share that was not, (B, m) each."""
        there = torch.tensor(
            [0.0] + [float(math.comb(n, s)) / (1 + (2 * s == n)) for s in range(1, n // 2 + 1)], dtype=torch.float64
        )
        drawn = torch.zeros(len(size), len(there), dtype=torch.float64).scatter_add_(
            1, size, torch.ones(size.shape, dtype=torch.float64)
        )
        share = (drawn / there).gather(1, size)
        return self.kernel(n)[size] / share, (1 - share).clamp_min(0)

    def kernel(self, n: int) -> Tensor:
        """Weight of a coalition by its size, up to a factor."""
        sizes = range(1, n // 2 + 1)
        log = torch.tensor([-math.log(s * (n - s)) - _log_comb(n, s) for s in sizes], dtype=torch.float64)
        return torch.cat([torch.zeros(1, dtype=torch.float64), (log - log.max()).exp()])

    def solve(self, side: Tensor, half: Tensor, weight: Tensor, open_share: Tensor, total: Tensor) -> regression.Fit:
        """The regression."""
        return regression.linear(side, half, weight, open_share, total)


@dataclass(frozen=True)
class Drawn(Pairs):
    """As many pairs as the budget pays for, spread over all sizes, drawn without replacement."""

    budget: int
    removal: Removal
    share: ClassVar[str] = "kernel"

    @property
    def _most(self) -> int:
        """Pairs that the budget pays for; with random stand-ins every pair after the first values nobody afresh."""
        return (self.budget - 1) // 3 if self.removal.sampled else (self.budget - 2) // 2

    def plan(self, n: int) -> tuple[coalitions.Stratum, ...]:
        return coalitions.plan(n, self._most, self.share)

    def passes(self, n: int) -> int:
        """Several where stand-ins are random and the budget allows."""
        planned = sum(stratum.drawn for stratum in self.plan(n))
        return max(1, self._most // planned) if planned and self.removal.sampled else 1

    def whole(self, n: int) -> Enumeration | None:
        sampled = self.removal.sampled
        if n == 1:
            return Enumeration(1, self.budget // 2, sampled)
        return Enumeration(n) if enumerated(n, self.budget, sampled) else None

    def rounds(self, n: int) -> int:
        self.check(n)
        return super().rounds(n)

    def check(self, n: int) -> None:
        """Refuse a budget that is too small."""
        check_budget(self.name, self.budget, n)


@dataclass(frozen=True)
class Kernel(Drawn):
    """Weighted least squares on single players (see ``methods.kernel_shap``)."""

    tolerance: float | None = None
    name: str = "kernel_shap"

    def pairs(self, board: Board) -> tuple[Tensor, Tensor]:
        """The planned pairs; where the work may stop early, so ordered that after every chunk the sizes valued are
        those that a budget of so many would have planned."""
        side, size = super().pairs(board)
        if self.tolerance is None or size.shape[1] == 0:
            return side, size
        chunk = COALITIONS_PER_CHUNK // 2
        order = coalitions.in_stages(board.n, size, range(chunk, size.shape[1] + chunk, chunk), self.share)
        return side.gather(1, order.unsqueeze(-1).expand_as(side)), size.gather(1, order)

    def settled(self, state: Any) -> bool:
        """Whether every standard error is under the tolerance."""
        if self.tolerance is None or isinstance(state, Sums):
            return False
        if isinstance(state, Contributions):
            return state.within(self.tolerance)
        error = self.fit(state).std_error
        return bool(torch.isfinite(error).all()) and bool((error <= self.tolerance).all())


@dataclass(frozen=True)
class Regression(Drawn):
    """Ridge regression on single players and triples (see ``methods.regression_shapley``)."""

    name: str = "regression_shapley"
    share: ClassVar[str] = "equal"

    def solve(self, side: Tensor, half: Tensor, weight: Tensor, open_share: Tensor, total: Tensor) -> regression.Fit:
        return regression.cubic(side, half, weight, open_share, total)


@dataclass(frozen=True)
class Banzhaf(Drawn):
    """Least squares on uniformly drawn pairs (see ``methods.banzhaf``)."""

    name: str = "banzhaf"
    promise: ClassVar[str | None] = None
    share: ClassVar[str] = "uniform"

    def weights(self, n: int) -> Tensor:
        inside = torch.full((n + 1,), 2.0 ** (1 - n), dtype=torch.float64)
        return torch.stack([-inside, inside])

    def kernel(self, n: int) -> Tensor:
        return torch.ones(n // 2 + 1, dtype=torch.float64)

    def solve(self, side: Tensor, half: Tensor, weight: Tensor, open_share: Tensor, total: Tensor) -> regression.Fit:
        return regression.linear(side, half, weight, open_share, None)


@dataclass(frozen=True)
class LowOrder(Pairs):
    """Weighted least squares on the smallest and largest coalitions alone (see ``methods.low_order_shap``)."""

    order: int
    removal: Removal
    name: str = "low_order_shap"

    def plan(self, n: int) -> tuple[coalitions.Stratum, ...]:
        there = [coalitions.pairs_of(n, size) for size in range(1, min(self.order, n // 2) + 1)]
        return tuple(coalitions.Stratum(size, count, count) for size, count in enumerate(there, 1))

    def pairs(self, board: Board) -> tuple[Tensor, Tensor]:
        """All of them, in an order that no seed changes."""
        return coalitions.draw(self.plan(board.n), board.n, 0, board.first_row, board.rows)

    def whole(self, n: int) -> Enumeration | None:
        if self.removal.sampled or self.order < n // 2:
            return super().whole(n)
        return Enumeration(n)

    def rounds(self, n: int) -> int:
        count = 2 * self._pairs(n)
        if count > MOST_COALITIONS:
            raise Unsupported(
                f"{self.name}: order {self.order} of {n} players is {count} coalitions, its limit is "
                f"{MOST_COALITIONS}; use kernel_shap(budget) or permutation_shapley(budget), or a lower order"
            )
        return super().rounds(n)

    def settle(self, board: Board, state: Any) -> Result:
        found = super().settle(board, state)
        if not isinstance(state, Pieces):
            return found
        details = {**found.details, "order": self.order, "exact": False}
        if self.removal.sampled:
            return replace(found, covers="the background", details=details)
        return replace(found, std_error=None, covers=None, details=details)  # nothing was drawn


def _log_comb(n: int, s: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(s + 1) - math.lgamma(n - s + 1)
