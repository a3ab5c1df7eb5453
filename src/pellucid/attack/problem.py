"""What an attack solves: the smallest perturbation of the free features that changes a prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attack.decision import Decision
from pellucid.attack.geometry import size
from pellucid.core import rng

TOLERANCE = 1e-3
"""Width to which a radius is bisected, as a share of it and in units of the input, whichever is smaller."""
_STEP, _NEAR = 0.01, 3
"""The share by which a perturbation is made shorter first, and how often four times more is tried."""


@dataclass(frozen=True, eq=False)
class Problem:
    """N problems min ||δ||_p subject to: the decision at z + δ has changed, and low <= δ <= high.

    ``rows`` (N,) are the rows of the decision's question; ``low`` and ``high`` (N, d) hold both constraints at once:
    the box of the model, and 0 for features that are not free. Random draws are keyed by row and by ``masks`` (N,), the
    number of each problem among those of its row.
    """

    decision: Decision
    rows: Tensor
    low: Tensor
    high: Tensor
    norm: float
    masks: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, kept: Tensor) -> Problem:
        """Some of the problems."""
        return replace(self, rows=self.rows[kept], low=self.low[kept], high=self.high[kept], masks=self.masks[kept])

    @cached_property
    def free(self) -> Tensor:
        """Which entries may move, (N, d)."""
        return (self.low < 0) | (self.high > 0)

    def margins(self, delta: Tensor) -> Tensor:
        """Margins (N,) under perturbations (N, d); positive where the prediction has changed."""
        return self.decision.margins(self.decision.at(delta, self.rows), self.rows)

    def slopes(self, delta: Tensor, loss: str = "margin") -> tuple[Tensor, Tensor]:
        """Margins (N,) and gradients (N, d) of the loss, 0 for features that are not free."""
        margins, slopes = self.decision.slopes(self.decision.at(delta, self.rows), self.rows, loss)
        return margins, torch.where(self.free, slopes.flatten(1), 0)

    def normal(self, stream: str, count: int) -> Tensor:
        """Independent N(0, 1) numbers (N, count), the same for a problem whatever others it is solved with."""
        return self._drawn(rng.normal, stream, count)

    def uniform(self, stream: str, count: int) -> Tensor:
        """Independent U[0, 1) numbers (N, count), likewise."""
        return self._drawn(rng.uniform, stream, count)

    def _drawn(self, draw: Callable[..., Tensor], stream: str, size: int) -> Tensor:
        question = self.decision.question
        numbers = self.low.new_empty(len(self), size)
        for row in self.rows.unique().tolist():
            mine = torch.nonzero(self.rows == row).reshape(-1)
            masks, key = self.masks[mine], f"{stream}.{question.first_row + row}"
            wanted = masks.unique()
            ends = torch.nonzero(wanted.diff() > 1).reshape(-1) + 1  # those in between belong to nobody here
            for part in wanted.tensor_split(ends.cpu()):
                first, count = int(part[0]), len(part)
                drawn = draw(question.seed, key, 0, first, count, size)
                here = (masks >= first) & (masks < first + count)
                numbers[mine[here]] = drawn[masks[here] - first].to(numbers)
        return numbers

    def clamp(self, delta: Tensor) -> Tensor:
        """Perturbations (N, d) moved into the box."""
        return torch.minimum(torch.maximum(delta, self.low), self.high)


@dataclass(frozen=True, eq=False)
class Bracket:
    """What is known of N smallest radii: ``delta`` (N, d) attains ``radius`` (N,), which is inf where nothing was
    found; no perturbation under ``lower`` (N,) changes the prediction."""

    delta: Tensor
    radius: Tensor
    lower: Tensor

    @classmethod
    def unknown(cls, problem: Problem) -> Bracket:
        """Nothing is known yet."""
        zero = problem.low.new_zeros(len(problem))
        return cls(torch.zeros_like(problem.low), zero + torch.inf, zero)

    @classmethod
    def joined(cls, parts: Iterable[Bracket]) -> Bracket:
        """Of consecutive problems as one."""
        every = list(parts)
        return cls(*(torch.cat([getattr(part, f.name) for part in every]) for f in fields(cls)))

    def take(self, kept: Tensor) -> Bracket:
        """Of some of the problems."""
        return Bracket(self.delta[kept], self.radius[kept], self.lower[kept])

    def with_found(self, delta: Tensor, radius: Tensor) -> Bracket:
        """The smaller perturbation of each problem."""
        better = radius < self.radius
        return replace(
            self,
            delta=torch.where(better.unsqueeze(1), delta, self.delta),
            radius=torch.where(better, radius, self.radius),
        )

    def put(self, kept: Tensor, other: Bracket) -> Bracket:
        """The same with some of the problems replaced."""
        return Bracket(
            self.delta.index_copy(0, kept, other.delta),
            self.radius.index_copy(0, kept, other.radius),
            self.lower.index_copy(0, kept, other.lower),
        )


class Attack(ABC):
    """A way to find small perturbations, or to prove that there is none. Subclasses are frozen dataclasses of settings.

    ``needs`` as for methods.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"predictions"})

    @abstractmethod
    def improve(self, problem: Problem, known: Bracket) -> Bracket:
        """A bracket at least as tight as the one known."""


def needs(attack: Attack | Sequence[Attack] | None) -> frozenset[str]:
    """What a method needs that finds its radii so."""
    each = () if attack is None else (attack,) if isinstance(attack, Attack) else tuple(attack)
    return frozenset({"predictions"}).union(*(one.needs for one in each))


def shortened(problem: Problem, delta: Tensor, rounds: int = 12) -> Tensor:
    """Adversarial perturbations (N, d) scaled towards 0 as far as the prediction stays changed, by bisection.

    The result has been seen to change the prediction. It is looked for near the end first. Then halves and the place
    where the line between the margins of both ends crosses 0 are tried in turn, the latter from either side, so that
    where the margin is nearly straight a few calls do.
    """
    high = delta.new_ones(len(delta))
    low, below, above = torch.zeros_like(high), torch.full_like(high, torch.nan), torch.full_like(high, torch.nan)
    length = size(delta, problem.norm).clamp(min=1)
    wide = torch.arange(len(delta))
    for turn in range(rounds):
        width = high - low
        wide = wide[width[wide] * length[wide] > TOLERANCE / 4]
        if len(wide) == 0:
            break
        step = TOLERANCE / 10 / length[wide]
        line = low[wide] + (width * below / (below - above))[wide] + (step if turn % 2 else -step)
        use = (line > low[wide]) & (line < high[wide]) & (turn % 3 > 0)
        at = torch.where(use, line, (low + width / 2)[wide])
        at = torch.where((low[wide] == 0) & (turn < _NEAR), high[wide] * (1 - _STEP * 4**turn), at)
        margin = problem.take(wide).margins(delta[wide] * at.unsqueeze(1)).to(high)
        changed = margin > 0
        high[wide], above[wide] = torch.where(changed, at, high[wide]), torch.where(changed, margin, above[wide])
        low[wide], below[wide] = torch.where(changed, low[wide], at), torch.where(changed, below[wide], margin)
    return delta * high.unsqueeze(1)
