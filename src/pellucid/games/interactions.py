"""Interactions of pairs of players: exact by enumeration, else a surrogate of order two and an unbiased correction.

Every index here is a sum Σ_S Γ_ij(S) v(S) whose weight Γ depends on |S| and on how many of i and j are in S only. So
sums over coalitions are three matrix products, variances too (Γ² has the same form), and no array is coalitions x n².
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.method import Result
from pellucid.core.removal import Removal
from pellucid.core.state import Moments, Sums
from pellucid.games import coalitions
from pellucid.games.coalitional import (
    COALITIONS_PER_CHUNK,
    Board,
    Coalitional,
    Pieces,
    check_budget,
    check_players,
    warn_few,
)
from pellucid.games.quadratic import Quadratic
from pellucid.games.shapley import COVERS, enumerated, shapley_weights

INDICES = ("k-SII", "SII", "STII")
MOST_PLAYERS = 60
"""Players whose second-order surrogate, 1 + n + n (n - 1) / 2 terms, is still fitted."""
_TIMES = 8
"""Estimates that are averaged where stand-ins are random, so that their spread shows that variance too."""
_FOLDS = 4


@dataclass(frozen=True)
class Weights:
    """Γ by |S| and membership: ``pair`` (n + 1, 3) by how many of i, j are in S, ``single`` (n + 1, 2) for i = j."""

    pair: Tensor
    single: Tensor

    def sum(self, x: Tensor, v: Tensor) -> Tensor:
        """Σ_m Γ_ij(S_m) v_m: coalitions x (B, M, n) bool and numbers v (B, M, J) to (B, n, n, J)."""
        size, s = x.sum(2), x.double()
        none, one, both = self.pair[size].unbind(2)
        flat = torch.einsum("bm,bmj->bj", none, v)[:, None, None]
        line = torch.einsum("bm,bmj,bmi->bij", one - none, v, s)
        bend = torch.einsum("bmj,bmi,bmk->bikj", (both - 2 * one + none).unsqueeze(2) * v, s, s)
        total = flat + (line.unsqueeze(1) + line.unsqueeze(2)) + (bend + bend.transpose(1, 2)) / 2
        out, inside = self.single[size].unbind(2)
        alone = torch.einsum("bm,bmj->bj", out, v)[:, None] + torch.einsum("bm,bmj,bmi->bij", inside - out, v, s)
        place = torch.arange(x.shape[2])
        total[:, place, place] = alone
        return total

    def squared(self) -> Weights:
        """Γ²."""
        return Weights(self.pair**2, self.single**2)

    def mirrored(self) -> Weights:
        """Γ(S) times Γ of the complement of S."""
        return Weights(self.pair * self.pair.flip(0, 1), self.single * self.single.flip(0, 1))


@functools.lru_cache(maxsize=16)
def weights_of(index: str, n: int) -> Weights:
    """The weights of an index; mixed second differences carry the signs +, -, + for none, one and both present."""
    pair = torch.zeros(n + 1, 3, dtype=torch.float64)
    for t in range(n - 1):  # the others that are present
        each = 2 / (n * math.comb(n - 1, t)) if index == "STII" else 1 / ((n - 1) * math.comb(n - 2, t))
        pair[t, 0], pair[t + 1, 1], pair[t + 2, 2] = each, -each, each
    single = shapley_weights(n).T.contiguous()
    size = torch.arange(n + 1, dtype=torch.float64)
    none, one, both = pair.unbind(1)
    if index == "k-SII":  # φ_i - ½ Σ_j I_ij, so that main effects and interactions add up
        single[:, 0] -= (size * one + (n - 1 - size) * none) / 2
        single[:, 1] -= ((size - 1) * both + (n - size) * one) / 2
    if index == "STII":  # v(i) - v(∅)
        single = torch.zeros(n + 1, 2, dtype=torch.float64)
        single[0, 0], single[1, 1] = -1.0, 1.0
    return Weights(pair, single)


@dataclass(frozen=True)
class Interactions(Coalitional):
    """Interaction indices of order two (see ``methods.shapley_interactions``)."""

    budget: int
    index: str
    removal: Removal
    name: str = "shapley_interactions"
    ranking: ClassVar[str] = "absolute"

    def rounds(self, n: int) -> int:
        check_budget(self.name, self.budget, n)
        check_players(self.name, n, MOST_PLAYERS, "kernel_shap() or permutation_shapley(), without interactions")
        if n < 2:
            raise BadInput(f"{self.name}: an interaction takes at least 2 players, got {n}")
        if self.removal.sampled:
            return self._times(n)
        if enumerated(n, self.budget, False):
            return -(-(1 << n) // COALITIONS_PER_CHUNK)
        return max(1, -(-_drawn(self.plan(n, self.budget)) // (COALITIONS_PER_CHUNK // 2)))

    def _times(self, n: int) -> int:
        """Estimates from random stand-ins: up to eight, each with a pair for every player, or more where all coalitions
        fit more often."""
        return max(1, self.budget >> n if n < MOST_PLAYERS else 0, min(_TIMES, self.budget // (2 * n + 2)))

    def plan(self, n: int, budget: int) -> tuple[coalitions.Stratum, ...]:
        """Pairs by size in proportion to the kernel, the allocation of least variance for these weights; but at least
        as many as folds, so that every size can be checked."""
        pairs = (budget - 2) // 2
        wanted = {s.size: s.drawn for s in coalitions.plan(n, pairs, "kernel")}
        least = {size: min(_FOLDS, coalitions.pairs_of(n, size)) for size in range(1, n // 2 + 1)}
        if sum(least.values()) <= pairs:
            wanted = {size: max(wanted.get(size, 0), count) for size, count in least.items()}
            while sum(wanted.values()) > pairs:
                wanted[max(wanted, key=lambda size: wanted[size] - least[size])] -= 1
        return tuple(coalitions.Stratum(s, coalitions.pairs_of(n, s), drawn) for s, drawn in wanted.items() if drawn)

    def play(self, board: Board, index: int) -> Sums | Pieces | Moments:
        n = board.n
        if self.removal.sampled:
            return self._time(board, index)
        if enumerated(n, self.budget, False):
            return self._part(board, index, 0)
        share = COALITIONS_PER_CHUNK // 2
        plan = self.plan(n, self.budget)
        part = slice(index * share, min((index + 1) * share, _drawn(plan)))
        return self._pieces(board, plan, part, 0)

    def _part(self, board: Board, index: int, turn: int) -> Sums:
        """One chunk of an enumeration."""
        n, start = board.n, index * COALITIONS_PER_CHUNK
        s = coalitions.every(n, start, min(2**n, start + COALITIONS_PER_CHUNK))
        values = board.value(s.float(), torch.full((len(s),), turn))
        found = weights_of(self.index, n).sum(s.expand(board.rows, -1, -1), values)
        board.remember(values, first=start == 0, last=start + len(s) == 2**n)
        return Sums({"values": found, "empty": torch.zeros_like(values[:, 0]) if start else values[:, 0]})

    def _pieces(self, board: Board, plan: tuple[coalitions.Stratum, ...], part: slice, turn: int) -> Pieces:
        """Some of the planned pairs, with nobody and everybody in front of the first."""
        stream = f"games.interactions.{turn}"
        side, size = coalitions.draw(plan, board.n, board.seed, board.first_row, board.rows, stream)
        side, size = side[:, part], size[:, part]
        ends = torch.zeros(board.rows, 0 if part.start else 2, board.n, dtype=torch.bool)
        ends[:, 1:] = True
        s = torch.cat([side, ~side, ends], 1)
        values = board.value(s.float(), torch.full((s.shape[1],), turn))
        here, there, ends = values.split([side.shape[1], side.shape[1], ends.shape[1]], 1)
        if part.start == 0:
            board.memo["ends"] = ends
        return Pieces.of({"side": side, "size": size, "here": here, "there": there, "ends": ends})

    def _time(self, board: Board, turn: int) -> Moments:
        """One whole estimate on stand-ins of its own."""
        n, times = board.n, self._times(board.n)
        budget = self.budget // times
        if enumerated(n, budget, False):
            parts = (self._part(board, part, turn) for part in range(-(-(1 << n) // COALITIONS_PER_CHUNK)))
            sums = functools.reduce(Sums.merge, parts)
            found, empty = sums["values"], sums["empty"]
        else:
            plan = self.plan(n, budget)
            pieces = self._pieces(board, plan, slice(0, _drawn(plan)), turn)
            found, empty = self._estimate(pieces, plan)[0], pieces["ends"][:, 0]
        return Moments.of(torch.cat([found.flatten(1, 2), empty.unsqueeze(1)], 1).unsqueeze(0), 0)

    def settle(self, board: Board, state: Any) -> Result:
        n = board.n
        details: dict[str, Any] = {"index": self.index, "order": 2}
        if isinstance(state, Sums):
            found, errors, empty = state["values"], torch.zeros_like(state["values"]), state["empty"]
            covers = "nothing: all coalitions were valued"
            details["exact"] = True
        elif isinstance(state, Moments):
            found, errors = (part[:, :-1].unflatten(1, (n, n)) for part in (state.mean, state.std_error))
            empty, covers = state.mean[:, -1], f"{COVERS} and the background"
            details |= {"draws": state.count, "degrees_of_freedom": state.count - 1}
            if state.count < 2:
                warn_few(self.name, state.count)
        else:
            plan = self.plan(n, self.budget)
            found, errors = self._estimate(state, plan)
            empty, covers = state["ends"][:, 0], COVERS
            open_ = [stratum for stratum in plan if stratum.drawn < stratum.pairs]
            details |= {"pairs": _drawn(plan), "degrees_of_freedom": _drawn(open_) - len(open_)}
            if not bool(torch.isfinite(errors).all()):
                warn_few(self.name, _drawn(plan))
        if self.index != "SII":
            missed = (_added(found) - (board.ends()[:, 1] - empty)).abs()
            details["residual"] = missed if missed.shape[1] > 1 else missed[:, 0]
        return Result(found, errors, covers, empty, ("player", "player"), details, frozenset(details) & {"residual"})

    def _estimate(self, state: Pieces, plan: tuple[coalitions.Stratum, ...]) -> tuple[Tensor, Tensor]:
        """Values and standard errors (B, n, n, J)."""
        values, errors = zip(*(self._row(state, row, plan) for row in range(len(state["side"]))), strict=True)
        return torch.stack(values), torch.stack(errors)

    def _row(self, state: Pieces, row: int, plan: tuple[coalitions.Stratum, ...]) -> tuple[Tensor, Tensor]:
        """Values and standard errors (n, n, J) of one row.

        Cross-fitting: for each fold of the pairs the surrogate is fitted on the others, and its index corrected by that
        of its residual: exactly on the pairs seen, by expansion from the fold to what was not drawn. So the estimate
        has no bias, however poor the surrogate.
        """
        side, size, here, there, ends = (state[name][row] for name in ("side", "size", "here", "there", "ends"))
        n, weights = side.shape[1], weights_of(self.index, side.shape[1])
        sampled = {stratum.size for stratum in plan if stratum.drawn < stratum.pairs}
        known = {stratum.size for stratum in plan}
        folds = min([_FOLDS, *(stratum.drawn for stratum in plan if stratum.size in sampled)])
        fold = _rank(size) % max(1, folds)
        everyone = torch.tensor([[False] * n, [True] * n])
        if folds < 2 or known != set(range(1, n // 2 + 1)):  # too few to check the surrogate by
            fitted = Quadratic.fitted(torch.cat([side, ~side, everyone]), torch.cat([here, there, ends]))
            values = self._index(fitted)
            return values, torch.full_like(values, torch.nan)
        values = here.new_zeros(n, n, here.shape[1])
        left_here, left_there = torch.zeros_like(here), torch.zeros_like(there)
        for k in range(folds):
            out = fold == k
            seen = torch.cat([side[~out], ~side[~out], everyone])
            fitted = Quadratic.fitted(seen, torch.cat([here[~out], there[~out], ends]))
            over, under = here - fitted(side), there - fitted(~side)
            expand = torch.ones(len(size), dtype=torch.float64)
            for stratum in plan:
                if stratum.size in sampled:
                    mine = size == stratum.size
                    expand[mine & out] = (stratum.pairs - int((mine & ~out).sum())) / int((mine & out).sum())
            units = torch.cat([over * expand.unsqueeze(1), under * expand.unsqueeze(1), ends - fitted(everyone)])
            correction = weights.sum(torch.cat([side, ~side, everyone])[None], units[None])[0]
            values = values + (self._index(fitted) + correction) / folds
            left_here[out], left_there[out] = over[out], under[out]
        variance = torch.zeros_like(values)
        for stratum in plan:
            if stratum.size in sampled:
                mine = size == stratum.size
                variance += stratum.pairs**2 * self._spread(stratum, side[mine], left_here[mine], left_there[mine])
        return values, variance.clamp_min(0).sqrt()

    def _spread(self, stratum: coalitions.Stratum, side: Tensor, here: Tensor, there: Tensor) -> Tensor:
        """Variance of the mean over a stratum of Γ(S) r(S) + Γ(S') r(S'), S' the complement, from pairs drawn without
        replacement."""
        weights, count = weights_of(self.index, side.shape[1]), len(side)
        s, r = torch.cat([side, ~side])[None], torch.cat([here, there])[None]
        squares = weights.squared().sum(s, r**2) + 2 * weights.mirrored().sum(side[None], (here * there)[None])
        mean = weights.sum(s, r) / count
        return (squares[0] / count - mean[0] ** 2) / (count - 1) * (1 - count / stratum.pairs)

    def _index(self, fitted: Quadratic) -> Tensor:
        """The index of a surrogate of order two: its coefficients c_ij and c_i on presence (SII: plus ½ Σ_j c_ij)."""
        values, place = fitted.pairs.clone(), torch.arange(len(fitted.pairs))
        values[place, place] = fitted.singles + (fitted.pairs.sum(1) / 2 if self.index == "SII" else 0)
        return values


def _drawn(plan: Any) -> int:
    return sum(stratum.drawn for stratum in plan)


def _added(values: Tensor) -> Tensor:
    """Main effects plus each pair once: (B, n, n, J) to (B, J)."""
    main = values.diagonal(dim1=1, dim2=2).sum(-1)
    return (values.sum((1, 2)) + main) / 2


def _rank(size: Tensor) -> Tensor:
    """The how manieth of its size each entry is, (m,)."""
    rank = torch.empty_like(size)
    for each in torch.unique(size).tolist():
        mine = size == each
        rank[mine] = torch.arange(int(mine.sum()))
    return rank
