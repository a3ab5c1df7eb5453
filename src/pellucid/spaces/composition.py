"""Spaces in a row: the coordinates of one are the inputs of the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.model import Model
from pellucid.core.partition import Division
from pellucid.core.space import Inner, Space


@dataclass(frozen=True, eq=False)
class Chain:
    """z = c(b(a(x))), and back in the reverse order (see ``spaces.compose``)."""

    spaces: tuple[Space, ...]

    @property
    def exact(self) -> bool:
        """Whether every way back is."""
        return all(space.exact for space in self.spaces)

    @property
    def names(self) -> tuple[str, ...] | None:
        """Those of the last space."""
        return self.spaces[-1].names

    @property
    def groups(self) -> Tensor | Division | None:
        """Those of the last space."""
        return self.spaces[-1].groups

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates in the last space."""
        for space in self.spaces:
            x = space.encode(x)
        return x

    def decode(self, z: Tensor) -> Tensor:
        """Inputs at coordinates of the last space."""
        for space in reversed(self.spaces):
            z = space.decode(z)
        return z


@dataclass(frozen=True, eq=False)
class InnerChain(Chain):
    """A chain that starts inside the model."""

    def bound(self, model: Model, x: Tensor) -> Self:
        """The same chain in the model that is asked."""
        first = self.spaces[0]
        return replace(self, spaces=(first.bound(model, x), *self.spaces[1:])) if isinstance(first, Inner) else self

    def through(self, z: Tensor) -> Any:
        """The model's raw output from coordinates z on."""
        for space in reversed(self.spaces[1:]):
            z = space.decode(z)
        first = self.spaces[0]
        return first.through(z) if isinstance(first, Inner) else None


def compose(*spaces: Space) -> Chain:
    """Spaces one after the other: the coordinates of the first are the inputs of the second, and so on.

    Players and names are those of the last. ``compose(spaces.layer(net, "features"), spaces.decoder(project, back))``
    explains by directions of a layer; a layer comes first, since no input is made of its activations.
    """
    if len(spaces) < 2:
        raise BadInput(f"spaces.compose: needs at least two spaces, got {len(spaces)}")
    for place, space in enumerate(spaces):
        if not (hasattr(space, "encode") and hasattr(space, "decode")):
            raise BadInput(f"spaces.compose: expected spaces such as spaces.fourier(), got {type(space).__name__}")
        if place and isinstance(space, Inner):
            raise BadInput(f"spaces.compose: {type(space).__name__} lies inside the model and must come first")
    return InnerChain(spaces) if isinstance(spaces[0], Inner) else Chain(spaces)
