"""Preprocessing as data, so that explanations are in the input's natural units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.removal import as_tensor


@dataclass(frozen=True, eq=False)
class Standardise:
    """(x - mean) / std along one axis of the batch."""

    mean: Tensor
    std: Tensor
    axis: int

    @classmethod
    def of(cls, mean: Any, std: Any, axis: int) -> Standardise | None:
        """From what a user passes to wrap: numbers or one entry for each channel; None where neither is given."""
        if mean is None and std is None:
            return None
        centre = as_tensor([0.0] if mean is None else mean, "mean").reshape(-1)
        spread = as_tensor([1.0] if std is None else std, "std").reshape(-1)
        if not bool((spread > 0).all()):
            raise BadInput(f"wrap: std must be positive, got {spread.tolist()}")
        if len(centre) != len(spread) and 1 not in (len(centre), len(spread)):
            raise BadInput(
                f"wrap: mean has {len(centre)} entries and std {len(spread)}; give one number, or one a channel"
            )
        return cls(centre, spread, axis)

    def __call__(self, x: Tensor) -> Tensor:
        size, channels = (
            max(len(self.mean), len(self.std)),
            x.shape[self.axis] if -x.ndim <= self.axis < x.ndim else None,
        )
        if size > 1 and channels != size:
            raise BadInput(
                f"wrap: mean and std have {size} entries but axis {self.axis} of x, shape {tuple(x.shape)}, "
                f"has {channels}"
            )
        shape = [1] * x.ndim
        shape[self.axis] = -1
        centre, spread = (t.to(device=x.device, dtype=x.dtype) for t in (self.mean, self.std))
        centre, spread = (
            t.reshape(shape) if size > 1 and len(t) > 1 else t.reshape([1] * x.ndim) for t in (centre, spread)
        )
        return (x - centre) / spread
