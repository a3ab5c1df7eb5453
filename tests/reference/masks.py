"""RISE and occlusion one mask and one window at a time, as their papers say it; only the random numbers are ours."""

import itertools
import math

import numpy as np
from skimage.transform import resize

from pellucid.core import rng


def soft_mask(numbers, shape, cells, keep):
    """One mask by the authors' recipe: a grid of zeros and ones, resized by scikit-image, cut at a random offset."""
    cell = [math.ceil(size / cells) for size in shape]
    grid = (numbers[len(shape) :] < keep).reshape([cells] * len(shape)).astype(float)
    large = resize(grid, [(cells + 1) * c for c in cell], order=1, mode="reflect", anti_aliasing=False)
    first = [int(u * c) for u, c in zip(numbers, cell, strict=False)]
    return large[tuple(slice(start, start + size) for start, size in zip(first, shape, strict=True))]


def soft_masks(shape, cells, keep, budget, seed, row):
    """The masks of one row, drawn under its key: 64 to a call of the generator."""
    size = cells ** len(shape) + len(shape)
    for draw in range(budget):
        numbers = rng.uniform(seed, "rise", draw // 64, row, 1, 64 * size)[0].reshape(64, size)[draw % 64]
        yield soft_mask(numbers.numpy(), shape, cells, keep)


def rise(f, x, masks, background=0.0):
    """Values and standard errors at every position: a mean over masks in floating loops; ``x`` is (C, *positions)."""
    masks = list(masks)
    scores = [f(background + mask * (x - background)) for mask in masks]
    values, errors = np.empty(masks[0].shape), np.empty(masks[0].shape)
    for place in np.ndindex(*values.shape):
        shown = np.array([mask[place] for mask in masks])
        values[place] = sum(m * s for m, s in zip(shown, scores, strict=True)) / sum(shown)
        parts = shown * (np.array(scores) - values[place]) / shown.mean()
        errors[place] = math.sqrt(parts.var(ddof=1) / len(parts))
    return values, errors


def occlusion(f, x, window, stride, absent):
    """The mean drop over the windows that cover a position, for one row ``x`` (C, *positions)."""
    shape = x.shape[1:]
    starts = [
        range(0, max(1, math.ceil((n - w) / s) * s + 1), s) for n, w, s in zip(shape, window, stride, strict=True)
    ]
    total, count = np.zeros(shape), np.zeros(shape)
    for corner in itertools.product(*starts):
        covered = tuple(slice(first, first + w) for first, w in zip(corner, window, strict=True))
        without = x.copy()
        without[(slice(None), *covered)] = np.broadcast_to(absent, x.shape)[(slice(None), *covered)]
        total[covered] += f(x) - f(without)
        count[covered] += 1
    return np.broadcast_to(total / count, x.shape)
