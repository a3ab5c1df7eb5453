"""The removal game of a question: what f is when only some players keep their values."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pellucid.core.players import Players, each
from pellucid.core.question import Question
from pellucid.core.removal import Removal


@dataclass
class RemovalGame:
    """v(S) = mean over stand-ins of f(z on S, stand-in elsewhere); partial presence s in [0, 1] mixes the two
    linearly."""

    question: Question
    removal: Removal
    players: Players = field(init=False)
    calls: int = 0

    def __post_init__(self) -> None:
        question = self.question
        self.players = question.players or each().divide(question.z, question.dims, question.space.names)

    @property
    def n(self) -> int:
        """Number of players."""
        return self.players.n

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the players."""
        return self.players.names

    def __call__(self, s: Tensor) -> Tensor:
        """Values (B, M, J) of coalitions s (B, M, n); model rows are made a call at a time, never all at once."""
        question, draws = self.question, self.removal.draws
        rows, coalitions, _ = s.shape
        z = question.z
        self.calls += coalitions
        total: Tensor | None = None
        for draw in range(draws):
            absent = self.removal.absent(question, range(draw, draw + 1))[:, 0].expand_as(z)

            def work(part: slice, absent: Tensor = absent) -> Tensor:
                item = torch.arange(part.start, part.stop, device=z.device)
                row, coalition = item // coalitions, item % coalitions
                present = self.players.take(row).mask(s[row, coalition].unsqueeze(1))[:, 0].to(z)
                mixed = torch.where(present == 1, z[row], absent[row] + present * (z[row] - absent[row]))
                return question.value(mixed, row)

            values = torch.cat(question.executor.map(work, rows * coalitions)).unflatten(0, (rows, coalitions))
            total = values if total is None else total + values
        if total is None:
            raise TypeError("a removal has at least one draw")
        return total / draws
