"""Taking one player away at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pellucid.core.method import Result
from pellucid.core.removal import Removal
from pellucid.games.coalitional import Board, Coalitional, Pieces

_PLAYERS_PER_CHUNK = 64


@dataclass(frozen=True)
class Ablation(Coalitional):
    """v(all) - v(all but i) for every player i (see ``methods.feature_ablation``)."""

    removal: Removal
    name: str = "feature_ablation"

    def rounds(self, n: int) -> int:
        return -(-n // _PLAYERS_PER_CHUNK)

    def play(self, board: Board, index: int) -> Pieces:
        n = board.n
        gone = torch.arange(index * _PLAYERS_PER_CHUNK, min((index + 1) * _PLAYERS_PER_CHUNK, n))
        s = torch.ones(len(gone) + (index == 0), n)
        s[torch.arange(len(gone)), gone] = 0
        values = board.value(s)
        if index:
            return Pieces.of({"without": values})
        return Pieces.of({"all": values[:, -1:], "without": values[:, :-1]})

    def settle(self, board: Board, state: Any) -> Result:
        return Result(state["all"] - state["without"])
