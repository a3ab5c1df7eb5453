"""Nodes and weights of the rules that integrate over a straight path, alpha in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput

RULES = ("gauss_legendre", "trapezoid", "left", "right")


def nodes(rule: str, steps: int, panels: int = 1) -> tuple[Tensor, Tensor]:
    """Nodes and weights (float64) of a rule with ``steps`` evaluations in each of ``panels`` equal panels of [0, 1].

    >>> alpha, weight = nodes("gauss_legendre", 3)
    >>> round(float((weight * alpha**5).sum()), 12)  # exact to degree 5: 1/6
    0.166666666667
    """
    if rule == "gauss_legendre":
        place, weight = np.polynomial.legendre.leggauss(steps)
        alpha, weight = (place + 1) / 2, weight / 2
    elif rule == "trapezoid":
        if steps < 2:
            raise BadInput(f"integrated_gradients: the trapezoid rule needs at least 2 steps, got {steps}")
        alpha, weight = np.linspace(0, 1, steps), np.full(steps, 1 / (steps - 1))
        weight[[0, -1]] /= 2
    elif rule in ("left", "right"):
        alpha, weight = (np.arange(steps) + (rule == "right")) / steps, np.full(steps, 1 / steps)
    else:
        raise BadInput(f"integrated_gradients: rule must be one of {', '.join(map(repr, RULES))}, got {rule!r}")
    starts = np.arange(panels)[:, None] / panels
    return torch.from_numpy((starts + alpha / panels).reshape(-1)), torch.from_numpy(np.tile(weight / panels, panels))
