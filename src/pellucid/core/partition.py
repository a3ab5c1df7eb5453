"""Which entries of z act together as one feature.

``labels`` numbers the player of every entry, 0..n-1, with -1 for entries that are always present. A removal method adds
and takes away players; a gradient method sums its entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pellucid.core.errors import BadInput


@dataclass(frozen=True, eq=False)
class Players:
    """A partition of the entries of z into n players.

    ``labels`` is int64 of shape (*dims) or, where rows are divided differently, (B, *dims); ``names`` has n entries. A
    row divided into fewer players than others lacks the last ones, which count for nothing there.
    """

    labels: Tensor
    names: tuple[str, ...]
    by_row: bool = False
    _axes: tuple[int, ...] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        labels = self.labels
        if labels.dtype.is_floating_point or labels.dtype == torch.bool or labels.numel() == 0:
            raise BadInput(f"players: labels must be whole numbers, got {labels.dtype} of shape {tuple(labels.shape)}")
        object.__setattr__(self, "labels", labels.long())
        n = len(self.names)
        if not self.by_row:
            object.__setattr__(self, "_axes", _counted(labels, n))
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
        if self._axes is not None:  # no need to look anything up
            return s.reshape(rows, coalitions, *self._axes).expand(rows, coalitions, *self.labels.shape)
        padded = torch.cat([s, s.new_ones(rows, coalitions, 1)], 2)
        labels = self._flat(rows, s.device)
        slot = torch.where(labels < 0, self.n, labels).unsqueeze(1).expand(rows, coalitions, -1)
        return padded.gather(2, slot).reshape(rows, coalitions, *self.labels.shape[self.by_row :])


@dataclass(frozen=True)
class Division:
    """A way to divide z into players, applied when the shape of z is known."""

    name: str
    divide: Callable[[Tensor, tuple[str, ...], Sequence[str] | None], Players] = field(repr=False)


def _counted(labels: Tensor, n: int) -> tuple[int, ...] | None:
    """The shape in which labels just count 0..n-1, with 1 on axes along which one tensor is repeated; else None."""
    repeated = [size > 1 and step == 0 for size, step in zip(labels.shape, labels.stride(), strict=True)]
    once = labels[tuple(slice(0, 1) if again else slice(None) for again in repeated)]
    if once.numel() != n or not bool((once.reshape(-1) == torch.arange(n, device=once.device)).all()):
        return None
    return tuple(once.shape)
