"""Precision against labelled features: how many of those that a method ranks first did people, or a plan, mark?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.metrics.metric import Desk, Marks, Metric
from pellucid.metrics.statistics import top
from pellucid.metrics.units import Units, each_position, own


@dataclass(frozen=True)
class Precision(Metric):
    """Share of the top k features that are marked (see ``metrics.precision_at_k``)."""

    truth: Tensor = field(repr=False, compare=False)
    k: tuple[int, ...]
    digest: str = field(init=False)
    """Stands for the marks where two settings are compared."""

    name: ClassVar[str] = "precision_at_k"
    direction: ClassVar[str] = "higher"

    def __post_init__(self) -> None:
        given = self.truth if isinstance(self.truth, Tensor) else np.asarray(self.truth)
        if given.dtype not in (torch.bool, np.dtype(bool)) or given.ndim < 2 or 0 in given.shape:
            raise BadInput(
                f"{self.name}: truth must be bool, one mask a row, (B, features); got {given.dtype} of shape "
                f"{tuple(given.shape)}"
            )
        truth = torch.as_tensor(given)
        if not self.k or any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in self.k):
            raise BadInput(f"{self.name}: k must be whole numbers of at least 1, got {self.k!r}")
        truth = truth.detach().cpu().flatten(1)
        object.__setattr__(self, "truth", truth)
        object.__setattr__(self, "k", tuple(sorted(set(self.k))))
        object.__setattr__(self, "digest", hashlib.sha256(truth.numpy().tobytes()).hexdigest()[:16])

    @property
    def label(self) -> str:
        return f"{self.name}, k = {', '.join(map(str, self.k))}"

    @property
    def granularity(self) -> str:
        return "features"

    def units(self, explanation: Explanation) -> Units:
        """The features that the marks are of: the explanation's own, or positions."""
        mine = own(explanation)
        return mine if mine.n == self.truth.shape[1] else each_position(explanation)

    def marks(self, desk: Desk, explanation: Explanation, seed: int) -> Marks:
        units, question = self.units(explanation), desk.question
        if self.truth.shape != (question.rows_in_all, units.n):
            raise BadInput(
                f"{self.name}: truth has {self.truth.shape[0]} rows of {self.truth.shape[1]} features, the explanation "
                f"{question.rows_in_all} of {units.n}"
            )
        if self.k[-1] > units.n:
            raise BadInput(f"{self.name}: k = {self.k[-1]} is more than the {units.n} features")
        truth = self.truth[question.offset : question.offset + len(units.scores)].numpy()
        scores = units.scores.numpy()
        curve = np.stack([(top(scores, k) * truth).sum(1) / k for k in self.k], 1)
        curve[~truth.any(1)] = np.nan  # nobody marked anything: no order is right
        precision = torch.from_numpy(curve)
        if len(self.k) == 1:
            return Marks(precision[:, 0])
        return Marks(precision.mean(1), torch.tensor(self.k, dtype=torch.float64) / units.n, precision)
