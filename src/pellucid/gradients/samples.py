"""Gradients averaged over random points: around x (SmoothGrad) or between x and a background (expected gradients)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Marginal
from pellucid.core.state import Moments, Sums
from pellucid.gradients.paths import along

_GRADIENTS = frozenset({"gradients"})


def _per_chunk(question: Question, draws: int) -> int:
    """Draws in one chunk: about one model call for the rows of the block."""
    return min(draws, max(1, question.executor.batch_size // len(question.z)))


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
            raise BadInput(f"smooth_grad: samples must be a whole number of at least 1, got {self.samples!r}")
        if not self.sigma > 0:
            raise BadInput(f"smooth_grad: sigma must be positive, got {self.sigma!r}")

    def chunks(self, question: Question) -> int:
        return -(-self.samples // _per_chunk(question, self.samples))

    def chunk(self, question: Question, index: int) -> Moments:
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

        grads = torch.cat(question.executor.map(work, len(at)))
        return Moments.of(grads.unflatten(0, (len(draws), len(z))), 0)

    def result(self, question: Question, state: Any) -> Result:
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
            return len(self.background.background)
        return -(-self.samples // _per_chunk(question, self.samples))

    def chunk(self, question: Question, index: int) -> Sums | Moments:
        if not self.stratified:
            share = _per_chunk(question, self.samples)
            draws = range(index * share, min((index + 1) * share, self.samples))
            return self._moments(question, draws, self._drawn(question, draws))
        each, more = divmod(self.samples, len(self.background.background))
        start = index * each + min(index, more)
        draws = range(start, start + each + (index < more))
        stratum = question.space.encode(self.background.rows(question)[index : index + 1])
        moments = self._moments(
            question, draws, stratum.unsqueeze(1).expand(len(question.z), len(draws), *question.z.shape[1:])
        )
        return Sums({"mean": moments.mean, "variance": moments.std_error**2})

    def result(self, question: Question, state: Any) -> Result:
        details = {"samples": self.samples, "stratified": self.stratified}
        if isinstance(state, Moments):
            used = min(self.samples, len(self.background.background))
            base = self._base(question, self._drawn(question, range(used)))
            return Result(
                state.mean, state.std_error, "the draws of alpha and of the background", base, details=details
            )
        size = len(self.background.background)
        every = (
            question.space.encode(self.background.rows(question))
            .unsqueeze(0)
            .expand(len(question.z), size, *question.z.shape[1:])
        )
        return Result(
            state["mean"] / size,
            state["variance"].sqrt() / size,
            "the draws of alpha",
            self._base(question, every),
            details=details,
        )

    def _drawn(self, question: Question, draws: range) -> Tensor:
        return replace(self.background, samples=self.samples).absent(question, draws)

    def _moments(self, question: Question, draws: range, starts: Tensor) -> Moments:
        """Moments over draws of (z - b) * gradient at b + alpha (z - b), ``starts`` (B, len(draws), *dims)."""
        z = question.z
        alphas = torch.stack(
            [rng.uniform(question.seed, self.name, draw, question.first_row, len(z), 1)[:, 0] for draw in draws]
        )
        rows = question.every_row()

        def work(part: slice) -> Tensor:
            item = torch.arange(part.start, part.stop, device=z.device)
            row, draw = rows[item % len(z)], item // len(z)
            start = starts[row, draw]
            at = start + along(alphas.to(z.device)[draw, row], start) * (z[row] - start)
            return question.gathered(question.gradient(at, row)[1] * (z[row] - start).unsqueeze(-1), row)

        products = torch.cat(question.executor.map(work, len(z) * len(draws)))
        return Moments.of(products.unflatten(0, (len(draws), len(z))), 0)

    def _base(self, question: Question, starts: Tensor) -> Tensor:
        """Mean of f over the background rows that were used, (B, J)."""
        rows = question.every_row()
        total = sum(question.value(starts[:, draw], rows) for draw in range(starts.shape[1]))
        return torch.as_tensor(total) / starts.shape[1]
