"""Randomisation of weights: does a map still look the same when what the model has learned is gone?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.core.model import Model
from pellucid.metrics.metric import Desk, Marks, Metric
from pellucid.metrics.statistics import rank_correlation
from pellucid.metrics.units import position_scores

KINDS = ("last", "cascading", "independent")


@dataclass(frozen=True)
class Randomisation(Metric):
    """Rank correlation of a map with the one under random weights (see ``metrics.parameter_randomisation``)."""

    kind: str
    draws: int
    stages: int

    name: ClassVar[str] = "parameter_randomisation"
    direction: ClassVar[str] = "lower"
    remakes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadInput(f"{self.name}: kind must be one of {', '.join(map(repr, KINDS))}, got {self.kind!r}")
        for name in ("draws", "stages"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise BadInput(f"{self.name}: {name} must be a whole number of at least 1, got {number!r}")

    @property
    def label(self) -> str:
        return f"{self.name}, {self.kind}"

    def marks(self, desk: Desk, explanation: Explanation, seed: int) -> Marks:
        remaker, question = desk.remaker, desk.question
        here = position_scores(explanation).flatten(1).numpy()
        names = remaker.model.weighted()[::-1]
        found = []
        stages = self.layers(names)
        for layers in stages:
            each = []
            for draw in range(self.draws):
                again = remaker(question.x, question.seed, _redrawn(seed, draw, layers))
                there = position_scores(again).flatten(1).numpy()
                each.append(torch.from_numpy(rank_correlation(here, there)))
            found.append(torch.stack(each).nanmean(0))
        curve = torch.stack(found, 1)
        if self.kind == "last":
            return Marks(curve[:, 0])
        depth = [(1 + names.index(layers[-1])) / len(names) for layers in stages]
        return Marks(curve.nanmean(1), torch.tensor(depth, dtype=torch.float64), curve)

    def layers(self, names: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Which layers are drawn afresh together, stage by stage; ``names`` from the last to the first."""
        if self.kind == "last":
            return [names[:1]]
        count = min(self.stages, len(names))
        ends = [round(1 + i * (len(names) - 1) / max(1, count - 1)) for i in range(count)]
        return [names[:end] if self.kind == "cascading" else names[end - 1 : end] for end in ends]


def _redrawn(seed: int, draw: int, layers: tuple[str, ...]) -> Callable[[Model], Model]:
    # One seed for all stages: what an earlier stage has drawn, a later one keeps.
    number = int(rng.integers(seed, "metrics.randomisation", draw, 0, 1, 1, 2**31))
    return lambda model: model.randomised(number, layers)
