"""The removal game of a question: what f is when only some players keep their values."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pellucid.core.game import Divided
from pellucid.core.players import Players, each
from pellucid.core.question import Question
from pellucid.core.removal import Marginal, Removal


@dataclass
class RemovalGame(Divided):
    """v(S) = mean over stand-ins of f(z on S, stand-in elsewhere); partial presence s in [0, 1] mixes the two."""

    question: Question
    removal: Removal
    players: Players = field(init=False)
    calls: int = 0

    def __post_init__(self) -> None:
        question = self.question
        self.players = question.players or each().divide(question.z, question.dims, question.space.names)
        self._stand_ins = self.removal.stand_ins(question)

    def __call__(self, s: Tensor, turns: Tensor | None = None) -> Tensor:
        """Values (B, M, J) of coalitions s (B, M, n); model rows are made a call at a time, never all at once."""
        question, draws, most = self.question, self.removal.draws, self.question.executor.batch_size
        rows, coalitions, _ = s.shape
        turns = torch.zeros(coalitions, dtype=torch.long) if turns is None or not self.removal.sampled else turns
        self.calls += rows * coalitions
        # Pairs are ordered (coalition, row), so that a call carries few coalitions.
        row, coalition = torch.arange(rows).repeat(coalitions), torch.arange(coalitions).repeat_interleave(rows)
        turns = turns[coalition]
        total: Tensor | float = 0.0
        for start in range(0, draws, most):
            block = range(start, min(start + most, draws))

            def work(part: slice, block: range = block) -> Tensor:
                return self._values(s, row[part], coalition[part], turns[part], block)

            total = torch.cat(question.executor.map(work, rows * coalitions, each=len(block))) + total
        values: Tensor = (torch.as_tensor(total) / draws).unflatten(0, (coalitions, rows)).transpose(0, 1)
        return values

    def nobody(self) -> Tensor | None:
        """The mean of f over all background rows (B, J), each of them computed once for all rows; None where stand-ins
        are not background rows as they are."""
        question, removal = self.question, self.removal
        if not isinstance(removal, Marginal) or int(self.players.labels.min()) < 0:
            return None
        z = question.space.encode(removal.rows(question))
        rows = range(self.rows if question.columns is not None else 1)

        def work(part: slice) -> Tensor:
            with torch.no_grad():
                raw, size = question.raw(z[part]), part.stop - part.start
                each = [question.score(raw, torch.full((size,), row, device=z.device)).double().sum(0) for row in rows]
                return torch.stack(each)

        total = torch.stack(question.executor.map(work, len(z))).sum(0) / len(z)
        return total.expand(self.rows, -1)

    def _values(self, s: Tensor, row: Tensor, coalition: Tensor, turns: Tensor, draws: range) -> Tensor:
        """Sum over some draws of f for each pair of a row and a coalition, (P, J)."""
        question, z = self.question, self.question.z
        here = row.to(z.device)
        present = self.players.take(here).mask(s[row, coalition].to(z).unsqueeze(1))
        kept = z.index_select(0, here).unsqueeze(1)
        absent = self._stand_ins(turns, here, draws, present[:, 0])
        mixed = mix(present, kept, absent)
        values = question.value(mixed.flatten(0, 1), here.repeat_interleave(len(draws)))
        total: Tensor = values.reshape(len(row), len(draws), -1).sum(1)
        return total


def mix(present: Tensor, kept: Tensor, absent: Tensor) -> Tensor:
    """What is kept where ``present`` is 1, the stand-in where it is 0, in between a mixture of both.

    A line from one to the other has exactly these ends in floating point, and is drawn several times faster than a
    choice is made.
    """
    if kept.is_floating_point():
        return torch.lerp(absent, kept, present)
    return torch.where(present == 1, kept, absent)
