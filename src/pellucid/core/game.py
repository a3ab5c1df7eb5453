"""A game: what a coalition of players is worth."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from pellucid.core.partition import Players
from pellucid.core.question import Question


class Game(Protocol):
    """A value function on coalitions, batched over B rows from the start and pure given its seed.

    ``calls`` counts the coalitions valued so far, summed over rows.
    """

    calls: int

    @property
    def n(self) -> int:
        """Number of players."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the players."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows B that are played at once."""
        ...

    def __call__(self, s: Tensor, turns: Tensor | None = None) -> Tensor:
        """Values (B, M, J) of coalitions s (B, M, n) in [0, 1], 1 is present.

        A game with randomness of its own (a sampled background) draws it afresh for every turn: coalition m belongs to
        ``turns[m]`` (M,), all to turn 0 by default. Coalitions of one turn share their randomness.
        """
        ...


class Divided:
    """What games about the rows of a question have in common: its coordinates are divided among the players."""

    question: Question
    players: Players

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
