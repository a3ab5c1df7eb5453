"""Methods that only ask what coalitions are worth, so that they run on any game."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unreliable, Unsupported
from pellucid.core.game import Game
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.core.state import State
from pellucid.games.removal import RemovalGame

COALITIONS_PER_CHUNK = 512


@dataclass(frozen=True)
class Board:
    """A game and the key of its random draws: rows first_row .. first_row + B - 1 under a seed."""

    game: Game
    seed: int
    first_row: int = 0
    memo: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def n(self) -> int:
        """Number of players."""
        return self.game.n

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.game.rows

    def value(self, s: Tensor, turns: Tensor | None = None) -> Tensor:
        """Values (B, M, J) in float64 of coalitions s, (B, M, n) or (M, n) for all rows alike."""
        s = s if s.ndim == 3 else s.expand(self.rows, *s.shape)
        return self.game(s, turns).double().cpu()

    def ends(self) -> Tensor:
        """Values of nobody and of everybody, (B, 2, J), asked once."""
        if "ends" not in self.memo:
            self.memo["ends"] = self.value(torch.stack([torch.zeros(self.n), torch.ones(self.n)]))
        return self.memo["ends"]

    def remember(self, values: Tensor, first: bool, last: bool) -> None:
        """Keep the ends of an enumeration whose chunks (B, M, J) come in order: the first value, then the last."""
        if first:
            self.memo["first"] = values[:, :1]
        if last and "first" in self.memo:
            self.memo["ends"] = torch.cat([self.memo["first"], values[:, -1:]], 1)


class Coalitional(Method):
    """A method on a game. On a model it plays the removal game of the question."""

    removal: Removal
    access: ClassVar[str] = "predictions"
    averaged: ClassVar[bool] = True

    def board(self, question: Question) -> Board:
        """The removal game of a question."""
        if "board" not in question.memo:
            question.memo["board"] = Board(RemovalGame(question, self.removal), question.seed, question.first_row)
        board: Board = question.memo["board"]
        return board

    def chunks(self, question: Question) -> int:
        players = question.players.n if question.players is not None else question.z[0].numel()
        return self.rounds(players)

    def chunk(self, question: Question, index: int) -> State:
        return self.play(self.board(question), index)

    def block_rows(self, question: Question) -> int:
        """Rows played together: with a tolerance one, since each row stops on its own; else what keeps coalitions
        small."""
        if getattr(self, "tolerance", None) is not None:
            return 1
        players = question.players.n if question.players is not None else question.z[0].numel()
        return max(1, min(question.executor.batch_size, 2**24 // (COALITIONS_PER_CHUNK * players)))

    def result(self, question: Question, state: Any) -> Result:
        found = self.settle(self.board(question), state)
        if question.players is not None or found.dims is not None:
            return found
        shape = question.z.shape[1:]
        values = found.values.unflatten(1, shape)
        errors = None if found.std_error is None else found.std_error.unflatten(1, shape)
        return Result(values, errors, found.covers, found.base, None, found.details, found.by_row)

    @abstractmethod
    def rounds(self, n: int) -> int:
        """Into how many chunks the work on n players is cut."""

    @abstractmethod
    def play(self, board: Board, index: int) -> State:
        """One chunk of work on a game."""

    @abstractmethod
    def settle(self, board: Board, state: Any) -> Result:
        """The answer from the merged state: values (B, n, J)."""


@dataclass(frozen=True)
class Pieces:
    """Tensors joined along their second axis, in order of the chunks."""

    parts: dict[str, tuple[Tensor, ...]]

    @classmethod
    def of(cls, parts: dict[str, Tensor]) -> Pieces:
        """One piece of each."""
        return cls({name: (part,) for name, part in parts.items()})

    def merge(self, other: Pieces) -> Pieces:
        """Both, in order."""
        return Pieces({name: parts + other.parts.get(name, ()) for name, parts in self.parts.items()})

    def __getitem__(self, name: str) -> Tensor:
        return torch.cat(self.parts[name], 1)


def check_budget(name: str, budget: int, n: int) -> None:
    """Refuse a budget that cannot value each player once."""
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < n + 1:
        raise BadInput(f"{name}: budget must be at least n + 1 = {n + 1} coalitions for {n} players, got {budget!r}")


def check_players(name: str, n: int, most: int, instead: str) -> None:
    """Refuse more players than a method can carry."""
    if n > most:
        raise Unsupported(f"{name}: {n} players are too many, its limit is {most}; use {instead}, or fewer players")


def warn_few(name: str, draws: int) -> None:
    """Say that a standard error could not be estimated."""
    warnings.warn(
        f"{name}: {draws} independent draws are too few for a standard error (NaN); raise the budget",
        Unreliable,
        stacklevel=2,
    )
