"""The robustness game: a coalition is worth the smallest perturbation that changes the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pellucid.attack.decision import Decision
from pellucid.attack.problem import Attack
from pellucid.attack.radius import check_bounds, check_needs, pick, solve
from pellucid.core.errors import BadInput
from pellucid.core.players import Players, positions
from pellucid.core.question import Question

CRITERIA = ("irrelevant", "relevant")


@dataclass
class RobustnessGame:
    """v(S) = the smallest radius when only the players outside S may move (criterion "irrelevant", Robustness-S̄r, to be
    maximised) or only those in S (criterion "relevant", Robustness-Sr, to be minimised).

    Where no perturbation was found, v is the largest distance that the box allows all players together, or infinite
    where there is no box. Entries without a player never move.
    """

    question: Question
    criterion: str
    attacks: Sequence[Attack] | Attack | None = None
    norm: float = 2
    against: Any = None
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
        self.players = question.players or positions().divide(question.z, question.dims, question.space.names)
        self.decision = Decision.of(question, self.against)

    @property
    def n(self) -> int:
        """Number of players."""
        return self.players.n

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the players."""
        return self.players.names

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.question.z)

    def __call__(self, s: Tensor, turns: Tensor | None = None) -> Tensor:
        """Radii (B, M, 1) of coalitions s (B, M, n) of zeros and ones."""
        rows, coalitions, _ = s.shape
        self.calls += rows * coalitions
        labels = (self.players.labels >= 0).reshape(-1, self.question.z[0].numel())

        def free(row: Tensor, mask: Tensor) -> Tensor:
            chosen = self.players.take(row).mask(s[row, mask].unsqueeze(1)).flatten(1) > 0.5
            owned = labels[row if len(labels) > 1 else torch.zeros_like(row)]
            return (chosen if self.criterion == "relevant" else ~chosen) & owned

        parts = solve(self.decision, coalitions, free, self.chosen, self.norm)
        radius = torch.cat([part.radius for part in parts]).unflatten(0, (rows, coalitions))
        return torch.where(radius.isfinite(), radius, self.farthest().unsqueeze(1)).unsqueeze(-1)

    def farthest(self) -> Tensor:
        """The largest distance that the box allows all players together, (B,); infinite without a box."""
        z, bounds = self.question.z.flatten(1), self.decision.bounds
        if bounds is None:
            return z.new_full((len(z),), torch.inf)
        far = torch.maximum((z - bounds[0]).abs(), (bounds[1] - z).abs())
        owned = (self.players.labels >= 0).reshape(-1, z.shape[1])
        length: Tensor = torch.linalg.vector_norm(far * owned, self.norm, dim=1)
        return length
