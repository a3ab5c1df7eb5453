"""What a metric is: a frozen value that gives every row of an explanation a number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from pellucid.core.explanation import Explanation
from pellucid.core.question import Question
from pellucid.metrics.units import Units


@dataclass(frozen=True)
class Marks:
    """A metric's numbers for a block of rows: values (B,), and the curve (B, F) at fractions (F,) they are an area
    of.

    ``censored`` (B,) is the share of a row's curve where no attack succeeded, ``gap`` (B,) by how much better attacks
    might still lower the value, as far as two attacks can tell.
    """

    values: Tensor
    fractions: Tensor | None = None
    curve: Tensor | None = None
    points: Tensor | None = None
    censored: Tensor | None = None
    gap: Tensor | None = None


@dataclass
class Desk:
    """Where explanations of the same rows are judged: the question, and what they share (values at x and at a
    reference)."""

    question: Question
    shared: dict[str, Any] = field(default_factory=dict)


class Metric(ABC):
    """A score for explanations. Subclasses are frozen dataclasses of settings.

    ``direction`` is "higher" or "lower" (which is better); ``needs`` as for methods; ``label`` names the metric with
    its settings.
    """

    name: ClassVar[str]
    direction: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"predictions"})

    @property
    def label(self) -> str:
        """The metric with the settings that tell it from others, in words."""
        return self.name

    @property
    def reference_name(self) -> str | None:
        """The reference in words, if the metric has one."""
        return None

    @property
    def granularity(self) -> str | None:
        """What is ranked: "features" or "n x n patches"; None where nothing is."""
        return None

    def units(self, explanation: Explanation) -> Units | None:
        """What is ranked, and with which scores; where nothing is, random orders have no score to compare with."""
        return None

    def matched(self, explanation: Explanation) -> bool:
        """Whether the metric's reference is the method's own baseline."""
        return False

    def status(self, explanation: Explanation) -> str:
        """ "measured", or in words why this explanation gets no number."""
        return "measured"

    @abstractmethod
    def marks(self, desk: Desk, explanation: Explanation, seed: int) -> Marks:
        """The numbers for every row of the desk's question, which are the rows of the explanation."""
