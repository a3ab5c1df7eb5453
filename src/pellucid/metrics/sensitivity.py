"""Sensitivity: how much of a method's top set may be lost when the input hardly changes?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.explanation import Explanation
from pellucid.core.question import Question
from pellucid.metrics.metric import Desk, Marks, Metric, Remaker
from pellucid.metrics.units import Units, cells, each_position

TOP = 0.2
"""Share of the positions whose set is compared (hsieh2021)."""


@dataclass(frozen=True)
class Sensitivity(Metric):
    """The largest change of the top set among neighbours of a row (see ``metrics.sensitivity``)."""

    radius: float
    neighbours: int
    norm: float
    grid: int | None

    name: ClassVar[str] = "sensitivity"
    direction: ClassVar[str] = "lower"
    remakes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.neighbours, bool) or not isinstance(self.neighbours, int) or self.neighbours < 1:
            raise BadInput(f"{self.name}: neighbours must be a whole number of at least 1, got {self.neighbours!r}")
        if not 0 <= self.radius < math.inf:
            raise BadInput(f"{self.name}: radius must be at least 0 and finite, got {self.radius!r}")
        if self.norm not in (2, math.inf):
            raise BadInput(f"{self.name}: norm must be 2 or math.inf, got {self.norm!r}")
        if self.grid is not None and (isinstance(self.grid, bool) or not isinstance(self.grid, int) or self.grid < 1):
            raise BadInput(f"{self.name}: grid must be a number of cells a side, got {self.grid!r}")

    @property
    def label(self) -> str:
        ball = f"{'∞' if self.norm == math.inf else 2}-norm ball of {self.radius:g}"
        return f"{self.name}, {self.neighbours} neighbours in a {ball}, {self.granularity}"

    @property
    def granularity(self) -> str:
        return "features" if self.grid is None else f"{self.grid} x {self.grid} patches"

    def marks(self, desk: Desk, explanation: Explanation, seed: int) -> Marks:
        if not desk.question.x.is_floating_point():
            raise Unsupported(f"{self.name}: x holds whole numbers, which have no neighbours; explain their embeddings")
        remaker = desk.remaker
        here = self._top(explanation, seed)
        near = self._lost(desk, remaker, here, seed, self.radius)
        still = self._lost(desk, remaker, here, seed, 0.0, last=self._drawn(desk, remaker, explanation, seed))
        return Marks(near, floor=still)

    def _lost(self, desk: Desk, remaker: Remaker, here: Tensor, seed: int, radius: float, last: bool = True) -> Tensor:
        """The largest share of the top set that is lost among neighbours, (B,); each is explained under its own
        seed."""
        worst = torch.zeros(len(here), dtype=torch.float64)
        for draw in range(self.neighbours if last else 0):
            there = self._top(remaker(self.neighbour(desk.question, seed, draw, radius), _seed(seed, draw)), seed)
            worst = torch.maximum(worst, 1 - (here & there).sum(1).double() / here.sum(1))
        return worst

    def _drawn(self, desk: Desk, remaker: Remaker, explanation: Explanation, seed: int) -> bool:
        """Whether another seed gives other values at the rows themselves; if not, the floor is 0."""
        again = remaker(desk.question.x, _seed(seed, 0))
        return again.values.shape != explanation.values.shape or bool((again.values != explanation.values).any())

    def _top(self, explanation: Explanation, seed: int) -> Tensor:
        """The top fifth of the positions, (B, n) bool; ties are broken alike each time."""
        units: Units = each_position(explanation) if self.grid is None else cells(explanation, self.grid)
        order = units.order(seed, int(explanation.details.get("first_row", 0)))
        first = order[:, : max(1, round(TOP * units.n))]
        return torch.zeros_like(order, dtype=torch.bool).scatter_(1, first, True)

    def neighbour(self, question: Question, seed: int, draw: int, radius: float) -> Tensor:
        """A point for each row, (B, ...), drawn uniformly from the ball around it, then moved into the model's
        bounds; the same for all methods."""
        x, first = question.x, question.first_row
        rows, size = len(x), x[0].numel()
        if self.norm == 2:
            step = rng.normal(seed, "metrics.sensitivity", draw, first, rows, size)
            share = rng.uniform(seed, "metrics.sensitivity.radius", draw, first, rows, 1) ** (1 / size)
            step = step * share / step.norm(dim=1, keepdim=True)
        else:
            step = 2 * rng.uniform(seed, "metrics.sensitivity", draw, first, rows, size) - 1
        moved = x + (radius * step).reshape(x.shape).to(x)
        bounds = question.model.bounds
        return moved if bounds is None or radius == 0 else moved.clamp(*bounds)


def _seed(seed: int, draw: int) -> int:
    return int(rng.integers(seed, "metrics.sensitivity.seed", draw, 0, 1, 1, 2**31))
