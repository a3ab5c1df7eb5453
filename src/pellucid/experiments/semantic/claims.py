"""Findings of the paper put to the test: by input, paired, corrected over all tests of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.experiments.findings import FAILS, HOLDS, OPEN, Claim
from pellucid.experiments.tables import FEWEST, SIGNIFICANT
from pellucid.metrics.statistics import Difference, holm, paired
from pellucid.reporting import numerals

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Trial:
    """What one input at a time says for (> 0) or against (< 0) a claim: ``values`` (N,), a paired difference."""

    name: str
    values: Array


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A claim, where it is made, and the trials that must all speak for it."""

    text: str
    source: str
    trials: tuple[Trial, ...]


def decided(hypotheses: Sequence[Hypothesis], seed: int = 0) -> tuple[tuple[Claim, ...], pd.DataFrame]:
    """Claims with their outcome, and every test.

    A claim holds where the mean of each of its trials is above 0, fails where one is below, by t-tests with Holm's
    correction over all trials (by 95 % bootstrap intervals under 12 inputs); else these rows cannot tell.
    """
    import pandas as pd

    flat = [
        (h, trial, paired(trial.values, np.zeros(len(trial.values)), seed)) for h in hypotheses for trial in h.trials
    ]
    p_values = holm([d.p_t for _, _, d in flat])
    made: list[Claim] = []
    rows = [
        {
            "claim": h.text,
            "trial": trial.name,
            "mean": d.mean,
            "low": d.low,
            "high": d.high,
            "inputs": d.rows,
            "p_holm": p,
            "says": _says(d, p),
        }
        for (h, trial, d), p in zip(flat, p_values, strict=True)
    ]
    for h in hypotheses:
        own = [(t, d, p) for (other, t, d), p in zip(flat, p_values, strict=True) if other is h]
        said = [_says(d, p) for _, d, p in own]
        outcome = FAILS if "against" in said else OPEN if "unclear" in said else HOLDS
        shown = own if len(own) <= 3 else sorted(own, key=lambda entry: entry[1].mean)[:1]
        reason = "; ".join(f"{t.name}: {told(d)}" for t, d, _ in shown)
        if len(shown) < len(own):
            reason = f"of {len(own)} comparisons {said.count('for')} speak for it; the closest or worst is {reason}"
        made.append(Claim(h.text, h.source, outcome, reason))
    return tuple(made), pd.DataFrame(rows)


def told(d: Difference) -> str:
    """A mean with its interval."""
    mean, low, high = numerals.estimate(d.mean, d.low, d.high)
    return f"{mean} ({low} to {high}, {numerals.plural(d.rows, 'input')})"


def _says(d: Difference, p: float | None) -> str:
    if d.rows < FEWEST or not np.isfinite(d.low):
        return "unclear"
    if p is not None and p >= SIGNIFICANT:
        return "unclear"
    return "for" if d.low > 0 else "against" if d.high < 0 else "unclear"
