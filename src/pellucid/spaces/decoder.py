"""Any encoder and decoder as a space: latents of a VAE, factors of a renderer, components of a PCA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.players import Division
from pellucid.core.players import groups as grouped


@dataclass(frozen=True, eq=False)
class Decoder:
    """Coordinates z = encode(x) with a way back, exact or not; the error of the way back is recorded in every
    result."""

    encoder: Callable[[Tensor], Tensor]
    decoder: Callable[[Tensor], Tensor]
    names: tuple[str, ...] | None = None
    groups: Division | None = field(default=None)
    exact: bool = False

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates of x, (B, *dims)."""
        with torch.no_grad():
            z = self._checked(self.encoder(x), "encode", len(x))
        if self.names is not None and len(self.names) != z[0].numel():
            raise BadInput(
                f"spaces.decoder: {len(self.names)} names for {z[0].numel()} coordinates; give one name each"
            )
        return z.detach().to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Inputs at coordinates z."""
        return self._checked(self.decoder(z), "decode", len(z))

    def _checked(self, value: Any, what: str, rows: int) -> Tensor:
        if not isinstance(value, Tensor) or value.ndim < 2 or len(value) != rows:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise BadInput(
                f"spaces.decoder: {what} must return a tensor with one row for each of the {rows} rows, got {shape}"
            )
        if not bool(torch.isfinite(value).all()):
            raise BadInput(f"spaces.decoder: {what} returned NaN or infinite entries")
        return value


def decoder(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    names: Sequence[str] | None = None,
    groups: Any = None,
) -> Decoder:
    """What does the model make of features that a person can name: shape, size, style, place?

    ``encode``: inputs (B, ...) to coordinates (B, L); ``decode``: back, differentiable if gradient methods are to run.
    ``names``: of the coordinates. ``groups``: players as for ``players.groups``, e.g. ``{"digit": [10, 11, 12]}`` so
    that a one-hot block is one player and is never cut. What is explained is f(decode(z)); how far that is from f(x) is
    recorded as ``details["reconstruction_gap"]``.
    """
    for role, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise BadInput(f"spaces.decoder: {role} must be a function of a batch, got {type(function).__name__}")
    titles = None if names is None else tuple(str(name) for name in names)
    return Decoder(encode, decode, titles, None if groups is None else grouped(groups))
