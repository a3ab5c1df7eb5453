"""Which entries of z act together as one feature.

``labels`` numbers the player of every entry, 0..n-1, with -1 for entries that are always present. A removal method adds
and takes away players; a gradient method sums its entries. Public as ``pellucid.players``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput, listing
from pellucid.core.model import axis_names


@dataclass(frozen=True, eq=False)
class Players:
    """A partition of the entries of z into n players.

    ``labels`` is int64 of shape (*dims) or, where rows are divided differently, (B, *dims); ``names`` has n entries. A
    row divided into fewer players than others lacks the last ones, which count for nothing there.
    """

    labels: Tensor
    names: tuple[str, ...]
    by_row: bool = False
    _plain: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        labels = self.labels
        if labels.dtype.is_floating_point or labels.dtype == torch.bool or labels.numel() == 0:
            raise BadInput(f"players: labels must be whole numbers, got {labels.dtype} of shape {tuple(labels.shape)}")
        object.__setattr__(self, "labels", labels.long())
        plain = not self.by_row and len(self.names) == labels.numel()
        object.__setattr__(self, "_plain", plain and bool((labels.reshape(-1) == torch.arange(len(self.names))).all()))
        n = len(self.names)
        used = torch.unique(labels[labels >= 0])
        if n == 0 or (len(used) == 0 and not self.by_row):
            raise BadInput("players: there is no player; labels must hold 0..n-1 (and -1 for entries that always stay)")
        if int(labels.min()) < -1 or int(labels.max()) >= n or (not self.by_row and len(used) != n):
            raise BadInput(
                f"players: labels must be 0..{n - 1} with none empty (and -1 for entries that always stay); "
                f"got values from {int(labels.min())} to {int(labels.max())}, {len(used)} in use, for {n} names"
            )

    @property
    def n(self) -> int:
        """Number of players."""
        return len(self.names)

    def rows(self, rows: slice) -> Players:
        """The players of some of the rows."""
        return Players(self.labels[rows], self.names, True) if self.by_row else self

    def take(self, rows: Tensor) -> Players:
        """The players of scattered rows."""
        return Players(self.labels[rows.to(self.labels.device)], self.names, True) if self.by_row else self

    def _flat(self, rows: int, device: torch.device) -> Tensor:
        labels = self.labels.to(device)
        return labels.reshape(len(labels), -1) if self.by_row else labels.reshape(1, -1).expand(rows, -1)

    def gather(self, values: Tensor) -> Tensor:
        """Sum the entries of each player: (B, *dims) or (B, *dims, J) to (B, n) or (B, n, J)."""
        rows, dims = len(values), self.labels.ndim - self.by_row
        tail = values.shape[1 + dims :]
        flat = values.reshape(rows, -1, *tail)
        labels = self._flat(rows, values.device)
        slot = torch.where(labels < 0, self.n, labels).reshape(*labels.shape, *(1,) * len(tail)).expand_as(flat)
        return values.new_zeros(rows, self.n + 1, *tail).scatter_add(1, slot, flat)[:, : self.n]

    def scatter(self, values: Tensor) -> Tensor:
        """Spread each player's value evenly over its entries: (B, n) or (B, n, J) to (B, *dims) or (B, *dims, J)."""
        rows, tail = len(values), values.shape[2:]
        labels = self._flat(rows, values.device)
        ones = torch.ones_like(labels, dtype=values.dtype)
        slot = torch.where(labels < 0, self.n, labels)
        size = values.new_zeros(rows, self.n + 1).scatter_add(1, slot, ones)[:, : self.n].clamp_min(1)
        each = values / size.reshape(rows, self.n, *(1,) * len(tail))
        padded = torch.cat([each, each.new_zeros(rows, 1, *tail)], 1)
        spread = padded.gather(1, slot.reshape(*slot.shape, *(1,) * len(tail)).expand(*slot.shape, *tail))
        return spread.reshape(rows, *self.labels.shape[self.by_row :], *tail)

    def mask(self, s: Tensor) -> Tensor:
        """Presence of every entry for coalitions s (B, M, n): (B, M, *dims); entries without a player are present."""
        rows, coalitions, _ = s.shape
        if self._plain:
            return s.reshape(rows, coalitions, *self.labels.shape)
        padded = torch.cat([s, s.new_ones(rows, coalitions, 1)], 2)
        labels = self._flat(rows, s.device)
        slot = torch.where(labels < 0, self.n, labels).unsqueeze(1).expand(rows, coalitions, -1)
        return padded.gather(2, slot).reshape(rows, coalitions, *self.labels.shape[self.by_row :])


