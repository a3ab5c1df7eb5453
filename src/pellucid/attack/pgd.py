"""Projected gradient descent at a fixed radius, and the smallest radius at which it succeeds, by bisection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attack.decision import LOSSES
from pellucid.attack.geometry import ascent, size, within
from pellucid.attack.minimum import walk
from pellucid.attack.problem import TOLERANCE, Attack, Bracket, Problem, shortened
from pellucid.core.errors import BadInput

INSIDE = 0.99
"""A radius that is known already is tried this much smaller; where that fails it is taken as confirmed."""
POLISH = 20
"""Steps of the walk that makes what was found inside a known radius smaller."""


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
        """Radii that are known are confirmed, the others bisected."""
        best = known
        for finite, search in ((True, self._confirmed), (False, self._bisected)):
            kept = torch.nonzero(known.radius.isfinite() == finite).reshape(-1)
            if len(kept):
                best = best.put(kept, search(problem.take(kept), known.take(kept)))
        return best

    def _confirmed(self, problem: Problem, known: Bracket) -> Bracket:
        """Tries just inside each radius; where one succeeds, the walk of the minimum-norm search goes on from there."""
        best, active = known, torch.arange(len(problem))
        for _ in range(_ROUNDS):
            part, mine = problem.take(active), best.take(active)
            delta, changed = self._attempts(part, mine.radius * INSIDE)
            hit = torch.nonzero(changed).reshape(-1)
            if len(hit) == 0:
                break
            active, part = active[hit], part.take(hit)
            walked = walk(part, delta[hit], POLISH, reach=0.5).with_found(delta[hit], size(delta[hit], problem.norm))
            found = shortened(part, walked.delta)
            best = best.put(active, mine.take(hit).with_found(found, size(found, problem.norm)))
            active = active[best.radius[active] > _SMALLEST]
        return best

    def _bisected(self, problem: Problem, known: Bracket) -> Bracket:
        """Bisection of each problem's radius; the ones that are done leave the batch."""
        low = known.lower.clone()
        trial = torch.full_like(low, self.start)
        active, best = torch.arange(len(problem)), known
        for _ in range(_ROUNDS):
            part = problem.take(active)
            delta, changed = self._attempts(part, trial[active])
            length = size(delta, problem.norm)
            best = best.put(active, best.take(active).with_found(delta, torch.where(changed, length, torch.inf)))
            low[active] = torch.where(changed, low[active], torch.maximum(low[active], trial[active]))
            high = best.radius[active]
            trial[active] = torch.where(
                high.isfinite(),
                torch.where(low[active] > 0, (low[active] + high) / 2, high / _FACTOR),
                trial[active] * _FACTOR,
            )
            wide = (high - low[active] > TOLERANCE * torch.minimum(high, torch.ones_like(high))) & (low[active] < high)
            inside = (trial[active] > _SMALLEST) & (trial[active] < _LARGEST)
            active = active[torch.where(high.isfinite(), wide, True) & inside]
            if len(active) == 0:
                break
        return best

    def _attempts(self, problem: Problem, radius: Tensor) -> tuple[Tensor, Tensor]:
        """One try from the input, then, where it fails, the others together from random points of the ball: the
        perturbations and whether they change the prediction."""
        one = torch.arange(len(problem))
        delta, changed = self._descent(problem, torch.zeros_like(problem.low), radius, one)
        left = torch.nonzero(~changed).reshape(-1)
        if self.restarts == 1 or len(left) == 0:
            return delta, changed
        part, inside, tries = problem.take(left), radius[left], self.restarts - 1
        start = torch.cat([self._random(part, inside, attempt) for attempt in range(1, self.restarts)])
        whose = torch.arange(len(left)).repeat(tries)
        found, hit = self._descent(part.take(whose), start, inside[whose], whose)
        for attempt in range(tries):
            mine = slice(attempt * len(left), (attempt + 1) * len(left))
            fresh = hit[mine] & ~changed[left]
            delta[left] = torch.where(fresh.unsqueeze(1), found[mine], delta[left])
            changed[left] |= fresh
        return delta, changed

    def _descent(self, problem: Problem, delta: Tensor, radius: Tensor, whose: Tensor) -> tuple[Tensor, Tensor]:
        """Steps within the ball. What changes its prediction leaves with that iterate, and the other tries of the same
        problem (``whose``) with it; so does what at its pace, which falls, would not get there in the steps left."""
        found, hit = torch.zeros_like(delta), torch.zeros(len(delta), dtype=torch.bool)
        active, part = torch.arange(len(delta)), problem
        stride = radius * (2.5 / self.steps) if self.step is None else torch.full_like(radius, self.step)
        paced = self.step is None and self.loss == "margin"
        peak = past = radius.new_full(radius.shape, -torch.inf)
        for step in range(self.steps + 1):
            margin, slope = part.slopes(delta, self.loss)
            done = margin > 0
            hit[active[done]], found[active[done]] = True, delta[done]
            keep = ~torch.isin(whose[active], whose[active[done]])
            peak = torch.maximum(peak, margin)
            if paced and step >= _SETTLED * self.steps and step % _PACE == 0:
                keep &= peak + (peak - past) * ((self.steps - step) / _PACE) > 0
            if step % _PACE == 0:
                past = peak
            if not bool(keep.all()):
                if not bool(keep.any()):
                    break
                active, delta, slope, peak, past = (t[keep] for t in (active, delta, slope, peak, past))
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
_PACE = 5
"""Steps over which the pace of a try is taken."""
_SETTLED = 0.2
"""Share of the steps before which no try is given up."""
