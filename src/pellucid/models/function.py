"""Any callable on arrays behind the model contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.inputs import Inputs
from pellucid.core.model import Model
from pellucid.models.options import Options, as_array, calling, tensors


class FunctionModel(Model):
    """A function of a batch. It receives the kind of array the user passed.

    Tensors for tensors; numpy for numpy, lists and pictures (B, channel, height, width); a DataFrame with the same
    column names, text and categories for a DataFrame. On tensors it is differentiable where a gradient really flows.
    """

    differentiable = True
    reads_frames = True

    def __init__(self, function: Callable[[Any], Any], options: Options) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        options.onto(self, "logit", settled=False)
        self._options = options
        self.device = options.device or torch.device("cpu")

    def receiving(self, batch: Inputs) -> Self:
        twin = super().receiving(batch)
        twin.differentiable = batch.kind == "torch"
        if not twin.differentiable:
            twin.no_gradient = f": a function of {'a DataFrame' if batch.kind == 'frame' else 'numpy arrays'} has none"
        return twin

    def __call__(self, x: Tensor) -> Any:
        x = self._options.prepared(x)
        with calling(self.name, x):
            if self.kind == "torch":
                return tensors(self.function(x), x.device)
            array = as_array(x)
            return tensors(self.function(array if self.frame is None else self.frame.decode(array)), x.device)

    def matrix(self, raw: Any) -> Tensor:
        if raw is None:
            raise BadInput(f"{self.name} returned None; does it end with a return?")
        return super().matrix(raw)
