"""Frequencies as features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.players import Division, Players
from pellucid.core.settings import checked

_CORNER = 0.5**0.5
"""The highest radius, in cycles a pixel: both frequencies at one half."""


@dataclass(frozen=True)
class Fourier:
    """The Hartley transform of the last two axes: the real and exactly invertible form of the Fourier transform.

    z = Re F(x) - Im F(x), so a real array of the shape of x holds all frequencies, and taking the entries k and -k
    together is taking the Fourier coefficients of that frequency. It is linear, its own inverse up to the number of
    pixels, and never clipped.
    """

    bins: int | None = None

    @property
    def exact(self) -> bool:
        """Decoding undoes encoding, to rounding."""
        return True

    @property
    def names(self) -> None:
        """Frequencies are named by the players."""
        return

    @property
    def groups(self) -> Division:
        """A player for each conjugate pair of frequencies, or for each ring of them, all channels together."""
        return Division("fourier", self._divide)

    def encode(self, x: Tensor) -> Tensor:
        """Coefficients z, shaped like x."""
        if x.ndim < 3:
            raise BadInput(f"spaces.fourier: needs images, shape (B, C, H, W) or (B, H, W); got {tuple(x.shape)}")
        transform = torch.fft.fft2(x)
        coefficients: Tensor = transform.real - transform.imag
        return coefficients

    def decode(self, z: Tensor) -> Tensor:
        """The image with coefficients z."""
        return self.encode(z) / (z.shape[-1] * z.shape[-2])

    def _divide(self, z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        height, width = z.shape[-2:]
        if self.bins is None:
            plane, titles = _pairs(height, width)
        else:
            plane, titles = _rings(height, width, self.bins)
        return Players(plane.expand(z.shape[1:]), titles)


def frequencies(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Vertical and horizontal frequency of every coefficient, in cycles a pixel, (H, W) each."""
    down, across = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.fftfreq(width, dtype=torch.float64)
    grid = torch.meshgrid(down, across, indexing="ij")
    return grid[0], grid[1]


def _pairs(height: int, width: int) -> tuple[Tensor, tuple[str, ...]]:
    place = torch.arange(height * width).reshape(height, width)
    mirror = place[(-torch.arange(height)) % height][:, (-torch.arange(width)) % width]
    first, labels = torch.unique(torch.minimum(place, mirror), return_inverse=True)
    down, across = (f.reshape(-1)[first] for f in frequencies(height, width))
    return labels, tuple(f"({u:.3g}, {v:.3g})" for u, v in zip(down.tolist(), across.tolist(), strict=True))


def _rings(height: int, width: int, bins: int) -> tuple[Tensor, tuple[str, ...]]:
    down, across = frequencies(height, width)
    ring = ((down**2 + across**2).sqrt() / _CORNER * bins).long().clamp(max=bins - 1)
    kept, labels = torch.unique(ring, return_inverse=True)  # a small picture leaves some rings empty
    edges = [(r * _CORNER / bins, (r + 1) * _CORNER / bins) for r in kept.tolist()]
    return labels, tuple(f"{low:.3f} to {high:.3f}" for low, high in edges)


@checked
def fourier(bins: int | None = None) -> Fourier:
    """Which frequencies does the model read: coarse shape, or fine texture?

    ``bins`` None: a player is one conjugate pair {k, -k} of frequencies with all channels (H W / 2 + 2 players for even
    sizes); a number: players are that many rings of equal width between radius 0 and √½ cycles a pixel (rings without a
    frequency are left out). Exact and linear: a mixed picture may leave the model's bounds and is not clipped, since
    clipping would undo linearity. Every method runs in it. Source: demijolla2020.

    >>> import torch
    >>> space = fourier()
    >>> x = torch.rand(1, 3, 32, 32)
    >>> space.groups.divide(space.encode(x), (), None).n
    514
    """
    if bins is not None and (isinstance(bins, bool) or not isinstance(bins, int) or bins < 1):
        raise BadInput(f"spaces.fourier: bins must be a whole number of at least 1 or None, got {bins!r}")
    return Fourier(bins)
