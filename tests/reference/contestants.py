"""What the tests of compare put side by side: small networks, and methods that are good, bad, flat or broken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import pellucid
from pellucid import metrics
from pellucid.core.method import Method

ROWS = 14


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).float()


def picture_net(size=8, outputs=3):
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * size * size, outputs)
    return nn.Sequential(*layers).eval()


def linear_net(size=8, outputs=2):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(size * size, outputs)).eval()


@dataclass(frozen=True)
class Edges(Method):
    """Where the picture changes: looks at x alone, and never asks the model."""

    name: str = "edges"

    def attribute(self, question):
        z = question.z
        down = (z - z.roll(1, 2)).abs()
        return (down + (z - z.roll(1, 3)).abs()).unsqueeze(-1)


@dataclass(frozen=True)
class Backwards(Method):
    """The worst order there is on a linear model: contributions with the wrong sign."""

    name: str = "backwards"

    def attribute(self, question):
        return -question.gradient(question.z, question.every_row())[1] * question.z.unsqueeze(-1)


@dataclass(frozen=True)
class Breaks(Method):
    """A method for pictures of 8 x 8 only."""

    name: str = "breaks"

    def attribute(self, question):
        kernel = torch.arange(64.0).reshape(1, 1, 8, 8)
        return (question.z * kernel).unsqueeze(-1)


@dataclass(frozen=True)
class Flat(Method):
    """A constant map."""

    value: float = 0.0
    name: str = "flat"

    def attribute(self, question):
        return torch.full_like(question.z, self.value).unsqueeze(-1)


NAMES = ["saliency", "input_x_gradient", "integrated_gradients"]
FEW = [metrics.insertion(0.0), metrics.deletion(0.0)]


def compared(net=None, x=None, which=NAMES, **options):
    return pellucid.compare(
        picture_net() if net is None else net, rows(ROWS, 1, 8, 8) if x is None else x, which, **options
    )


def check(comparison, method, number):
    verdict = next(v for v in comparison.decided if v.method == method)
    return verdict.checks[number - 1]


def word(comparison, method):
    return next(v.word for v in comparison.decided if v.method == method)