@dataclass(frozen=True)
class Division:
    """A way to divide z into players, applied when the shape of z is known."""

    name: str
    divide: Callable[[Tensor, tuple[str, ...], Sequence[str] | None], Players] = field(repr=False)


def each() -> Division:
    """Every entry of z is a player.

    >>> each().divide(torch.zeros(1, 3), ("feature",), None).n
    3
    """

    def divide(z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        shape = tuple(z.shape[1:])
        return Players(torch.arange(int(np.prod(shape))).reshape(shape), feature_names(shape, names))

    return Division("each", divide)


def positions() -> Division:
    """Every position is a player, with all its channels (or embedding entries): a pixel, a token, a sample of a
    signal."""

    def divide(z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        shape = tuple(z.shape[1:])
        kept = [size if dim not in ("channel", "embedding") else 1 for size, dim in zip(shape, dims, strict=True)]
        labels = torch.arange(int(np.prod(kept))).reshape(kept).expand(shape)
        return Players(labels, feature_names(tuple(k for k in kept if k > 1) or (1,), names))

    return Division("positions", divide)


def grid(rows: int, columns: int | None = None) -> Division:
    """A grid of ``rows`` by ``columns`` rectangular cells over the picture, all channels together.

    Sizes that do not divide evenly give cells that differ by one pixel. n = rows x columns.
    """
    columns = rows if columns is None else columns
    if not all(isinstance(cells, int) and cells >= 1 for cells in (rows, columns)):
        raise BadInput(f"players.grid: rows and columns must be whole numbers from 1 on, got {rows!r} and {columns!r}")

    def divide(z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        if "height" not in dims or "width" not in dims:
            raise BadInput(
                f"players.grid: needs images, axes (channel, height, width); got axes {dims}. Use players.groups(...)"
            )
        h, w = dims.index("height"), dims.index("width")
        height, width = z.shape[1 + h], z.shape[1 + w]
        if rows > height or columns > width:
            raise BadInput(f"players.grid: {rows} x {columns} cells do not fit an image of {height} x {width} pixels")
        shape = [1] * len(dims)
        down, across = list(shape), list(shape)
        down[h], across[w] = height, width
        row = (torch.arange(height) * rows // height).reshape(down)
        column = (torch.arange(width) * columns // width).reshape(across)
        labels = (row * columns + column).expand(z.shape[1:])
        return Players(labels, tuple(f"cell {i},{j}" for i in range(rows) for j in range(columns)))

    return Division(f"grid({rows}, {columns})", divide)


def groups(groups: Mapping[str, Sequence[int | str]] | Sequence[Sequence[int]] | Any) -> Division:
    """Players given by name and members, or as an integer label array shaped like z (or like its positions).

    ``groups({"size": [0, 1], "colour": [2]})``: members are entries of the flattened z, or column names; entries not
    named stay present. A flat list of whole numbers is a label array.
    """

    def divide(z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        shape = tuple(z.shape[1:])
        if isinstance(groups, Mapping):
            members, titles = list(groups.values()), tuple(str(name) for name in groups)
        elif isinstance(groups, (Tensor, np.ndarray)) or _whole(groups):
            return from_labels(_labels(groups), z, dims)
        else:
            members = list(groups)
            titles = tuple(f"group {i}" for i in range(len(members)))
        labels = torch.full((int(np.prod(shape)),), -1, dtype=torch.long)
        for player, entries in enumerate(members):
            for entry in _members(entries):
                place = _entry(entry, len(labels), names)
                if labels[place] >= 0:
                    raise BadInput(
                        f"players.groups: entry {entry!r} is in two groups, {titles[int(labels[place])]!r} "
                        f"and {titles[player]!r}"
                    )
                labels[place] = player
        return Players(labels.reshape(shape), titles)

    return Division("groups", divide)


def from_labels(labels: Tensor, z: Tensor, dims: tuple[str, ...]) -> Players:
    """Players from a label array shaped like one row of z, like the batch, or like its positions without the channel
    axis."""
    shape = tuple(z.shape[1:])
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        raise BadInput(f"players: labels must be whole numbers, got {labels.dtype}")
    labels, given = labels.long(), tuple(labels.shape)
    channel = next((i for i, dim in enumerate(dims) if dim in ("channel", "embedding")), None)
    plane = shape if channel is None else shape[:channel] + shape[channel + 1 :]
    by_row = False
    if given in (plane, (len(z), *plane)) and given not in (shape, tuple(z.shape)) and channel is not None:
        by_row = len(given) == len(plane) + 1
        labels = labels.unsqueeze(channel + by_row).expand(*(given[:1] if by_row else ()), *shape)
    elif given == tuple(z.shape):
        by_row = True
    elif given != shape:
        raise BadInput(
            f"players: labels must have the shape of one row of z {shape}, of the batch or of its positions "
            f"{plane}; got {given}"
        )
    if by_row and len(labels) == 1:
        labels, by_row = labels[0], False
    n = max(0, int(labels.max()) + 1)
    used = len(torch.unique(labels[labels >= 0]))
    if used < n:  # before names are made: labels may be ids in the billions
        raise BadInput(f"players: labels must be 0..n-1 with none empty; got {used} different ones up to {n - 1}")
    return Players(labels, tuple(f"player {i}" for i in range(n)), by_row)


def resolve(players: Any, z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players | None:
    """Players for z from what a user passes as ``players=``: None, Players, a division, a label array or a dict of
    groups."""
    if players is None:
        return None
    if isinstance(players, Players):
        expected = tuple(z.shape) if players.by_row else tuple(z.shape[1:])
        if tuple(players.labels.shape) != expected:
            raise BadInput(f"players: labels have shape {tuple(players.labels.shape)}; z needs {expected}")
        return players
    if isinstance(players, Division):
        return players.divide(z, dims, names)
    if isinstance(players, (Mapping, Tensor, np.ndarray, list, tuple)):
        return groups(players).divide(z, dims, names)
    raise BadInput(
        "players: expected players.each(), players.grid(...), players.groups(...) or a label array, got "
        f"{type(players).__name__}"
    )


def feature_names(shape: tuple[int, ...], names: Sequence[str] | None) -> tuple[str, ...]:
    """One name for each entry of an array of this shape: the given ones, else its index."""
    count = int(np.prod(shape))
    if names is not None and len(names) == count:
        return tuple(str(name) for name in names)
    if len(shape) == 1:
        return tuple(f"x{i}" for i in range(count))
    return tuple(",".join(map(str, index)) for index in np.ndindex(*shape))


def _entry(entry: int | str, count: int, names: Sequence[str] | None) -> int:
    if isinstance(entry, str):
        if names is None or entry not in names:
            raise BadInput(f"players.groups: column {entry!r} not found; have {listing(names or ())}")
        return list(names).index(entry)
    if isinstance(entry, (bool, np.bool_)) or not isinstance(entry, (int, np.integer)):
        raise BadInput(f"players.groups: members are numbers of entries or column names, got {entry!r}")
    if not 0 <= entry < count:
        raise BadInput(f"players.groups: entry {entry} is out of range 0..{count - 1}")
    return int(entry)


def _members(entries: Any) -> list[Any]:
    if isinstance(entries, (Tensor, np.ndarray)):
        entries = entries.tolist()
    return [entries] if isinstance(entries, (str, int)) else list(entries)


def _whole(entries: Any) -> bool:
    return len(entries) > 0 and all(isinstance(entry, (int, np.integer)) for entry in entries)


def _labels(array: Any) -> Tensor:
    try:
        return torch.as_tensor(array)
    except TypeError:
        raise BadInput(f"players: labels must be whole numbers, got {np.asarray(array).dtype}") from None


__all__ = ["Division", "Players", "axis_names", "each", "from_labels", "grid", "groups", "positions", "resolve"]
