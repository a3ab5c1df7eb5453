"""Small models and one way to score an explanation of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import metrics


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def picture_net(outputs=3, channels=2, size=6):
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * size * size, outputs)
    return nn.Sequential(*layers).double().eval()


def linear(weight):
    return lambda x: (x * weight).flatten(1).sum(1)


def as_numpy(net, column=0):
    return lambda x: net(torch.from_numpy(x)).detach().numpy()[:, column]


def cell(model, e, metric, **options):
    return pellucid.evaluate(model, e, metric, **options).cells[0]


BOTH = pytest.mark.parametrize("metric", [metrics.insertion, metrics.deletion], ids=["insertion", "deletion"])
