"""Partial results that add: what a chunk of work returns, merged in chunk order by the run layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor


class State(Protocol):
    """A partial result. ``merge`` is associative; chunks are merged in order of their ids."""

    def merge(self, other: Self) -> Self:
        """The state of both parts of the work together."""
        ...


@dataclass(frozen=True)
class Sums:
    """Named tensors that add entry by entry."""

    parts: dict[str, Tensor]

    def merge(self, other: Sums) -> Sums:
        """Add part by part."""
        return Sums({name: part + other.parts[name] for name, part in self.parts.items()})

    def __getitem__(self, name: str) -> Tensor:
        return self.parts[name]


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of equally weighted draws (Chan, Golub and LeVeque's merge)."""

    count: int
    mean: Tensor
    m2: Tensor

    @classmethod
    def of(cls, draws: Tensor, dim: int) -> Moments:
        """Moments over one axis of a tensor of draws."""
        mean = draws.mean(dim)
        return cls(draws.shape[dim], mean, ((draws - mean.unsqueeze(dim)) ** 2).sum(dim))

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of draws together."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        return Moments(count, mean, self.m2 + other.m2 + delta**2 * (self.count * other.count / count))

    @property
    def std_error(self) -> Tensor:
        """Standard error of the mean, NaN for fewer than two draws."""
        if self.count < 2:
            return torch.full_like(self.mean, torch.nan)
        return (self.m2 / (self.count - 1) / self.count).sqrt()


@dataclass(frozen=True)
class Done:
    """The state of work that is one chunk: there is nothing to merge it with."""

    value: object

    def merge(self, other: Done) -> Done:
        """Never called: a single chunk has no neighbour."""
        raise TypeError("a result made in one chunk cannot be merged with another")
