"""Scales and directions as features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.players import Division, Players
from pellucid.core.settings import checked

DIRECTIONS = ("across", "down", "diagonal")
"""Of change: the details of a level lie right of, under, and aslant of its coarser part."""


@dataclass(frozen=True)
class Wavelets:
    """The periodic orthogonal wavelet transform of the last two axes (see ``spaces.wavelets``): z is shaped like x, the
    coarsest part in the upper left corner."""

    wavelet: str
    levels: int

    @property
    def exact(self) -> bool:
        """Decoding undoes encoding, to rounding."""
        return True

    @property
    def names(self) -> None:
        """Bands are named by the players."""
        return

    @property
    def groups(self) -> Division:
        """A player for each direction of each level and one for the rest, all channels together."""
        return Division("wavelets", self._divide)

    def encode(self, x: Tensor) -> Tensor:
        """Coefficients z, shaped like x."""
        if x.ndim < 3:
            raise BadInput(f"spaces.wavelets: needs images, shape (B, C, H, W) or (B, H, W); got {tuple(x.shape)}")
        z = x.clone()
        for height, width in self._sizes(x):
            down, across = self._matrices(height, width, x)
            z[..., :height, :width] = down @ z[..., :height, :width] @ across.T
        return z

    def decode(self, z: Tensor) -> Tensor:
        """The image with coefficients z."""
        x = z
        for height, width in reversed(self._sizes(z)):
            down, across = self._matrices(height, width, z)
            x = x.clone()  # a gradient may run through what is replaced
            x[..., :height, :width] = down.T @ x[..., :height, :width] @ across
        return x

    def _sizes(self, x: Tensor) -> list[tuple[int, int]]:
        height, width = x.shape[-2:]
        if height % 2**self.levels or width % 2**self.levels:
            raise Unsupported(
                f"spaces.wavelets: {height} x {width} pixels cannot be halved {self.levels} times; crop them to a "
                f"multiple of {2**self.levels}, take fewer levels, or use spaces.fourier(bins=25)"
            )
        return [(height >> level, width >> level) for level in range(self.levels)]

    def _matrices(self, height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
        down, across = (torch.from_numpy(_matrix(self.wavelet, size)).to(like) for size in (height, width))
        return down, across

    def _divide(self, z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        plane = torch.zeros(z.shape[-2:], dtype=torch.long)
        titles = [f"coarser than {2**self.levels} pixels"]
        for level in range(self.levels, 0, -1):
            h, w = z.shape[-2] >> level, z.shape[-1] >> level
            for direction, (rows, columns) in zip(DIRECTIONS, ((0, w), (h, 0), (h, w)), strict=True):
                plane[rows : rows + h, columns : columns + w] = len(titles)
                titles.append(f"{2 ** (level - 1)} to {2**level} pixels, {direction}")
        return Players(plane.expand(z.shape[1:]), tuple(titles))


@lru_cache(maxsize=32)
def _matrix(wavelet: str, size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """One level of the transform of a signal: orthogonal, (size, size), the coarse half first."""
    import pywt

    return np.concatenate(pywt.dwt(np.eye(size), wavelet, mode="periodization", axis=0))


@checked
def wavelets(wavelet: str = "db2", levels: int = 3) -> Wavelets:
    """Which scales does the model read, and in which direction do they change?

    Players are, for each of ``levels`` scales (1 to 2 pixels, 2 to 4, ...), changes across, down and aslant, and all
    that is coarser: 3 levels + 1, with all channels. Unlike ``spaces.fourier`` a coefficient also has a place:
    ``players.each()`` makes every one a player. ``wavelet``: an orthogonal one of PyWavelets, such as "haar", "db2" or
    "sym4"; pictures are continued periodically, so the way back is exact, and z keeps lengths and angles. Every method
    runs in it. Needs ``pip install "pellucid[wavelets]"``. Source: mallat1989.

    >>> space = wavelets("haar", levels=2)
    >>> x = torch.rand(1, 3, 8, 8)
    >>> space.groups.divide(space.encode(x), (), None).n
    7
    """
    try:
        import pywt
    except ImportError:
        raise Unsupported(
            'spaces.wavelets needs PyWavelets: pip install "pellucid[wavelets]"; spaces.fourier(bins=25) needs nothing'
        ) from None
    known = pywt.wavelist(kind="discrete")
    if wavelet not in known or not pywt.Wavelet(wavelet).orthogonal:
        raise BadInput(f"spaces.wavelets: expected an orthogonal wavelet such as 'haar' or 'db2', got {wavelet!r}")
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
        raise BadInput(f"spaces.wavelets: levels must be a whole number of at least 1, got {levels!r}")
    return Wavelets(wavelet, levels)
