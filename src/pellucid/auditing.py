"""audit: by how much a model treats groups of rows differently, and through which features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from pellucid.core.errors import BadInput, listing
from pellucid.core.explanation import Explanation
from pellucid.core.players import feature_names

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]

LEAST = 5
"""Rows that each side of a comparison must have."""
OWN, ALL = "its own feature", "the outputs"
_BAND = "#ececea"
_COLOURS = {"against": "#a3211b", "in favour": "#1f5fa8", "no": "#5b5852", "unclear": "#795500"}


@dataclass(frozen=True)
class Difference:
    """Mean over the rows of a group minus mean over all others, with limits that hold for all groups of the audit at
    once.

    ``verdict``: "against" or "in favour" where the limits lie wholly beyond the margin, "no" where they lie wholly
    within it, else "unclear".
    """

    value: float
    std_error: float
    low: float
    high: float
    margin: float

    @property
    def verdict(self) -> str:
        """What the limits decide."""
        if self.high < -self.margin:
            return "against"
        if self.low > self.margin:
            return "in favour"
        return "no" if -self.margin <= self.low and self.high <= self.margin else "unclear"


@dataclass(frozen=True)
class Finding:
    """One group: ``outputs`` how differently the model treats it, ``own`` the part that rests on the feature of that
    name (None if there is none), ``others`` the part that rests on all other features."""

    group: str
    rows: tuple[int, int]
    outputs: Difference
    own: Difference | None
    others: Difference

    @property
    def judged(self) -> Difference:
        """What the verdict is about: the group's own feature, or, where it has none, the outputs."""
        return self.outputs if self.own is None else self.own

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        d, about = self.judged, ALL if self.own is None else OWN
        word = {
            "against": "yes, against it",
            "in favour": "yes, in its favour",
            "no": f"none beyond {d.margin:g}",
            "unclear": "undecided",
        }[d.verdict]
        return f"bias about {self.group!r}: {word}; {about} {d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})"


@dataclass(frozen=True, eq=False)
class Audit:
    """What ``audit`` found: a ``Finding`` for each group; ``shares`` (groups, features) how much of each difference
    rests on each feature, with ``shares_error``."""

    findings: tuple[Finding, ...]
    features: tuple[str, ...]
    shares: Array = field(repr=False)
    shares_error: Array = field(repr=False)
    level: float

    def __getitem__(self, group: str) -> Finding:
        found = next((one for one in self.findings if one.group == group), None)
        if found is None:
            raise BadInput(f"audit: group {group!r} not found; have {listing(f.group for f in self.findings)}")
        return found

    @property
    def biased(self) -> tuple[str, ...]:
        """Groups with bias, the largest first."""
        found = [f for f in self.findings if f.judged.verdict in ("against", "in favour")]
        return tuple(f.group for f in sorted(found, key=lambda f: -abs(f.judged.value)))

    @property
    def table(self) -> pd.DataFrame:
        """One line a group: verdict, differences and their limits."""
        import pandas as pd

        lines = []
        for f in self.findings:
            line: dict[str, Any] = {"group": f.group, "verdict": f.judged.verdict, "rows": f.rows[0], "not": f.rows[1]}
            for name, d in (("own", f.own), ("others", f.others), ("outputs", f.outputs)):
                for part in ("value", "std_error", "low", "high"):
                    title = name if part == "value" else f"{name}_{part}"
                    line[title] = np.nan if d is None else getattr(d, part)
            lines.append(line)
        return pd.DataFrame(lines)

    def through(self, group: str) -> pd.DataFrame:
        """The features that the difference in the outputs of a group rests on, largest first, with standard errors."""
        import pandas as pd

        row = self.findings.index(self[group])
        frame = pd.DataFrame({"feature": self.features, "value": self.shares[row], "std_error": self.shares_error[row]})
        order = frame["value"].abs().sort_values(ascending=False, kind="stable").index
        return frame.loc[order].reset_index(drop=True)

    def plot(self) -> Any:
        """A matplotlib figure: what each verdict is about, with its limits; the band is the margin."""
        from pellucid.reporting.plot import Drawing

        found = sorted(self.findings, key=lambda f: f.judged.value)
        figure = Drawing(figsize=(6.4, 0.32 * len(found) + 1.1), layout="constrained")
        axis = figure.subplots()
        margin = found[0].judged.margin
        axis.axvspan(-margin, margin, color=_BAND, zorder=0)
        axis.axvline(0, color=_COLOURS["no"], linewidth=0.8, zorder=1)
        for place, f in enumerate(found):
            d, colour = f.judged, _COLOURS[f.judged.verdict]
            axis.plot([d.low, d.high], [place, place], color=colour, linewidth=2)
            axis.plot([d.value], [place], "o", color=colour)
        axis.set_yticks(range(len(found)), [f"{f.group}: {f.judged.verdict}" for f in found])
        axis.set_xlabel(f"difference it makes to the output, limits at {self.level:.0%} for all together")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(left=False)
        return figure

    def __str__(self) -> str:
        return "\n".join(f.sentence for f in self.findings)


