"""Any callable on arrays behind the model contract."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.model import Model
from pellucid.models.preprocessing import Standardise


class FunctionModel(Model):
    """A function of a batch. It receives the kind of array the user passed; on tensors it may be differentiable."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        labels: tuple[str, ...] | None = None,
        bounds: tuple[float, float] | None = None,
        preprocess: Standardise | None = None,
        axis: int = 1,
        scale: str = "logit",
        device: torch.device | str | None = None,
    ) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self.labels, self.bounds, self.preprocess, self.axis, self.scale = labels, bounds, preprocess, axis, scale
        self.device = torch.device("cpu" if device is None else device)
        self._kind, self._columns = "torch", None

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Tensors in, tensors out: a gradient may flow. Whether it does is seen when it is asked for."""
        return self._kind == "torch"

    def receiving(self, kind: str, columns: tuple[str, ...] | None) -> Model:
        twin = copy.copy(self)
        twin._kind, twin._columns = kind, columns
        return twin

    def __call__(self, x: Tensor) -> Any:
        x = x.clone() if self.preprocess is None else self.preprocess(x)
        if self._kind == "torch":
            return self.function(x)
        array = x.detach().cpu().numpy()
        if self._kind == "frame":
            import pandas as pd

            return _tensors(self.function(pd.DataFrame(array, columns=list(self._columns or ()))), x)
        return _tensors(self.function(array), x)


def _tensors(raw: Any, like: Tensor) -> Any:
    """Numpy outputs as tensors on the model's device, whatever structure holds them."""
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "fiub":
        return torch.from_numpy(np.array(raw)).to(like.device)
    if isinstance(raw, dict):
        return {key: _tensors(value, like) for key, value in raw.items()}
    if isinstance(raw, (tuple, list)):
        return type(raw)(_tensors(value, like) for value in raw)
    return raw.to_numpy() if hasattr(raw, "to_numpy") else raw
