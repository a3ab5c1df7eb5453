"""A private, faster copy of a convolutional network: BatchNorm folded into the convolution before it, channels-last
memory, maxima over windows that do not overlap taken along one axis after the other, and before a ReLU instead of after
it."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-4
"""Largest difference of an output, relative to the largest output, at which the copy is accepted (float32 rounding)."""

_WIDEST, _CHANNELS = 2, 32
"""Windows and channels up to which maxima along one axis after the other are faster: torch's own kernel works on
channels together, so it is slow where they are few. Measured in channels-last memory, as a share of its time: 0.2 for
16 channels of 28 x 28, 0.5 for 32 of 14 x 14, 1.1 for 64 of 56 x 56; 0.6 to 1.5 for windows of 3."""


class ApartPool(nn.MaxPool2d):
    """Maxima over windows that do not overlap, the numbers of ``nn.MaxPool2d``, faster where channels are few.

    Where a gradient is wanted it is ``nn.MaxPool2d``, which gives the whole of it to the first of equal entries.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The maxima of x (B, C, H, W)."""
        size: tuple[int, int] = _pair(self.kernel_size)
        many, small = x.shape[-3] > _CHANNELS, x.shape[-2] < size[0] or x.shape[-1] < size[1]
        if many or small or (x.requires_grad and torch.is_grad_enabled()):
            pooled: Tensor = super().forward(x)
            return pooled
        height, width = (length // step * step for length, step in zip(x.shape[-2:], size, strict=True))
        x = functools.reduce(torch.maximum, [x[..., i : height : size[0], :] for i in range(size[0])])
        return functools.reduce(torch.maximum, [x[..., i : width : size[1]] for i in range(size[1])])


def folded(module: nn.Module, x: Tensor) -> nn.Module | None:
    """The faster copy, or None where there is no convolution or the copy's outputs differ by more than rounding.

    Pairs are found by running ``x`` once: a BatchNorm whose input is the very tensor that a convolution returned.
    Whether that tensor is used elsewhere cannot be seen from outside, so the copy is compared with the original before
    it is used.
    """
    if x.dtype != torch.float32 or x.ndim != 4:
        return None
    for pool_first in (True, False):  # a net may read what lies between a ReLU and a pool
        with contextlib.suppress(Exception):  # any model that resists copying, hooking or folding simply runs as it is
            twin = copy.deepcopy(module)
            if not any(isinstance(child, nn.Conv2d) for child in twin.modules()):
                return None
            _fold(twin, x, pool_first)
            with torch.no_grad():
                noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
                if all(_close(module(probe.clone()), twin(probe.clone())) for probe in (x, noise)):
                    return twin
    return None


def _fold(twin: nn.Module, x: Tensor, pool_first: bool) -> None:
    pairs = _pairs(twin, x)
    parents = {child: (parent, name) for parent in twin.modules() for name, child in parent.named_children()}
    for conv, norm in pairs:
        for old, new in ((conv, fuse_conv_bn_eval(conv, norm)), (norm, nn.Identity())):
            parent, name = parents[old]
            setattr(parent, name, new)
    for child in twin.modules():
        if _apart(child):
            child.__class__ = ApartPool
        if pool_first and type(child) is nn.Sequential:
            _pool_first(child)
    twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _apart(child: nn.Module) -> bool:
    """Whether a module is a plain maximum over windows that do not overlap."""
    if type(child) is not nn.MaxPool2d or child.return_indices or child.ceil_mode:
        return False
    size, step, padding, dilation = map(_pair, (child.kernel_size, child.stride, child.padding, child.dilation))
    return bool(size == step and max(size) <= _WIDEST and padding == (0, 0) and dilation == (1, 1))


def _pool_first(chain: nn.Sequential) -> None:
    """Let a maximum over windows change places with the ReLU before it, which then has a quarter of the work or less.

    ReLU does not fall, so that the numbers are the same, and so are their gradients: where the largest entry is not
    positive both orders give zero, else it is the same entry that passes.
    """
    names = list(chain._modules)
    for before, after in itertools.pairwise(names):
        first, second = chain._modules[before], chain._modules[after]
        if type(first) is nn.ReLU and isinstance(second, nn.MaxPool2d) and not second.return_indices:
            chain._modules[before], chain._modules[after] = second, first


def _pairs(module: nn.Module, x: Tensor) -> list[tuple[Any, Any]]:
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    calls: dict[nn.Module, int] = {}
    pairs: list[tuple[Any, Any]] = []

    def after(child: nn.Module, inputs: Any, output: Any) -> None:
        calls[child] = calls.get(child, 0) + 1
        if isinstance(child, nn.Conv2d):
            made[id(output)] = (child, output)
        elif inputs and id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], child))

    wanted = [child for child in module.modules() if isinstance(child, (nn.Conv2d, nn.BatchNorm2d))]
    handles = [child.register_forward_hook(after) for child in wanted]
    try:
        with torch.no_grad():
            module(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1 and norm.running_mean is not None]


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return bool((a - b).abs().max() <= TOLERANCE * a.abs().max())
    if isinstance(a, (tuple, list)):
        return all(_close(x, y) for x, y in zip(a, b, strict=True))
    if hasattr(a, "items"):
        return all(_close(value, b[key]) for key, value in a.items() if value is not None)
    return bool(a == b)
