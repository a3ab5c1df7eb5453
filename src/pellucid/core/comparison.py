"""The result of ``pellucid.compare``: explanations, their scores, tests, disagreement and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core.explanation import Explanation
from pellucid.core.scores import Scores
from pellucid.core.verdict import Disagreement, Verdict

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several methods on the same rows, judged side by side.

    ``explanations`` by label; ``scores`` every (method, metric); ``probabilities`` (B, K) or None for the predictions
    shown; ``truth`` the true classes if the caller knows them; ``about`` title, data and model in words; ``warnings``
    raised on the way; ``refused`` methods that could not run, with the reason; ``further`` scores of the same
    explanations that no test or verdict rests on: under more references, or by dear metrics on fewer rows.
    """

    explanations: Mapping[str, Explanation]
    scores: Scores
    test_rows: tuple[Mapping[str, Any], ...]
    agreement: Disagreement
    decided: tuple[Verdict, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    probabilities: np.ndarray | None = None
    truth: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    further: tuple[Scores, ...] = ()

    def summary(self) -> pd.DataFrame:
        """One line for each (method, metric), best first, with its verdict and cost."""
        table = self.scores.summary()
        words = {verdict.method: verdict.word for verdict in self.decided}
        table["verdict"] = table["method"].map(words)
        for name in ("forwards", "backwards", "seconds", "peak_bytes"):
            table[name] = table["method"].map({label: e.cost.get(name) for label, e in self.explanations.items()})
        return table

    def tests(self) -> pd.DataFrame:
        """Paired differences from the mean of the random control: interval, Wilcoxon and t-test p-values,
        Holm-corrected."""
        import pandas as pd

        return pd.DataFrame([dict(row) for row in self.test_rows])

    def disagreement(self) -> pd.DataFrame:
        """Rank correlation and top-k overlap of every pair of methods."""
        import pandas as pd

        a = self.agreement
        pairs = [(i, j) for i in range(len(a.methods)) for j in range(i + 1, len(a.methods))]
        return pd.DataFrame(
            [
                {
                    "a": a.methods[i],
                    "b": a.methods[j],
                    "correlation": a.correlation[i, j],
                    "overlap": a.overlap[i, j],
                    "chance": a.chance,
                }
                for i, j in pairs
            ]
        )

    def verdicts(self) -> pd.DataFrame:
        """One line for each (method, check): the verdict, the figure, its interval and threshold, and the reason."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "method": verdict.method,
                    "verdict": verdict.word,
                    "check": check.name,
                    "figure": check.figure,
                    "low": check.low,
                    "high": check.high,
                    "threshold": check.threshold,
                    "passed": check.passed,
                    "applies": check.applies,
                    "reason": check.reason,
                }
                for verdict in self.decided
                for check in verdict.checks
            ]
        )

    def report(self, path: str | PathLike[str]) -> str:
        """Write the comparison as one self-contained HTML page; returns its path."""
        from pellucid.reporting import html

        return str(html.write(path, [self]))
