"""Tables of the benchmark: means with intervals beside the published figures, ranks, and paired tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.experiments.contestants import Contestant
from pellucid.experiments.kinds import Kind
from pellucid.experiments.pieces import Array
from pellucid.experiments.published import AS
from pellucid.experiments.robustness import Found, Numbers
from pellucid.metrics.statistics import Difference, holm, interval, paired

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05
FEWEST = 6
"""Rows under which an interval says nothing: of five, all may lie on one side by chance once in 16 times."""
WORDS = {
    "robustness_irrelevant": "Robustness-S̄r",
    "robustness_relevant": "Robustness-Sr",
    "randomised": "rank correlation of |map| with the last layer drawn anew",
    "sensitivity": "sensitivity of the top 20 %",
    "floor": "the same at radius 0: its own random draws",
    "seconds": "seconds for the top 20 %",
    "explained": "seconds for the largest set",
    "released": "released Greedy-AS, extrapolated",
}


def better(criterion: str) -> int:
    """+1 where higher is better, -1 where lower is."""
    return 1 if criterion.startswith(("insertion", "robustness_irrelevant", "planted", "precision")) else -1


def words(kind: Kind, criterion: str) -> str:
    """A criterion as the page calls it."""
    name, _, reference = criterion.partition("/")
    if criterion in kind.words or criterion in WORDS:
        return kind.words.get(criterion) or WORDS[criterion]
    return f"{name}, {'mean over .25, .5, .75, 1, uniform' if reference == 'foreign' else reference + ' reference'}"


def numbers(found: Found, criterion: str, key: str) -> Numbers | None:
    """Numbers as measured, or their mean over the references that are nobody's own."""
    kind, _, reference = criterion.partition("/")
    if reference != "foreign":
        return found.get(criterion, key)
    each = [found.get(f"{kind}/{name}", key) for name in found.kind.foreign]
    known = [n for n in each if n is not None]
    if len(known) < len(each):
        return None
    values = np.mean([n.values for n in known], axis=0)
    return Numbers(criterion, key, known[0].rows, values, None, known[0].censored, known[0].gap)


@dataclass(frozen=True)
class Line:
    """One method under one criterion."""

    criterion: str
    who: Contestant
    mean: float
    low: float
    high: float
    rows: int
    rank: int
    matched: bool
    censored: float
    within_gap: bool
    paper: float | None


def lines(found: Found, criterion: str) -> list[Line]:
    """Every method under a criterion, the best first. Ranks leave the ablation out, as the paper's do."""
    each = [(c, numbers(found, criterion, c.key)) for c in found.contestants]
    there = [(c, n) for c, n in each if n is not None and np.isfinite(n.values).any()]
    means = {c.key: float(np.nanmean(n.values)) for c, n in there}
    ranked = [c.key for c, _ in there if not c.ablation]
    near = _within_gap([n for _, n in there])
    made = []
    for c, n in there:
        low, high = interval(n.values, found.settings.seed)
        rank = 1 + sum(better(criterion) * (means[other] - means[c.key]) > 0 for other in ranked if other != c.key)
        censored = float(np.nanmean(n.censored)) if np.isfinite(n.censored).any() else float("nan")
        paper = found.kind.figures.get(criterion, {}).get(c.paper)
        if criterion.startswith("robustness") and c.criterion and not criterion.endswith(f"_{c.criterion}"):
            paper = None  # the paper's figure is of the variant that optimises this criterion
        rows = int(np.isfinite(n.values).sum())
        made.append(
            Line(
                criterion,
                c,
                means[c.key],
                low,
                high,
                rows,
                rank,
                c.matched(criterion),
                censored,
                c.key in near,
                paper,
            )
        )
    return sorted(made, key=lambda line: -better(criterion) * line.mean)


def _within_gap(each: list[Numbers]) -> set[str]:
    """Methods that better attacks might reorder: nearer to another than both gaps together."""
    near = set()
    for a in each:
        for b in each:
            rows = np.intersect1d(a.rows, b.rows)
            if a is b or not np.isfinite(a.gap).any() or len(rows) == 0:
                continue
            at_a, at_b = np.isin(a.rows, rows), np.isin(b.rows, rows)
            if abs(np.mean(a.values[at_a] - b.values[at_b])) <= np.mean(a.gap[at_a] + b.gap[at_b]):
                near.add(a.key)
    return near


@dataclass(frozen=True)
class Test:
    """A method against another, paired by row; positive is better. ``outcome``: win, draw, loss or too few."""

    criterion: str
    one: Contestant
    other: Contestant
    difference: Difference
    p_t: float | None
    p_wilcoxon: float | None
    paper: str | None

    @property
    def outcome(self) -> str:
        """By the t-test with Holm's correction, as the paper's is a t-test; by the interval where rows are few."""
        d = self.difference
        if d.rows < FEWEST:
            return "too few"
        sure = d.low > 0 or d.high < 0 if self.p_t is None else self.p_t < SIGNIFICANT
        return "draw" if not sure else "win" if d.mean > 0 else "loss"


