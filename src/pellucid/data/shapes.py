"""Sprites: small pictures made from five known factors by an exact renderer, after dSprites (Matthey et al. 2017)."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.data.examples import Examples, first

SPRITE_LATENTS = ("shape", "scale", "orientation", "pos_x", "pos_y")
SHAPES = ("square", "ellipse", "heart")
_COUNTS = (3, 6, 40, 32, 32)  # how many values each latent takes
_START = torch.tensor([0.0, 0.5, 0.0, 0.0, 0.0], dtype=torch.float64)
_STEP = torch.tensor([1.0, 0.1, math.tau / 40, 1.0, 1.0], dtype=torch.float64)
_CANVAS, _STAMP = 64, 32  # 32 positions of a 32-pixel stamp reach pixel 63 of 64: a sprite is never clipped
_AREAS = tuple(side * side for side in range(10, 21, 2))  # pixels, (20 scale)^2: an upright square is exact


def _square(u: Tensor, v: Tensor) -> Tensor:
    """At most 1 inside a square of area 4 (like the others: u to the right, v up, the centroid at the origin)."""
    return torch.maximum(u.abs(), v.abs())


def _ellipse(u: Tensor, v: Tensor) -> Tensor:
    """At most 1 inside an ellipse of area pi / 1.75."""
    return torch.hypot(u, 1.75 * v)


def _heart(u: Tensor, v: Tensor) -> Tensor:
    """At most 1 inside a heart of area 2 + pi / 2: a square on its tip with a half-disc on each upper side."""
    v = v + (math.pi / 4 + 1 / 3) / (2 + math.pi / 2)
    square = u.abs() + v.abs()
    toward = u.abs() + v  # the disc whose rim runs through the origin: |p|^2 <= 2 p.c with c = (1/2, 1/2)
    disc = torch.where(toward > 0, (u * u + v * v) / toward.clamp_min(1e-9), math.inf)
    return torch.minimum(square, disc)


_OUTLINES = ((_square, 4.0), (_ellipse, math.pi / 1.75), (_heart, 2 + math.pi / 2))


@lru_cache(maxsize=1)
def _stamps() -> Tensor:
    """(3, 6, 40, 32, 32) float32: every sprite once. Those of one scale light exactly as many pixels as each other.

    A pixel's depth is its shape's level at the pixel's centre; the A deepest pixels are lit. Depths are rounded before
    they are ranked so that ties, and with them the picture, do not hang on the last bit of a sine. Of tied pixels the
    one nearer to the centre comes first, and opposite pixels come together, so that a sprite stays centred.
    """
    steps = torch.arange(_STAMP, dtype=torch.float64) - (_STAMP - 1) / 2
    up, right = -steps[:, None], steps[None, :]
    turn = (torch.arange(_COUNTS[2], dtype=torch.float64) * _STEP[2])[:, None, None]
    u, v = right * turn.cos() + up * turn.sin(), up * turn.cos() - right * turn.sin()
    pixel = torch.arange(_STAMP * _STAMP)
    opposite = torch.minimum(pixel, pixel.flip(0)) * 1e-3
    stamps = torch.zeros(*_COUNTS[:3], _STAMP * _STAMP, dtype=torch.float32)
    for shape, (level, unit_area) in enumerate(_OUTLINES):
        for scale, area in enumerate(_AREAS):
            size = math.sqrt(area / unit_area)
            depth = level(u / size, v / size) + 1e-4 * torch.hypot(right, up) / size
            order = ((depth * 1e6).round().flatten(1) + opposite).argsort(dim=1, stable=True)
            stamps[shape, scale].scatter_(1, order[:, :area], 1.0)
    return stamps.reshape(*_COUNTS[:3], _STAMP, _STAMP)


def _grid_index(latents: Tensor) -> Tensor:
    """(N, 5) positions on the grid of latent values, the nearest; the orientation is taken modulo a full turn."""
    z = torch.as_tensor(latents)
    if z.ndim != 2 or z.shape[1] != len(_COUNTS):
        raise BadInput(f"render_sprites: expected latents (N, 5) = {', '.join(SPRITE_LATENTS)}, got {tuple(z.shape)}")
    if not bool(z.isfinite().all()):
        raise BadInput("render_sprites: latents must be finite")
    index = ((z.detach().double().cpu() - _START) / _STEP).round().long()
    index[:, 2] %= _COUNTS[2]
    for column, (name, size) in enumerate(zip(SPRITE_LATENTS, _COUNTS, strict=True)):
        outside = (index[:, column] < 0) | (index[:, column] >= size)
        if bool(outside.any()):
            low, high = float(_START[column]), float(_START[column] + (size - 1) * _STEP[column])
            got = float(z[outside.to(z.device), column][0])
            raise BadInput(f"render_sprites: {name} must be between {low:g} and {high:g}, got {got:g}")
    return index


def render_sprites(latents: Tensor) -> Tensor:
    """The pictures that given latents make: the exact decoder of ``sprites``.

    - ``latents``: (N, 5), columns as in ``SPRITE_LATENTS``; values off the grid are taken to the nearest grid value;
    - returns (N, 1, 64, 64) float32, 0 or 1 (16 kB a picture).

    Cost: 50 microseconds a picture.

    >>> z = torch.tensor([[0.0, 1.0, 0.0, 0.0, 31.0], [2.0, 1.0, 3.0, 9.0, 31.0]])
    >>> render_sprites(z).sum(dim=(1, 2, 3)).tolist()  # a square and a heart at full scale
    [400.0, 400.0]
    """
    index = _grid_index(latents)
    images = torch.zeros(len(index), _CANVAS, _CANVAS, dtype=torch.float32)
    reach = torch.arange(_STAMP)
    rows, columns = index[:, 4, None] + reach, index[:, 3, None] + reach
    which = torch.arange(len(index))[:, None, None]
    images[which, rows[:, :, None], columns[:, None, :]] = _stamps()[index[:, 0], index[:, 1], index[:, 2]]
    return images[:, None]


def _corner(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The first lit row and column of each picture (N, H, W), each (N,)."""
    return (pictures > 0.5).any(2).int().argmax(1), (pictures > 0.5).any(1).int().argmax(1)


