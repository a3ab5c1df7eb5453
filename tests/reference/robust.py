"""Models whose radii are known, and what the robustness of an order on them must come to."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import pellucid
from pellucid import attack, metrics

FAST = attack.minimum_norm(20)
BOTH = pytest.mark.parametrize("relevant", [False, True], ids=["irrelevant", "relevant"])


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def linear(features, classes=2, bounds=None, seed=0):
    weights = torch.from_numpy(np.random.default_rng(seed).normal(size=(classes, features)))
    return weights, pellucid.wrap(lambda x: x.flatten(1) @ weights.T, scale="logit", bounds=bounds)


def ordered(model, x, scores):
    """An explanation that ranks entries by these scores."""
    e = pellucid.explain(model, x, "random_attribution")
    return replace(e, values=np.array(np.broadcast_to(scores, e.values.shape), dtype=np.float64))


def metric(relevant, **options):
    return (metrics.robustness_relevant if relevant else metrics.robustness_irrelevant)(**options)


def cell(model, e, asked, **options):
    return pellucid.evaluate(model, e, asked, **options).cells[0]


def expected(weights, x, scores, counts, relevant, norm=2):
    """Margin / dual norm of the free part of a difference of weights, set by set."""
    dual = {1: math.inf, 2: 2, math.inf: 1}[norm]
    z = x.flatten(1) @ weights.T
    scores = np.broadcast_to(scores, x.shape).reshape(len(x), -1)
    curve = np.full((len(x), len(counts)), math.inf)
    for b in range(len(x)):
        order, own = np.argsort(-scores[b]), int(z[b].argmax())
        for j, count in enumerate(counts):
            free = order[:count] if relevant else order[count:]
            for rival in range(len(weights)):
                slope = (weights[rival] - weights[own])[free.copy()]
                if rival != own:
                    size = float(torch.linalg.vector_norm(slope, dual))
                    curve[b, j] = min(curve[b, j], float(z[b, own] - z[b, rival]) / size)
    return curve
