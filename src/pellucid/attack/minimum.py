"""The default attack: walk to the decision boundary and along it towards the input, without guessing a radius first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attack.geometry import ascent, nearest, size, within
from pellucid.attack.problem import Attack, Bracket, Problem, shortened
from pellucid.core.errors import BadInput

_PATIENCE = 0.05
"""By which share the ball grows or shrinks at first."""
_NUDGE = 1e-5
"""Standard deviation of the random step off the input with which the walk starts."""
_BEYOND = 1e-4
"""How far beyond a plane its nearest point is taken, as a share: on it is a tie, which is no change."""


@dataclass(frozen=True)
class MinimumNorm(Attack):
    """A direct minimum-norm attack (see ``attack.minimum_norm``)."""

    steps: int

    name: ClassVar[str] = "minimum_norm"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise BadInput(f"attack.minimum_norm: steps must be a whole number of at least 1, got {self.steps!r}")

    def improve(self, problem: Problem, known: Bracket) -> Bracket:
        start = self._tangent(problem)
        changed = problem.margins(start) > 0
        found = known.with_found(start, torch.where(changed, size(start, problem.norm), torch.inf))
        found = found.with_found(*self._walk(problem))
        kept = torch.nonzero(found.radius < known.radius).reshape(-1)
        if len(kept) == 0:
            return found
        near = problem.take(kept)
        delta = shortened(near, found.delta[kept])
        return found.put(kept, found.take(kept).with_found(delta, size(delta, problem.norm)))

    def _tangent(self, problem: Problem) -> Tensor:
        """A little beyond the nearest plane on which some rival draws level, by the slopes at the input itself: the
        answer, for a linear model."""
        best = torch.zeros_like(problem.low)
        length = problem.low.new_full((len(problem),), torch.inf)
        gaps, slopes = problem.decision.rivals(problem.rows)
        for rival in range(gaps.shape[1]):
            gap, slope = gaps[:, rival], torch.where(problem.free, slopes[:, rival], 0)
            gap = gap * (1 + _BEYOND) + torch.finfo(gap.dtype).eps * (1 + gap.abs())
            delta = nearest(slope, gap, problem.low, problem.high, problem.norm)
            reached = (slope * delta).sum(1) >= gap * (1 - _BEYOND / 2)
            closer = reached & (size(delta, problem.norm) < length)
            best = torch.where(closer.unsqueeze(1), delta, best)
            length = torch.where(closer, size(delta, problem.norm), length)
        return best

    def _walk(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Steps along the slope on a ball that shrinks inside the changed region and grows outside it: the smallest
        perturbations (N, d) met there, and their sizes (N,)."""
        norm = problem.norm
        dual = {1: math.inf, 2: 2, math.inf: 1}[norm]
        # A little off the input: where two ways are level there (pixels at a bound, ties in a pooling), one is chosen.
        noise = problem.normal("attack.minimum_norm", problem.low.shape[1])
        delta = problem.clamp(torch.where(problem.free, _NUDGE * noise, 0))
        radius = problem.low.new_full((len(problem),), torch.inf)
        best = Bracket.unknown(problem)
        for step in range(self.steps):
            margin, slope = problem.slopes(delta)
            changed, length = margin > 0, size(delta, norm)
            best = best.with_found(delta, torch.where(changed, length, torch.inf))
            ease = (1 + math.cos(math.pi * step / self.steps)) / 2
            gamma = 1e-3 + (_PATIENCE - 1e-3) * ease
            # Never changed yet: as far as a plane with this slope lies. Afterwards the ball moves by small factors.
            plane = length - 1.05 * margin / size(slope, dual).clamp_min(torch.finfo(slope.dtype).tiny)
            ball = torch.where(changed, torch.minimum(length, best.radius) * (1 - gamma), radius * (1 + gamma))
            radius = torch.where(best.radius.isfinite(), torch.minimum(ball, best.radius), plane)
            radius = torch.where(radius.isfinite(), radius, length + 1)
            stride = radius * (1e-2 + (1 - 1e-2) * ease)
            move = ascent(slope, problem.low - delta, problem.high - delta, norm) * stride.unsqueeze(1)
            delta = problem.clamp(within(problem.clamp(delta + move), radius, norm))
        return best.delta, best.radius