def versus(found: Found, criterion: str, one: str, other: str) -> Difference | None:
    """The paired difference of two methods over the rows that both have; positive: the first is better."""
    a, b = numbers(found, criterion, one), numbers(found, criterion, other)
    if a is None or b is None:
        return None
    _, at_a, at_b = np.intersect1d(a.rows, b.rows, return_indices=True)
    sign = better(criterion)
    return paired(sign * a.values[at_a], sign * b.values[at_b], found.settings.seed)


def tests(found: Found) -> list[Test]:
    """Both variants of Greedy-AS against every other method, and its ablation; corrected over all of them."""
    made: list[Test] = []
    for one in found.contestants:
        if not one.label.startswith(AS):
            continue
        for criterion in found.kind.compared:
            for other in found.contestants:
                if other.label.startswith(AS):
                    continue
                if other.ablation and not (
                    criterion.endswith(f"_{one.criterion}") and one.criterion == other.criterion
                ):
                    continue
                if (difference := versus(found, criterion, one.key, other.key)) is None:
                    continue
                printed = other.label in found.kind.tested and criterion in found.kind.compared[:4]
                paper = "win" if printed and _fits(one, criterion) else None
                made.append(Test(criterion, one, other, difference, None, None, paper))
    corrected = [holm([getattr(t.difference, name) for t in made]) for name in ("p_t", "p_wilcoxon")]
    return [
        Test(t.criterion, t.one, t.other, t.difference, corrected[0][i], corrected[1][i], t.paper)
        for i, t in enumerate(made)
    ]


def _fits(one: Contestant, criterion: str) -> bool:
    return not criterion.startswith("robustness") or criterion.endswith(f"_{one.criterion}")


def frames(found: Found) -> dict[str, pd.DataFrame]:
    """The tables as data: one line a method and criterion, every row's value, curves, tests."""
    import pandas as pd

    summary = [
        {
            "table": found.kind.tables[line.criterion],
            "criterion": line.criterion,
            "method": line.who.label,
            "mean": line.mean,
            "low": line.low,
            "high": line.high,
            "better": "higher" if better(line.criterion) > 0 else "lower",
            "rank": line.rank,
            "rows": line.rows,
            "matched": line.matched,
            "censored": line.censored,
            "within_gap": line.within_gap,
            "paper": line.paper,
        }
        for criterion in found.kind.tables
        for line in lines(found, criterion)
    ]
    released = found.get("released", "released")
    if released is not None:
        row = dict.fromkeys(summary[0]) if summary else {}
        name = {"table": "11", "criterion": "released", "method": "Greedy-AS as released, extrapolated"}
        summary.append(row | name | {"mean": float(released.values.mean()), "rows": len(released.values)})
    labels = {c.key: c.label for c in found.contestants}
    values = [
        {"criterion": n.criterion, "method": labels.get(n.key, n.key), "row": int(row), "value": value}
        for n in found.numbers.values()
        for row, value in zip(n.rows, n.values.tolist(), strict=True)
    ]
    curves = [
        {"criterion": n.criterion, "method": labels[n.key], "size": size, "mean": mean}
        for n in found.numbers.values()
        if n.curve is not None
        for size, mean in zip(found.settings.sizes, n.curve.mean(0).tolist(), strict=True)
    ]
    compared = [
        {
            "criterion": t.criterion,
            "method": t.one.label,
            "against": t.other.label,
            "better_by": t.difference.mean,
            "low": t.difference.low,
            "high": t.difference.high,
            "rows": t.difference.rows,
            "p_t_holm": t.p_t,
            "p_wilcoxon_holm": t.p_wilcoxon,
            "outcome": t.outcome,
            "matched": t.one.matched(t.criterion),
            "paper": t.paper,
        }
        for t in tests(found)
    ]
    each: dict[str, list[dict[str, Any]]] = {"summary": summary, "rows": values, "curves": curves, "tests": compared}
    return {name: pd.DataFrame(entries) for name, entries in each.items()}


def mean_ranks(found: Found, kind: str) -> dict[str, Array]:
    """Ranks of the methods at each reference, by label: insertion or deletion."""
    ranks: dict[str, list[float]] = {}
    for name in found.kind.references:
        for line in lines(found, f"{kind}/{name}"):
            if not line.who.ablation:
                ranks.setdefault(line.who.label, []).append(float(line.rank))
    return {label: np.array(each) for label, each in ranks.items() if len(each) == len(found.kind.references)}
