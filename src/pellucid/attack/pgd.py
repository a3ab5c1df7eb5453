"""Projected gradient descent at a fixed radius, and the smallest radius at which it succeeds, by bisection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attack.decision import LOSSES
from pellucid.attack.geometry import ascent, size, within
from pellucid.attack.problem import TOLERANCE, Attack, Bracket, Problem
from pellucid.core.errors import BadInput

INSIDE = 0.99
"""A radius that is known already is first tried this much smaller; where that fails it is taken as confirmed."""


@dataclass(frozen=True)
class PGD(Attack):
    """The attack of hsieh2021 (see ``attack.pgd``)."""

    steps: int
    restarts: int
    loss: str
    step: float | None
    start: float

    name: ClassVar[str] = "pgd"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def __post_init__(self) -> None:
        for name in ("steps", "restarts"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise BadInput(f"attack.pgd: {name} must be a whole number of at least 1, got {number!r}")
        if self.loss not in LOSSES:
            raise BadInput(f"attack.pgd: loss must be one of {', '.join(map(repr, LOSSES))}, got {self.loss!r}")
        for name in ("step", "start"):
            length = getattr(self, name)
            if length is not None and not length > 0:
                raise BadInput(f"attack.pgd: {name} must be positive, got {length!r}")

    def improve(self, problem: Problem, known: Bracket) -> Bracket:
        """Bisection of each problem's radius; the ones that are done leave the batch."""
        low = known.lower.clone()
        trial = torch.where(known.radius.isfinite(), known.radius * INSIDE, self.start)
        active = torch.arange(len(problem))
        best, power = known, torch.ones_like(trial)
        for _ in range(_ROUNDS):
            part = problem.take(active)
            delta, changed = self._attempts(part, trial[active])
            length = size(delta, problem.norm)
            best = best.put(active, best.take(active).with_found(delta, torch.where(changed, length, torch.inf)))
            low[active] = torch.where(changed, low[active], torch.maximum(low[active], trial[active]))
            high = best.radius[active]
            power[active] *= 2  # a radius that was known is approached from above, by 1, 2, 4, ... %
            smaller = torch.where(known.radius[active].isfinite(), high * INSIDE ** power[active], high / _FACTOR)
            trial[active] = torch.where(
                high.isfinite(),
                torch.where(low[active] > 0, (low[active] + high) / 2, smaller),
                trial[active] * _FACTOR,
            )
            wide = (high - low[active] > TOLERANCE * torch.minimum(high, torch.ones_like(high))) & (low[active] < high)
            known_already = known.radius[active].isfinite() & ~changed & (low[active] >= INSIDE * high)
            inside = (trial[active] > _SMALLEST) & (trial[active] < _LARGEST)
            active = active[torch.where(high.isfinite(), wide & ~known_already, True) & inside]
            if len(active) == 0:
                break
        return best

    def _attempts(self, problem: Problem, radius: Tensor) -> tuple[Tensor, Tensor]:
        """One try from the input and the others from random points of the ball, until one succeeds: the perturbations
        and whether they change the prediction."""
        delta = torch.zeros_like(problem.low)
        changed = torch.zeros(len(problem), dtype=torch.bool)
        for attempt in range(self.restarts):
            left = torch.nonzero(~changed).reshape(-1)
            if len(left) == 0:
                break
            start = torch.zeros_like(delta) if attempt == 0 else self._random(problem, radius, attempt)
            found, hit = self._descent(problem.take(left), start[left], radius[left])
            delta[left], changed[left] = torch.where(hit.unsqueeze(1), found, delta[left]), hit
        return delta, changed

    def _descent(self, problem: Problem, delta: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Steps within the ball; a problem leaves the batch with the first iterate that changes its prediction."""
        found, hit = torch.zeros_like(delta), torch.zeros(len(delta), dtype=torch.bool)
        active = torch.arange(len(delta))
        stride = radius * (2.5 / self.steps) if self.step is None else torch.full_like(radius, self.step)
        for _ in range(self.steps + 1):
            part = problem.take(active)
            margin, slope = part.slopes(delta, self.loss)
            done = margin > 0
            hit[active], found[active] = done, torch.where(done.unsqueeze(1), delta, 0)
            keep = ~done
            if not bool(keep.any()):
                break
            active, delta, slope = active[keep], delta[keep], slope[keep]
            part = problem.take(active)
            move = ascent(slope, part.low - delta, part.high - delta, problem.norm) * stride[active].unsqueeze(1)
            delta = within(part.clamp(delta + move), radius[active], problem.norm)
        return found, hit

    def _random(self, problem: Problem, radius: Tensor, attempt: int) -> Tensor:
        """Points drawn uniformly from the ball of the free features (norm 2; its direction otherwise), in the box."""
        direction = torch.where(problem.free, problem.normal(f"attack.pgd.{attempt}", problem.low.shape[1]), 0)
        share = problem.uniform(f"attack.pgd.radius.{attempt}", 1)[:, 0]
        share = share ** (1 / problem.free.sum(1).clamp_min(1))
        length = size(direction, problem.norm).clamp_min(torch.finfo(direction.dtype).tiny)
        return within(problem.clamp(direction * (radius * share / length).unsqueeze(1)), radius, problem.norm)


_ROUNDS = 25
_FACTOR = 10.0
_SMALLEST, _LARGEST = 1e-8, 1e3
