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
_FAR = 1e6
"""The largest ball: where a network is saturated its slopes say that a plane lies beyond all numbers."""


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
        # A little off the input: where two ways are level there (pixels at a bound, ties in a pooling), one is chosen.
        noise = problem.normal("attack.minimum_norm", problem.low.shape[1])
        near = walk(problem, problem.clamp(torch.where(problem.free, _NUDGE * noise, 0)), self.steps)
        found = found.with_found(near.delta, near.radius)
        kept = torch.nonzero(found.radius < known.radius).reshape(-1)
        if len(kept) == 0:
            return found
        part = problem.take(kept)
        delta = shortened(part, found.delta[kept])
        return found.put(kept, found.take(kept).with_found(delta, size(delta, problem.norm)))

    def _tangent(self, problem: Problem) -> Tensor:
        """A little beyond the nearest plane on which some rival draws level, by the slopes at the input itself: the
        answer, for a linear model."""
        best = torch.zeros_like(problem.low)
        length = problem.low.new_full((len(problem),), torch.inf)
        gaps, slopes = problem.decision.rivals(problem.rows)
        slopes = torch.where(problem.free.unsqueeze(1), slopes, 0)
        gaps = gaps * (1 + _BEYOND) + torch.finfo(gaps.dtype).eps * (1 + gaps.abs())
        dual = {1: math.inf, 2: 2, math.inf: 1}[problem.norm]
        # No box makes a plane nearer than it is without one: what lies farther so than another in its box is not tried.
        near, order = (gaps / torch.linalg.vector_norm(slopes, dual, dim=2)).nan_to_num(torch.inf).sort(1)
        for place in range(gaps.shape[1]):
            left = torch.nonzero(near[:, place] < length).reshape(-1)
            if len(left) == 0:
                break
            rival = order[left, place]
            gap, slope = gaps[left, rival], slopes[left, rival]
            delta = nearest(slope, gap, problem.low[left], problem.high[left], problem.norm)
            reached = (slope * delta).sum(1) >= gap * (1 - _BEYOND / 2)
            closer = left[reached & (size(delta, problem.norm) < length[left])]
            found = reached & (size(delta, problem.norm) < length[left])
            best[closer], length[closer] = delta[found], size(delta[found], problem.norm)
        return best


def walk(problem: Problem, delta: Tensor, steps: int, reach: float = 1.0) -> Bracket:
    """Steps along the slope from perturbations (N, d), on a ball that shrinks inside the changed region and grows
    outside it: the smallest met there. ``reach``: the first stride, as a share of the ball."""
    norm = problem.norm
    dual = {1: math.inf, 2: 2, math.inf: 1}[norm]
    radius = problem.low.new_full((len(problem),), torch.inf)
    best = Bracket.unknown(problem)
    for step in range(steps):
        margin, slope = problem.slopes(delta)
        changed, length = margin > 0, size(delta, norm)
        best = best.with_found(delta, torch.where(changed, length, torch.inf))
        ease = (1 + math.cos(math.pi * step / steps)) / 2
        gamma = 1e-3 + (_PATIENCE - 1e-3) * ease
        # Never changed yet: as far as a plane with this slope lies. Afterwards the ball moves by small factors.
        plane = length - 1.05 * margin / size(slope, dual).clamp_min(torch.finfo(slope.dtype).tiny)
        ball = torch.where(changed, torch.minimum(length, best.radius) * (1 - gamma), radius * (1 + gamma))
        radius = torch.where(best.radius.isfinite(), torch.minimum(ball, best.radius), plane)
        radius = torch.where(radius.isfinite(), radius, length + 1).clamp(max=_FAR)
        stride = radius * (1e-2 + (reach - 1e-2) * ease)
        move = ascent(slope, problem.low - delta, problem.high - delta, norm) * stride.unsqueeze(1)
        delta = problem.clamp(within(problem.clamp(delta + move), radius, norm))
    return best
