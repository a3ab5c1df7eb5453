"""What draws of marginal contributions add up to: their mean, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.core.method import Result
from pellucid.core.state import Moments
from pellucid.games.coalitional import warn_few

LEAST_DRAWS = 10
"""Draws before an error estimate may stop the work: with fewer it is too uncertain itself."""
_PLACED_DRAWS = 2 * LEAST_DRAWS
"""Draws before a parabola of places is fitted: with fewer what it leaves is too uncertain, and all counts as left."""
_SAME = 1e-9
"""Share of a regressor's squares under which the earlier ones say the same."""


class Estimate(NamedTuple):
    """Values and their standard errors (B, n, J), and the value of nobody (B, J)."""

    values: Tensor
    errors: Tensor
    base: Tensor


@dataclass(frozen=True)
class Contributions:
    """Moments over draws of contributions c (B, n, J) and of the value of nobody e (B, J), and of regressors that tell
    part of c: e where E e is known (``base``), then how far from the middle a player's place was, and its square, where
    draws come in blocks of ``block`` over which every player takes every place once.

    ``known`` (R, B, n, J or 1) are the regressors' means, ``gram`` (R, R, B, n, J or 1) and ``cross`` (R, B, n, J) sums
    of products of deviations.
    """

    values: Moments
    empty: Moments
    known: Tensor
    gram: Tensor
    cross: Tensor
    base: Tensor | None = None
    block: int = 0

    @classmethod
    def of(
        cls, values: Tensor, empty: Tensor, base: Tensor | None = None, order: Tensor | None = None
    ) -> Contributions:
        """From contributions (draws, B, n, J), values of nobody (draws, B, J), and the order of each draw (draws, B, n)
        where orders come in blocks."""
        told = [] if base is None else [empty.unsqueeze(2).expand_as(values)]
        if order is not None:
            n = order.shape[2]
            far = ((2 * order.argsort(dim=2) - (n - 1)).abs() / n).to(values.dtype).unsqueeze(3)
            told += [column.expand_as(values) if told else column for column in (far, far**2)]
        regressors = torch.stack(told) if told else values.new_zeros(0, *values.shape[:3], 1)
        moments = Moments.of(values, 0)
        known = regressors.mean(1)
        apart = regressors - known.unsqueeze(1)
        gram = torch.einsum("qdbnj,rdbnj->qrbnj", apart, apart)
        cross = (apart * (values - moments.mean)).sum(1)
        return cls(moments, Moments.of(empty, 0), known, gram, cross, base, 0 if order is None else order.shape[2])

    @property
    def draws(self) -> int:
        """How many draws."""
        return self.values.count

    def merge(self, other: Contributions) -> Contributions:
        """Both sets of draws."""
        values, empty = self.values.merge(other.values), self.empty.merge(other.empty)
        weight = self.draws * other.draws / values.count
        apart = other.known - self.known
        known = self.known + apart * (other.draws / values.count)
        gram = self.gram + other.gram + apart.unsqueeze(0) * apart.unsqueeze(1) * weight
        cross = self.cross + other.cross + apart * (other.values.mean - self.values.mean) * weight
        return Contributions(values, empty, known, gram, cross, self.base, self.block)

    def estimate(self) -> Estimate:
        """The mean contributions, corrected by the known value of nobody.

        A draw's contributions sum to f(x) - e. Of a regression of each on e the slopes sum to -1, so the corrected
        values sum to f(x) - E e exactly; a player that does nothing keeps its zero.
        """
        values, base, spread = self.values.mean, self.empty.mean, self.empty.m2
        if self._controlled and self.base is not None:
            moves = spread > 0
            slope = torch.where(moves.unsqueeze(1), self.cross[0] / self.gram[0, 0].clamp_min(_tiny(spread)), 0.0)
            values = values - slope * (base - self.base).unsqueeze(1)
            base = torch.where(moves, self.base, base)
        return Estimate(values, self._errors(), base)

    def _errors(self) -> Tensor:
        """Standard errors of the estimate.

        Only what the regressors leave of c varies from one whole block to the next; of a block that is not whole, what
        places tell of c counts as places drawn without replacement. What places tell beyond a parabola counts as left.
        """
        draws, freedom = self.draws, self.freedom
        if freedom < 1:
            return torch.full_like(self.values.mean, torch.nan)
        lefts = _residuals(self.values.m2, self.cross, self.gram)
        unplaced = int(self._controlled)
        before = lefts[unplaced] / (draws - 1 - unplaced)
        if not self._placed:
            return (before / draws).sqrt()
        left, rest = lefts[-1] / freedom, draws % self.block
        unbalanced = rest * (self.block - rest) / max(1, self.block - 1) / draws
        return ((left + (before - left).clamp_min(0) * unbalanced) / draws).sqrt()

    @property
    def _controlled(self) -> bool:
        return self.base is not None and self.draws >= LEAST_DRAWS and bool((self.empty.m2 > 0).any())

    @property
    def _placed(self) -> bool:
        return self.block > 0 and self.draws >= _PLACED_DRAWS

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the standard errors."""
        return self.draws - 1 - self._controlled - 2 * self._placed

    def within(self, tolerance: float) -> bool:
        """Whether every standard error is under the tolerance, by enough draws to say so."""
        return self.draws >= LEAST_DRAWS and bool((self._errors() <= tolerance).all())

    def result(self, name: str, covers: str) -> Result:
        """Means over the draws, with their standard errors."""
        if self.draws < 2:
            warn_few(name, self.draws)
        found = self.estimate()
        details = {"draws": self.draws, "degrees_of_freedom": self.freedom}
        return Result(found.values, found.errors, covers, found.base, details=details)


def _residuals(squares: Tensor, cross: Tensor, gram: Tensor) -> tuple[Tensor, ...]:
    """What is left of sums of squares after no regressor, the first, the first two, ... (Gauss's elimination)."""
    lefts, least = [squares], gram.diagonal().movedim(-1, 0) * _SAME
    for i in range(len(cross)):
        pivot = gram[i, i]
        share = torch.where(pivot > least[i], 1 / pivot.clamp_min(_tiny(pivot)), 0.0)
        lefts.append((lefts[-1] - cross[i] ** 2 * share).clamp_min(0))
        slopes = gram[:, i] * share
        cross, gram = cross - slopes * cross[i], gram - slopes.unsqueeze(1) * gram[i]
    return tuple(lefts)


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
