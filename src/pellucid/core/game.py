"""A game: what a coalition of players is worth."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Game(Protocol):
    """A value function on coalitions, batched over B rows from the start and pure given its seed.

    ``n`` players with ``names``; ``calls`` counts the coalitions valued so far.
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

    def __call__(self, s: Tensor) -> Tensor:
        """Values (B, M, J) of coalitions s (B, M, n) in [0, 1]; 1 is present."""
        ...
