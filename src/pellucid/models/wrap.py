"""pellucid.wrap: the model a user has, as the model pellucid asks questions of."""

from __future__ import annotations

from typing import Any

from pellucid.core.errors import BadInput
from pellucid.core.model import SCALES, Model
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
    """A model pellucid can explain, from an nn.Module, a callable, a scikit-learn estimator or Pipeline, a scripted or
    exported module, or an ONNX path or session.

    ``labels``: names of the outputs, one each. ``bounds`` (low, high): valid range of an input entry, in natural units.
    ``mean``, ``std``: standardisation (x - mean) / std that the net expects, applied along ``axis``, so that x is
    passed in natural units. ``scale``: what the outputs are, ``"logit"``, ``"prob"`` or ``"value"`` (None: by the kind
    of model). ``device``: where to compute (None: where it is). The model itself is never changed. A model that is
    wrapped already is returned as it is.
    """
    import torch

    told = (labels, bounds, mean, std, scale, device)
    if isinstance(net, Model):
        if any(option is not None for option in told):
            raise BadInput("wrap: the model is wrapped already; pass these options when you wrap the original")
        return net
    if scale is not None and scale not in SCALES:
        raise BadInput(f"wrap: scale must be 'logit', 'prob' or 'value', got {scale!r}")
    names = None if labels is None else tuple(str(label) for label in labels)
    limits = _limits(bounds)
    preprocess = Standardise.of(mean, std, axis)
    options = Options(names, limits, preprocess, axis, scale, None if device is None else torch.device(device))
    if isinstance(net, torch.nn.Module):
        return TorchModel(net, options)
    if callable(net):
        return FunctionModel(net, options)
    raise BadInput(
        f"wrap: cannot explain a {type(net).__name__}; expected an nn.Module, a callable on arrays, a "
        "scikit-learn estimator, "
        "or the path of an .onnx, .pt or .pt2 file"
    )


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
