"""What is explained: held-out digits and their network, and tagged digits, whose evidence is known."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import pellucid
from pellucid import data
from pellucid.core import rng
from pellucid.core.budget import Progress
from pellucid.core.model import Model

BACKGROUND = 200
"""Training digits that Expected Gradients averages over."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Inputs x (B, 1, 28, 28) in [0, 1] of a model, with ``background`` (R, 1, 28, 28) from its training data.

    ``last``: the same model with its last layer drawn anew. ``planted``: inputs, as many, of the model ``finder``, for
    whose prediction nothing matters outside ``tag`` (B, 784) bool. ``dark``: the model of the inverted inputs;
    ``weights``: a hash of both networks.
    """

    about: str
    model: Model
    x: Tensor
    labels: tuple[int, ...]
    background: Tensor
    last: Model
    finder: Model
    planted: Tensor
    planted_background: Tensor
    tag: Tensor
    dark: Model
    weights: str


class Inverted(nn.Module):
    """1 - x: what was bright is dark."""

    def forward(self, x: Tensor) -> Tensor:
        """Invert."""
        return 1 - x


def digits(count: int, seed: int, progress: Progress | None = None) -> Rows:
    """``count`` held-out digits, predicted by ``data.digits_cnn``, and as many tagged ones."""
    test, train = data.digits("test", count, seed), data.digits("train", BACKGROUND, seed)
    net, finder = data.digits_cnn(progress=progress), data.tagged_digits_cnn(progress=progress)
    tagged = data.tagged_digits("test", None, seed)
    kept = torch.nonzero(tagged.y == 1).reshape(-1)[:count]
    return Rows(
        about=test.about,
        model=pellucid.wrap(net, bounds=(0, 1)),
        x=test.x,
        labels=tuple(test.y.tolist()),
        background=train.x,
        last=pellucid.wrap(last_layer_anew(net, seed), bounds=(0, 1)),
        finder=pellucid.wrap(finder, bounds=(0, 1)),
        planted=tagged.x[kept],
        planted_background=data.tagged_digits("train", BACKGROUND, seed).x,
        tag=tagged.truth["tag"][kept].flatten(1),
        dark=pellucid.wrap(nn.Sequential(Inverted(), net).eval(), bounds=(0, 1)),
        weights=_digest(net, finder),
    )


def last_layer_anew(net: nn.Module, seed: int) -> nn.Module:
    """A copy whose last linear layer starts again, uniform in +-1/sqrt(inputs)."""
    made = copy.deepcopy(net)
    layer = [module for module in made.modules() if isinstance(module, nn.Linear)][-1]
    bound = layer.in_features**-0.5
    with torch.no_grad():
        for name, values in layer.named_parameters():
            numbers = rng.uniform(seed, f"experiments.last_layer/{name}", 0, 0, 1, values.numel())
            values.copy_(((2 * numbers - 1) * bound).reshape(values.shape))
    return made.eval()


def _digest(*nets: nn.Module) -> str:
    digest = hashlib.sha256()
    for net in nets:
        for name, values in net.state_dict().items():
            digest.update(name.encode() + values.cpu().numpy().tobytes())
    return digest.hexdigest()
