"""Arrays as pictures of a page: inputs, signed maps, planes of frequencies, traversals."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from pellucid.core.explanation import Explanation
from pellucid.experiments.semantic.blocks import Strip, Tile
from pellucid.reporting import numerals, palette, pictures
from pellucid.traversing import Traversal

Array = np.ndarray[Any, Any]


def picture(x: Tensor | Array, words: str = "", alt: str = "") -> Tile:
    """An input (C, H, W) or (H, W) in [0, 1]; what is outside is cut."""
    values = np.clip(np.asarray(x, dtype=np.float64), 0, 1)
    plane = np.moveaxis(values, 0, -1) if values.ndim == 3 else values[..., None]
    pixels = np.rint(plane * 255).astype(np.uint8)
    pixels = np.repeat(pixels, 3, -1) if pixels.shape[-1] == 1 else pixels
    return Tile(pictures.photograph(np.ascontiguousarray(pixels)).src, words, alt or words)


def signed(values: Array, words: str = "", alt: str = "", scale: float | None = None) -> Tile:
    """A signed map (H, W): orange-red for the output, blue against it, full colour at ``scale``."""
    plane = np.asarray(values, dtype=np.float64)
    return Tile(pictures.signed(plane, palette.limit(plane) if scale is None else scale).src, words, alt or words)


def pixel_map(e: Explanation, row: int = 0, words: str = "", alt: str = "") -> Tile:
    """The map of an explanation in pixels."""
    return signed(np.asarray(e.map()[row]), words, alt or f"{words or 'pixel map'}: {e.method['name']}")


def frequencies(values: Array, labels: Array, words: str = "", alt: str = "", scale: float | None = None) -> Tile:
    """Values (n,) of the players ``labels`` (H, W) of a Fourier space on the plane, frequency 0 in the middle."""
    return signed(np.fft.fftshift(np.asarray(values)[np.asarray(labels)]), words, alt, scale)


def traversal(found: Traversal) -> tuple[Strip, ...]:
    """A strip for each feature, the model's output under each picture."""
    strips = []
    for sweep in found.sweeps:
        if sweep.inputs is None:
            continue
        tiles = [
            picture(x, numerals.figure(float(y), 2), f"{sweep.name}, step {step + 1}: output {float(y):.2f}")
            for step, (x, y) in enumerate(zip(sweep.inputs, sweep.outputs, strict=True))
        ]
        strips.append(Strip(sweep.name, tuple(tiles)))
    return tuple(strips)
