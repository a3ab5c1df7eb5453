"""What users pass as x, as one checked batch: tensors, arrays, DataFrames, PIL images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.model import Model


@dataclass(frozen=True)
class Inputs:
    """A batch as a private tensor in the model's dtype and device, the kind it came as, and its column names if it had any."""

    tensor: Tensor
    kind: str
    columns: tuple[str, ...] | None = None


def read(x: Any, model: Model) -> Inputs:
    """A batch (B, ...) from what a user passes as x; uint8 is scaled to the model's bounds, floats are cast to its dtype."""
    kind, columns = "numpy", None
    if isinstance(x, Tensor):
        kind, tensor = "torch", x.detach()
    elif hasattr(x, "columns") and hasattr(x, "to_numpy"):
        kind, columns = "frame", tuple(str(name) for name in x.columns)
        tensor = model.encode_frame(x) if hasattr(model, "encode_frame") else _from_numpy(x.to_numpy(), "DataFrame")
    elif _is_picture(x) or (isinstance(x, (list, tuple)) and x and all(_is_picture(entry) for entry in x)):
        tensor = _from_pictures([x] if _is_picture(x) else list(x))
    else:
        try:
            array = np.asarray(x)
        except (ValueError, TypeError) as error:
            raise BadInput(f"x: expected a batch of numbers, got {type(x).__name__} ({error})") from None
        tensor = _from_numpy(array, type(x).__name__)
    return Inputs(_checked(tensor, model), kind, columns)


def _checked(tensor: Tensor, model: Model) -> Tensor:
    if tensor.is_complex():
        raise BadInput(f"x: expected real numbers, got {tensor.dtype}; pass the real and imaginary parts as channels")
    if tensor.ndim < 2:
        raise BadInput(f"x: expected a batch, shape (B, ...), got shape {tuple(tensor.shape)}; for a single input pass x[None]")
    if len(tensor) == 0 or tensor.numel() == 0:
        raise BadInput(f"x: the batch is empty, shape {tuple(tensor.shape)}; pass at least one row")
    if tensor.dtype == torch.uint8:
        low, high = model.bounds or (0.0, 1.0)
        tensor = tensor.to(model.dtype or torch.get_default_dtype()) / 255 * (high - low) + low
    elif tensor.is_floating_point():
        tensor = tensor if model.dtype is None else tensor.to(model.dtype)
    else:
        tensor = tensor.to(model.dtype or torch.get_default_dtype())
    if not bool(torch.isfinite(tensor).all()):
        bad = torch.nonzero(~torch.isfinite(tensor.reshape(len(tensor), -1)).all(1)).reshape(-1)
        raise BadInput(f"x: NaN or infinite entries in row {int(bad[0])} ({len(bad)} of {len(tensor)} rows); remove or impute them")
    return tensor.to(model.device).contiguous()


def _from_numpy(array: np.ndarray[Any, Any], what: str) -> Tensor:
    if array.dtype == object:
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise BadInput(f"x: expected numbers, got {what} of dtype object; encode text columns as numbers, or wrap a Pipeline that does") from None
    if array.dtype.kind not in "fiubc":
        raise BadInput(f"x: expected numbers, got {what} of dtype {array.dtype}")
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.int64)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array, order="C", dtype=array.dtype.newbyteorder("=")))


def _is_picture(x: Any) -> bool:
    return hasattr(x, "convert") and hasattr(x, "getbands")


def _from_pictures(pictures: list[Any]) -> Tensor:
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise BadInput(f"x: pictures of one batch must have one size, got {sorted(sizes)}; resize them first")
    arrays = [np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB")) for picture in pictures]
    stack = torch.from_numpy(np.stack(arrays))
    return stack.unsqueeze(1) if stack.ndim == 3 else stack.permute(0, 3, 1, 2)
