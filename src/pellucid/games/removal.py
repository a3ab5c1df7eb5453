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
    """v(S) = mean over stand-ins of f(z on S, stand-in elsewhere); partial presence s in [0, 1] mixes the two."""

    question: Question
    removal: Removal
    players: Players = field(init=False)
    calls: int = 0

    def __post_init__(self) -> None:
        question = self.question
        self.players = question.players or each().divide(question.z, question.dims, question.space.names)
        self._stand_ins = self.removal.stand_ins(question)

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
        """Values (B, M, J) of coalitions s (B, M, n); model rows are made a call at a time, never all at once."""
        question, draws = self.question, self.removal.draws
        z, (rows, coalitions, _) = question.z, s.shape
        turns = torch.zeros(coalitions, dtype=torch.long) if turns is None or not self.removal.sampled else turns
        self.calls += rows * coalitions
        total: Tensor | None = None

        def work(part: slice) -> tuple[Tensor, Tensor]:
            # Items are ordered (coalition, row, draw), so that a call carries few coalitions and their masks are made once.
            first, last = part.start // draws, (part.stop - 1) // draws + 1
            pair = torch.arange(first, last)
            coalition, row = pair // rows, (pair % rows).to(z.device)
            present = self.players.take(row).mask(s[row.to(s.device), coalition.to(s.device)].unsqueeze(1))[:, 0].to(z)
            item = torch.arange(part.start, part.stop)
            which, draw = item // draws - first, item % draws
            here, there = (
                row[which.to(z.device)],
                self._stand_ins(turns[coalition[which]], row[which.to(z.device)], draw, present[which]),
            )
            weight = present[which.to(z.device)]
            mixed = torch.where(weight == 1, z[here], there + weight * (z[here] - there))
            return item // draws, question.value(mixed, here)

        for place, values in question.executor.map(work, rows * coalitions * draws):
            if total is None:
                total = values.new_zeros(rows * coalitions, values.shape[1])
            total.index_add_(0, place.to(total.device), values)
        if total is None:
            raise ValueError("a game was asked for no coalitions")
        return (total / draws).unflatten(0, (coalitions, rows)).transpose(0, 1)
