"""Perturbations in a box: how large they are, and which one is the smallest that crosses a plane."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import BadInput

NORMS = (1, 2, math.inf)


def check_norm(norm: Any, where: str = "") -> None:
    """Refuse a norm that is none of these."""
    if not isinstance(norm, (int, float)) or norm not in NORMS:
        raise BadInput(f"{where}norm must be 1, 2 or math.inf, got {norm!r}")


def size(delta: Tensor, norm: float) -> Tensor:
    """The p-norm of each row of perturbations (N, d), (N,)."""
    length: Tensor = torch.linalg.vector_norm(delta, norm, dim=1)
    return length


def within(delta: Tensor, radius: Tensor, norm: float) -> Tensor:
    """Perturbations (N, d) drawn in towards 0 until none is larger than its radius (N,); a box around 0 is not left."""
    length = size(delta, norm).clamp_min(torch.finfo(delta.dtype).tiny)
    return delta * (radius / length).clamp(max=1).unsqueeze(1)


def ascent(slope: Tensor, low: Tensor, high: Tensor, norm: float) -> Tensor:
    """The direction of unit norm in which a slope (N, d) rises fastest, among coordinates that can still move that way.

    Norm 2: the slope itself; norm ∞: its signs; norm 1: its largest entry.
    """
    room = torch.where(slope > 0, high, -low) > 0
    slope = torch.where(room, slope, 0)
    if norm == 2:
        return slope / size(slope, 2).clamp_min(torch.finfo(slope.dtype).tiny).unsqueeze(1)
    if norm == math.inf:
        return slope.sign()
    first = slope.abs().argmax(1, keepdim=True)
    return torch.zeros_like(slope).scatter(1, first, slope.gather(1, first).sign())


def nearest(slope: Tensor, rise: Tensor, low: Tensor, high: Tensor, norm: float) -> Tensor:
    """min ||δ||_p subject to slope · δ >= rise and low <= δ <= high, with low <= 0 <= high, (N, d); exact.

    Where no δ in the box rises so far, the one that rises farthest. For p = 2 and ∞ the solution is
    δ_i = sign(g_i) a_i min(λ, t_i) with one λ a row: a_i = |g_i| and t_i = |bound_i / g_i|, or a_i = 1 and
    t_i = |bound_i|; for p = 1 the steepest coordinates go to their bounds, one after the other.
    """
    steep = slope.abs()
    bound = torch.where(slope > 0, high, -low)
    bound = torch.where(steep > 0, bound, 0)
    rise = rise.clamp_min(0).unsqueeze(1)
    if norm == 1:
        steepest, order = steep.sort(1, descending=True)
        most = bound.gather(1, order)
        gain = torch.where(most > 0, steepest * most, 0).cumsum(1)
        before = torch.cat([torch.zeros_like(gain[:, :1]), gain[:, :-1]], 1)
        wanted = ((rise - before) / steepest.clamp_min(torch.finfo(slope.dtype).tiny)).clamp_min(0)
        moved = torch.minimum(torch.where(before < rise, wanted, 0), most)
        return torch.zeros_like(slope).scatter(1, order, moved) * slope.sign()
    scale = steep if norm == 2 else torch.ones_like(steep)
    limit = torch.where(bound > 0, bound / scale.clamp_min(torch.finfo(slope.dtype).tiny), 0)
    limit, order = limit.sort(1)
    rate = (steep * scale).gather(1, order)
    bounded = limit.isfinite()
    filled = torch.where(bounded, rate * limit.nan_to_num(posinf=0), 0).cumsum(1)
    left = rate.flip(1).cumsum(1).flip(1)  # the rate of those not yet at their bound, this one included
    earlier = torch.cat([torch.zeros_like(filled[:, :1]), filled[:, :-1]], 1)
    # h(λ) at λ = t_k; the first k where it reaches the rise tells which piece the solution lies on.
    reach = torch.where(bounded, earlier + limit.nan_to_num(posinf=0) * left, math.inf)
    piece = (reach < rise).sum(1, keepdim=True).clamp(max=slope.shape[1] - 1)
    tiny = torch.finfo(slope.dtype).tiny
    level = ((rise - earlier.gather(1, piece)) / left.gather(1, piece).clamp_min(tiny)).clamp_min(0)
    level = torch.minimum(level, limit[:, -1:])
    move = torch.minimum(level * scale, bound)
    return move * slope.sign()
