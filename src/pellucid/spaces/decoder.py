"""Any encoder and decoder as a space: latents of a VAE, factors of a renderer, components of a PCA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.players import Division
from pellucid.core.players import groups as grouped
from pellucid.core.removal import as_tensor
from pellucid.core.settings import checked, function_of


@dataclass(frozen=True, eq=False)
class Decoder:
    """Coordinates z = encode(x) with a way back, exact or not; the error of the way back is recorded in every
    result."""

    encoder: Callable[[Tensor], Tensor]
    decoder: Callable[[Tensor], Tensor]
    names: tuple[str, ...] | None = None
    groups: Division | None = field(default=None)
    exact: bool = False
    rotation: Tensor | None = None
    tolerance: float = 0.1

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates of x, (B, *dims)."""
        with torch.no_grad():
            z = self._checked(self.encoder(x), "encode", len(x))
            try:
                back = self._checked(self.decoder(z[:1]), "decode", 1)
            except (RuntimeError, IndexError) as error:
                raise BadInput(
                    f"spaces.decoder: decode cannot take what encode returns, rows of shape {tuple(z.shape[1:])}: "
                    f"{error}; the two functions do not fit each other"
                ) from error
            if back.shape[1:] != x.shape[1:]:
                raise BadInput(
                    f"spaces.decoder: decode(encode(x)) has rows of shape {tuple(back.shape[1:])}, x of "
                    f"{tuple(x.shape[1:])}; the two functions do not fit each other"
                )
            if self.rotation is not None:
                z = z @ self._fitting(z)
        if self.names is not None and len(self.names) != z[0].numel():
            raise BadInput(
                f"spaces.decoder: {len(self.names)} names for {z[0].numel()} coordinates; give one name each"
            )
        return z.detach().to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Inputs at coordinates z."""
        if self.rotation is not None:
            z = z @ self._fitting(z).T
        return self._checked(self.decoder(z), "decode", len(z))

    def _fitting(self, z: Tensor) -> Tensor:
        rotation = cast("Tensor", self.rotation)
        if z.ndim != 2 or z.shape[1] != len(rotation):
            raise BadInput(
                f"spaces.decoder: a rotation of {len(rotation)} coordinates does not fit rows of shape "
                f"{tuple(z.shape[1:])}"
            )
        return rotation.to(z)

    def _checked(self, value: Any, what: str, rows: int) -> Tensor:
        if not isinstance(value, Tensor) or value.ndim < 2 or len(value) != rows:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise BadInput(
                f"spaces.decoder: {what} must return a tensor with one row for each of the {rows} rows, got {shape}"
            )
        if not bool(torch.isfinite(value).all()):
            raise BadInput(f"spaces.decoder: {what} returned NaN or infinite entries")
        return value


@checked
def decoder(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    names: Sequence[str] | None = None,
    groups: Any = None,
    rotation: Any = None,
    tolerance: float = 0.1,
) -> Decoder:
    """What does the model make of features that a person can name: shape, size, style, place?

    ``encode``: inputs (B, ...) to coordinates (B, L); ``decode``: back, differentiable if gradient methods are to run.
    ``names``: of the coordinates. ``groups``: players as for ``players.groups``, e.g. ``{"digit": [10, 11, 12]}`` so
    that a one-hot block is one player and is never cut. ``rotation`` (L, L): an orthogonal matrix R, such as
    ``spaces.aligned(...)`` finds; coordinates are then z R, and are turned back before they are decoded. What is
    explained is f(decode(z)); how far that is from f(x) is recorded as ``details["reconstruction_gap"]``, and warned of
    above the ``tolerance``, relative to what is explained. Source: demijolla2020.
    """
    function_of(encode, "spaces.decoder: encode", "x")
    function_of(decode, "spaces.decoder: decode", "z")
    titles = None if names is None else tuple(str(name) for name in names)
    turn = None if rotation is None else _orthogonal(rotation)
    return Decoder(
        encode, decode, titles, None if groups is None else grouped(groups), rotation=turn, tolerance=tolerance
    )


def aligned(z: Any, truth: Any, columns: Sequence[int]) -> Tensor:
    """The rotation of some latents that brings them onto labelled axes, for ``spaces.decoder(..., rotation=)``.

    R = argmin ||z R - truth||² over orthogonal matrices that touch ``columns`` of z (N, L) alone, which they bring onto
    the same number of columns of ``truth`` (N, len(columns)), in their order; both are centred, and truth scaled to one
    standard deviation a column. So two latents that hold a place between them become one for each axis. Returns
    (L, L). Source: schonemann1966.
    """
    latents, labels = (torch.as_tensor(part).detach().double().cpu() for part in (z, truth))
    chosen = list(columns)
    if latents.ndim != 2 or labels.shape != (len(latents), len(chosen)) or len(latents) <= len(chosen):
        raise BadInput(
            f"spaces.aligned: needs latents (N, L) and truth (N, {len(chosen)}) with more rows than columns, got "
            f"{tuple(latents.shape)} and {tuple(labels.shape)}"
        )
    width = latents.shape[1]
    if len(set(chosen)) < len(chosen) or not all(0 <= column < width for column in chosen):
        raise BadInput(f"spaces.aligned: columns must be different and in 0..{width - 1}, got {chosen}")
    spread = labels.std(0)
    if not bool((spread > 0).all()):
        raise BadInput("spaces.aligned: a column of truth is constant, so nothing can be brought onto it")
    labels = (labels - labels.mean(0)) / spread
    part = latents[:, chosen]
    u, _, v = torch.linalg.svd((part - part.mean(0)).T @ labels)
    turn = torch.eye(width, dtype=torch.float64)
    turn[torch.tensor(chosen).unsqueeze(1), torch.tensor(chosen)] = u @ v
    return turn


def _orthogonal(rotation: Any) -> Tensor:
    turn = as_tensor(rotation, "spaces.decoder: rotation").double()
    if turn.ndim != 2 or turn.shape[0] != turn.shape[1]:
        raise BadInput(f"spaces.decoder: rotation must be a square matrix, got shape {tuple(turn.shape)}")
    if float((turn @ turn.T - torch.eye(len(turn), dtype=torch.float64)).abs().max()) > 1e-4:
        raise BadInput("spaces.decoder: rotation must be orthogonal (R Rᵀ = 1), so that it can be turned back")
    return turn
