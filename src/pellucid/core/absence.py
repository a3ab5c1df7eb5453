"""What a removal is, and two that need no fitting: stand-ins column by column, and a function of the user's.

The recipes are in ``pellucid.core.removal``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput

if TYPE_CHECKING:
    from pellucid.core.question import Question
    from pellucid.core.removal import Marginal

StandIns = Callable[[Tensor, Tensor, range, Tensor], Tensor]


class Removal(ABC):
    """A rule that says what absent entries of z become.

    ``draws`` is how many stand-ins the value of a coalition averages over; ``sampled`` whether they are random (then
    they differ from seed to seed, and their variance enters the standard error).
    """

    name: str = "removal"
    sampled: bool = False

    @property
    def draws(self) -> int:
        """Number of stand-ins averaged over."""
        return 1

    @abstractmethod
    def absent(self, question: Question, draws: range) -> Tensor:
        """Stand-ins for z, (B or 1, len(draws), *dims), in the coordinates of the question's space."""

    def stand_ins(self, question: Question) -> StandIns:
        """The stand-ins prepared for a game.

        A function (turns (P,), rows (P,), draws, present (P, *dims)) of P pairs of a coalition and a row to stand-ins
        (P or 1, len(draws), *dims). Draws are shared by all coalitions of a turn; a removal that is not sampled has
        turn 0 only. ``present`` says which entries are kept, for removals that look at them.
        """
        blocks: dict[int, Tensor] = {}

        def block(turn: int) -> Tensor:
            if turn not in blocks:
                while len(blocks) > 1:
                    del blocks[next(iter(blocks))]
                blocks[turn] = self.absent(question, range(turn * self.draws, (turn + 1) * self.draws))
            return blocks[turn]

        def pick(turns: Tensor, rows: Tensor, draws: range, present: Tensor) -> Tensor:
            part = slice(draws.start, draws.stop)
            wanted = torch.unique(turns).tolist()
            first = block(wanted[0])[:, part]
            if len(wanted) == 1:
                return first if len(first) == 1 else first[rows]
            chosen = first.new_empty(len(rows), *first.shape[1:])
            for turn in wanted:
                here = (turns == turn).to(rows.device)
                stand_ins = block(turn)[:, part]
                chosen[here] = stand_ins.expand(len(question.z), *stand_ins.shape[1:])[rows[here]]
            return chosen

        return pick


@dataclass(frozen=True)
class Independent(Removal):
    """Every absent entry takes its value from a background row of its own (see ``removal.independent``)."""

    source: Marginal
    samples: int
    sampled: bool = field(default=True, repr=False)
    name: str = field(default="independent", repr=False)

    @property
    def draws(self) -> int:
        return self.samples

    def absent(self, question: Question, draws: range) -> Tensor:
        background = question.space.encode(self.source.rows(question))
        flat, rows = background.flatten(1), len(question.z)
        size, entries = flat.shape
        passes = range(draws.start // size, (draws.stop - 1) // size + 1)
        numbers = [
            rng.uniform(question.seed, "removal.independent", turn, question.first_row, rows, entries * size)
            for turn in passes
        ]
        order = torch.cat([turn.reshape(rows, entries, size).argsort(2) for turn in numbers], 2).to(flat.device)
        chosen = order[..., draws.start - passes.start * size : draws.stop - passes.start * size]
        stand_ins: Tensor = flat.T.expand(rows, -1, -1).gather(2, chosen).transpose(1, 2)
        return stand_ins.reshape(rows, -1, *background.shape[1:])


@dataclass(frozen=True)
class Custom(Removal):
    """Absent entries become what a function says (see ``removal.custom``)."""

    fill: Callable[[Any, Any], Any]
    name: str = field(default="custom", repr=False)

    def absent(self, question: Question, draws: range) -> Tensor:
        return self._filled(question, question.z, torch.zeros_like(question.z, dtype=torch.bool)).unsqueeze(1)

    def stand_ins(self, question: Question) -> StandIns:
        def pick(turns: Tensor, rows: Tensor, draws: range, present: Tensor) -> Tensor:
            return self._filled(question, question.z[rows], present == 1).unsqueeze(1)

        return pick

    def _filled(self, question: Question, z: Tensor, present: Tensor) -> Tensor:
        if question.model.kind == "torch":
            found = self.fill(z.clone(), present.clone())
        else:
            found = self.fill(z.cpu().numpy().copy(), present.cpu().numpy().copy())
        try:
            filled = (found if isinstance(found, Tensor) else torch.from_numpy(np.array(found))).detach().to(z)
        except (TypeError, ValueError, RuntimeError):
            raise BadInput(
                f"removal.custom: fill must return numbers like z, {tuple(z.shape)}; it returned {type(found).__name__}"
            ) from None
        if filled.shape != z.shape:
            raise BadInput(
                f"removal.custom: fill must return rows like z, {tuple(z.shape)}; it returned {tuple(filled.shape)}"
            )
        if not bool(torch.isfinite(filled).all()):
            raise BadInput("removal.custom: fill returned NaN or infinity; every absent entry needs a finite value")
        return filled
