"""Sprites: every stamp is what its factors say, and the codec has no error."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pellucid import data
from pellucid.core.errors import BadInput


def every_stamp(pos_x: float = 16, pos_y: float = 16) -> Tensor:
    scales, turns = torch.arange(5, 11) / 10, torch.arange(40) * math.tau / 40
    z = torch.cartesian_prod(torch.arange(3.0), scales, turns)
    return torch.cat([z, torch.tensor([[pos_x, pos_y]]).expand(len(z), 2)], dim=1)


def test_sprites_of_one_scale_have_exactly_equal_areas() -> None:
    z = every_stamp()
    images = data.render_sprites(z)
    assert images.shape == (720, 1, 64, 64)
    assert images.unique().tolist() == [0.0, 1.0]
    assert images.sum(dim=(1, 2, 3)).tolist() == [(20 * s) ** 2 for s in (z[:, 1].double() * 10).round() / 10]


def test_shapes_are_what_they_are_called() -> None:
    """Against the outlines written out again: a pixel is lit where most of its area lies inside."""
    fine = 8
    axis = (torch.arange(64 * fine, dtype=torch.float64) + 0.5) / fine - 32
    for z in every_stamp()[::7]:
        shape, scale, turn = int(z[0]), float(z[1]), float(z[2])
        area = (20 * scale) ** 2
        u = axis[None, :] * math.cos(turn) - axis[:, None] * math.sin(turn)  # rows run down
        v = -axis[None, :] * math.sin(turn) - axis[:, None] * math.cos(turn)
        if shape == 0:
            inside = (u.abs() < math.sqrt(area) / 2) & (v.abs() < math.sqrt(area) / 2)
        elif shape == 1:
            short = math.sqrt(area / (math.pi * 1.75))
            inside = (u / (1.75 * short)) ** 2 + (v / short) ** 2 < 1
        else:
            half = math.sqrt(area / (2 + math.pi / 2))  # half the diagonal of the square
            v = v + half * (math.pi / 4 + 1 / 3) / (2 + math.pi / 2)
            inside = u.abs() + v.abs() < half
            for side in (-1, 1):
                inside |= (u - side * half / 2) ** 2 + (v - half / 2) ** 2 < half**2 / 2
        cover = inside.reshape(64, fine, 64, fine).double().mean((1, 3))
        assert abs(float(cover.sum()) - area) < 0.02 * area
        picture = data.render_sprites(z[None])[0, 0].double()
        overlap = float((picture * cover).sum()) / area
        assert overlap > (0.95 if scale > 0.75 else 0.91), (shape, scale, turn, overlap)


def test_pos_x_has_exactly_no_effect_on_the_rows() -> None:
    e = data.sprites(40, seed=4)
    z = e.truth["latents"].repeat_interleave(32, 0)
    z[:, 3] = torch.arange(32.0).repeat(40)
    images = data.render_sprites(z).reshape(40, 32, 64, 64)
    by_row = images.sum(3)
    assert bool((by_row == by_row[:, :1]).all())
    assert bool((images[:, 1:, :, 1:] == images[:, :-1, :, :-1]).all())
    top_half = images[:, :, :32].sum((2, 3))
    assert bool((top_half == top_half[:, :1]).all())


def test_sprites_are_never_clipped() -> None:
    for corner in ((0, 0), (31, 31), (0, 31), (31, 0)):
        z = every_stamp(*corner)
        assert bool((data.render_sprites(z).sum((1, 2, 3)) == data.render_sprites(every_stamp()).sum((1, 2, 3))).all())


def test_sprites_are_their_latents() -> None:
    e = data.sprites(300, seed=1)
    z = e.truth["latents"]
    assert torch.equal(data.render_sprites(z), e.x)
    assert torch.equal(e.y, z[:, 0].long())
    assert e.labels == ("square", "ellipse", "heart")
    assert z.shape == (300, len(data.SPRITE_LATENTS))
    found = data.sprite_latents(e.x)
    assert torch.equal(data.render_sprites(found), e.x)
    assert torch.equal(found[:, [0, 1, 3, 4]], z[:, [0, 1, 3, 4]])
    period = torch.tensor([math.tau / 4, math.tau / 2, math.tau])[e.y]
    turn = (z[:, 2] - found[:, 2]) / period
    assert bool(((turn - turn.round()).abs() < 1e-5).all())


def test_sprites_are_drawn_without_repetition_from_the_whole_grid() -> None:
    e = data.sprites(3000)
    assert len(set(e.names)) == 3000
    assert data.sprites(10).names == e.names[:10]
    assert e.names[:3] == ("sprite-682697", "sprite-305139", "sprite-375126")
    assert data.sprites(10, seed=1).names != e.names[:10]
    assert [len(column.unique()) for column in e.truth["latents"].T] == [3, 6, 40, 32, 32]
    assert abs(float(e.truth["latents"][:, 3].mean()) - 15.5) < 4 * 9.23 / math.sqrt(3000)


def test_latents_off_the_grid_go_to_the_nearest_and_outside_it_are_refused() -> None:
    z = torch.tensor([[2.0, 0.7, 3 * math.tau / 40, 5.0, 9.0]])
    near = z + torch.tensor([[0.4, -0.04, math.tau + 0.07, 0.4, -0.4]])
    assert torch.equal(data.render_sprites(near), data.render_sprites(z))
    for column, wrong, message in (
        (0, 3.0, "shape must be between 0 and 2, got 3"),
        (1, 0.2, "scale"),
        (4, 32, "pos_y"),
    ):
        bad = z.clone()
        bad[0, column] = wrong
        with pytest.raises(BadInput, match=message):
            data.render_sprites(bad)
    with pytest.raises(BadInput, match="finite"):
        data.render_sprites(z * math.nan)
    with pytest.raises(BadInput, match=r"expected latents \(N, 5\)"):
        data.render_sprites(z[0])
    with pytest.raises(BadInput, match="between 1 and 737280"):
        data.sprites(0)


def test_other_pictures_are_not_sprites() -> None:
    x = data.sprites(3).x
    x[1, 0, 0, 0] = 1.0
    with pytest.raises(BadInput, match="image 1 is not"):
        data.sprite_latents(x)
    with pytest.raises(BadInput, match="image 0 is not"):
        data.sprite_latents(torch.zeros(1, 1, 64, 64))
    with pytest.raises(BadInput, match="image 0 is not"):
        data.sprite_latents(x[:1] * 0.9)
    with pytest.raises(BadInput, match=r"\(N, 1, 64, 64\)"):
        data.sprite_latents(x[0])
