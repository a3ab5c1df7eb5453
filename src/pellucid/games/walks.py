"""Shapley values by walks through random orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.method import Result
from pellucid.core.removal import Marginal, Removal
from pellucid.core.state import Sums
from pellucid.games.coalitional import COALITIONS_PER_CHUNK, Board, Coalitional, check_budget
from pellucid.games.contributions import Contributions
from pellucid.games.removal import RemovalGame
from pellucid.games.shapley import COVERS, Enumeration, enumerated, enumerated_result, shapley_weights


@dataclass(frozen=True)
class Walks(Coalitional):
    """Shapley values as mean marginal contributions along random orders; subclasses say what one draw is, and
    whether draws come in blocks."""

    budget: int
    removal: Removal
    promise: ClassVar[str | None] = "completeness by construction"
    orders: ClassVar[int] = 1
    blocks: ClassVar[bool] = False

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

    def play(self, board: Board, index: int) -> Sums | Contributions:
        n = board.n
        if enumerated(n, self.budget, self.removal.sampled):
            return Enumeration(n).play(board, index, shapley_weights(n))
        share = self.per_chunk(n)
        turns = range(index * share, min((index + 1) * share, self.draws(n)))
        drawn = self.drawn(board, turns)
        found = self._contributions(board, turns, drawn)
        return Contributions.of(*found, self._nobody(board), drawn if self.blocks else None)

    def drawn(self, board: Board, turns: range) -> Tensor:
        """The order of each draw, (T, B, n)."""
        return rng.permutations(board.seed, f"{self.name}.order", turns, board.first_row, board.rows, board.n)

    def _nobody(self, board: Board) -> Tensor | None:
        """The exact worth of nobody, where the budget has room for it."""
        if "nobody" not in board.memo:
            exact = board.game.nobody() if self._spent and isinstance(board.game, RemovalGame) else None
            board.memo["nobody"] = torch.zeros(0) if exact is None else exact.double().cpu()
        known = board.memo["nobody"]
        return known if len(known) else None

    def _contributions(self, board: Board, turns: range, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Marginal contributions (T, B, n, J) of some draws, and the values of nobody (T, B, J), asked in one go."""
        n, rows = board.n, board.rows
        alone = self.orders == 1 or self.budget < 2 + self.cost(n)
        order = torch.stack([drawn] if alone else [drawn, drawn.flip(2)], 1)  # (T, P, B, n)
        inner = _prefixes(order.flatten(0, 2))[:, :-1].unflatten(0, order.shape[:3])  # (T, P, B, n - 1, n)
        s, ends = inner.permute(2, 0, 1, 3, 4).flatten(1, 3), board.ends()
        which = torch.tensor(turns).repeat_interleave(order.shape[1] * (n - 1))
        # A fresh background makes a fresh value of nobody; that of turn 0 is known.
        fresh = [turn for turn in turns if self.removal.sampled and turn > 0]
        asked = torch.cat([torch.zeros(rows, len(fresh), n, dtype=torch.bool), s], 1)
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
class Sampling(Walks):
    """Independent random orders (see ``methods.shapley_sampling``)."""

    name: str = "shapley_sampling"


@dataclass(frozen=True)
class Permutation(Walks):
    """Antithetic pairs, a random order and its reverse, in blocks of n over which every player takes every place once
    (see ``methods.permutation_shapley``).

    A block is a Latin square whose players, places and rows are shuffled, so that each of its orders alone is any order
    with equal chance. What a player adds depends on its place more than on who came before: early in a game that
    saturates, late in a conjunction.
    """

    tolerance: float | None = None
    name: str = "permutation_shapley"
    orders: ClassVar[int] = 2
    blocks: ClassVar[bool] = True

    def drawn(self, board: Board, turns: range) -> Tensor:
        n, found = board.n, []
        for block in range(turns.start // n, (turns.stop - 1) // n + 1):
            who, where, which = (
                rng.permutation(board.seed, f"{self.name}.{what}", block, board.first_row, board.rows, n)
                for what in ("players", "places", "rows")
            )
            first, last = max(turns.start, block * n), min(turns.stop, (block + 1) * n)
            shift = which[:, first - block * n : last - block * n].T.unsqueeze(2)  # (T, B, 1)
            row = who.expand(len(shift), -1, -1).gather(2, (where + shift) % n)
            found.append(row)
        return torch.cat(found)

    def settled(self, state: Any) -> bool:
        """Whether every standard error is under the tolerance, after at least ten pairs."""
        if self.tolerance is None or isinstance(state, Sums):
            return False
        return bool(state.within(self.tolerance))


def _prefixes(order: Tensor) -> Tensor:
    """Coalitions after each step of an order (B, n): (B, n, n) bool, a byte a player, the last one everybody."""
    n = order.shape[1]
    place = torch.empty_like(order).scatter_(1, order, torch.arange(n).expand_as(order))
    return place.unsqueeze(1) <= torch.arange(n).reshape(1, n, 1)
