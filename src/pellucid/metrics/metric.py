"""What a metric is: a frozen value that gives every row of an explanation a number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from pellucid.core.errors import Unsupported
from pellucid.core.explanation import Explanation
from pellucid.core.model import Model
from pellucid.core.question import Question
from pellucid.metrics.units import Units

NEEDS_METHOD = "needs the method, not only what it gave: name it in pellucid.compare(..., methods=[...])"
"""Why an explanation made elsewhere gets no number from a metric that runs methods again."""


@dataclass(frozen=True)
class Marks:
    """A metric's numbers for a block of rows: values (B,), and the curve (B, F) at fractions (F,) they are an area
    of.

    ``censored`` (B,) is the share of a row's curve where no attack succeeded, ``gap`` (B,) by how much better attacks
    might still lower the value, as far as two attacks can tell. ``floor`` (B,) is what a method's own random draws
    alone would score.
    """

    values: Tensor
    fractions: Tensor | None = None
    curve: Tensor | None = None
    points: Tensor | None = None
    censored: Tensor | None = None
    gap: Tensor | None = None
    floor: Tensor | None = None


@dataclass(frozen=True)
class Remaker:
    """A way to run a method again on the rows of a desk, the explained class held fixed: at other inputs, under another
    seed, with another model made of the user's."""

    model: Model
    make: Callable[[Model, Tensor, int], Explanation]

    def __call__(self, x: Tensor, seed: int, change: Callable[[Model], Model] | None = None) -> Explanation:
        return self.make(self.model if change is None else change(self.model), x, seed)


@dataclass
class Desk:
    """Where explanations of the same rows are judged: the question, what they share (values at x and at a reference),
    and, where the method of the one being judged is known, a way to run it again."""

    question: Question
    shared: dict[str, Any] = field(default_factory=dict)
    again: Remaker | None = None

    @property
    def remaker(self) -> Remaker:
        """The way to run the method again, which must be known."""
        if self.again is None:
            raise Unsupported(f"this metric {NEEDS_METHOD}")
        return self.again


class Metric(ABC):
    """A score for explanations. Subclasses are frozen dataclasses of settings.

    ``direction`` is "higher" or "lower" (which is better); ``needs`` as for methods; ``remakes`` says that the method
    itself is run again, so that only ``compare`` can ask; ``label`` names the metric with its settings.
    """

    name: ClassVar[str]
    direction: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"predictions"})
    remakes: ClassVar[bool] = False

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
