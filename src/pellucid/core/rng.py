"""Random numbers by counter: any draw of any row can be made again alone, whatever the batch was.

A draw is addressed by (seed, stream, draw, row). Rows of one draw lie next to each other on the Philox counter, so a
block of consecutive rows is one call. Nothing here reads or moves a global random state.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LANES = 4  # Philox4x64 makes four numbers for each step of its counter


@functools.lru_cache(maxsize=64)
def _key(seed: int, stream: str) -> np.ndarray[Any, Any]:
    digest = hashlib.blake2b(f"{int(seed)}/{stream}".encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype=np.uint64)


def _generator(seed: int, stream: str, draw: int, step: int) -> np.random.Generator:
    counter = np.array([step, 0, draw, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=_key(seed, stream), counter=counter))


def uniform(seed: int, stream: str, draw: int, first_row: int, rows: int, size: int) -> Tensor:
    """Independent U[0, 1) numbers, (rows, size) float64; row r depends on (seed, stream, draw, first_row + r) only.

    >>> bool((uniform(0, "doc", 3, 0, 4, 5)[2:3] == uniform(0, "doc", 3, 2, 1, 5)).all())
    True
    """
    steps = -(-size // _LANES)
    numbers = _generator(seed, stream, draw, first_row * steps).random((rows, steps * _LANES))
    return torch.from_numpy(numbers[:, :size].copy())


def normal(seed: int, stream: str, draw: int, first_row: int, rows: int, size: int) -> Tensor:
    """Independent N(0, 1) numbers, (rows, size) float64, by inversion so that each takes exactly one uniform."""
    tiny = 2.0**-54  # a uniform of exactly 0 would map to minus infinity
    numbers: Tensor = torch.special.ndtri(uniform(seed, stream, draw, first_row, rows, size).clamp_min(tiny))
    return numbers


def integers(seed: int, stream: str, draw: int, first_row: int, rows: int, size: int, high: int) -> Tensor:
    """Independent integers in [0, high), (rows, size) int64."""
    return (uniform(seed, stream, draw, first_row, rows, size) * high).long()


def permutation(seed: int, stream: str, draw: int, first_row: int, rows: int, size: int) -> Tensor:
    """One uniformly random order of ``size`` items for each row, (rows, size) int64."""
    return permutations(seed, stream, range(draw, draw + 1), first_row, rows, size)[0]


def permutations(seed: int, stream: str, draws: range, first_row: int, rows: int, size: int) -> Tensor:
    """The same for several draws, (draws, rows, size)."""
    numbers = [uniform(seed, stream, draw, first_row, rows, size) for draw in draws]
    return torch.stack(numbers).argsort(dim=2, stable=True)
