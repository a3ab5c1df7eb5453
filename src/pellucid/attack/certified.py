"""A radius below which no perturbation changes the prediction, proven by linear bounds on the network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.attack.geometry import nearest, size
from pellucid.attack.network import Network, read
from pellucid.attack.problem import Attack, Bracket, Problem
from pellucid.attack.relaxation import Region, Relaxation
from pellucid.core.errors import BadInput

ROUNDING = 1e-9
"""By how much, as a share of the outputs, a rival must stay behind, to cover rounding in float64; and how much of the
radius is given away on top (a hundred times this)."""
_CLOSE = 0.98
"""Share of the smallest ball that failed from which on no further one is tried."""
_TOGETHER = 16
"""Problems that are bounded together."""


@dataclass(frozen=True)
class Certified(Attack):
    """A sound lower bound (see ``attack.certified``)."""

    rounds: int

    name: ClassVar[str] = "certified"

    def __post_init__(self) -> None:
        if isinstance(self.rounds, bool) or not isinstance(self.rounds, int) or self.rounds < 2:
            raise BadInput(f"attack.certified: rounds must be a whole number of at least 2, got {self.rounds!r}")

    def improve(self, problem: Problem, known: Bracket) -> Bracket:
        network = read(problem.decision.question)
        lower = torch.cat(
            [
                self._proven(network, problem.take(part), known.take(part))
                for part in torch.arange(len(problem)).split(_TOGETHER)
            ]
        )
        return replace(known, lower=torch.maximum(known.lower, lower.to(known.lower)))

    def _proven(self, network: Network, problem: Problem, known: Bracket) -> Tensor:
        """Radii (N,) proven: a bound over a ball proves the distance to its own planes, up to the ball; balls of other
        sizes are tried between the largest that held and the smallest that did not."""
        region = _region(problem)
        rows = _rows(network, problem)
        farthest = torch.linalg.vector_norm(torch.maximum(-region.low, region.high), region.norm, dim=1)
        proven = torch.zeros(len(problem)).double()
        failed = known.radius.double()
        trial = torch.full_like(proven, 1e-9)
        active = torch.arange(len(problem))
        for round_ in range(self.rounds):
            ball = replace(region.take(active), radius=trial[active])
            reached = _reached(network, ball, rows[active], problem.take(active))
            whole = trial[active] >= farthest[active]
            holds = reached >= trial[active]
            got = torch.where(holds & whole, math.inf, torch.minimum(reached, trial[active]))
            proven[active] = torch.maximum(proven[active], got)
            failed[active] = torch.where(holds, failed[active], torch.minimum(failed[active], trial[active]))
            low, high, far = proven[active], failed[active], farthest[active]
            if round_ == 0:
                # How far a plane with the slopes at the input lies, if it can be reached at all.
                middle = torch.where(reached.isfinite(), reached * (1 + 1e-6), torch.where(far.isfinite(), far, 1.0))
                middle = torch.minimum(middle, high)
            else:
                middle = torch.where(high.isfinite(), (low * high).sqrt().clamp_min(high / 10), trial[active] * 4)
            trial[active] = torch.minimum(middle, far)
            if round_ == 0:
                continue
            active = active[(low < high * _CLOSE) & low.isfinite()]
            if len(active) == 0:
                break
        return torch.minimum(proven * (1 - 100 * ROUNDING), known.radius.double())


def _region(problem: Problem) -> Region:
    decision = problem.decision
    z = decision.question.z[problem.rows].double()
    return Region(z, problem.low.double(), problem.high.double(), torch.zeros(len(problem)).double(), problem.norm)


def _rows(network: Network, problem: Problem) -> Tensor:
    """What must stay negative, as combinations (N, R, K) of the outputs: each rival's lead."""
    decision = problem.decision
    outputs = network.nodes[-1].shape[0]
    one = decision.own[problem.rows] if decision.goal is None else decision.goal[problem.rows]
    if outputs == 1:
        # One column: class 1 leads class 0 by it (or by twice its excess over a half).
        sign = 1.0 - 2.0 * one.double() if decision.goal is None else 2.0 * one.double() - 1.0
        return sign.reshape(-1, 1, 1)
    others = torch.arange(outputs).expand(len(problem), -1)
    others = others[others != one.unsqueeze(1)].reshape(len(problem), -1)
    eye = torch.eye(outputs).double()
    lead = eye[others] - eye[one].unsqueeze(1)
    return lead if decision.goal is None else -lead


def _reached(network: Network, region: Region, rows: Tensor, problem: Problem) -> Tensor:
    """The smallest radius (N,) at which the bounds over these balls let a rival draw level."""
    relaxation = Relaxation(network, region)
    decision = problem.decision
    reach = []
    centre = network(region.z)
    behind = ROUNDING * (1 + centre.abs().amax(1))
    half = 0.5 if centre.shape[1] == 1 and decision.question.model.scale == "prob" and network.monotone is None else 0.0
    for i in range(len(region.z)):
        slope, offset = relaxation.linear(len(network.nodes) - 1, rows[i : i + 1], slice(i, i + 1))
        slope, gap = slope[0], -offset[0] - behind[i] + half * rows[i, :, 0]
        low, high = region.low[i].expand_as(slope), region.high[i].expand_as(slope)
        length = size(nearest(slope, gap, low, high, region.norm), region.norm)
        room = torch.where(slope > 0, high, -low)
        farthest = torch.where(slope != 0, slope.abs() * room, 0).sum(1)
        length = torch.where(farthest >= gap * (1 - ROUNDING), length, math.inf)
        sure = slope.isfinite().all(1) & gap.isfinite() & (gap > 0)
        reach.append(torch.where(sure, length, 0))
    each = torch.stack(reach)
    # Any other class will do, so none may draw level; a goal is out of reach while one class stays ahead of it.
    return each.amin(1) if decision.goal is None else each.amax(1)
