"""Where an explanation lives: the coordinates z in which a question about x is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from torch import Tensor

from pellucid.core.players import Division

if TYPE_CHECKING:
    from pellucid.core.model import Model


@runtime_checkable
class Space(Protocol):
    """A pair of maps between inputs and the coordinates to explain. Every method works in every space.

    ``exact`` means decode(encode(x)) = x; otherwise the reconstruction error is recorded in the result. ``names`` are
    the names of the coordinates (None: from the input); ``groups`` is a label array for the players the space implies
    (None: every entry of z).
    """

    @property
    def exact(self) -> bool:
        """Whether decode(encode(x)) = x."""
        ...

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the coordinates, or None to name them after the input."""
        ...

    @property
    def groups(self) -> Tensor | Division | None:
        """Labels of the players that the space implies, or None."""
        ...

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates z (B, *dims) of inputs x."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Inputs at coordinates z, differentiable where it can be."""
        ...


@runtime_checkable
class Inner(Protocol):
    """A space inside the model, such as a layer: the model goes on from its coordinates, and no input is made of
    them."""

    def bound(self, model: Model, x: Tensor) -> Self:
        """The space in the model that is asked, checked at inputs x."""
        ...

    def through(self, z: Tensor) -> Any:
        """The model's raw output from coordinates z on."""
        ...


@dataclass(frozen=True)
class Identity:
    """The input itself: pixels, columns, samples of a signal."""

    exact: bool = True
    names: tuple[str, ...] | None = None
    groups: Tensor | None = None

    def encode(self, x: Tensor) -> Tensor:
        """X itself."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """Z itself."""
        return z
