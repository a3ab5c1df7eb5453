"""Sound bounds on a network over a ball in a box: intervals forwards, linear bounds backwards (CROWN)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.attack.network import Network
from pellucid.attack.operations import Node

BACKWARD = 512
"""Entries of a layer up to which its bounds are found backwards; those of larger ones are found forwards."""
_ENTRIES = 2**21
"""Entries of the coefficients held at once."""


@dataclass(frozen=True, eq=False)
class Region:
    """N sets {z + δ: ||δ||_p <= radius, low <= δ <= high}, with z (N, *dims) and low <= 0 <= high (N, d)."""

    z: Tensor
    low: Tensor
    high: Tensor
    radius: Tensor
    norm: float

    def take(self, kept: slice | Tensor) -> Region:
        """Some of them."""
        return Region(self.z[kept], self.low[kept], self.high[kept], self.radius[kept], self.norm)

    @property
    def extent(self) -> tuple[Tensor, Tensor]:
        """Bounds (N, d) of each entry of δ."""
        radius = self.radius.unsqueeze(1)
        return torch.maximum(self.low, -radius), torch.minimum(self.high, radius)

    def most(self, slope: Tensor) -> Tensor:
        """max slope · δ over each region, (N, R), for slopes (N, R, d); exact."""
        low, high = (end.unsqueeze(1) for end in self.extent)
        steep = slope.abs()
        room = torch.where(slope > 0, high, -low)
        whole: Tensor = (steep * room).sum(2)
        if self.norm == math.inf:
            return whole
        radius = self.radius.reshape(-1, 1, 1)
        tiny = torch.finfo(slope.dtype).tiny
        if self.norm == 1:
            steep, order = steep.sort(2, descending=True)
            room = room.expand_as(slope).gather(2, order)
            before = torch.cat([torch.zeros_like(room[..., :1]), room.cumsum(2)[..., :-1]], 2)
            return (steep * torch.minimum((radius - before).clamp_min(0), room)).sum(2)
        # δ_i = min(s |a_i|, room_i), with the one s at which its length is the radius.
        room = torch.where(steep > 0, room, 0)
        limit, order = (room / steep.clamp_min(tiny)).sort(2)
        squares, steep2 = room.square().gather(2, order), torch.where(room > 0, steep.square(), 0).gather(2, order)
        filled = torch.cat([torch.zeros_like(squares[..., :1]), squares.cumsum(2)], 2)
        left = torch.cat([steep2.flip(2).cumsum(2).flip(2), torch.zeros_like(squares[..., :1])], 2)
        reach = filled[..., :-1] + limit.square() * left[..., :-1]
        piece = (reach < radius.square()).sum(2, keepdim=True)
        spent = (radius.square() - filled.gather(2, piece)).clamp_min(0)
        gained = torch.cat([torch.zeros_like(squares[..., :1]), (squares * steep2).sqrt().cumsum(2)], 2)
        best: Tensor = (gained.gather(2, piece) + (spent * left.gather(2, piece)).sqrt())[..., 0]
        return torch.minimum(best, whole)


@dataclass(frozen=True, eq=False)
class Bend:
    """Linear bounds of a bend over v in [low, high]: lower · v <= y - floor and y <= upper · v + rise; for pooling the
    slopes have an axis of window entries, (N, C, k, places)."""

    lower: Tensor
    upper: Tensor
    rise: Tensor


class Relaxation:
    """A network over regions: bounds of every entry, and linear bounds of its outputs in δ."""

    def __init__(self, network: Network, region: Region) -> None:
        self.nodes, self.region = network.nodes, region
        self.bounds: list[tuple[Tensor, Tensor]] = []
        self.bends: dict[int, Bend] = {}
        self._forward()

    # ---------------------------------------------------------------- forwards

    def _forward(self) -> None:
        """Intervals, each also kept within the distance from the centre that the spectral norms so far allow."""
        region = self.region
        low, high = (end.reshape(region.z.shape) for end in region.extent)
        self.bounds.append((region.z + low, region.z + high))
        centres = [region.z]
        farthest = torch.maximum(-low, high).flatten(1)
        moved = [torch.linalg.vector_norm(farthest, 2, dim=1)]
        if region.norm in (1, 2):
            moved[0] = torch.minimum(moved[0], region.radius)
        for index, node in enumerate(self.nodes[1:], 1):
            centres.append(node.run(*(centres[i] for i in node.inputs)))
            inputs = [self.bounds[i] for i in node.inputs]
            if node.kind == "affine":
                bounds = self._affine(node, inputs, centres, moved)
            else:
                source = node.inputs[0]
                if math.prod(self.nodes[source].shape) <= BACKWARD:
                    self.bounds[source] = inputs[0] = self._backward_bounds(source, inputs[0])
                self.bends[index] = (
                    _relu(*inputs[0]) if node.kind == "relu" else _pool(node, centres[source], *inputs[0])
                )
                bounds = (node.run(inputs[0][0]), node.run(inputs[0][1]))
            self.bounds.append(bounds)
            reach = torch.maximum(bounds[1] - centres[-1], centres[-1] - bounds[0]).reshape(len(region.z), -1)
            reach = torch.linalg.vector_norm(reach, 2, dim=1)
            factor = 1.0 if node.kind == "relu" else node.norm
            if factor is not None:
                reach = torch.minimum(reach, factor * torch.stack([moved[i] for i in node.inputs]).sum(0))
            moved.append(reach)

    def _affine(
        self, node: Node, inputs: list[tuple[Tensor, Tensor]], centres: list[Tensor], moved: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        middle = node.run(*((low + high) / 2 for low, high in inputs))
        assert node.spread is not None  # noqa: S101 - every affine node has it
        spread = node.spread(*((high - low) / 2 for low, high in inputs))
        low, high = middle - spread, middle + spread
        if node.square is None:
            return low, high
        centre, (first, last) = centres[-1], inputs[0]
        free = (last > first).to(centre)
        length = moved[node.inputs[0]].reshape(-1, *[1] * (centre.ndim - 1))
        near = node.square(free).clamp_min(0).sqrt() * length
        return torch.maximum(low, centre - near), torch.minimum(high, centre + near)

    # ---------------------------------------------------------------- backwards

    def _backward_bounds(self, index: int, known: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Bounds of each entry of a node, no looser than the ones known; where the sign is known they stay."""
        low, high = (end.flatten(1).clone() for end in known)
        shape = self.nodes[index].shape
        widest = max(math.prod(node.shape) for node in self.nodes[: index + 1])
        for i in range(len(low)):
            entries = torch.nonzero((low[i] < 0) & (high[i] > 0)).reshape(-1)
            here = self.region.take(slice(i, i + 1))
            for some in entries.split(max(1, _ENTRIES // widest)) if len(entries) else ():
                unit = torch.zeros(2 * len(some), low.shape[1]).to(low)
                unit[torch.arange(len(some)), some] = 1
                unit[torch.arange(len(some)) + len(some), some] = -1
                slope, offset = self.linear(index, unit.reshape(1, -1, *shape), slice(i, i + 1))
                above, below = (here.most(slope) + offset)[0].unflatten(0, (2, -1))
                high[i, some] = torch.minimum(high[i, some], above)
                low[i, some] = torch.minimum(
                    torch.maximum(low[i, some], -below), high[i, some]
                )  # met, but for rounding
        return low.reshape(known[0].shape), high.reshape(known[1].shape)

    def linear(self, index: int, rows: Tensor, kept: slice) -> tuple[Tensor, Tensor]:
        """Slopes (N, R, d) and offsets (N, R): rows · node <= slope · δ + offset over each of some regions."""
        z = self.region.z[kept]
        count = len(z)
        pending = {index: rows.expand(count, *rows.shape[1:])}
        offset = z.new_zeros(count, rows.shape[1])
        for at in range(index, 0, -1):
            if at not in pending:
                continue
            coefficient, node = pending.pop(at), self.nodes[at]
            if node.kind == "affine":
                shares, constant = _pulled(node, coefficient)
                offset = offset + constant
            else:
                shape = self.nodes[node.inputs[0]].shape
                bend = self.bends[at]
                bend = Bend(bend.lower[kept], bend.upper[kept], bend.rise[kept])
                share, constant = _bent(node, coefficient, bend, shape)
                shares, offset = [share], offset + constant
            for source, share in zip(node.inputs, shares, strict=True):
                pending[source] = pending[source] + share if source in pending else share
        slope = pending.get(0)
        if slope is None:
            return z.new_zeros(count, rows.shape[1], z[0].numel()), offset
        slope = slope.flatten(2)
        return slope, offset + (slope * z.flatten(1).unsqueeze(1)).sum(2)


def _pulled(node: Node, rows: Tensor) -> tuple[list[Tensor], Tensor]:
    """Rows (N, R, *shape) on an affine node as rows on its inputs, and a constant (N, R)."""
    flat = rows.flatten(0, 1)
    if node.pull is not None:
        grads: tuple[Tensor, ...] = (node.pull(flat),)
    else:
        with torch.enable_grad():
            inputs = [flat.new_zeros(len(flat), *shape, requires_grad=True) for shape in node.within]
            grads = torch.autograd.grad(node.run(*inputs), inputs, flat)
    constant = flat.reshape(len(flat), -1) @ node.constant.expand(1, *node.shape).reshape(-1)
    return [grad.unflatten(0, rows.shape[:2]) for grad in grads], constant.unflatten(0, rows.shape[:2])


def _relu(low: Tensor, high: Tensor) -> Bend:
    crossing = (low < 0) & (high > 0)
    width = torch.where(crossing, high - low, 1)
    upper = torch.where(crossing, high / width, (low >= 0).to(low))
    rise = torch.where(crossing, -low * high / width, 0)
    # Of the lower bounds s v with s in [0, 1], the one that leaves the smaller triangle.
    lower = torch.where(crossing, (high > -low).to(low), upper)
    return Bend(lower, upper, rise)


def _windows(node: Node, value: Tensor) -> Tensor:
    """Entries of each window, (N, C, k, places), of a map (N, C, H, W); -inf beyond its edges."""
    assert node.pool is not None  # noqa: S101 - every pool has it
    kernel, stride, (above, beside), dilation = node.pool
    value = torch.nn.functional.pad(value, (beside, beside, above, above), value=-1e300)
    windows: Tensor = torch.nn.functional.unfold(value, kernel, dilation, 0, stride)
    return windows.reshape(len(value), value.shape[1], -1, windows.shape[2])


def _pool(node: Node, centre: Tensor, low: Tensor, high: Tensor) -> Bend:
    """A window's maximum is at least its entry of highest lower bound, m; at most its highest upper bound, or
    m + Σ max(0, v_i - m), each bounded by its chord: whichever is less at the centre."""
    low, high, centre = (_windows(node, value) for value in (low, high, centre))
    best, place = low.max(2, keepdim=True)
    lower = torch.zeros_like(low).scatter(2, place, 1.0)
    rivals = (high > best).scatter(2, place, False)
    alone = ~rivals.any(2, keepdim=True)
    over, under = (high - best).clamp_min(0), (low - best).clamp_max(0)
    width = torch.where(over > under, over - under, 1)
    chord = torch.where(over > 0, over / width, 0)
    chord_rise = best + torch.where(over > 0, chord * (-best - under), 0).sum(2, keepdim=True)
    flat = high.amax(2, keepdim=True)
    chosen = (chord * torch.where(over > 0, centre, 0)).sum(2, keepdim=True) + chord_rise < flat
    upper = torch.where(alone, lower, torch.where(chosen, chord, 0))
    rise = torch.where(alone, 0, torch.where(chosen, chord_rise, flat))
    # From below any entry will do; the highest at the centre is the tightest there.
    lower = torch.where(alone, lower, torch.zeros_like(low).scatter(2, centre.argmax(2, keepdim=True), 1.0))
    return Bend(lower, upper, rise)


def _bent(node: Node, rows: Tensor, bend: Bend, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Rows (N, R, *shape) on a bend as rows on its input, from above, and a constant (N, R)."""
    up = rows.clamp_min(0)
    constant = (up.flatten(2) @ bend.rise.flatten(1).unsqueeze(2))[:, :, 0]
    lower, above = bend.lower.unsqueeze(1), (bend.upper - bend.lower).unsqueeze(1)
    if node.kind == "relu":
        return torch.addcmul(rows * lower, up, above), constant
    assert node.pool is not None  # noqa: S101 - every pool has it
    kernel, stride, padding, dilation = node.pool
    rows, up = (part.flatten(3).unsqueeze(3) for part in (rows, up))
    windows = torch.addcmul(rows * lower, up, above).flatten(0, 1).flatten(1, 2)  # (N · R, C · k, places)
    share = torch.nn.functional.fold(windows, shape[1:], kernel, dilation, padding, stride)
    return share.unflatten(0, up.shape[:2]), constant
