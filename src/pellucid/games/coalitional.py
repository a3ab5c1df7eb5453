"""Methods that only ask what coalitions are worth, so that they run on any game."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core.game import Game
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.core.state import State
from pellucid.games.removal import RemovalGame

COALITIONS_PER_CHUNK = 64


class Coalitional(Method):
    """A method on a game. On a model it plays the removal game of the question."""

    removal: Removal
    access: ClassVar[str] = "predictions"

    def chunks(self, question: Question) -> int:
        return self.rounds(RemovalGame(question, self.removal).n)

    def chunk(self, question: Question, index: int) -> State:
        return self.play(RemovalGame(question, self.removal), len(question.z), index)

    @abstractmethod
    def rounds(self, n: int) -> int:
        """Into how many chunks the work on n players is cut."""

    @abstractmethod
    def play(self, game: Game, rows: int, index: int) -> State:
        """One chunk of work on a game of ``rows`` rows."""


@dataclass(frozen=True)
class Pieces:
    """Values of consecutive players (B, players of this piece, J), joined in order."""

    parts: tuple[Tensor, ...]

    def merge(self, other: Pieces) -> Pieces:
        """Both sets of players, in order."""
        return Pieces(self.parts + other.parts)


@dataclass(frozen=True)
class Ablation(Coalitional):
    """v(all) - v(all but i) for every player i (see ``methods.feature_ablation``)."""

    removal: Removal
    name: str = "feature_ablation"

    def rounds(self, n: int) -> int:
        return -(-n // COALITIONS_PER_CHUNK)

    def play(self, game: Game, rows: int, index: int) -> Pieces:
        n = game.n
        gone = torch.arange(index * COALITIONS_PER_CHUNK, min((index + 1) * COALITIONS_PER_CHUNK, n))
        s = torch.ones(len(gone) + 1, n)
        s[torch.arange(len(gone)), gone] = 0
        values = game(s.expand(rows, -1, -1))
        return Pieces((values[:, -1:] - values[:, :-1],))

    def result(self, question: Question, state: Any) -> Result:
        values = torch.cat(state.parts, 1)
        return Result(values if question.players is not None else values.unflatten(1, question.z.shape[1:]))
