"""What every adapter is told by ``pellucid.wrap``, and how a user's code is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.model import Model
from pellucid.models.preprocessing import Standardise


@dataclass(frozen=True, eq=False)
class Options:
    """The arguments of ``wrap``, read and checked; ``scale`` and ``device`` are None where they were not given."""

    labels: tuple[str, ...] | None = None
    bounds: tuple[float, float] | None = None
    preprocess: Standardise | None = None
    axis: int = 1
    scale: str | None = None
    device: torch.device | None = None

    def onto(self, model: Model, scale: str, settled: bool = True) -> None:
        """Set them on an adapter; ``scale`` is what its outputs are if nobody said so, for good if ``settled``."""
        model.labels, model.bounds, model.axis = self.labels, self.bounds, self.axis
        model.scale, model.assumed = self.scale or scale, self.scale is None and not settled

    def prepared(self, x: Tensor) -> Tensor:
        """A private copy of x as the net expects it, so that a first operation in place reaches neither the caller's
        tensor nor a leaf of the graph."""
        return x.clone() if self.preprocess is None else self.preprocess(x)


@contextmanager
def calling(name: str, x: Tensor) -> Iterator[None]:
    """Around a call of the user's code: where it leaves torch on the way to a gradient, the question is refused."""
    try:
        yield
    except RuntimeError as error:
        if x.requires_grad and "requires grad" in str(error) and "numpy" in str(error):
            raise Unsupported(
                f"{name} leaves torch for numpy, so no gradient flows through it; feature_ablation() and "
                "random_attribution() need predictions only"
            ) from error
        raise


def whole(x: Tensor, name: str, dtype: torch.dtype = torch.int64) -> Tensor:
    """x as whole numbers, for a model of ids; a method that mixed ids is refused."""
    if x.is_floating_point() and bool((x != x.round()).any()):
        odd = float(x[x != x.round()][0])
        raise BadInput(
            f"{name} takes whole numbers (ids), and the method asked for {odd:g}, a mixture of ids; use a removal that "
            "takes whole values, such as removal.baseline(0) or removal.marginal(background)"
        )
    return x.to(dtype)


def as_array(x: Tensor) -> np.ndarray[Any, Any]:
    """x in numpy, which has no bfloat16."""
    x = x.detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def tensors(raw: Any, device: torch.device) -> Any:
    """Arrays in an output of any structure as tensors; lists of numbers count as arrays."""
    if isinstance(raw, Tensor):
        return raw
    if hasattr(raw, "to_numpy"):
        raw = raw.to_numpy()
    if isinstance(raw, dict):
        return {key: tensors(value, device) for key, value in raw.items()}
    if isinstance(raw, (tuple, list)) and any(isinstance(entry, (Tensor, np.ndarray, dict)) for entry in raw):
        each = [tensors(entry, device) for entry in raw]
        return type(raw)._make(each) if hasattr(raw, "_make") else type(raw)(each)
    if isinstance(raw, (tuple, list)) or (hasattr(raw, "__array__") and not isinstance(raw, np.ndarray)):
        try:
            raw = np.asarray(raw)
        except (TypeError, ValueError):
            return raw
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "fiub" and raw.dtype != np.longdouble:
        return torch.from_numpy(np.array(raw, dtype=raw.dtype.newbyteorder("="))).to(device)
    return raw
