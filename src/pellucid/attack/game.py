"""The robustness game: a coalition is worth the smallest perturbation that changes the prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pellucid.attack.decision import Decision
from pellucid.attack.problem import Attack, Bracket
from pellucid.attack.radius import check_bounds, check_needs, pick, solve
from pellucid.core.errors import BadInput
from pellucid.core.game import Divided
from pellucid.core.players import Players, each
from pellucid.core.question import Question

CRITERIA = ("irrelevant", "relevant")


@dataclass
class RobustnessGame(Divided):
    """v(S) = the smallest radius when only the players outside S may move (criterion "irrelevant", Robustness-S̄r, to be
    maximised) or only those in S (criterion "relevant", Robustness-Sr, to be minimised).

    Where no perturbation was found, v is ``unreachable``: a number, "norm" for ||x||_p, or (None) the largest distance
    that the box allows all players together, infinite without a box. Entries without a player never move.
    """

    question: Question
    criterion: str
    attacks: Sequence[Attack] | Attack | None = None
    norm: float = 2
    against: Any = None
    unreachable: float | str | None = None
    players: Players = field(init=False)
    decision: Decision = field(init=False)
    chosen: tuple[Attack, ...] = field(init=False)
    calls: int = 0

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise BadInput(f"criterion must be 'irrelevant' or 'relevant', got {self.criterion!r}")
        question = self.question
        self.chosen = pick(self.attacks, question.model.differentiable)
        check_needs(self.chosen, question.model)
        check_bounds(question)
        self.players = question.players or each().divide(question.z, question.dims, question.space.names)
        self.decision = Decision.of(question, self.against)
        self.decision.say_own("robustness")

    def __call__(self, s: Tensor, turns: Tensor | None = None) -> Tensor:
        """Radii (B, M, 1) of coalitions s (B, M, n) of zeros and ones."""
        rows, coalitions, _ = s.shape
        self.calls += rows * coalitions
        radius = torch.cat([part.radius for part in self._brackets(s, self.criterion)]).unflatten(0, (rows, coalitions))
        return torch.where(radius.isfinite(), radius, self.farthest().unsqueeze(1)).unsqueeze(-1)

    def change(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The smallest perturbation with only some players (B, n) free, (B, *dims), 0 where none was found; and whether
        it takes each of them down (+1, its presence matters) or up (-1, its absence does), (B, n)."""
        z = self.question.z
        delta = torch.cat([part.delta for part in self._brackets(chosen.to(z).unsqueeze(1), "relevant")])
        delta = delta.unflatten(1, z.shape[1:])
        moved = self.players.gather(delta.unsqueeze(-1))[..., 0]
        return delta, -moved.sign() * chosen

    def _brackets(self, s: Tensor, criterion: str) -> Iterator[Bracket]:
        owned = (self.players.labels >= 0).reshape(-1, self.question.z[0].numel())

        def free(row: Tensor, mask: Tensor) -> Tensor:
            chosen = self.players.take(row).mask(s[row, mask].unsqueeze(1)).flatten(1) > 0.5
            mine = owned[row if len(owned) > 1 else torch.zeros_like(row)]
            return (chosen if criterion == "relevant" else ~chosen) & mine

        return solve(self.decision, s.shape[1], free, self.chosen, self.norm)

    def farthest(self) -> Tensor:
        """The largest distance that the box allows all players together, (B,); infinite without a box."""
        z, bounds = self.question.z.flatten(1), self.decision.bounds
        if isinstance(self.unreachable, str):
            norm: Tensor = torch.linalg.vector_norm(z, self.norm, dim=1)
            return norm
        if self.unreachable is not None:
            return z.new_full((len(z),), self.unreachable)
        if bounds is None:
            return z.new_full((len(z),), torch.inf)
        far = torch.maximum((z - bounds[0]).abs(), (bounds[1] - z).abs())
        owned = (self.players.labels >= 0).reshape(-1, z.shape[1])
        length: Tensor = torch.linalg.vector_norm(far * owned, self.norm, dim=1)
        return length
