"""An attack that asks for predictions only: find a changed prediction anywhere, then walk it towards the input."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attack.geometry import ascent, nearest, size, within
from pellucid.attack.problem import TOLERANCE, Attack, Bracket, Problem, shortened
from pellucid.core.errors import BadInput

_MOVES = 8
"""Perturbations of a problem that are tried together."""
_PROBES = 64
"""Directions from which a slope is estimated, at most."""
_ENTRIES = 2**24
"""Entries of the perturbations held at once."""
_FINAL = 12
"""Rows kept for the last bisection."""
_PATIENCE = 3
"""Rounds without progress after which a problem leaves."""
_AGAIN = 0.6
"""Share of the budget below which a problem that has settled is begun again elsewhere."""
_REACHES = (0.05, 0.2, 0.5, 1.0)
"""How far away, as a share of the perturbation, a slope is estimated: near for smooth models, far for trees."""


@dataclass(frozen=True)
class Boundary(Attack):
    """A decision-based attack (see ``attack.boundary``)."""

    budget: int

    name: ClassVar[str] = "boundary"

    def __post_init__(self) -> None:
        if isinstance(self.budget, bool) or not isinstance(self.budget, int) or self.budget < 50:
            raise BadInput(f"attack.boundary: budget must be a whole number of at least 50, got {self.budget!r}")

    def improve(self, problem: Problem, known: Bracket) -> Bracket:
        together = max(1, _ENTRIES // (_PROBES * problem.low.shape[1]))
        best = known
        for part in torch.arange(len(problem)).split(together):
            search = _Search(problem.take(part), known.take(part), self.budget - _FINAL)
            best = best.put(part, search.run())
        kept = torch.nonzero(best.radius < known.radius).reshape(-1)
        if len(kept) == 0:
            return best
        near = problem.take(kept)
        delta = shortened(near, best.delta[kept], _FINAL)
        return best.put(kept, best.take(kept).with_found(delta, size(delta, problem.norm)))


class _Search:
    """The state of some problems: the best perturbation, the strongest one that has not changed the prediction, and the
    rows spent."""

    def __init__(self, problem: Problem, known: Bracket, budget: int) -> None:
        self.problem, self.known, self.best, self.budget = problem, known, known, budget
        self.spent = torch.zeros(len(problem), dtype=torch.long)
        self.near = torch.zeros_like(problem.low)
        self.margin = problem.low.new_full((len(problem),), -torch.inf)
        self.boxed = bool(problem.low.isfinite().all() and problem.high.isfinite().all())
        self.count = problem.free.sum(1)
        self.unit = self._units()
        self.smooth = torch.ones(len(problem), dtype=torch.bool)
        self.labels = torch.zeros(len(problem), dtype=torch.bool)
        self.turn = 0  # of a problem that is still at work, whatever others do: draws are keyed by it

    def run(self) -> Bracket:
        every = torch.arange(len(self.problem))
        if bool((self.count > 1).any()):
            self._aim(torch.nonzero(self.count > 1).reshape(-1), _REACHES[0])
        self._single(every)
        self._start(every)
        self.turn += 1
        kept = Bracket.unknown(self.problem)
        stale = torch.zeros(len(every), dtype=torch.long)
        while len(active := torch.nonzero((stale < _PATIENCE) & (self.spent < self.budget)).reshape(-1)):
            before, spent = self.best.radius[active], self.spent[active]
            found = before.isfinite()
            if not bool(found.all()):
                self._climb(active[~found], self._reaching)
            if bool(found.any()):
                self._reduce(active[found])
            after = self.best.radius[active]
            better = (after < before * (1 - TOLERANCE)) | ~after.isfinite()
            stale[active] = torch.where(better, 0, stale[active] + 1)
            stale[active[self.spent[active] == spent]] = _PATIENCE  # nothing is left to be tried
            again = active[(stale[active] >= _PATIENCE) & (self.spent[active] < self.budget * _AGAIN)]
            again = again[self.count[again] > 1]
            if len(again):
                # Another rival's boundary may be nearer: start once more from anywhere, and keep the better answer.
                old = self.best.take(again)
                kept = kept.put(again, kept.take(again).with_found(old.delta, old.radius))
                self.best = self.best.put(again, Bracket.unknown(self.problem.take(again)))
                self.smooth[again], stale[again] = True, 0
                self._start(again)
            self.turn += 1
        return replace(self.best.with_found(kept.delta, kept.radius), lower=self.known.lower)

    @property
    def _reaching(self) -> float:
        return _REACHES[self.turn % len(_REACHES)]

    def _reduce(self, active: Tensor) -> None:
        """One round of everything that can make a perturbation smaller."""
        self._shorten(active)
        self._reset(active)
        aimed = active[self.smooth[active] | (self.turn % _PATIENCE == 0)]
        if len(aimed):
            before = self.best.radius[aimed]
            self._aim(aimed, self._reaching)
            self.smooth[aimed] = self.best.radius[aimed] < before * (1 - TOLERANCE)
        self._wander(active)

    # ---------------------------------------------------------------- where a changed prediction is found at first

    def _single(self, active: Tensor) -> None:
        """Moves of one feature at a time, the short ones first: half the budget where it is the only one."""
        share = torch.where(self.count == 1, self.budget * 3 // 4, self.budget // 4)
        for count in self.count[active].unique().tolist():
            members = active[self.count[active] == count]
            steps = max(1, int(share[members[0]]) // (2 * count))
            features = torch.nonzero(self.problem.free[members])[:, 1].reshape(-1, count)
            if 2 * count > int(share[members[0]]):
                order = self._uniform(members, "single", 1)[:, 0].gather(1, features).argsort(1)
                features = features.gather(1, order[:, : int(share[members[0]]) // 2])
            sides = self._reach(members)
            for part in _ladder(steps, self.boxed).split(max(1, _PROBES // (2 * features.shape[1]))):
                for some in features.split(_PROBES // 2, 1):
                    self._try(members, _one_each(sides, some, part))

    def _start(self, active: Tensor) -> None:
        """Random moves until one changes the prediction: anywhere in the box, of fewer and fewer features; without a
        box, around the input and ever farther away."""
        for turn in range(max(1, self.budget // 4 // _MOVES)):
            active = active[(self.count[active] > 1) & (self.spent[active] < self.budget)]
            if turn:
                active = active[~self.best.radius[active].isfinite()]
            if len(active) == 0:
                return
            part = self.problem.take(active)
            if self.boxed:
                low, high = part.low.unsqueeze(1), part.high.unsqueeze(1)
                moves = low + (high - low) * self._uniform(active, f"start.{turn}", _MOVES)
                share = 0.5 ** torch.arange(_MOVES).remainder(4).reshape(1, -1, 1)
                moves = torch.where(self._uniform(active, f"kept.{turn}", _MOVES) < share, moves, 0)
            else:
                moves = self._normal(active, f"start.{turn}", _MOVES) * 2.0 ** (turn - 3)
                unit = self.unit[active].unsqueeze(1)
                even = torch.arange(_MOVES).remainder(2).bool().reshape(1, -1, 1)
                moves = moves * torch.where(even, unit, unit.mean(2, keepdim=True))
            self._try(active, moves)

    def _climb(self, active: Tensor, reach: float) -> None:
        """Steps up the estimated slope of the margin from the strongest perturbation that failed."""
        at = self.near[active]
        length = torch.where(at.any(1), size(at, 2), size(self._reach(active).amin(1), 2) / 10)
        slope, _ = self._slope(active, at, length * reach)
        part = self.problem.take(active)
        direction = ascent(slope, part.low - at, part.high - at, part.norm)
        stride = length.reshape(-1, 1, 1) * 4.0 ** (2 - torch.arange(_MOVES)).reshape(1, -1, 1)
        self._try(active, at.unsqueeze(1) + stride * direction.unsqueeze(1))

    # ---------------------------------------------------------------- what makes it smaller

    def _shorten(self, active: Tensor) -> None:
        """The same perturbation at several lengths, since more than one may lie beyond a boundary; then between the
        last two."""
        delta = self.best.delta[active].unsqueeze(1)
        low, high = delta.new_zeros(len(active), 1), delta.new_ones(len(active), 1)
        for count in (_MOVES, _MOVES // 2, _MOVES // 2):
            steps = low + (high - low) * (torch.arange(1, count + 1) / (count + 1)).to(low)
            changed = self._try(active, delta * steps.unsqueeze(2)) > 0
            high = torch.where(changed, steps, high).amin(1, keepdim=True)
            low = torch.where(steps < high, steps, low).amax(1, keepdim=True)

    def _reset(self, active: Tensor) -> None:
        """Random groups of features go back towards the input, all the way or in part; then what helped, together."""
        delta = self.best.delta[active].unsqueeze(1)
        share = self._uniform(active, "group", _MOVES)
        # Groups from half of the features down to one.
        moved = (delta != 0).sum(2, keepdim=True)
        wanted = (moved * 0.5 ** torch.arange(1, _MOVES + 1).reshape(1, -1, 1)).clamp_min(1)
        rank = torch.where(delta != 0, share, 2.0).argsort(2).argsort(2)
        kept = torch.tensor([0, 0, 0, 0.5]).to(delta)[torch.arange(_MOVES) % 4].reshape(1, -1, 1)
        if self.problem.norm == math.inf:
            ceiling = self.best.radius[active].reshape(-1, 1, 1) * (1 - 0.5 ** torch.arange(1, _MOVES + 1)).reshape(
                1, -1, 1
            )
            factor = (ceiling / delta.abs().clamp_min(torch.finfo(delta.dtype).tiny)).clamp(max=1)
        else:
            factor = torch.where(rank < wanted, kept, 1.0)
        margin = self._try(active, delta * factor)
        good = margin > 0
        if bool(good.any()):
            order = size((delta * factor).flatten(0, 1), self.problem.norm).unflatten(0, margin.shape)
            order = torch.where(good, order, torch.inf).argsort(1).unsqueeze(2).expand_as(factor)
            joint = torch.where(good.unsqueeze(2), factor, 1.0).gather(1, order).cumprod(1)
            helped = good.sum(1, keepdim=True)
            fresh = (torch.arange(_MOVES) > 0) & (torch.arange(_MOVES) < helped)
            self._try(active, delta * joint, fresh)

    def _aim(self, active: Tensor, reach: float) -> None:
        """A slope estimated where the best perturbation ends, and the nearest points of the plane it tells of."""
        at, part = self.best.delta[active], self.problem.take(active)
        length = torch.where(at.any(1), size(at, 2), size(self._reach(active).amin(1), 2) / 100)
        slope, margin = self._slope(active, at, length * reach)
        rise = (slope * at).sum(1) - margin
        plane = nearest(slope, rise, part.low, part.high, part.norm)
        steps = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.1]).to(at).reshape(1, -1, 1)
        beyond = 1 + torch.tensor([1e-4, 1e-3, 0.01, 0.1, 1e-3, 0.05, 1e-3, 1e-3]).to(at).reshape(1, -1, 1)
        self._try(active, (at.unsqueeze(1) + steps * (plane - at).unsqueeze(1)) * beyond)

    def _wander(self, active: Tensor) -> None:
        """Random steps sideways and inwards; every other one moves a single feature."""
        delta, part = self.best.delta[active].unsqueeze(1), self.problem.take(active)
        noise = self._normal(active, "wander", _MOVES)
        alone = noise.abs().argmax(2, keepdim=True)
        single = torch.zeros_like(noise).scatter(2, alone, noise.gather(2, alone))
        noise = torch.where(torch.arange(_MOVES).remainder(2).bool().reshape(1, -1, 1), single, noise)
        length = torch.linalg.vector_norm(noise, 2, dim=2, keepdim=True).clamp_min(torch.finfo(noise.dtype).tiny)
        stride = torch.tensor([0.3, 0.1, 0.03, 0.01]).to(delta).repeat_interleave(_MOVES // 4).reshape(1, -1, 1)
        far = size(self.best.delta[active], 2).reshape(-1, 1, 1)
        moves = (delta + stride * far * noise / length).flatten(0, 1)
        radius = (self.best.radius[active].reshape(-1, 1, 1) * (1 - stride / 3)).flatten()
        if part.norm == math.inf:
            moves = torch.minimum(moves.abs(), radius.unsqueeze(1)) * moves.sign()
        else:
            moves = within(moves, radius, part.norm)
        self._try(active, moves.unflatten(0, (len(active), _MOVES)))

    # ---------------------------------------------------------------- what all of them use

    def _slope(self, active: Tensor, at: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        """The slope (A, d) of the margin around perturbations (A, d), by least squares over random orthogonal moves of
        length ``reach``, and the margin there: right for a linear model where there are as many moves as free
        features. Margins that are mere labels are asked for more moves."""
        part = self.problem.take(active)
        width = min(_PROBES, at.shape[1])
        noise = self._normal(active, "slope", _PROBES)
        basis, spread = torch.linalg.qr(noise[:, :width].mT)
        used = spread.diagonal(dim1=1, dim2=2).abs() > 1e-6 * math.sqrt(noise.shape[2])
        used &= torch.arange(width) < self.count[active].unsqueeze(1)
        labels = self.labels[active]
        more = noise[:, width:] / size(noise[:, width:].flatten(0, 1), 2).clamp_min(1e-30).reshape(len(at), -1, 1)
        step = torch.cat([basis.mT, more], 1)
        used = torch.cat([used, labels.unsqueeze(1).expand(-1, _PROBES - width)], 1).unsqueeze(2)
        step = torch.where(part.free.unsqueeze(1) & used, step, 0) * reach.reshape(-1, 1, 1)
        low, high = (part.low - at).unsqueeze(1), (part.high - at).unsqueeze(1)
        ahead, back = (torch.minimum(torch.maximum(s, low), high) for s in (step, -step))
        step = torch.where((ahead.square().sum(2) >= back.square().sum(2)).unsqueeze(2), ahead, back)
        here = self._try(active, at.unsqueeze(1), probe=True)
        margin = self._try(active, at.unsqueeze(1) + step, step.square().sum(2) > 0, probe=True)
        seen = margin.isfinite()
        height = torch.cat([here, margin], 1).abs()
        even = torch.where(height.isfinite(), height, here.abs())
        self.labels[active] = (even.amax(1) - even.amin(1)) <= 1e-6 * even.amax(1)
        complete = ~labels.unsqueeze(1) & (seen.sum(1, keepdim=True) >= self.count[active].unsqueeze(1))
        # Few directions: what they have in common is no slope (the baseline of HopSkipJump).
        mean = torch.where(seen, margin, 0).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp_min(1)
        rise = torch.where(seen, margin - torch.where(complete, here, mean), 0)
        rise = torch.where(rise.isfinite(), rise, 0).unsqueeze(2)
        step = torch.where(seen.unsqueeze(2), step, 0)
        gram = step @ step.mT
        ridge = torch.where(labels, 1e-3, 1e-6) * gram.diagonal(dim1=1, dim2=2).amax(1).clamp_min(
            torch.finfo(gram.dtype).tiny ** 0.5
        )
        slope = step.mT @ torch.linalg.solve(gram + ridge.reshape(-1, 1, 1) * torch.eye(_PROBES).to(gram), rise)
        return slope[:, :, 0], torch.where(here.isfinite(), here, 0)[:, 0]

    def _try(self, active: Tensor, moves: Tensor, wanted: Tensor | None = None, probe: bool = False) -> Tensor:
        """Margins (A, K) of perturbations (A, K, d), -inf where one was not asked about: since the budget is spent, or,
        unless it is a ``probe``, since it is no smaller than the best one known."""
        part = self.problem.take(active)
        moves = torch.minimum(torch.maximum(moves, part.low.unsqueeze(1)), part.high.unsqueeze(1))
        length = size(moves.flatten(0, 1), part.norm).unflatten(0, moves.shape[:2])
        asked = torch.ones_like(length, dtype=torch.bool) if wanted is None else wanted.expand_as(length).clone()
        if not probe:
            asked &= (length < self.best.radius[active].unsqueeze(1)) & (length > 0)
        asked &= asked.cumsum(1) <= (self.budget - self.spent[active]).unsqueeze(1)
        self.spent[active] += asked.sum(1)
        margins: Tensor = torch.full_like(length, -torch.inf)
        if not bool(asked.any()):
            return margins
        which = torch.nonzero(asked)[:, 0]
        margins[asked] = part.take(which).margins(moves[asked]).to(margins)
        best = torch.where(margins > 0, length, torch.inf)
        radius, place = best.min(1)
        found = moves.gather(1, place.reshape(-1, 1, 1).expand(-1, 1, moves.shape[2]))[:, 0]
        self.best = self.best.put(active, self.best.take(active).with_found(found, radius))
        strongest, place = margins.max(1)
        strong = moves.gather(1, place.reshape(-1, 1, 1).expand(-1, 1, moves.shape[2]))[:, 0]
        ahead = strongest > self.margin[active]
        self.near[active] = torch.where(ahead.unsqueeze(1), strong, self.near[active])
        self.margin[active] = torch.where(ahead, strongest, self.margin[active])
        return margins

    def _units(self) -> Tensor:
        """How far a feature (N, d) might go where no box says it: as far as its own value is from 0."""
        decision, free = self.problem.decision, self.problem.free
        value = decision.question.z.flatten(1)[self.problem.rows].abs() * free
        mean = value.sum(1, keepdim=True) / (value > 0).sum(1, keepdim=True).clamp_min(1)
        return torch.where(value > 0, value, torch.where(mean > 0, mean, 1)) * free

    def _reach(self, active: Tensor) -> Tensor:
        """How far each feature may or might move downwards and upwards, (A, 2, d)."""
        part = self.problem.take(active)
        return (
            torch.stack([-part.low, part.high], 1) if self.boxed else self.unit[active].unsqueeze(1).expand(-1, 2, -1)
        )

    def _normal(self, active: Tensor, what: str, count: int) -> Tensor:
        """N(0, 1) numbers (A, count, d) on free features."""
        part = self.problem.take(active)
        numbers = part.normal(f"attack.boundary.{what}.{self.turn}", count * part.low.shape[1])
        return torch.where(part.free.unsqueeze(1), numbers.reshape(len(active), count, -1), 0)

    def _uniform(self, active: Tensor, what: str, count: int) -> Tensor:
        """U[0, 1) numbers (A, count, d)."""
        part = self.problem.take(active)
        numbers = part.uniform(f"attack.boundary.{what}.{self.turn}", count * part.low.shape[1])
        return numbers.reshape(len(active), count, -1)


def _ladder(steps: int, boxed: bool) -> Tensor:
    """Shares of the way at which one feature is tried, increasing: evenly and geometrically up to the bound of a box;
    geometrically up to 256 times a unit without one."""
    if not boxed:
        return 2.0 ** (torch.linspace(-8, 8, steps) if steps > 1 else torch.ones(1))
    half = steps // 2
    even = torch.arange(1, steps - half + 1) / (steps - half)
    fine = 10.0 ** (-3 * (1 - (torch.arange(half) + 0.5) / max(1, half)))
    return torch.cat([even, fine]).sort().values


def _one_each(sides: Tensor, features: Tensor, steps: Tensor) -> Tensor:
    """Perturbations (A, steps · F · 2, d), each of one of F features, downwards or upwards, at each of some shares of
    its reach (A, 2, d); ordered by share."""
    reach = torch.stack([-sides[:, 0], sides[:, 1]], 1)  # (A, 2, d)
    index = features.unsqueeze(1).expand(-1, 2, -1)
    length = reach.gather(2, index)  # (A, 2, F)
    moves = reach.new_zeros(*length.shape, reach.shape[2]).scatter(3, index.unsqueeze(3), length.unsqueeze(3))
    moves = moves.unsqueeze(1) * steps.to(reach).reshape(1, -1, 1, 1, 1)
    return moves.reshape(len(reach), -1, reach.shape[2])
