"""What is explained: rows of some kind, and the model that predicts them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from pellucid.core.model import Model


class Rows(ABC):
    """What every kind of rows has: a ``model``, the class of each row, and ``weights``, a hash of the networks.

    ``players``: what methods that ask about players are asked about (None: every entry); ``grid``: cells a side that
    all rankings are read on (None: each method's own features).
    """

    about: str
    model: Model
    labels: tuple[int, ...]
    weights: str
    players: ClassVar[Any] = None
    grid: ClassVar[int | None] = None

    @abstractmethod
    def row(self, row: int) -> Tensor:
        """The input of a row, (1, ...)."""

    @abstractmethod
    def background_of(self, row: int) -> Tensor:
        """Inputs from the training data, shaped like the row, (R, ...)."""

    def fractions(self, row: int, sizes: tuple[float, ...]) -> tuple[float, ...]:
        """Sizes of relevant sets as shares of the row's features; they are given in %."""
        return tuple(size / 100 for size in sizes)


def digest(*nets: nn.Module) -> str:
    """A hash of all weights."""
    made = hashlib.sha256()
    for net in nets:
        for name, values in net.state_dict().items():
            made.update(name.encode() + values.cpu().numpy().tobytes())
    return made.hexdigest()
