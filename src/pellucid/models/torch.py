"""nn.Module behind the model contract: a private replica that shares parameters, preprocessing as data, layers by
name."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import BadInput, Unreliable, Unsupported, listing
from pellucid.core.model import Model, Tape, axis_names
from pellucid.models.folding import folded
from pellucid.models.preprocessing import Standardise


class TorchModel(Model):
    """An nn.Module, any device, any mode, frozen or not; the module itself is never called, hooked or changed."""

    differentiable = True

    def __init__(
        self,
        module: nn.Module,
        labels: tuple[str, ...] | None = None,
        bounds: tuple[float, float] | None = None,
        preprocess: Standardise | None = None,
        axis: int = 1,
        scale: str = "logit",
        device: torch.device | str | None = None,
    ) -> None:
        self.module = module
        self.name = type(module).__name__
        self.labels, self.bounds, self.preprocess, self.axis, self.scale = labels, bounds, preprocess, axis, scale
        tensors = [*module.parameters(), *module.buffers()]
        home = tensors[0].device if tensors else torch.device("cpu")
        self.device = home if device is None else torch.device(device)
        self.dtype = next((t.dtype for t in tensors if t.dtype.is_floating_point), None)
        if any(child.training for child in module.modules()):
            warnings.warn(
                f"{self.name} is in train mode; it is computed as in eval mode on a private replica. Call "
                ".eval() to say so yourself",
                Unreliable,
                stacklevel=4,
            )
        self._replica = replica(module, share=self.device == home).to(self.device)
        self._first = _first_weighted(self._replica)

    def __call__(self, x: Tensor) -> Any:
        # The clone keeps an in-place first operation away from the caller's tensor and from a leaf that needs a gradient.
        x = x.clone() if self.preprocess is None else self.preprocess(x)
        return self._replica(x)

    def layers(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._replica.named_modules() if name)

    def submodule(self, layer: str) -> nn.Module:
        """The replica's module of this name."""
        modules = dict(self._replica.named_modules())
        if layer not in modules or not layer:
            raise BadInput(f"layer {layer!r} not found; have {listing(self.layers())}")
        return modules[layer]

    def layer_kind(self, layer: str) -> str | None:
        module = self.submodule(layer)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            return "convolution"
        return "norm" if "norm" in type(module).__name__.lower() else None  # models bring norms of their own

    def affine(self, layer: str) -> tuple[Tensor, Tensor | None] | None:
        module = self.submodule(layer)
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        return (weight, bias if isinstance(bias, Tensor) else None) if isinstance(weight, Tensor) else None

    @contextmanager
    def capture(self, *layers: str) -> Iterator[Tape]:
        tape = Tape()

        def recorder(layer: str) -> Any:
            def record(_module: nn.Module, _inputs: Any, output: Any) -> Any:
                value = output[0] if isinstance(output, (tuple, list)) and output else output
                tape.values.pop(layer, None)
                if not isinstance(value, Tensor):
                    return None
                kept = value.clone()
                if torch.is_grad_enabled() and not kept.requires_grad and kept.is_floating_point():
                    kept.requires_grad_()
                tape.values[layer] = kept
                # The model goes on with a copy, so that no operation in place (nn.ReLU(inplace=True)) changes the kept one.
                return kept.clone() if value is output else _with_first(output, kept.clone())

            return record

        handles = [self.submodule(layer).register_forward_hook(recorder(layer)) for layer in layers]
        try:
            yield tape
        finally:
            for handle in handles:
                handle.remove()

    def fast(self, x: Tensor) -> Model:
        """A copy with BatchNorm folded into convolutions and channels-last memory; this model where that changes
        nothing."""
        module = folded(self._replica, x[:1] if self.preprocess is None else self.preprocess(x[:1]))
        if module is None:
            return self
        quick = copy.copy(self)
        quick._replica, quick.folded = module, True
        return quick

    def randomised(self, seed: int) -> Model:
        module = copy.deepcopy(self._replica)
        weighted = [
            m
            for m in module.modules()
            if hasattr(m, "reset_parameters") and next(m.parameters(recurse=False), None) is not None
        ]
        if not weighted:
            raise Unsupported(f"{self.name} has no layer that can draw its weights afresh")
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            weighted[-1].reset_parameters()
        other = copy.copy(self)
        other._replica = module
        return other

    def dims(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        if len(shape) == 2 and isinstance(self._first, nn.Conv2d):
            return ("height", "width")
        if len(shape) == 2:
            return ("channel", "time") if isinstance(self._first, nn.Conv1d) else ("token", "embedding")
        return axis_names(shape, self.axis)


def replica(module: nn.Module, share: bool = True) -> nn.Module:
    """A copy in eval mode of every module object that reads the original's parameters (or its own) but never needs
    their gradients, which saves memory; buffers are its own, since a forward pass may write to them."""
    memo: dict[int, Any] = {}
    for child in module.modules():
        # What a forward pass left on the module has a history that cannot be copied.
        left = [value for value in vars(child).values() if isinstance(value, Tensor) and not value.is_leaf]
        memo |= {id(value): value.detach().clone() for value in left}
    if share:
        memo |= {id(parameter): _alias(parameter) for parameter in module.parameters()}
    try:
        twin = copy.deepcopy(module, memo)
    except Exception as error:
        raise BadInput(
            f"{type(module).__name__} cannot be copied ({type(error).__name__}: {error}), so it cannot be "
            "explained without touching it; "
            "pass a function that calls it: wrap(lambda x: net(x))"
        ) from error
    return twin.eval()


def _alias(parameter: nn.Parameter) -> nn.Parameter:
    """The same numbers in the same memory, without a gradient; parameters of other classes know things we do not."""
    return nn.Parameter(parameter.detach(), requires_grad=False) if type(parameter) is nn.Parameter else parameter


def _with_first(output: Any, first: Tensor) -> Any:
    every = (first, *output[1:])
    return type(output)(*every) if hasattr(output, "_fields") else type(output)(every)


def _first_weighted(module: nn.Module) -> nn.Module | None:
    return next((m for m in module.modules() if next(m.parameters(recurse=False), None) is not None), None)