def audit(e: Explanation, groups: Mapping[str, Any], margin: float = 0.02, level: float = 0.95) -> Audit:
    """Does the model treat people with glasses, or of one age, differently, and through which features?

    D_g = E[f | g] - E[f | not g] for each group g of rows, and, since values add up to f, its parts
    D_gj = E[φ_j | g] - E[φ_j | not g] for each feature j. D_gg, of the feature that bears the group's name, is what the
    model does with it directly (of an additive f the effect of having it); the rest reaches the group through features
    that go along with it: proxies.

    - ``e``: many rows of one output, the same for all (``target=``), by a method that adds up, such as
      ``permutation_shapley(4 * n, removal=marginal(background, draws=1))`` in ``spaces.attributes(...)``; features are
      those of any space, or columns of a table;
    - ``groups``: name to a true or false for each row, as a mapping or a DataFrame; a name that is a feature's is
      judged by that feature, any other by the outputs;
    - ``margin``: the smallest difference that matters, in the unit of the outputs;
    - ``level``: with which all verdicts together hold: intervals are Welch's, at (1 - level) / number of groups.

    Bias is found where the interval lies wholly beyond the margin, denied where it lies wholly within it, else the
    verdict is "unclear": more rows are needed. Errors are taken over rows, and so count rows, coalitions and draws of
    the background together. What f does, not whether it may: an attribute that a decision should rest on is found too.
    Cost: no forward. Sources: lundberg2020fairness, schuirmann1987, dunn1961.

    >>> import torch
    >>> from pellucid import explain, methods, removal
    >>> x = torch.cartesian_prod(*[torch.arange(2.0)] * 3).repeat(5, 1)
    >>> f = lambda x: 0.3 * x[:, 0] - 0.2 * x[:, 1]
    >>> e = explain(f, x, methods.exact_shapley(removal.marginal(x[:8])), target=0)
    >>> found = audit(e, {"x0": x[:, 0], "x1": x[:, 1], "x2": x[:, 2]})
    >>> [f"{one.judged.verdict} {one.judged.value:+.1f}" for one in found.findings]
    ['in favour +0.3', 'against -0.2', 'no +0.0']
    """
    features, values, outputs = _read(e)
    if not (isinstance(margin, (int, float)) and not isinstance(margin, bool) and 0 <= margin < np.inf):
        raise BadInput(f"audit: margin must be a number of at least 0, in the unit of the outputs, got {margin!r}")
    if not (isinstance(level, (int, float)) and 0 < level < 1):
        raise BadInput(f"audit: level must be between 0 and 1, such as 0.95, got {level!r}")
    inside = _groups(groups, len(outputs))
    alpha = (1 - level) / len(inside)

    def compared(column: Array, member: Array) -> Difference:
        return _difference(column, member, alpha, float(margin))

    findings, shares, errors = [], [], []
    for name, member in inside.items():
        place = features.index(name) if name in features else None
        rest = outputs if place is None else outputs - values[:, place]
        own = None if place is None else compared(values[:, place], member)
        rows = int(member.sum()), int((~member).sum())
        findings.append(Finding(name, rows, compared(outputs, member), own, compared(rest, member)))
        shares.append(values[member].mean(0) - values[~member].mean(0))
        errors.append(_error(values, member)[0])
    return Audit(tuple(findings), features, np.stack(shares), np.stack(errors), float(level))


