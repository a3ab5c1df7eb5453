"""Ways to say which entries of z act together as one feature. Public as ``pellucid.players``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unsupported, listing
from pellucid.core.model import axis_names
from pellucid.core.partition import Division, Players
from pellucid.core.settings import checked


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


@checked
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
    if not isinstance(groups, (Mapping, Sequence, Tensor, np.ndarray)) or isinstance(groups, str):
        raise BadInput(
            f"players.groups: expected {{name: members}}, lists of members or labels, got {type(groups).__name__}"
        )

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


def columns(groups: Sequence[str] | Mapping[str, Any]) -> Division:
    """The columns of one category of a table (one-hot) as one player; every other column is a player of its own.

    ``columns(["colour_", "job_"])``: each text takes the columns whose names start with it, the longest that fits.
    ``columns({"colour": ["colour_red", "colour_blue"]})`` or ``{"colour": [3, 4]}`` says which.
    """

    def divide(z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        if z.ndim != 2:
            raise BadInput(f"players.columns: needs a table (B, features); got axes {dims}. Use players.groups(...)")
        own = feature_names((z.shape[1],), names)
        chosen: dict[int, str] = {}
        if isinstance(groups, Mapping):
            for title, entries in groups.items():
                for place in (_entry(entry, len(own), names) for entry in _members(entries)):
                    if place in chosen:
                        raise BadInput(
                            f"players.columns: column {own[place]!r} is in two groups, {chosen[place]!r} and {title!r}"
                        )
                    chosen[place] = str(title)
            missing = [title for title in groups if str(title) not in chosen.values()]
        else:
            starts = [groups] if isinstance(groups, str) else list(groups)
            taken = {
                i: max((s for s in starts if name.startswith(s)), key=len, default="") for i, name in enumerate(own)
            }
            chosen = {i: start.rstrip("_=:. ") or start for i, start in taken.items() if start}
            missing = [start for start in starts if start not in taken.values()]
        if missing:
            raise BadInput(f"players.columns: no column for {listing(missing)}; have {listing(own)}")
        titles = [(i in chosen, chosen.get(i, name)) for i, name in enumerate(own)]  # a group may be called as a column
        order = list(dict.fromkeys(titles))
        return Players(torch.tensor([order.index(title) for title in titles]), tuple(title for _, title in order))

    return Division("columns", divide)


def tokens() -> Division:
    """Every token is a player, with all its embedding entries: of embeddings (B, token, embedding) or of ids (B,
    token)."""

    def divide(z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        axis = _along("tokens", dims, ("token",))
        return Players(_spread(torch.arange(z.shape[1 + axis]), axis, z), _numbered("token", z.shape[1 + axis]))

    return Division("tokens", divide)


@checked
def windows(length: int) -> Division:
    """Stretches of ``length`` steps of a series, all channels together; the last one is shorter where that does not
    divide."""
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise BadInput(f"players.windows: length must be a whole number of at least 1, got {length!r}")

    def divide(z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        axis = _along("windows", dims, ("time", "token"))
        size = z.shape[1 + axis]
        if length > size:
            raise BadInput(f"players.windows: windows of {length} steps do not fit a series of {size}")
        titles = tuple(f"{start}..{min(start + length, size) - 1}" for start in range(0, size, length))
        return Players(_spread(torch.arange(size) // length, axis, z), titles)

    return Division(f"windows({length})", divide)


@checked
def segments(count: int = 50) -> Division:
    """About ``count`` superpixels of each picture, all channels together, by SLIC-zero (achanta2012; scikit-image).

    They follow the colours of each row, so rows may have different numbers: n is the largest, and players that a row
    lacks count for nothing there. The division of a row depends on that row alone.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BadInput(f"players.segments: count must be a whole number of at least 1, got {count!r}")

    def divide(z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        if "height" not in dims or "width" not in dims or not z.is_floating_point():
            raise BadInput(f"players.segments: needs images; got axes {dims} of {z.dtype}. Use players.groups(...)")
        try:
            from skimage.segmentation import slic
        except ImportError:
            raise Unsupported("players.segments: scikit-image is not installed; run pip install scikit-image") from None
        channel = dims.index("channel") if "channel" in dims else None
        pictures = (z.unsqueeze(-1) if channel is None else z.movedim(1 + channel, -1)).detach().cpu().double().numpy()
        # SLIC-zero sets its own compactness: about `count` segments also of pictures that are faint or noisy.
        found = [slic(each, count, start_label=0, channel_axis=-1, slic_zero=True) for each in pictures]
        planes = np.stack([np.unique(each, return_inverse=True)[1].reshape(each.shape) for each in found])
        labels = torch.from_numpy(planes) if channel is None else torch.from_numpy(planes).unsqueeze(1 + channel)
        return Players(labels.expand(z.shape), _numbered("segment", int(labels.max()) + 1), by_row=True)

    return Division(f"segments({count})", divide)


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


def _along(who: str, dims: tuple[str, ...], wanted: tuple[str, ...]) -> int:
    """The axis of a sequence: a wanted one, or the only one there is."""
    axis = next((i for i, dim in enumerate(dims) if dim in wanted or len(dims) == 1), None)
    if axis is None:
        raise BadInput(
            f"players.{who}: needs a sequence, with an axis {' or '.join(map(repr, wanted))}; got axes {dims}. "
            "Say where the channels are, wrap(..., axis=...), or use players.groups(...)"
        )
    return axis


def _spread(along: Tensor, axis: int, z: Tensor) -> Tensor:
    """Labels along one axis of z, repeated on the others."""
    return along.reshape([-1 if i == axis else 1 for i in range(z.ndim - 1)]).expand(z.shape[1:])


def _numbered(what: str, count: int) -> tuple[str, ...]:
    return tuple(f"{what} {i}" for i in range(count))


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


__all__ = [
    "Division",
    "Players",
    "axis_names",
    "columns",
    "each",
    "from_labels",
    "grid",
    "groups",
    "positions",
    "resolve",
    "segments",
    "tokens",
    "windows",
]
