"""How much gradients vary around x (VarGrad)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unreliable
from pellucid.core.method import Result
from pellucid.core.question import Question
from pellucid.core.state import State
from pellucid.gradients.samples import Smoothed


@dataclass(frozen=True)
class Varied(Smoothed):
    """The variance of the gradient under Gaussian noise (see ``methods.var_grad``)."""

    name: str = "var_grad"

    ranking: ClassVar[str] = "signed"  # a variance is as large as it is important
    reduction: ClassVar[str] = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2:
            raise BadInput(f"{self.name}: a variance needs at least 2 samples, got {self.samples}")

    def chunk(self, question: Question, index: int) -> State:
        return Powers.of(self.noisy(question, index), 0)

    def result(self, question: Question, state: Any) -> Result:
        if state.count < 3:
            warnings.warn(
                f"{self.name}: {state.count} draws are too few for a standard error (NaN); raise samples to at least 3",
                Unreliable,
                stacklevel=2,
            )
        return Result(state.variance, std_error=state.std_error, covers="the noise draws")


@dataclass(frozen=True)
class Powers:
    """Count, mean, and sums of the second to fourth powers of deviations from it, of equally weighted draws."""

    count: int
    mean: Tensor
    m2: Tensor
    m3: Tensor
    m4: Tensor

    @classmethod
    def of(cls, draws: Tensor, dim: int) -> Powers:
        """Powers over one axis of a tensor of draws."""
        mean = draws.mean(dim)
        gap = draws - mean.unsqueeze(dim)
        return cls(draws.shape[dim], mean, (gap**2).sum(dim), (gap**3).sum(dim), (gap**4).sum(dim))

    def merge(self, other: Powers) -> Powers:
        """Powers of both sets of draws together: the deviations of each are moved to the common mean, and add."""
        count = self.count + other.count
        mean = self.mean + (other.mean - self.mean) * (other.count / count)
        return Powers(count, mean, *(a + b for a, b in zip(self._about(mean), other._about(mean), strict=True)))

    def _about(self, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, d = self.count, self.mean - mean
        m4 = self.m4 + 4 * d * self.m3 + 6 * d**2 * self.m2 + n * d**4
        return self.m2 + n * d**2, self.m3 + 3 * d * self.m2 + n * d**3, m4

    @property
    def variance(self) -> Tensor:
        """The variance of one draw."""
        return self.m2 / (self.count - 1)

    @property
    def std_error(self) -> Tensor:
        """Jackknife standard error of the variance, NaN for fewer than three draws.

        Leaving out draw i moves the variance by a constant minus n / ((n - 1)(n - 2)) times its squared deviation.
        """
        n = self.count
        if n < 3:
            return torch.full_like(self.mean, torch.nan)
        return ((self.m4 - self.m2**2 / n).clamp_min(0) * n / (n - 1)).sqrt() / (n - 2)