def _aligned(pictures: Tensor, top: Tensor, left: Tensor) -> list[bytes]:
    """The 32 x 32 window of each picture that starts at (top, left), as bytes."""
    padded = pad(pictures > 0.5, (0, _STAMP, 0, _STAMP))
    reach = torch.arange(_STAMP)
    which = torch.arange(len(padded))[:, None, None]
    windows = padded[which, (top[:, None] + reach)[:, :, None], (left[:, None] + reach)[:, None, :]]
    return [window.numpy().tobytes() for window in windows]


@lru_cache(maxsize=1)
def _catalogue() -> tuple[dict[bytes, int], Tensor, Tensor]:
    """Stamp by content, and the first lit row and column of each stamp; a repeated picture keeps its first stamp."""
    flat = _stamps().reshape(-1, _STAMP, _STAMP)
    top, left = _corner(flat)
    content: dict[bytes, int] = {}
    for stamp, key in enumerate(_aligned(flat, top, left)):
        content.setdefault(key, stamp)
    return content, top, left


def sprite_latents(images: Tensor) -> Tensor:
    """The latents that make given sprites: the exact encoder, with render_sprites(sprite_latents(x)) == x.

    A square looks the same after a quarter turn and an ellipse after a half turn: of several orientations that make
    the same picture the smallest is returned, so render_sprites(sprite_latents(x)) is exact, while latents may differ
    from the ones in ``truth`` by such a turn.

    - ``images``: (N, 1, 64, 64), as rendered; a picture that is not a sprite is ``BadInput``;
    - returns (N, 5) float32. Cost: 0.1 ms a picture.
    """
    if images.ndim != 4 or images.shape[1:] != (1, _CANVAS, _CANVAS):
        raise BadInput(f"sprite_latents: expected images (N, 1, 64, 64), got {tuple(images.shape)}")
    pictures = images.detach().cpu()[:, 0]
    content, stamp_top, stamp_left = _catalogue()
    top, left = _corner(pictures)
    found = [content.get(key, -1) for key in _aligned(pictures, top, left)]
    stamp = torch.tensor(found, dtype=torch.int64)
    index = torch.stack(
        [
            stamp // (_COUNTS[1] * _COUNTS[2]),
            stamp // _COUNTS[2] % _COUNTS[1],
            stamp % _COUNTS[2],
            left - stamp_left[stamp],
            top - stamp_top[stamp],
        ],
        dim=1,
    )
    fits = (stamp >= 0) & (index[:, 3:] >= 0).all(1) & (index[:, 3:] < _COUNTS[3]).all(1)
    latents = _values(index * fits[:, None])
    same = (render_sprites(latents)[:, 0] == pictures).flatten(1).all(1) & fits
    if not bool(same.all()):
        raise BadInput(
            f"sprite_latents: image {int((~same).int().argmax())} is not a picture that render_sprites makes"
        )
    return latents


def _values(index: Tensor) -> Tensor:
    """Latent values (N, 5) float32 at grid positions (N, 5)."""
    return (_START + index * _STEP).float()


def sprites(count: int, seed: int = 0) -> Examples:
    """Pictures with exactly known causes: which of five factors moves a model's output?

    White shapes on black, 64 x 64, from 737,280 combinations drawn without repetition (count = 10 gives the first ten
    rows of count = 100). The latents, in this order (``SPRITE_LATENTS``):

    - ``shape`` 0 square, 1 ellipse, 2 heart; also ``y``;
    - ``scale`` .5, .6, ... 1: all shapes of a scale light exactly (20 scale)^2 pixels, so that shape does not act
      through area (dSprites itself does not have this);
    - ``orientation`` radians, 2 pi k / 40 for k = 0..39, counter-clockwise (dSprites spaces 40 values over a closed
      turn, so that its first and last coincide);
    - ``pos_x``, ``pos_y`` 0..31: whole-pixel shifts to the right and down. Each sprite is drawn once and then shifted,
      never clipped, so that pos_x has exactly no effect on, for example, the number of lit pixels in the top half.

    Returns ``x`` (N, 1, 64, 64), 0 or 1, and ``truth["latents"]`` (N, 5) float32; ``render_sprites`` turns the latents
    back into ``x`` exactly. Cost: 1 s for 10,000. Synthetic, no licence needed.

    >>> e = sprites(5)
    >>> bool((render_sprites(e.truth["latents"]) == e.x).all())
    True
    """
    total = math.prod(_COUNTS)
    kept = first(count, total, "data.sprites")
    code = rng.permutation(seed, "data.sprites", 0, 0, 1, total)[0, :kept]
    index = torch.stack(torch.unravel_index(code, _COUNTS), dim=1)
    latents = _values(index)
    return Examples(
        x=render_sprites(latents),
        y=index[:, 0].clone(),
        labels=SHAPES,
        names=tuple(f"sprite-{i:06d}" for i in code.tolist()),
        about="Synthetic: sprites rendered exactly from five factors, after dSprites (Matthey et al. 2017).",
        truth={"latents": latents},
    )
