"""Values of frequencies: of single inputs with errors of sums, as curves over the radius, as planes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

import pellucid
from pellucid import methods, removal, spaces
from pellucid.core.model import Model
from pellucid.experiments.semantic import tiles
from pellucid.experiments.semantic.bench import Array, Bench
from pellucid.experiments.semantic.blocks import Gallery, Lines, Series, Strip
from pellucid.spaces.fourier import Fourier
from pellucid.spaces.fourier import frequencies as plane

REPEATS = 10
"""Independent estimates of a single input: sums of its values have errors that those of the parts do not tell."""
CORNER = 0.5**0.5
BINS = 25
COARSE = 1 / 16
"""Cycles a pixel under which a frequency counts as shape: periods over 16 pixels."""


def players(space: Fourier, size: int) -> tuple[Array, Array, tuple[str, ...]]:
    """Which player each frequency of a square plane is in (H, W), the mean radius of each (n,), and its name."""
    found = space.groups.divide(torch.zeros(1, 1, size, size), (), None)
    labels = found.labels[0].numpy()
    down, across = plane(size, size)
    each = (down**2 + across**2).sqrt().numpy().reshape(-1)
    flat = labels.reshape(-1)
    return labels, np.bincount(flat, each) / np.bincount(flat), found.names


def repeated(
    bench: Bench, name: str, model: Model, x: Tensor, says: int, background: Tensor, space: Fourier, pairs: int
) -> Array:
    """Values (REPEATS, n) of one input (1, ...) for the probability of a class, each from orders of its own, ``pairs``
    in all."""
    n = players(space, x.shape[-1])[1].size
    each = max(1, pairs // REPEATS)
    method = methods.permutation_shapley(2 * n * each, removal=removal.marginal(background, draws=1))
    target = pellucid.Target(says, read="prob")

    def make() -> Array:
        found = [
            pellucid.explain(model, x, method, target, space, seed=seed, first_row=seed).values[0]
            for seed in range(REPEATS)
        ]
        return np.stack(found)

    values: Array = bench.piece(name, make)
    return values


def mean(values: Array) -> tuple[float, float]:
    """Mean of (N,) and its standard error."""
    return float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5


def rings(values: Array, radius: Array, count: int) -> tuple[Array, Array]:
    """Middle of each ring, and values (N, modes) summed by ring, (N, rings)."""
    edge = CORNER / count
    ring = np.minimum((radius / edge).astype(int), count - 1)
    sums = np.stack([values[:, ring == r].sum(1) for r in range(count)], 1)
    return (np.arange(count) + 0.5) * edge, sums


def lines(
    title: str,
    x: Array,
    each: Mapping[str, tuple[Array, str]],
    up: str = "value of a ring",
    caption: str = "",
    marks: tuple[tuple[float, str], ...] = (),
) -> Lines:
    """Curves of values (N, n) by label, each with its style: mean and error over N."""
    series = tuple(
        Series(label, v.mean(0), v.std(0, ddof=1) / len(v) ** 0.5, style) for label, (v, style) in each.items()
    )
    return Lines(title, x, series, "frequency, cycles a pixel", up, caption, marks)


def planes(what: str, each: Mapping[str, Array], labels: Array) -> Gallery:
    """Mean values of (N, n) on the plane of frequencies, side by side on one scale."""
    scale = max(float(np.percentile(np.abs(v.mean(0)), 99)) for v in each.values())
    found = tuple(tiles.frequencies(v.mean(0), labels, label, f"{what}: {label}", scale) for label, v in each.items())
    return Gallery(
        f"{what} on the plane of frequencies",
        (Strip("frequency 0 in the middle", found),),
        caption="Orange-red: for the class; blue: against it. One scale for all.",
    )


def bands(bins: int) -> Fourier:
    """The space of so many rings."""
    return spaces.fourier(bins=bins)
