"""Trivial controls: what a method must beat before it is believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.method import Method
from pellucid.core.question import Question


@dataclass(frozen=True)
class Random(Method):
    """Independent uniform values, keyed by seed and row."""

    draw: int = 0
    name: str = "random_attribution"
    control: ClassVar[bool] = True

    def attribute(self, question: Question) -> Tensor:
        rows = len(question.z)
        shape = question.z.shape[1:] if question.players is None else (question.players.n,)
        size = int(torch.Size(shape).numel())
        values = rng.uniform(question.seed, self.name, self.draw, question.first_row, rows, size)
        outputs = question.here().shape[1] if question.target.several else 1
        dtype = question.z.dtype if question.z.is_floating_point() else torch.get_default_dtype()  # token ids are whole
        return values.reshape(rows, *shape, 1).expand(rows, *shape, outputs).to(question.z.device, dtype)


def random_attribution() -> Method:
    """What an order of the features that knows nothing scores: the control of every comparison.

    Independent U[0, 1) values, the same for every output. Returns values like z. Cost: none beyond the prediction.
    Source: samek2017.
    """
    return Random()
