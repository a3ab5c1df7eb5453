"""What the metrics say of explanations: dumb, labelled numbers. Statistics are made in ``metrics``, plots in
``reporting``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Cell:
    """One method under one metric, a number for each row.

    ``metric`` is the full label ("insertion, uniform reference, 7 x 7 patches"); ``family`` its recipe ("insertion").
    ``values`` (B,); ``mean`` with a 95 % interval ``low``..``high`` over rows. ``fractions`` (F,) and ``curve`` (B, F)
    where the score is an area; then ``points`` (B,) is the area in the paper's percent points (5 % to 45 %).
    ``censored`` (B,) is the share of a row's sets that no attack succeeded on, and ``gap`` (B,) how far its attacks may
    be from better ones, where radii are scored; ``floor`` (B,) is what a method's own random draws alone would score,
    where the method is run again.
    ``matched`` marks a reference that is the method's own baseline. ``status`` is "measured", or says in words why
    there is no number. ``control`` marks a trivial control.
    """

    method: str
    metric: str
    family: str
    direction: str
    values: Array
    mean: float
    low: float
    high: float
    reference: str | None = None
    granularity: str | None = None
    read: str | None = None
    fractions: Array | None = None
    curve: Array | None = None
    points: Array | None = None
    matched: bool = False
    status: str = "measured"
    control: bool = False
    forwards: int = 0
    censored: Array | None = None
    gap: Array | None = None
    floor: Array | None = None

    @property
    def measured(self) -> bool:
        """Whether there is a number."""
        return self.status == "measured"

    @property
    def better(self) -> int:
        """+1 where higher is better, -1 where lower is."""
        return 1 if self.direction == "higher" else -1


@dataclass(frozen=True, eq=False)
class Scores:
    """Every cell of a comparison or evaluation; the unit of analysis is the row of x."""

    cells: tuple[Cell, ...]
    seed: int = 0
    cost: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        """Labels of the methods, in order."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Labels of the metrics, in order."""
        return tuple(dict.fromkeys(cell.metric for cell in self.cells))

    def cell(self, method: str, metric: str) -> Cell:
        """The cell of one method and one metric."""
        for cell in self.cells:
            if cell.method == method and cell.metric == metric:
                return cell
        raise KeyError((method, metric))

    @property
    def table(self) -> pd.DataFrame:
        """One line for each (method, metric): mean, 95 % interval over rows, direction, rows, area in points, matched,
        status.

        Where radii are scored, ``censored`` is the share of sets that no attack succeeded on, and ``within_gap`` says
        that another method of the metric is so near that better attacks could change their order. Where a method is
        run again, ``floor`` is what its own random draws alone would score.
        """
        import pandas as pd

        near = self._within_gap()
        return pd.DataFrame(
            [
                {
                    "method": cell.method,
                    "metric": cell.metric,
                    "mean": cell.mean,
                    "low": cell.low,
                    "high": cell.high,
                    "direction": cell.direction,
                    "rows": int(np.isfinite(cell.values).sum()),
                    "points": np.nan if cell.points is None else float(np.mean(cell.points)),
                    "reference": cell.reference,
                    "granularity": cell.granularity,
                    "read": cell.read,
                    "matched": cell.matched,
                    "status": cell.status,
                    "forwards": cell.forwards,
                    "censored": np.nan if cell.censored is None else float(np.mean(cell.censored)),
                    "within_gap": (cell.method, cell.metric) in near,
                    "floor": np.nan if cell.floor is None else float(np.mean(cell.floor)),
                }
                for cell in self.cells
            ]
        )

    def _within_gap(self) -> set[tuple[str, str]]:
        """Cells whose mean differs from another one's of the same metric by no more than both gaps."""
        near = set()
        known = [cell for cell in self.cells if cell.measured and cell.gap is not None]
        for a in known:
            for b in known:
                if a is b or a.metric != b.metric or a.gap is None or b.gap is None:
                    continue
                if abs(np.nanmean(a.values - b.values)) <= np.nanmean(a.gap + b.gap):
                    near.add((a.method, a.metric))
        return near

    def summary(self) -> pd.DataFrame:
        """The table with the best method of each metric first, and its rank there."""
        table = self.table
        sign = np.where(table["direction"] == "higher", -1.0, 1.0)
        table.insert(3, "rank", (sign * table["mean"]).groupby(table["metric"], sort=False).rank(method="min"))
        order = {metric: i for i, metric in enumerate(self.metrics)}
        keys = table["metric"].map(order)
        return (
            table.assign(_order=keys)
            .sort_values(["_order", "rank"], kind="stable")
            .drop(columns="_order")
            .reset_index(drop=True)
        )

    def reference_ranks(self) -> pd.DataFrame:
        """How much do the places of methods hang on what stands in for an absent feature?

        One line for each method under each metric that has a reference (insertion, deletion, ...), with its rank among
        the methods there, 1 the best; ties share a place. Columns metric (the family), granularity, read, reference,
        method, mean, rank. Source: hsieh2021 (their rank against the reference value).
        """
        import pandas as pd

        columns = ["metric", "granularity", "read", "reference", "method", "mean", "rank"]
        found = [cell for cell in self.cells if cell.measured and cell.reference is not None]
        table = pd.DataFrame(
            [
                {
                    "metric": cell.family,
                    "granularity": cell.granularity,
                    "read": cell.read,
                    "reference": cell.reference,
                    "method": cell.method,
                    "mean": cell.mean,
                    "rank": -cell.better * cell.mean,
                }
                for cell in found
            ],
            columns=columns,
        )
        table["rank"] = table["rank"].groupby([cell.metric for cell in found], sort=False).rank(method="min")
        return table

    @property
    def curves(self) -> pd.DataFrame:
        """Every curve in long form: columns method, metric, row, fraction, value."""
        import pandas as pd

        frames = [
            pd.DataFrame(
                {
                    "method": cell.method,
                    "metric": cell.metric,
                    "row": np.repeat(np.arange(len(cell.curve)), len(cell.fractions)),
                    "fraction": np.tile(cell.fractions, len(cell.curve)),
                    "value": cell.curve.reshape(-1),
                }
            )
            for cell in self.cells
            if cell.curve is not None and cell.fractions is not None
        ]
        return (
            pd.concat(frames, ignore_index=True)
            if frames
            else pd.DataFrame(columns=["method", "metric", "row", "fraction", "value"])
        )
