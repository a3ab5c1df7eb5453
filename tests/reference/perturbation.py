"""Insertion and deletion, written a second time as slow loops over rows, sizes and features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def curve(
    f: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    members: Sequence[Sequence[tuple[int, ...]]],
    scores: np.ndarray,
    reference: np.ndarray,
    counts: Sequence[int],
    inserting: bool,
) -> np.ndarray:
    """f after the top K units of each row were put into the reference (or taken out of x), (B, len(counts)).

    ``f``: a batch to one number a row; ``members``: the places in a row of x that make up each unit; ``scores`` (B, n),
    no two equal; ``reference`` (B, ...) like x.
    """
    found = np.empty((len(x), len(counts)))
    for row in range(len(x)):
        ranked = sorted(range(len(members)), key=lambda unit, row=row: -scores[row, unit])
        for place, count in enumerate(counts):
            picture = (reference if inserting else x)[row].copy()
            for unit in ranked[:count]:
                for where in members[unit]:
                    picture[where] = (x if inserting else reference)[row][where]
            found[row, place] = f(picture[None])[0]
    return found


def area(fractions: Sequence[float], heights: Sequence[float]) -> float:
    """The area of trapezoids between neighbouring points."""
    steps = zip(fractions, fractions[1:], heights, heights[1:], strict=False)
    return sum((right - left) * (a + b) / 2 for left, right, a, b in steps)


def pixels(shape: tuple[int, int, int]) -> list[list[tuple[int, ...]]]:
    """The units of a picture (C, H, W): each pixel with all its channels."""
    channels, height, width = shape
    return [[(c, h, w) for c in range(channels)] for h in range(height) for w in range(width)]


def cells(shape: tuple[int, int, int], size: int) -> list[list[tuple[int, ...]]]:
    """The units of a picture (C, H, W) under a grid of size x size cells."""
    channels, height, width = shape
    found: list[list[tuple[int, ...]]] = [[] for _ in range(size * size)]
    for c in range(channels):
        for h in range(height):
            for w in range(width):
                found[(h * size // height) * size + w * size // width].append((c, h, w))
    return found
