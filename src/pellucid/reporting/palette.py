"""Colours: the tokens of the page, and the one honest scale of signed maps (blue, light grey, orange-red)."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

POSITIVE = (214, 69, 15)
"""Full-strength evidence for the output: orange-red."""
NEGATIVE = (31, 95, 168)
"""Full-strength evidence against it: blue."""
ZERO = (236, 236, 234)
"""No evidence: light grey. The pair survives all common colour-vision deficiencies, and print in grey by depth."""

PERCENTILE = 99.0
"""A map reaches full colour at this percentile of its |values|, so that one hot pixel does not bleach the rest."""

STEPS = 24
"""Shades on either side of zero in an encoded map."""

WASH = 0.32
"""How much of the grey photo shows under a map; the rest is white, so that the colours stay readable."""

TOKENS: tuple[tuple[str, str, str], ...] = (
    # name, on light paper, on dark paper
    ("paper", "#fdfcfa", "#171614"),
    ("raised", "#f4f2ed", "#22201d"),
    ("ink", "#1b1a18", "#ece9e3"),
    ("soft", "#5b5852", "#b3aea5"),
    ("rule", "#d9d5cc", "#3d3a35"),
    ("faint", "#b9b4a9", "#5d5951"),
    ("accent", "#47399b", "#b9afff"),
    ("trust", "#17663a", "#76d39b"),
    ("unclear", "#795500", "#e6b84a"),
    ("distrust", "#a3211b", "#ff9084"),
    ("plus", "#b8380a", "#ff9a6b"),
    ("minus", "#1f5fa8", "#86bbf5"),
)
"""The colours of the page. Each keeps a contrast of 4.5:1 on ``paper`` and ``raised``, except those of LINES."""

LINES = ("rule", "faint")

METHODS = ("#47399b", "#b8380a", "#17663a", "#1f5fa8", "#9a1f6b", "#795500", "#006d77", "#5b5852")
"""Colours of lines in plots with several methods; dashes tell them apart as well."""
CONTROL = "#8a867e"


def limit(values: Array) -> float:
    """The value of full colour: the 99th percentile of |values|, or the largest where that is zero; 0 for an empty map.

    >>> limit(np.array([-2.0, 0.0, 1.0, 2.0]))
    2.0
    """
    finite = np.abs(values[np.isfinite(values)])
    if finite.size == 0:
        return 0.0
    return float(np.percentile(finite, PERCENTILE)) or float(finite.max())


def shades(values: Array, scale: float) -> Array:
    """Values as whole shades from -STEPS to STEPS on the symmetric scale, like ``values``; what is not finite counts as
    zero."""
    if scale <= 0 or not np.isfinite(scale):
        return np.zeros(values.shape, dtype=np.int64)
    strength = np.clip(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) / scale, -1, 1)
    return np.rint(strength * STEPS).astype(np.int64)


def colours() -> tuple[Array, Array]:
    """Colour (2 STEPS + 1, 3) and opacity (2 STEPS + 1,) of every shade, from -STEPS to STEPS, both 0 to 255.

    Opacity is proportional to |value|: laid over ZERO a map runs from blue through light grey to orange-red, laid over
    a photo it lets the photo through where nothing was found.
    """
    depth = np.arange(-STEPS, STEPS + 1)
    rgb = np.where(depth[:, None] > 0, np.array(POSITIVE), np.array(NEGATIVE))
    rgb[STEPS] = ZERO
    return rgb.astype(np.uint8), np.rint(np.abs(depth) / STEPS * 255).astype(np.uint8)


def rgba(values: Array, scale: float | None = None) -> Array:
    """A signed map as pixels, (*values.shape, 4) uint8; ``scale`` is the value of full colour (None: ``limit``)."""
    rgb, opacity = colours()
    index = shades(values, limit(values) if scale is None else scale) + STEPS
    return np.concatenate([rgb[index], opacity[index][..., None]], -1)


def ground(photo: Array) -> Array:
    """What lies under a map: the photo (H, W, 3) uint8 without its colours and washed out, (H, W, 3) uint8."""
    grey = photo.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    washed = 255 - WASH * (255 - grey)
    return np.repeat(np.rint(washed).astype(np.uint8)[..., None], 3, -1)


def over(top: Array, bottom: Array, strength: float = 1.0) -> Array:
    """Pixels with opacity (H, W, 4) laid over opaque ones (H, W, 3): (H, W, 3) uint8."""
    opacity = top[..., 3:].astype(np.float64) / 255 * strength
    return np.rint(top[..., :3] * opacity + bottom * (1 - opacity)).astype(np.uint8)


def flat(height: int, width: int) -> Array:
    """The light grey ground of a map shown alone, (H, W, 3) uint8."""
    return np.broadcast_to(np.array(ZERO, dtype=np.uint8), (height, width, 3))


def luminance(colour: str) -> float:
    """Relative luminance of a colour ``"#rrggbb"`` (WCAG 2.2).

    >>> luminance("#ffffff")
    1.0
    """
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2), 1 to 21.

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
