"""Whether a method keeps its promise that values add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pellucid.core.explanation import Explanation
from pellucid.metrics.metric import Desk, Marks, Metric


@dataclass(frozen=True)
class Completeness(Metric):
    """Residual relative to |outputs - base_values| (see ``metrics.completeness``)."""

    name: ClassVar[str] = "completeness"
    direction: ClassVar[str] = "lower"
    needs: ClassVar[frozenset[str]] = frozenset()

    def status(self, explanation: Explanation) -> str:
        promise = explanation.details.get("promise")
        if promise == "completeness by construction":
            return "exact by construction"
        return "measured" if explanation.residual is not None else "promises nothing"

    def marks(self, desk: Desk, explanation: Explanation, seed: int) -> Marks:
        return Marks(torch.from_numpy(explanation.residual_relative).double())
