"""Who is there: positions as players, players that a row lacks, presence drawn at random."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.method import Result
from pellucid.core.players import positions
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.games.coalitional import Board
from pellucid.games.removal import RemovalGame

_GROUP = 16
"""Players drawn in one call, so that the draws of a player do not depend on how many others there are."""


@dataclass(frozen=True)
class Plane(Board):
    """A board whose players are the positions of an input, on axes of these names and sizes."""

    axes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()


def plane(question: Question, removal: Removal) -> Plane:
    """The removal game of a question in which every position is a player, with all its channels."""
    axes, sizes = plane_axes(question)
    everywhere = positions().divide(question.z, question.dims, tuple(map(str, range(math.prod(sizes)))))
    game = RemovalGame(replace(question, players=everywhere), removal)
    return Plane(game, question.seed, question.first_row, axes=axes, sizes=sizes)


def plane_axes(question: Question) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and sizes of the axes of z that are not channels or embeddings."""
    axes = zip(question.dims, question.z.shape[1:], strict=True)
    kept = [(dim, size) for dim, size in axes if dim not in ("channel", "embedding")] or [("feature", 1)]
    return tuple(dim for dim, _ in kept), tuple(size for _, size in kept)


def there(board: Board) -> Tensor:
    """Which players each row has, (B, n) bool: a row divided into fewer players than others lacks some."""
    players = getattr(board.game, "players", None)
    if players is None or not players.by_row:
        return torch.ones(board.rows, board.n, dtype=torch.bool)
    entries: Tensor = players.gather(torch.ones(players.labels.shape))
    return entries.cpu() > 0


def independent(board: Board, stream: str, block: int, count: int, keep: float) -> Tensor:
    """Coalitions (B, count, n) bool that hold each player with probability ``keep``.

    The draws of a player depend on the seed, the row, the block, and its own number.
    """
    groups = [
        rng.uniform(board.seed, f"{stream}.{group}", block, board.first_row, board.rows, count * _GROUP)
        for group in range(math.ceil(board.n / _GROUP))
    ]
    numbers = torch.cat([group.unflatten(1, (count, _GROUP)) for group in groups], 2)
    return numbers[..., : board.n] < keep


def outputs_last(found: Result, question: Question) -> Result:
    """A result whose details of each row (B, J) lose J where one output is explained, as values do."""
    if question.target.several:
        return found
    details = {name: part[..., 0] if name in found.by_row else part for name, part in found.details.items()}
    return replace(found, details=details)
