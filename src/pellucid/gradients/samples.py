"""Gradients averaged over random points: around x (SmoothGrad) or between x and a background (expected gradients)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput, Unreliable
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Marginal
from pellucid.core.state import Moments, State, Sums
from pellucid.gradients.paths import along

_GRADIENTS = frozenset({"gradients"})


def _per_chunk(question: Question, draws: int) -> int:
    """Draws in one chunk: about one model call for the rows of the block."""
    return min(draws, max(1, question.executor.batch_size // len(question.z)))


def _check_error(name: str, state: Moments) -> None:
    if state.count < 2:
        warnings.warn(
            f"{name}: one draw has no standard error (NaN); raise samples to at least 2", Unreliable, stacklevel=2
        )


@dataclass(frozen=True)
class Smoothed(Method):
    """The mean gradient under Gaussian noise (see ``methods.smooth_grad``)."""

    samples: int
    sigma: float
    name: str = "smooth_grad"

    needs: ClassVar[frozenset[str]] = _GRADIENTS
    access: ClassVar[str] = "gradients"
    ranking: ClassVar[str] = "absolute"
    reduction: ClassVar[str] = "sum of absolute values"
    averaged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.samples, int) or self.samples < 1:
            raise BadInput(f"{self.name}: samples must be a whole number of at least 1, got {self.samples!r}")
        if not self.sigma > 0:
            raise BadInput(f"{self.name}: sigma must be positive, got {self.sigma!r}")

    def chunks(self, question: Question) -> int:
        return -(-self.samples // _per_chunk(question, self.samples))

    def chunk(self, question: Question, index: int) -> State:
        return Moments.of(self.noisy(question, index), 0)

    def noisy(self, question: Question, index: int) -> Tensor:
        """The gradients of one chunk of draws, (draws, B, *dims, J)."""
        z, share = question.z, _per_chunk(question, self.samples)
        draws = range(index * share, min((index + 1) * share, self.samples))
        spread = self.sigma * (z.flatten(1).amax(1) - z.flatten(1).amin(1))
        noise = [
            rng.normal(question.seed, "smooth_grad", draw, question.first_row, len(z), z[0].numel()) for draw in draws
        ]
        at = torch.cat([z + along(spread, z) * block.reshape(z.shape).to(z) for block in noise])
        rows = question.every_row().repeat(len(draws))

        def work(part: slice) -> Tensor:
            return question.gathered(question.gradient(at[part], rows[part])[1], rows[part])

        grads: Tensor = torch.cat(question.executor.map(work, len(at))).unflatten(0, (len(draws), len(z)))
        return grads

    def result(self, question: Question, state: Any) -> Result:
        _check_error(self.name, state)
        return Result(state.mean, std_error=state.std_error, covers="the noise draws")


@dataclass(frozen=True)
class Expected(Method):
    """Expected gradients (see ``methods.expected_gradients``).

    With at least two draws for every background row the rows are strata: each gets the same number of draws of alpha
    (one more for the first ones if it does not divide), their means are averaged with equal weight, and the error
    counts alpha alone. With fewer, rows are drawn in balanced passes, and the error counts alpha and the background, as
    if rows were drawn independently (a little too large).
    """

    background: Marginal
    samples: int
    name: str = "expected_gradients"

    needs: ClassVar[frozenset[str]] = _GRADIENTS
    access: ClassVar[str] = "gradients"
    promise: ClassVar[str | None] = "completeness"
    averaged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.samples, int) or self.samples < 1:
            raise BadInput(f"expected_gradients: samples must be a whole number of at least 1, got {self.samples!r}")

    @property
    def stratified(self) -> bool:
        """Whether every background row gets two draws or more."""
        return self.samples >= 2 * len(self.background.background)

    def chunks(self, question: Question) -> int:
        if self.stratified:
            return -(-self._size // self._strata(question))
        return -(-self.samples // _per_chunk(question, self.samples))

    def chunk(self, question: Question, index: int) -> Sums | Moments:
        if not self.stratified:
            share = _per_chunk(question, self.samples)
            draws = range(index * share, min((index + 1) * share, self.samples))
            return Moments.of(self._products(question, draws, self._drawn(question, draws)), 0)
        share, (each, more) = self._strata(question), divmod(self.samples, self._size)
        strata = range(index * share, min((index + 1) * share, self._size))
        counts = [each + (stratum < more) for stratum in strata]
        first = strata.start * each + min(strata.start, more)
        rows = self._rows(question, strata).repeat_interleave(torch.tensor(counts, device=question.z.device), 1)
        products = self._products(question, range(first, first + sum(counts)), rows)
        parts = [Moments.of(part, 0) for part in products.split(counts)]
        mean, variance = sum(part.mean for part in parts), sum(part.std_error**2 for part in parts)
        return Sums({"mean": torch.as_tensor(mean), "variance": torch.as_tensor(variance)})

    def result(self, question: Question, state: Any) -> Result:
        details = {"samples": self.samples, "stratified": self.stratified}
        if isinstance(state, Moments):
            _check_error(self.name, state)
            base = self._base(question, min(self.samples, self._size), self._drawn)
            return Result(
                state.mean, state.std_error, "the draws of alpha and of the background", base, details=details
            )
        base, error = self._base(question, self._size, self._rows), state["variance"].sqrt() / self._size
        return Result(state["mean"] / self._size, error, "the draws of alpha", base, details=details)

    @property
    def _size(self) -> int:
        return len(self.background.background)

    def _strata(self, question: Question) -> int:
        """Background rows of one chunk: about one model call for the rows of the block."""
        return max(1, question.executor.batch_size // (len(question.z) * -(-self.samples // self._size)))

    def _drawn(self, question: Question, draws: range) -> Tensor:
        """Background rows in balanced passes, (B, len(draws), *dims)."""
        return replace(self.background, samples=self.samples).absent(question, draws)

    def _rows(self, question: Question, strata: range) -> Tensor:
        """Some background rows, the same for each row of the question, (B, len(strata), *dims)."""
        rows = question.space.encode(self.background.rows(question)[strata.start : strata.stop])
        return rows.unsqueeze(0).expand(len(question.z), *rows.shape)

    def _products(self, question: Question, draws: range, starts: Tensor) -> Tensor:
        """(z - b) * gradient at b + alpha (z - b), (len(draws), B, *dims, J), for ``starts`` b (B, len(draws),
        *dims)."""
        z = question.z
        alphas = torch.stack(
            [rng.uniform(question.seed, self.name, draw, question.first_row, len(z), 1)[:, 0] for draw in draws]
        )

        def work(part: slice) -> Tensor:
            item = torch.arange(part.start, part.stop, device=z.device)
            row, draw = item % len(z), item // len(z)
            start = starts[row, draw]
            at = start + along(alphas.to(z.device)[draw, row], start) * (z[row] - start)
            return question.gathered(question.gradient(at, row)[1] * (z[row] - start).unsqueeze(-1), row)

        products = torch.cat(question.executor.map(work, len(z) * len(draws)))
        return products.reshape(len(draws), len(z), *products.shape[1:])

    def _base(self, question: Question, used: int, starts: Callable[[Question, range], Tensor]) -> Tensor:
        """Mean of f over the background rows that were used, (B, J)."""
        every, share = question.every_row(), _per_chunk(question, used)
        total: Tensor | float = 0.0
        for first in range(0, used, share):
            block = starts(question, range(first, min(first + share, used)))
            read = question.value(block.transpose(0, 1).flatten(0, 1), every.repeat(block.shape[1]))
            total = total + read.unflatten(0, (block.shape[1], len(every))).sum(0)
        return torch.as_tensor(total) / used
