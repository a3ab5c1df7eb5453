"""Whether an explanation can be believed, and the checks that decided it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

WORDS = ("trust", "unclear", "do not trust", "control")


@dataclass(frozen=True)
class Check:
    """One check of one method: its figure with a 95 % interval, the threshold, and the outcome.

    ``passed`` is True, False, or None where the interval does not decide or the check does not apply; ``reason`` says
    which in a sentence.
    """

    name: str
    figure: float
    low: float
    high: float
    threshold: float
    passed: bool | None
    reason: str
    applies: bool = True

    @classmethod
    def silent(cls, name: str, threshold: float, reason: str) -> Check:
        """A check that does not apply, and why."""
        return cls(name, math.nan, math.nan, math.nan, threshold, None, reason, applies=False)


@dataclass(frozen=True)
class Verdict:
    """The word for one method ("trust", "unclear", "do not trust"; "control" for a trivial one), and why."""

    method: str
    word: str
    checks: tuple[Check, ...]
    reason: str


@dataclass(frozen=True, eq=False)
class Disagreement:
    """How much methods agree, pair by pair, averaged over rows.

    ``correlation`` (m, m): mean Spearman rank correlation of the scores of positions on one common grid; ``overlap``
    (m, m): mean share of the top ``fraction`` positions in common; ``chance`` is the overlap two random orders have.
    """

    methods: tuple[str, ...]
    correlation: np.ndarray
    overlap: np.ndarray
    fraction: float

    @property
    def chance(self) -> float:
        """Expected overlap of two random orders."""
        return self.fraction