def _read(e: Explanation) -> tuple[tuple[str, ...], Array, Array]:
    """Names of features, values (N, n) and outputs (N,)."""
    if not isinstance(e, Explanation):
        raise BadInput(f"audit: expected an explanation of many rows, got {type(e).__name__}")
    if e.several or e.pairs or e.details.get("players_by_row"):
        raise BadInput("audit: explain one output, and features that are the same for every row, not pairs of them")
    if e.details.get("scope") == "global":
        raise BadInput(
            "audit: a global explanation is about each row's true class; audit explain(...) of many rows at one target"
        )
    index = e.target.get("index")
    if isinstance(index, (list, tuple)) and len(set(index)) > 1:
        raise BadInput(
            f"audit: rows are explained for different classes ({listing(sorted(set(index)))}); name the one that is "
            "audited: explain(..., target=1)"
        )
    if e.residual is None or e.base_values is None:
        raise BadInput(
            f"audit: values of {e.method['name']} do not add up to the output; use a method that does, such as "
            "permutation_shapley or integrated_gradients"
        )
    values = np.asarray(e.values, dtype=np.float64).reshape(len(e), -1)
    return feature_names(values.shape[1:], e.feature_names), values, np.asarray(e.outputs, dtype=np.float64)


def _groups(groups: Mapping[str, Any], rows: int) -> dict[str, Array]:
    if not hasattr(groups, "items"):
        raise BadInput(f"audit: groups must be a mapping of names to true or false, got {type(groups).__name__}")
    found: dict[str, Array] = {}
    for name, column in groups.items():
        array = np.asarray(column.detach().cpu() if isinstance(column, Tensor) else column)
        if array.shape != (rows,) or array.dtype.kind not in "bfiu" or not np.isin(array, (0, 1)).all():
            raise BadInput(
                f"audit: group {name!r} must be true or false (1 or 0) for each of the {rows} rows, got shape "
                f"{array.shape} of {array.dtype}"
            )
        member = array.astype(bool)
        if min(member.sum(), (~member).sum()) < LEAST:
            raise BadInput(
                f"audit: group {name!r} has {int(member.sum())} of {rows} rows; it and the others must have {LEAST} or "
                "more"
            )
        found[str(name)] = member
    if not found:
        raise BadInput("audit: groups must name at least one group of rows")
    return found


def _error(columns: Array, member: Array) -> tuple[Array, Array]:
    """Standard errors of differences of means, and Welch's degrees of freedom."""
    parts = [columns[side].var(0, ddof=1) / side.sum() for side in (member, ~member)]
    total = parts[0] + parts[1]
    each = sum(part**2 / (side.sum() - 1) for part, side in zip(parts, (member, ~member), strict=True))
    freedom = np.divide(total**2, each, out=np.full_like(total, np.inf), where=np.asarray(each) > 0)
    return np.sqrt(total), freedom


def _difference(column: Array, member: Array, alpha: float, margin: float) -> Difference:
    from scipy.stats import t

    value = float(column[member].mean() - column[~member].mean())
    error, freedom = _error(column[:, None], member)
    reach = float(t.ppf(1 - alpha / 2, freedom[0]) * error[0]) if error[0] > 0 else 0.0
    return Difference(value, float(error[0]), value - reach, value + reach, margin)
