"""Procedural signals in which a short burst decides the class, at a place that is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.data.examples import Examples

LENGTH, BURST = 128, 16
PERIODS = (8.0, 4.0)  # samples: the slow burst of class 0 and the fast one of class 1
ABOUT = "Synthetic: noise of unit variance with one burst of 16 samples; its period, 8 or 4, is the class."


def signals(count: int = 500, seed: int = 0) -> Examples:
    """Noisy signals with one burst each, whose period is the class and whose place is known.

    ``x`` (N, 1, 128): smooth noise plus a burst of 16 samples at a random place, of period 8 ("slow") or 4 ("fast"),
    with the same envelope, so that strength tells nothing. ``truth["window"]`` (N, 1, 128) bool marks the burst.
    Synthetic; a few milliseconds.

    >>> signals(4).x.shape
    torch.Size([4, 1, 128])
    """
    if count < 1:
        raise BadInput(f"signals: count must be at least 1, got {count}")
    x, y, window = draw(count, seed, 0)
    return Examples(x, y, ("slow", "fast"), tuple(f"signal {i}" for i in range(count)), ABOUT, {"window": window})


def draw(count: int, seed: int, turn: int) -> tuple[Tensor, Tensor, Tensor]:
    """Signals (N, 1, 128), their classes and the windows of their bursts; another ``turn``, other signals."""
    numbers = rng.uniform(seed, "data.signals", turn, 0, count, 3)
    noise = rng.normal(seed, "data.signals.noise", turn, 0, count, LENGTH + 2)
    noise = (noise[:, :-2] + noise[:, 1:-1] + noise[:, 2:]) / math.sqrt(3)
    y = (numbers[:, 0] < 0.5).long()
    start = (numbers[:, 1] * (LENGTH - BURST + 1)).long()
    time = torch.arange(LENGTH) - start.unsqueeze(1)
    inside = (time >= 0) & (time < BURST)
    period = torch.tensor(PERIODS, dtype=torch.float64)[y].unsqueeze(1)
    envelope = torch.sin(math.pi * (time + 0.5) / BURST)
    burst = 4 * envelope * torch.sin(2 * math.pi * (time / period + numbers[:, 2:]))
    return (noise + burst * inside).float().unsqueeze(1), y, inside.unsqueeze(1)
