"""Shapley and Banzhaf values by regression on pairs of coalitions drawn without replacement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

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
from pellucid.games.shapley import (
    COVERS,
    enumerate_chunk,
    enumerated,
    enumerated_result,
    enumeration_rounds,
    shapley_weights,
)

MOST_PLAYERS = 2000
"""Players for which least squares is still solved: its normal matrix is n x n for every row."""


@dataclass(frozen=True)
class Pairs(Coalitional):
    """Pairs planned over all sizes, drawn without replacement, valued chunk by chunk, fitted at the end."""

    budget: int
    removal: Removal
    promise: ClassVar[str | None] = "completeness by construction"
    share: ClassVar[str] = "kernel"

    def plan(self, n: int) -> tuple[coalitions.Stratum, ...]:
        """How many pairs of each size."""
        return coalitions.plan(n, (self.budget - 2) // 2, self.share)

    def weights(self, n: int) -> Tensor:
        """Exact weights of v(S), by membership and |S|, for the enumeration."""
        return shapley_weights(n)

    def rounds(self, n: int) -> int:
        check_budget(self.name, self.budget, n)
        check_players(self.name, n, MOST_PLAYERS, "permutation_shapley() or shapley_sampling()")
        if n == 1 or enumerated(n, self.budget):
            return enumeration_rounds(n)
        return -(-self._pairs(n) // (COALITIONS_PER_CHUNK // 2))

    def _pairs(self, n: int) -> int:
        return sum(stratum.drawn for stratum in self.plan(n))

    def play(self, board: Board, index: int) -> Sums | Pieces:
        n = board.n
        if n == 1 or enumerated(n, self.budget):
            return enumerate_chunk(board, index, self.weights(n))
        share = COALITIONS_PER_CHUNK // 2
        side, size = coalitions.draw(self.plan(n), n, board.seed, board.first_row, board.rows)
        part = slice(index * share, (index + 1) * share)
        side, size = side[:, part], size[:, part]
        turns = torch.arange(side.shape[1]) + index * share
        values = board.value(torch.cat([side, ~side], 1).float(), torch.cat([turns, turns]))
        here, there = values.chunk(2, 1)
        parts = {"side": side, "size": size, "half": (here - there) / 2}
        return Pieces.of({**parts, "ends": board.ends()} if index == 0 else parts)

    def settle(self, board: Board, state: Any) -> Result:
        if isinstance(state, Sums):
            return enumerated_result(state)
        fitted = self.fit(state)
        if not bool(torch.isfinite(fitted.std_error).all()):
            warn_few(self.name, fitted.pairs)
        details = {"pairs": fitted.pairs, "terms": fitted.terms, "order": fitted.order}
        details["degrees_of_freedom"] = max(0, fitted.pairs - fitted.terms)
        covers = COVERS + (" and the background" if self.removal.sampled else "")
        return Result(fitted.values, fitted.std_error, covers, state["ends"][:, 0], details=details)

    def fit(self, state: Pieces) -> regression.Fit:
        """Values and errors from the pairs valued so far."""
        side, size, half, ends = (state[name] for name in ("side", "size", "half", "ends"))
        weight, open_share = self._weigh(side.shape[2], size)
        return self.solve(side, half, weight, open_share, ends[:, 1] - ends[:, 0])

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
class Kernel(Pairs):
    """Weighted least squares on single players (see ``methods.kernel_shap``)."""

    tolerance: float | None = None
    name: str = "kernel_shap"

    def settled(self, state: Any) -> bool:
        """Whether every standard error is under the tolerance."""
        if self.tolerance is None or isinstance(state, Sums):
            return False
        error = self.fit(state).std_error
        return bool(torch.isfinite(error).all()) and bool((error <= self.tolerance).all())


@dataclass(frozen=True)
class Regression(Pairs):
    """Ridge regression on single players and triples (see ``methods.regression_shapley``)."""

    name: str = "regression_shapley"
    share: ClassVar[str] = "equal"

    def solve(self, side: Tensor, half: Tensor, weight: Tensor, open_share: Tensor, total: Tensor) -> regression.Fit:
        return regression.cubic(side, half, weight, open_share, total)


@dataclass(frozen=True)
class Banzhaf(Pairs):
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


def _log_comb(n: int, s: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(s + 1) - math.lgamma(n - s + 1)
