"""Integrals along curves a second time, slowly: one row, one piece, one pixel at a time, in float64.

``f`` takes a batch and returns one number a row; ``x`` and ``b`` are single rows; ``gamma`` maps alpha to a point.
"""

import itertools
import math

import torch

from tests.reference.gradients import gradient


def integral(f, gamma, nodes):
    """Σ_j ∂f/∂x (middle of the chord) (γ_{j+1} - γ_j)."""
    total = torch.zeros_like(gamma(0.0))
    for here, there in itertools.pairwise(nodes):
        step = gamma(there) - gamma(here)
        total += gradient(f, gamma(here) + step / 2) * step
    return total


def one_after_the_other(x, b, order):
    """γ(α): the features in ``order`` move from b to x, each in its turn."""

    def gamma(alpha):
        point = b.clone()
        for place, i in enumerate(order):
            share = min(1.0, max(0.0, alpha * len(order) - place))
            point.view(-1)[i] = b.view(-1)[i] + share * (x.view(-1)[i] - b.view(-1)[i])
        return point

    return gamma


def sharpening(x, sigma):
    """γ(α): x (C, H, W) under a Gaussian of sigma (1 - α)², weights renormalised at the border."""

    def gamma(alpha):
        spread = sigma * (1 - alpha) ** 2
        out = torch.zeros_like(x)
        _, height, width = x.shape
        for h in range(height):
            for w in range(width):
                total, weights = 0.0, 0.0
                for i in range(height):
                    for j in range(width):
                        far = (h - i) ** 2 + (w - j) ** 2
                        weight = float(far == 0) if spread == 0 else math.exp(-far / (2 * spread**2))
                        total, weights = total + weight * x[:, i, j], weights + weight
                out[:, h, w] = total / weights
        return out

    return gamma
