"""A sparse counterfactual: the nearest input of another class that differs in few features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.attack.decision import Decision
from pellucid.attack.problem import Attack, Bracket, needs
from pellucid.attack.radius import check_bounds, check_needs, pick, solve
from pellucid.core.errors import BadInput
from pellucid.core.method import Method, Result
from pellucid.core.players import each
from pellucid.core.question import Question


@dataclass(frozen=True)
class Counterfactual(Method):
    """min ||δ||² + price ||δ||_0 subject to another class at x + δ (see ``methods.counterfactual_cfx``)."""

    price: float
    against: Any
    attack: Attack | Sequence[Attack] | None
    name: str = "counterfactual_cfx"

    ranking: ClassVar[str] = "absolute"
    reduction: ClassVar[str] = "sum of absolute values"

    def __post_init__(self) -> None:
        if not self.price >= 0:
            raise BadInput(f"{self.name}: price must be a number from 0 on, got {self.price!r}")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What its attack needs."""
        return needs(self.attack)

    def attribute(self, question: Question) -> Result:
        if question.target.several:
            raise BadInput(f"{self.name}: explains why a prediction stands, so one target; got 'all'")
        attacks = pick(self.attack, question.model.differentiable)
        check_needs(attacks, question.model)
        check_bounds(question)
        decision = Decision.of(question, self.against)
        decision.say_own(self.name)
        players = question.players or each().divide(question.z, question.dims, question.space.names)
        rows, n, z = len(question.z), players.n, question.z

        kept = torch.ones(rows, n, dtype=torch.bool, device=z.device)
        owned = (players.labels >= 0).expand(z.shape) if not players.by_row else players.labels >= 0
        best, best_cost = torch.zeros_like(z), z.new_full((rows,), torch.inf)
        size = n
        while size >= 1:
            entries = (players.mask(kept.to(z).unsqueeze(1))[:, 0] > 0.5) & owned

            def free(row: Tensor, mask: Tensor, entries: Tensor = entries.flatten(1)) -> Tensor:
                return entries[row]

            found = Bracket.joined(solve(decision, 1, free, attacks))
            delta = found.delta.reshape(z.shape)
            moved = players.gather(delta.abs().unsqueeze(-1))[..., 0]
            cost = found.radius**2 + self.price * (moved > 0).sum(1)
            better = cost < best_cost
            best = torch.where(better.reshape(-1, *(1,) * (z.ndim - 1)), delta, best)
            best_cost = torch.where(better, cost, best_cost)
            if size == 1 or not bool(found.radius.isfinite().any()):
                break
            # The players that moved most go on alone; a row that found nothing keeps what it had.
            size = max(1, size // 2)
            order = moved.argsort(dim=1, descending=True, stable=True)
            fewer = torch.zeros_like(kept).scatter(1, order[:, :size], True) & kept
            kept = torch.where(found.radius.isfinite().unsqueeze(1), fewer, kept)
        reached = best_cost.isfinite()
        details = {"found": reached, "changed": players.gather(best.abs().unsqueeze(-1))[..., 0] > 0}
        details["radius"] = torch.where(reached, best.flatten(1).norm(dim=1), torch.inf)
        values = question.gathered(best.unsqueeze(-1), question.every_row())
        return Result(values, details=details, by_row=frozenset(details))
