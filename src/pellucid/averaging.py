"""explain_global: local values of the true label, averaged over labelled rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.api import ask, check_seed, explain, pick, untouched
from pellucid.core import inputs as reading
from pellucid.core import rng
from pellucid.core.budget import Run
from pellucid.core.errors import BadInput, Unreliable, Unsupported
from pellucid.core.explanation import Explanation
from pellucid.core.inputs import Inputs
from pellucid.core.method import Method
from pellucid.core.model import Model
from pellucid.core.question import Question
from pellucid.core.removal import Marginal, Removal
from pellucid.core.space import Space
from pellucid.core.target import Target
from pellucid.models import wrap

Array = np.ndarray[Any, Any]

ROWS_AT_ONCE = 50
"""Rows explained between two looks at the errors, where a tolerance is given."""
LEAST_ROWS = 50
"""Rows before an error estimate may stop the work."""
FEW_ROWS = 10
"""Rows below which no slopes are fitted."""
MOST_COORDINATES = 1000
"""Coordinates up to which those of every row are kept beside its local values."""
_CARRIED = (
    "ranking",
    "reduction",
    "promise",
    "control",
    "axes",
    "space",
    "model",
    "scale",
    "labels",
    "input",
    "arrays",
)
"""What is the same of the local values and of their mean."""


def explain_global(
    model: Any,
    x: Any,
    y: Any,
    method: Method | str,
    space: Space | None = None,
    players: Any = None,
    seed: int = 0,
    run: Run | None = None,
    tolerance: float | None = None,
) -> Explanation:
    """Which features does the model's accuracy rest on, over all the data?

    Φ_i = E over labelled (x, y) of the local value of i for f_y at x (Eq. 3), f_y the probability of the *true* label
    (the plain output of a model of values). With Shapley values under ``removal.marginal(background)``
    Σ Φ = E f_y(x) - E f_y(x') over all pairs of a label y and a background row x', drawn independently (Eq. 4): the
    model's accuracy above what the class balance gives. In a space that is not exact both sides are read at the
    reconstructions. Of any other method the values are means of its own local values; ``feature_ablation()`` gives the
    mean loss of the true label's probability.

    ``x``: (N, ...); ``y``: the class of each row, numbers or labels. ``method``, ``space``, ``players``, ``seed``,
    ``run``: as for ``explain``. The estimate is best with many rows and a small budget for each: at
    ``permutation_shapley(4 * n, removal=marginal(background, draws=1))`` every pair of orders meets a background row of
    its own. ``tolerance``: take rows in a random order until every standard error is under it.

    Returns an ``Explanation`` of one row: ``values`` (1, n), ``outputs`` the mean of f_y, ``base_values`` its mean over
    all pairs (exact, from every background row, unless that would cost more than the explanation), ``residual`` what
    is missing to Eq. 4: rounding, since what sampling leaves over is regressed out (from 10 rows on).
    ``std_error`` is the deviation over rows divided by √N, so it counts rows, coalitions and background together;
    ``details["std_error_within"]`` is about the part that a larger budget for each row would remove.
    ``details["local"]`` keeps the values, errors, outputs, labels and (where they are few) coordinates of every row,
    ``details["sum_rule"]`` both sides of Eq. 4 before that, with the standard error of their difference, and
    ``details["reconstruction_gap"]`` E f_y(x) - E f_y at the reconstructions. ``data`` is the mean of x.

    Cost: that of the local explanations, and one forward for each background row. Departure: the paper draws one
    (x, y, x', order) for each of 10,000 samples; here orders of one row share its two ends, and come in reversed pairs
    if the method's do. Source: demijolla2020.

    >>> import torch
    >>> from pellucid import methods, removal
    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> rule = wrap(lambda x: torch.stack([1 - x[:, 0], x[:, 0]], 1), scale="prob")
    >>> explain_global(rule, x, [0, 1], methods.exact_shapley(removal.marginal(x))).values
    array([[0.5, 0. ]])
    """
    run = Run.of(run)
    chosen, wrapped = pick(method), wrap(model)
    check_seed(seed)
    if tolerance is not None and not tolerance > 0:
        raise BadInput(f"explain_global: tolerance must be positive, got {tolerance!r}")
    batch = reading.read(x, wrapped)
    labels = _labels(y, len(batch.tensor))
    with untouched():
        probe = ask(wrapped, _rows(batch, torch.tensor([0])), "all", space, None, seed, run, fold=False)
        read = _read(probe.model, len(probe.here()[0]))
        index = Target(labels).resolve(torch.zeros(1, len(probe.here()[0])).expand(len(labels), -1), probe.model.labels)
        truth = torch.tensor(index.index, dtype=torch.long)
        rows, parts = _explained(wrapped, batch, truth, read, chosen, space, players, seed, run, tolerance)
        probe = replace(probe, target=Target("all", read))
        spent = sum(part.cost["forwards"] for part in parts)
        bases = _bases(chosen, probe, spent)
    return _labelled(Local.of(rows, truth[rows], parts, bases), batch, parts, probe, read)


@dataclass(frozen=True)
class Local:
    """Local values of the true label, one row each, and the mean of f_y over the background where it is known."""

    rows: Tensor
    y: Array
    values: Array
    std_error: Array | None
    outputs: Array
    base: Array | None
    exact_base: bool
    gap: Array | None

    @classmethod
    def of(cls, rows: Tensor, y: Tensor, parts: Sequence[Explanation], bases: Tensor | None) -> Local:
        """From explanations of consecutive blocks of rows, and from the mean of every class over the background."""

        def joined(each: Sequence[Any]) -> Array | None:
            return None if each[0] is None else np.concatenate(each).astype(np.float64)

        base = joined([part.base_values for part in parts])
        if base is not None and bases is not None:
            base = bases[y].numpy()
        return cls(
            rows,
            y.numpy(),
            np.concatenate([part.values for part in parts]).astype(np.float64),
            joined([part.std_error for part in parts]),
            np.concatenate([part.outputs for part in parts]).astype(np.float64),
            base,
            bases is not None,
            joined([part.details.get("reconstruction_gap") for part in parts]),
        )

    def means(self) -> tuple[Array, Array]:
        """The mean over rows and its standard error (NaN for one row), freed of what sampling leaves over of Eq. 4.

        What a row's values lack of f_y(x) - E f_y(x') has mean zero over the draws of an unbiased method. So it is a
        control variate: of a regression of φ_i on it and on f_y(x) - E f_y(x') the slopes sum to one over players, and
        without slope times its mean the values sum exactly. A player that never contributes keeps its zero.
        """
        missing, values = self.missing(), self.values
        if missing is not None and self.exact_base and self.std_error is not None and len(values) >= FEW_ROWS:
            terms = np.stack([np.ones_like(missing), self.outputs - self.base, missing], 1)
            if np.linalg.matrix_rank(terms) == 3:
                flat = values.reshape(len(values), -1)
                slopes = np.linalg.lstsq(terms, flat, rcond=None)[0][2]
                values = (flat - missing[:, None] * slopes).reshape(values.shape)
        return values.mean(0), _std_error(values)

    def missing(self) -> Array | None:
        """What the values of each row lack of f_y(x) - E f_y(x'), (N,)."""
        if self.base is None:
            return None
        lacking: Array = self.values.reshape(len(self.values), -1).sum(1) - (self.outputs - self.base)
        return lacking


def _std_error(draws: Array) -> Array:
    if len(draws) < 2:
        return np.full(draws.shape[1:], np.nan)
    return np.asarray(draws.std(0, ddof=1) / np.sqrt(len(draws)))


def _labels(y: Any, rows: int) -> tuple[int | str, ...]:
    """The class of each row, from whatever array it comes in."""
    array = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    if array.ndim != 1 or len(array) != rows:
        raise BadInput(f"explain_global: y must be one class for each of the {rows} rows of x, got shape {array.shape}")
    if array.dtype == bool or (array.dtype.kind == "f" and bool((array != array.round()).any())):
        raise BadInput("explain_global: y must be classes (whole numbers or labels); a regression has no true label")
    return tuple(array.astype(np.int64).tolist() if array.dtype.kind in "fiu" else map(str, array.tolist()))


def _read(model: Model, columns: int) -> str:
    """What is read of a model: probabilities, or values as they are."""
    if model.scale == "value":
        return "raw"
    if columns == 1:
        raise BadInput(
            f"explain_global: {model.name} gives one column for two classes; give both, such as wrap(lambda x: "
            "torch.cat([1 - p(x), p(x)], 1), scale='prob'), so that every row has a true label"
        )
    return "prob"


def _rows(batch: Inputs, rows: Tensor) -> Inputs:
    return replace(batch, tensor=batch.tensor[rows.to(batch.tensor.device)])


def _explained(
    model: Model,
    batch: Inputs,
    truth: Tensor,
    read: str,
    method: Method,
    space: Space | None,
    players: Any,
    seed: int,
    run: Run,
    tolerance: float | None,
) -> tuple[Tensor, list[Explanation]]:
    """Local explanations of all rows, or, with a tolerance, of as many as it needs; and which rows these are."""
    count = len(truth)
    order, size = torch.arange(count), count
    if tolerance is not None:  # data often come sorted by class
        order, size = rng.permutation(seed, "explain_global.rows", 0, 0, 1, count)[0], ROWS_AT_ONCE
    parts: list[Explanation] = []
    for start in range(0, count, size):
        rows = order[start : start + size]
        target = Target(tuple(truth[rows].tolist()), read)
        with warnings.catch_warnings():
            # one draw a row is enough here: the error is taken over rows
            warnings.filterwarnings("ignore", ".*too few for a standard error", Unreliable)
            part = explain(model, _rows(batch, rows), method, target, space, players, seed, run, first_row=start)
        if part.details.get("players_by_row"):
            raise Unsupported(
                "explain_global: rows are divided into players of their own, which have no mean over rows; use "
                "players.grid(...) or players.groups(...), the same for every row"
            )
        parts.append(part)
        done = start + len(rows)
        if tolerance is not None and done >= min(LEAST_ROWS, count):
            worst = float(np.max(_std_error(np.concatenate([p.values for p in parts]).astype(np.float64))))
            if worst <= tolerance:
                return order[:done], parts
            if done == count:
                warnings.warn(
                    f"explain_global: the largest standard error is {worst:.2g} after all {count} rows, above the "
                    f"tolerance {tolerance:g}; give more rows",
                    Unreliable,
                    stacklevel=3,
                )
    return order, parts


def _bases(method: Method, probe: Question, spent: int) -> Tensor | None:
    """The mean of every class's score over all background rows, (K,), where the method removes by a background."""
    background = _background(method)
    if background is None or method.promise is None or len(background.background) > max(1000, spent):
        return None
    z = probe.space.encode(background.rows(probe))
    return probe.value(z, torch.zeros(len(z), dtype=torch.long)).double().cpu().mean(0)


def _background(value: Any) -> Marginal | None:
    """The background of a method that takes absent features from it jointly, however its fields are nested."""
    if isinstance(value, Removal):
        return value if isinstance(value, Marginal) else None
    if is_dataclass(value):
        found = [_background(getattr(value, f.name)) for f in fields(value)]
        return next((one for one in found if one is not None), None)
    return None


def _labelled(local: Local, batch: Inputs, parts: Sequence[Explanation], probe: Question, read: str) -> Explanation:
    first, count = parts[0], len(local.values)
    mean, error = local.means()
    if count < 2:
        warnings.warn("explain_global: one row is too few for a standard error (NaN)", Unreliable, stacklevel=3)
    missing = local.missing()
    details: dict[str, Any] = {
        **{name: first.details[name] for name in _CARRIED if name in first.details},
        "scope": "global",
        "rows": count,
        "first_row": 0,
        "by_row": [],
        "std_error_covers": _covers(first.details.get("std_error_covers")),
        "local": {
            name: value
            for name, value in {
                "rows": local.rows.numpy(),
                "y": local.y,
                "values": local.values,
                "std_error": local.std_error,
                "outputs": local.outputs,
                "base_values": local.base,
                "coordinates": _coordinates(local, batch, probe),
                "reconstruction_gap": local.gap,
            }.items()
            if value is not None
        },
    }
    if "players_by_row" in first.details:
        details["players_by_row"] = False
    if local.std_error is not None:
        details["std_error_within"] = (np.sqrt((local.std_error**2).sum(0)) / count)[None]
    if local.gap is not None:
        details["reconstruction_gap"] = local.gap.mean(keepdims=True)
        details["reconstruction_gap_absolute"] = np.abs(local.gap).mean(keepdims=True)
    promised = missing is not None and first.residual is not None
    if missing is not None and local.base is not None and promised:
        details["sum_rule"] = {
            "sum": float(local.values.mean(0).sum()),
            "outputs": float(local.outputs.mean()),
            "base": float(local.base.mean()),
            "base_over_all_pairs": local.exact_base,
            "difference": float(missing.mean()),
            "std_error": float(_std_error(missing)),
        }
    return replace(
        first,
        values=mean[None],
        std_error=error[None],
        outputs=local.outputs.mean(keepdims=True),
        base_values=None if local.base is None else local.base.mean(keepdims=True),
        residual=_residual(mean, local) if promised else None,
        data=_middle(batch, local.rows).cpu().numpy(),
        target={"index": None, "read": read},
        cost=_cost([part.cost for part in parts], probe),
        details=details,
    )


def _residual(mean: Array, local: Local) -> Array | None:
    if local.base is None:
        return None
    return np.asarray(np.abs(mean.sum() - (local.outputs.mean(keepdims=True) - local.base.mean(keepdims=True))))


def _covers(said: str | None) -> str:
    return "the rows" if said is None or said.startswith("nothing") else f"the rows, {said}"


def _coordinates(local: Local, batch: Inputs, probe: Question) -> Array | None:
    """z of every row, where each coordinate is a player and they are few."""
    if probe.z[0].numel() > MOST_COORDINATES or local.values[0].size != probe.z[0].numel():
        return None
    return np.asarray(probe.space.encode(batch.tensor[local.rows]).cpu())


def _middle(batch: Inputs, rows: Tensor) -> Tensor:
    """The mean of the inputs; the first of them where a mean means nothing."""
    x = batch.tensor[rows.to(batch.tensor.device)]
    if not x.is_floating_point() or (batch.frame is not None and batch.frame.text):
        return x[:1]
    mean = x.double().mean(0, keepdim=True)
    return mean.to(torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype)


def _cost(costs: Sequence[Any], probe: Question) -> dict[str, Any]:
    extra = probe.executor.cost
    total = {name: sum(cost[name] for cost in costs) for name in ("forwards", "backwards", "seconds")}
    total["forwards"] += extra.forwards
    return {**costs[0], **total, "peak_bytes": max(cost["peak_bytes"] for cost in costs)}
