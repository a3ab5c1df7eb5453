"""What the training loop asks of a model: its parts, its losses at a step, and the noise that belongs to that step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pellucid.core import rng
from pellucid.core.errors import BadInput, Unsupported


@dataclass(frozen=True)
class Step:
    """Where training is: how many steps are behind, of how many rows the minibatch is a part, and its own noise.

    Noise depends on (seed, stream, draw, name) alone, never on what was drawn before, so that a resumed training draws
    what it would have drawn.
    """

    index: int
    rows: int
    seed: int
    stream: str = "generative.fit"
    draw: int | None = None

    def normal(self, name: str, like: Tensor) -> Tensor:
        """N(0, 1) numbers of the shape, device and dtype of ``like``, a row for each of its rows."""
        return self._shaped(rng.normal(*self._key(name), len(like), like[0].numel()), like)

    def uniform(self, name: str, like: Tensor) -> Tensor:
        """U[0, 1) numbers, likewise."""
        return self._shaped(rng.uniform(*self._key(name), len(like), like[0].numel()), like)

    def order(self, name: str, rows: int) -> Tensor:
        """A random order of the rows of the minibatch, (rows,) int64 on the CPU."""
        return rng.permutation(*self._key(name), 1, rows)[0]

    def _key(self, name: str) -> tuple[int, str, int, int]:
        return self.seed, f"{self.stream}/{name}", self.index if self.draw is None else self.draw, 0

    def _shaped(self, numbers: Tensor, like: Tensor) -> Tensor:
        return numbers.reshape(like.shape).to(like.device, like.dtype)


class Learner(nn.Module, ABC):
    """A module that ``generative.fit`` can train. One that has several optimisers, such as a generator and its critic,
    names its parts and says whose turn a step is."""

    def check(self, x: Tensor, y: Tensor | None) -> None:
        """Refuse data that does not fit, training rows and held-out ones."""

    def prepare(self, x: Tensor, y: Tensor | None) -> None:
        """Look at the training data once before the first step, to keep constants as buffers."""

    def parts(self) -> Mapping[str, list[nn.Parameter]]:
        """The parameters that are trained together, by name."""
        return {"model": list(self.parameters())}

    def turn(self, index: int) -> str:
        """The part that is trained at a step."""
        return "model"

    @abstractmethod
    def losses(self, part: str, x: Tensor, y: Tensor | None, step: Step) -> dict[str, Tensor]:
        """The terms of a part's loss on a minibatch, each one number; ``"loss"`` is the one that is descended."""

    def score(self, x: Tensor, y: Tensor | None, step: Step) -> Tensor:
        """What stopping early looks at, on held-out rows, lower is better: the loss."""
        return self.losses(self.turn(step.index), x, y, step)["loss"]


class Recipe(Protocol):
    """Frozen settings that make a learner: what ``generative.fit`` is given."""

    @property
    def name(self) -> str:
        """As in the literature."""
        ...

    @property
    def batch(self) -> int:
        """Rows of a minibatch."""
        ...

    @property
    def rate(self) -> float:
        """Adam's learning rate."""
        ...

    @property
    def decay(self) -> float:
        """The share of the steps, the last ones, over which the rate falls to 0 in a line."""
        ...

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's decay rates."""
        ...

    def build(self, seed: int) -> Learner:
        """A new learner whose weights depend on the settings and the seed alone."""
        ...


def initialised(net: nn.Module, seed: int, stream: str) -> None:
    """Weights of every convolution and linear layer by He's rule for ReLU, ±sqrt(6 / inputs), biases ±1 / sqrt(inputs),
    uniform, keyed by their names; others stay. Source: he2015."""
    with torch.no_grad():
        for place, layer in net.named_modules():
            if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                continue
            inputs = layer.weight[0].numel()
            for name, values in layer.named_parameters(recurse=False):
                bound = math.sqrt(6 / inputs) if name == "weight" else 1 / math.sqrt(inputs)
                numbers = rng.uniform(seed, f"{stream}/{place}.{name}", 0, 0, 1, values.numel())
                values.copy_(((2 * numbers - 1) * bound).reshape(values.shape))


def halvings(name: str, size: Any, least: int) -> int:
    """How often pictures of a size can be halved before they are smaller than ``least``."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 8:
        raise BadInput(f"{name}: size must be a whole number of pixels of at least 8, got {size!r}")
    count = 0
    while size % 2 == 0 and size // 2 >= least:
        size, count = size // 2, count + 1
    if size > 2 * least:
        raise Unsupported(
            f"{name}: a size of {size * 2**count} pixels can be halved only down to {size}; crop or pad pictures to a "
            "multiple of a power of two, such as 28, 32, 64 or 128"
        )
    return count


def whole(name: str, field: str, value: Any, least: int = 1) -> None:
    """Refuse a setting that is not a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{name}: {field} must be a whole number of at least {least}, got {value!r}")


def positive(name: str, field: str, value: Any, least: float = 0.0) -> None:
    """Refuse a setting that is not a finite number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise BadInput(f"{name}: {field} must be a number of at least {least:g}, got {value!r}")


def pictures(name: str, x: Tensor, channels: int, size: int) -> None:
    """Refuse training pictures of another shape, or outside of 0..1."""
    if tuple(x.shape[1:]) != (channels, size, size):
        raise BadInput(f"{name}: expected pictures (N, {channels}, {size}, {size}), got {tuple(x.shape)}")
    if x.is_floating_point():
        low, high = float(x.min()), float(x.max())
        if not (low >= 0 and high <= 1):
            raise BadInput(f"{name}: pictures must be within 0..1 (uint8 is divided by 255), got {low:g} to {high:g}")
