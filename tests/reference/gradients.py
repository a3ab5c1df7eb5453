"""Gradient methods a second time, slowly: one row, one point, one number at a time, in float64.

``f`` takes a batch and returns one number a row; ``x`` and ``b`` are single rows.
"""

import numpy as np
import torch


def value(f, x):
    return float(f(x[None])[0].detach())


def slope(f, x):
    """∂f/∂x_i by central differences, good to about 1e-8 for smooth f."""
    out = torch.zeros_like(x)
    for i in range(x.numel()):
        step = torch.zeros(x.numel(), dtype=x.dtype)
        step[i] = 1e-5
        step = step.reshape(x.shape)
        out.view(-1)[i] = (value(f, x + step) - value(f, x - step)) / 2e-5
    return out


def gradient(f, x):
    """∂f/∂x_i by autograd, one row at a time."""
    x = x.detach().clone().requires_grad_()
    (grad,) = torch.autograd.grad(f(x[None])[0], x)
    return grad


def points(rule, steps):
    """(alpha, weight) pairs of a rule, written out; Gauss-Legendre from the roots of the Legendre polynomial."""
    if rule == "left":
        return [(k / steps, 1 / steps) for k in range(steps)]
    if rule == "right":
        return [((k + 1) / steps, 1 / steps) for k in range(steps)]
    if rule == "trapezoid":
        inner = [(k / (steps - 1), 1 / (steps - 1)) for k in range(1, steps - 1)]
        return [(0.0, 0.5 / (steps - 1)), *inner, (1.0, 0.5 / (steps - 1))]
    legendre = np.polynomial.legendre.Legendre.basis(steps)
    derivative = legendre.deriv()
    return [((r + 1) / 2, float(1 / ((1 - r**2) * derivative(r) ** 2))) for r in legendre.roots().real]


def integrated_gradients(f, x, b, rule, steps):
    """(x_i - b_i) Σ_k w_k ∂f/∂x_i (b + α_k (x - b))."""
    total = torch.zeros_like(x)
    for alpha, weight in points(rule, steps):
        total += weight * (x - b) * gradient(f, b + alpha * (x - b))
    return total


def expected_gradients(f, x, starts, alphas):
    """The mean over draws of (x - b_d) ∂f/∂x (b_d + α_d (x - b_d))."""
    each = [(x - b) * gradient(f, b + float(a) * (x - b)) for b, a in zip(starts, alphas, strict=True)]
    return sum(each) / len(each)


def smooth_grad(f, x, noise, sigma):
    """The mean over draws of ∂f/∂x (x + sigma (max x - min x) ε_d)."""
    spread = sigma * float(x.max() - x.min())
    return sum(gradient(f, x + spread * e.reshape(x.shape)) for e in noise) / len(noise)
