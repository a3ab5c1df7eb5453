"""Arrays as pictures inside the page: data URIs, small enough that a page with a hundred maps can be mailed."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pellucid.reporting import palette

Array = np.ndarray[Any, Any]

LONGEST = 224
"""Pixels along the longer side; larger pictures are averaged down."""
_HATCH = 6  # pixels from line to line
_BLOCKY = 64  # a picture this small is enlarged in squares, a larger one smoothly


@dataclass(frozen=True)
class Picture:
    """An encoded picture: its data URI and its size in pixels."""

    src: str
    width: int
    height: int

    @property
    def blocky(self) -> bool:
        """Whether pixels stay squares when the picture is enlarged."""
        return max(self.width, self.height) <= _BLOCKY


def photograph(pixels: Array, most: int = LONGEST) -> Picture:
    """Pixels (H, W, 3) uint8: JPEG, or PNG where they are few; ``most`` along the longer side."""
    image = Image.fromarray(pixels)
    width, height = _fitted(image.size, most)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BOX)
    if max(width, height) > _BLOCKY:
        return Picture(_uri(image, "jpeg", quality=82, optimize=True), width, height)
    if np.ptp(pixels, axis=-1).max(initial=0) == 0:
        image = image.convert("L")
    return Picture(_uri(image, "png", optimize=True), width, height)


def chosen(pixels: Array, signs: Array) -> Picture:
    """Pixels (H, W, 3) uint8 in grey under a chosen set (H, W): plain where it is +1, hatched where it is -1, so that
    the two are told apart without colour."""
    times = max(1, LONGEST // max(signs.shape))
    width, height = _fitted((signs.shape[1] * times, signs.shape[0] * times))
    size = (width, height)
    grey = Image.fromarray(palette.ground(pixels)).resize(size, Image.Resampling.NEAREST)
    sign = np.asarray(Image.fromarray(signs.astype(np.int8).astype(np.float32)).resize(size, Image.Resampling.NEAREST))
    down, across = np.indices(sign.shape)
    depth = np.where(sign > 0, 0.72, np.where((down + across) % _HATCH < _HATCH // 2, 0.95, 0.25)) * (sign != 0)
    colour = np.where(sign[..., None] > 0, np.array(palette.POSITIVE), np.array(palette.NEGATIVE))
    laid = np.rint(colour * depth[..., None] + np.asarray(grey) * (1 - depth[..., None])).astype(np.uint8)
    image = Image.fromarray(laid).quantize(32)
    return Picture(_uri(image, "png", optimize=True), width, height)


def signed(values: Array, scale: float) -> Picture:
    """A signed map (H, W) as a PNG of ``palette.colours``: its opacity is the strength, to lie over a photo."""
    height, width = values.shape
    across, down = _fitted((width, height))
    if (across, down) != (width, height):
        small = Image.fromarray(np.nan_to_num(values).astype(np.float32)).resize((across, down), Image.Resampling.BOX)
        values = np.asarray(small)
    index = palette.shades(values, scale) + palette.STEPS
    rgb, opacity = palette.colours()
    image = Image.frombytes("P", (across, down), index.astype(np.uint8).tobytes())
    image.putpalette(rgb.tobytes())
    return Picture(_uri(image, "png", optimize=True, transparency=opacity.tobytes()), across, down)


def _fitted(size: tuple[int, int], most: int = LONGEST) -> tuple[int, int]:
    longest = max(size)
    if longest <= most:
        return size
    return max(1, round(size[0] * most / longest)), max(1, round(size[1] * most / longest))


def _uri(image: Image.Image, form: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(file.getvalue()).decode()}"
