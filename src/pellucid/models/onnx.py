"""ONNX graphs, run by onnxruntime: black boxes in numpy. Needs the extra ``pellucid[onnx]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unsupported, listing
from pellucid.core.model import Model
from pellucid.models.chunks import in_chunks
from pellucid.models.options import Options, as_array, calling, tensors, whole

_DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}
_SCORES = ("tensor(float)", "tensor(double)", "tensor(float16)")


def is_session(net: Any) -> bool:
    """Whether something is an onnxruntime session, told without importing onnxruntime."""
    return any(kind.__module__.partition(".")[0] == "onnxruntime" for kind in type(net).__mro__) and hasattr(net, "run")


def load(path: Path, options: Options) -> OnnxModel:
    """The graph in a file, on the CPU."""
    try:
        import onnxruntime
    except ImportError:
        raise Unsupported('wrap: an .onnx file needs onnxruntime; run pip install "pellucid[onnx]"') from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BadInput(f"wrap: {str(path)!r} cannot be loaded by onnxruntime: {str(error)[:200]}") from error
    return OnnxModel(session, options, path.stem)


class OnnxModel(Model):
    """A graph with one input. Of several outputs the logits are read, else the probabilities.

    Outputs of the kind that sklearn-onnx writes (a label, and a dict of probabilities a row) are read at the
    probabilities, with the keys as labels. ``Target(read=...)`` gets a dict of all outputs where there are several.
    """

    def __init__(self, session: Any, options: Options, name: str = "onnx") -> None:
        self.name = name
        self._session, self._options = session, options
        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise BadInput(
                f"{name} takes {len(inputs)} inputs {listing(i.name for i in inputs)}; expected one. Wrap a function "
                "that fills in the others: wrap(lambda x: session.run(None, {'x': x, 'mask': mask})[0])"
            )
        (self._input,) = inputs
        if self._input.type not in _DTYPES:
            raise BadInput(f"{name}: its input is {self._input.type}; expected numbers, {listing(_DTYPES)}")
        self.dtype = _DTYPES[self._input.type]
        kinds = {output.name: output.type for output in session.get_outputs()}
        self._output = _chosen(kinds)
        self._keys: list[str] = []  # of rows that come as dicts, known after the first call
        known = "prob" in (self._output or "").lower() or "softmax" in (self._output or "").lower()
        known = known or kinds.get(self._output or "", "").startswith("seq(map")
        options.onto(self, "prob" if known else "logit", settled=known)
        rows = self._input.shape[0] if self._input.shape else None
        self._rows = (rows, rows) if isinstance(rows, int) and rows > 0 else (1, float("inf"))

    def __call__(self, x: Tensor) -> Any:
        x = self._options.prepared(x) if x.is_floating_point() else x
        if self.dtype is not None and not self.dtype.is_floating_point:
            x = whole(x, self.name, self.dtype)
        declared = self._input.shape[1:]
        if len(declared) != x.ndim - 1 or any(
            isinstance(d, int) and d != s for d, s in zip(declared, x.shape[1:], strict=True)
        ):
            raise BadInput(f"{self.name}: expected x of shape {tuple(self._input.shape)}, got {tuple(x.shape)}")
        with calling(self.name, x):
            found: dict[str, Any] = in_chunks(self._run, x, *self._rows)
        return next(iter(found.values())) if len(found) == 1 else found

    def matrix(self, raw: Any) -> Tensor:
        if not isinstance(raw, dict):
            return super().matrix(raw)
        if self._output is None:
            raise BadInput(
                f"{self.name} has several outputs {listing(raw)}, and none is called logits or probabilities; "
                f"say what to read: Target(read=lambda out: out[{next(iter(raw))!r}][:, 0])"
            )
        return super().matrix(raw[self._output])

    def seeing(self, outputs: Tensor) -> Self:
        twin = super().seeing(outputs)
        if twin.labels is None and len(self._keys) == outputs.shape[1]:
            twin.labels = tuple(self._keys)
        return twin

    def _run(self, x: Tensor) -> dict[str, Any]:
        names = [output.name for output in self._session.get_outputs()]
        values = self._session.run(names, {self._input.name: as_array(x)})
        return {name: tensors(self._unzipped(value), x.device) for name, value in zip(names, values, strict=True)}

    def _unzipped(self, value: Any) -> Any:
        if not (isinstance(value, list) and value and isinstance(value[0], dict)):
            return value
        keys = list(value[0])
        self._keys[:] = [str(key) for key in keys]
        return np.array([[row[key] for key in keys] for row in value], dtype=np.float32)


def _chosen(kinds: dict[str, str]) -> str | None:
    """The output that holds scores: the only one, the logits, or the probabilities."""
    scores = [
        name for name, kind in kinds.items() if kind in _SCORES or (kind.startswith("seq(map") and "float" in kind)
    ]
    for word in ("logit", "prob"):
        found = [name for name in scores if word in name.lower()]
        if found:
            return found[0]
    if len(scores) == 1:
        return scores[0]
    return next(iter(kinds)) if len(kinds) == 1 else None
