"""pellucid.wrap: the model a user has, as the model pellucid asks questions of."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import torch

from pellucid.core.errors import BadInput
from pellucid.core.model import SCALES, Model
from pellucid.models import exported, onnx, sklearn
from pellucid.models.function import FunctionModel
from pellucid.models.options import Options
from pellucid.models.preprocessing import Standardise
from pellucid.models.torch import TorchModel


def wrap(
    net: Any,
    labels: Any = None,
    bounds: tuple[float, float] | None = None,
    mean: Any = None,
    std: Any = None,
    axis: int = 1,
    scale: str | None = None,
    device: Any = None,
) -> Model:
    """A model pellucid can explain, from an nn.Module, a callable on tensors, numpy or DataFrames, a scikit-learn
    estimator or Pipeline, a TorchScript module, a torch.export program, an onnxruntime session, or the path of a .pt
    (TorchScript), .pt2 (torch.export) or .onnx file. Loading a .pt or .pt2 file may run code in it: trust its source.

    ``labels``: names of the outputs, one each. ``bounds`` (low, high): valid range of an input entry, in natural units.
    ``mean``, ``std``: standardisation (x - mean) / std that the net expects, applied along ``axis``, so that x is
    passed in natural units. ``scale``: what the outputs are, ``"logit"``, ``"prob"`` or ``"value"`` (None: by the kind
    of model: logits for torch, callables and ONNX, probabilities for classifiers of scikit-learn, values for regressors
    and for a single output). ``device``: where to compute (None: where it is). The model itself is never changed. A
    model that is wrapped already is returned as it is.

    >>> import torch
    >>> wrap(torch.nn.Linear(4, 3).eval(), labels=["cat", "dog", "owl"]).scale
    'logit'
    """
    told = (labels, bounds, mean, std, scale, device)
    if isinstance(net, Model):
        if any(option is not None for option in told):
            raise BadInput("wrap: the model is wrapped already; pass these options when you wrap the original")
        return net
    if isinstance(net, type):
        raise BadInput(f"wrap: got the class {net.__name__}; make a model of it first: {net.__name__}(...)")
    if scale is not None and scale not in SCALES:
        raise BadInput(f"wrap: scale must be 'logit', 'prob' or 'value', got {scale!r}")
    options = Options(
        _names(labels), _limits(bounds), Standardise.of(mean, std, axis), _axis(axis), scale, _device(device)
    )
    if isinstance(net, (str, os.PathLike)):
        return _loaded(Path(net), options)
    if isinstance(net, torch.jit.ScriptModule):
        return exported.scripted(net, options)
    if isinstance(net, torch.export.ExportedProgram):
        return exported.program(net, options)
    if isinstance(net, torch.nn.Module):
        return TorchModel(net, options)
    if sklearn.is_estimator(net):
        return sklearn.SklearnModel(net, options)
    if onnx.is_session(net):
        return onnx.OnnxModel(net, options)
    if inspect.ismethod(net) and sklearn.is_estimator(net.__self__) and net.__name__ in sklearn.METHODS:
        return sklearn.SklearnModel(net.__self__, options, net.__name__)
    if callable(net):
        return FunctionModel(net, options)
    raise BadInput(
        f"wrap: cannot explain a {type(net).__name__}; expected an nn.Module, a callable on arrays, a scikit-learn "
        "estimator, or the path of an .onnx, .pt or .pt2 file"
    )


def _loaded(path: Path, options: Options) -> Model:
    loaders = {".onnx": onnx.load, ".pt": exported.load_script, ".pt2": exported.load_program}
    if path.suffix.lower() not in loaders:
        raise BadInput(
            f"wrap: cannot tell what model {str(path)!r} holds; expected .onnx, .pt (TorchScript) or .pt2 "
            "(torch.export). Load weights (.pth, .safetensors) into your nn.Module and wrap that"
        )
    if not path.is_file():
        raise BadInput(f"wrap: there is no file {str(path)!r}")
    return loaders[path.suffix.lower()](path, options)


def _names(labels: Any) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if isinstance(labels, (str, dict)) or not hasattr(labels, "__iter__"):
        raise BadInput(f"wrap: labels must be a sequence of names, one for each output, got {labels!r}")
    return tuple(str(label) for label in labels)


def _limits(bounds: Any) -> tuple[float, float] | None:
    if bounds is None:
        return None
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        raise BadInput(f"wrap: bounds must be two numbers (low, high), got {bounds!r}") from None
    if not low < high:
        raise BadInput(f"wrap: bounds must have low < high, got {bounds!r}")
    return low, high


def _axis(axis: Any) -> int:
    if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
        raise BadInput(f"wrap: axis must be the channel axis of the batch, such as 1 or -1 (0 is rows), got {axis!r}")
    return axis


def _device(device: Any) -> torch.device | None:
    if device is None:
        return None
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise BadInput(f"wrap: device {device!r} cannot be used here ({reason[:120]}); try device='cpu'") from None
    return place
