"""What users pass as x, as one checked batch: tensors, arrays, DataFrames, PIL images."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput, listing
from pellucid.core.frame import Frame
from pellucid.core.model import Model

if TYPE_CHECKING:
    from pellucid.core.explanation import Explanation


@dataclass(frozen=True)
class Inputs:
    """A batch as a private tensor in the model's dtype and on its device.

    ``kind`` is what it came as, and what a callable gets: "torch", "numpy" or "frame" (a DataFrame, whose columns and
    codes ``frame`` holds). ``columns`` names the features, or is None.
    """

    tensor: Tensor
    kind: str = "torch"
    columns: tuple[str, ...] | None = None
    frame: Frame | None = None


def read(x: Any, model: Model) -> Inputs:
    """A batch (B, ...) from what a user passes as x.

    uint8 is scaled from 0..255 to the model's bounds (to [0, 1] where it has none); floats are cast to the model's
    dtype, whole numbers too, unless they are ids. Pictures (PIL) become (B, channel, height, width), as numpy for a
    callable. Text, categories and bools of a DataFrame become codes for a model that reads DataFrames.
    """
    if isinstance(x, Inputs):
        return x
    frame = None
    if isinstance(x, Tensor):
        kind, tensor = "torch", _from_tensor(x)
    elif hasattr(x, "columns") and hasattr(x, "to_numpy"):
        kind, frame = "frame", Frame.of(x)
        if frame.text and not model.reads_frames:
            raise BadInput(
                f"x: column {frame.text[0]!r} of the DataFrame holds text or categories, and {model.name} "
                "takes numbers; "
                "encode them, or wrap a Pipeline or a function that takes the DataFrame"
            )
        tensor = torch.from_numpy(frame.encode(x))
    elif _is_picture(x) or (isinstance(x, (list, tuple)) and x and all(_is_picture(entry) for entry in x)):
        kind, tensor = "numpy", _from_pictures([x] if _is_picture(x) else list(x))
    else:
        kind, tensor = "numpy", _from_numpy(_array(x), type(x).__name__)
    tensor = _checked(tensor, model, kind)
    columns = model.columns if frame is None else frame.names
    if columns is not None and tuple(tensor.shape[1:]) != (len(columns),):
        columns = None
    return Inputs(tensor, kind, columns, frame)


def again(explanation: Explanation, model: Model) -> Inputs:
    """The batch that a stored explanation explains, of the kind its user passed, so that a callable gets that kind
    again."""
    stored = explanation.details.get("input", {})
    frame = None if stored.get("frame") is None else Frame.restored(stored["frame"])
    kind = stored.get("kind", "torch")
    tensor = _checked(torch.from_numpy(np.array(explanation.data)), model, kind)
    return Inputs(tensor, kind, model.columns if frame is None else frame.names, frame)


def like(value: Tensor, model: Model, x: Tensor, frame: Frame | None = None) -> Tensor:
    """An array in input units (a background, a baseline) as x was read: uint8 scaled, columns by name, text by the
    same codes."""
    if frame is not None and model.frame is not None:
        value = torch.from_numpy(model.frame.recode(value.numpy(), frame))
    elif frame is not None and frame.text:
        raise BadInput(
            f"column {frame.text[0]!r} of the background holds text or categories; pass x as a DataFrame too"
        )
    whole = not x.is_floating_point()
    if whole and value.is_floating_point() and bool((value != value.round()).any()):
        raise BadInput(f"x holds ids, which are whole numbers ({x.dtype}); the background or baseline has fractions")
    return (value if whole else _cast(value, model, model.kind)).to(x)


def _checked(tensor: Tensor, model: Model, kind: str) -> Tensor:
    if tensor.is_complex():
        raise BadInput(f"x: expected real numbers, got {tensor.dtype}; pass the real and imaginary parts as channels")
    if tensor.ndim < 2:
        raise BadInput(
            f"x: expected a batch, shape (B, ...), got shape {tuple(tensor.shape)}; for a single input pass x[None], "
            "for a single feature x[:, None]"
        )
    if tensor.numel() == 0:
        raise BadInput(f"x: the batch is empty, shape {tuple(tensor.shape)}; pass at least one row")
    bad = (~torch.isfinite(tensor)).flatten(1).any(1)
    if bool(bad.any()):
        raise BadInput(
            f"x: NaN or infinite entries in row {int(bad.nonzero()[0])} ({int(bad.sum())} of {len(bad)} rows); "
            "remove or impute them"
        )
    cast = _cast(tensor, model, kind)
    if not bool(torch.isfinite(cast).all()):
        raise BadInput(
            f"x: some entries of {tensor.dtype} are too large for {model.name}, which computes in "
            f"{cast.dtype}; rescale them"
        )
    return cast.to(model.device).contiguous()


def _cast(tensor: Tensor, model: Model, kind: str) -> Tensor:
    # numpy's own float is float64; float32 would lose whole numbers from 2^24 on, which codes and counts can reach
    usual = torch.get_default_dtype() if kind == "torch" else torch.float64
    dtype = model.dtype or (tensor.dtype if tensor.is_floating_point() else usual)
    if not dtype.is_floating_point:
        if tensor.is_floating_point() and bool((tensor != tensor.round()).any()):
            raise BadInput(f"x: {model.name} takes whole numbers ({dtype}), got fractions in {tensor.dtype}")
        return tensor.to(dtype)
    if tensor.is_floating_point():
        return tensor.to(dtype)
    if model.ids:
        return tensor.long()
    if tensor.dtype == torch.uint8:
        low, high = model.bounds or (0.0, 1.0)
        return tensor.to(dtype) / 255 * (high - low) + low
    return tensor.to(dtype)


def _from_tensor(x: Tensor) -> Tensor:
    if x.layout != torch.strided or x.is_quantized or x.is_nested:
        raise BadInput(f"x: expected a dense tensor, got layout {x.layout}; pass x.to_dense() (or x.dequantize())")
    if x.device.type == "meta":
        raise BadInput("x: a tensor on the meta device holds no numbers; make it on a real one")
    with torch.inference_mode(False):  # an inference tensor could not carry a gradient
        return x.detach().clone(memory_format=torch.contiguous_format).resolve_conj().resolve_neg()


def _array(x: Any) -> np.ndarray[Any, Any]:
    if hasattr(x, "toarray"):
        raise BadInput(f"x: expected a dense batch, got a sparse {type(x).__name__}; pass x.toarray()")
    if isinstance(x, (list, tuple)) and any(isinstance(entry, Tensor) for entry in x):
        shapes = [tuple(entry.shape) if isinstance(entry, Tensor) else type(entry).__name__ for entry in x]
        raise BadInput(
            f"x: expected one batch, got a {type(x).__name__} of tensors {listing(shapes)}; pass torch.stack(x)"
        )
    try:
        return np.asarray(x)
    except (ValueError, TypeError) as error:
        raise BadInput(f"x: expected a batch of numbers, got {type(x).__name__} ({error})") from None


def _from_numpy(array: np.ndarray[Any, Any], what: str) -> Tensor:
    if array.dtype == object:
        if not all(isinstance(entry, numbers.Number) for entry in array.flat):
            odd = next(type(entry).__name__ for entry in array.flat if not isinstance(entry, numbers.Number))
            raise BadInput(
                f"x: expected numbers, got {what} of dtype object with entries of type {odd}; encode text as numbers, "
                "or pass a DataFrame to a Pipeline that does"
            )
        kind = np.complex128 if any(isinstance(entry, complex) for entry in array.flat) else np.float64
        array = array.astype(kind)
    if array.dtype.kind not in "fiubc":
        raise BadInput(f"x: expected numbers, got {what} of dtype {array.dtype}; encode text and dates as numbers")
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.float64 if array.dtype.itemsize == 8 else np.int64)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array, order="C", dtype=array.dtype.newbyteorder("=")))


def _is_picture(x: Any) -> bool:
    return hasattr(x, "convert") and hasattr(x, "getbands")


def _from_pictures(pictures: list[Any]) -> Tensor:
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise BadInput(f"x: pictures of one batch must have one size, got {sorted(sizes)}; resize them first")
    grey = all(picture.mode == "L" for picture in pictures)
    try:
        arrays = [np.asarray(picture if grey else picture.convert("RGB")) for picture in pictures]
    except OSError as error:
        raise BadInput(f"x: a picture cannot be read ({error}); is the file whole?") from error
    stack = torch.from_numpy(np.stack(arrays))
    return stack.unsqueeze(1) if grey else stack.permute(0, 3, 1, 2)
