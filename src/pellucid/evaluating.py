"""evaluate: explanations of the same rows under several metrics, with random orders as the control."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pellucid import metrics as recipes
from pellucid.api import abilities, ask, untouched, versions
from pellucid.core.budget import Run
from pellucid.core.errors import BadInput, Unreliable, Unsupported, listing
from pellucid.core.explanation import Explanation
from pellucid.core.inputs import again
from pellucid.core.question import Question
from pellucid.core.scores import Cell, Scores
from pellucid.core.space import Space
from pellucid.core.target import READS, Target
from pellucid.metrics.metric import NEEDS_METHOD, Desk, Marks, Metric, Remaker
from pellucid.metrics.statistics import interval
from pellucid.models import wrap

SAME_OUTPUTS = 0.02
"""Largest difference, relative to the largest output, between what a model gives and what an explanation says it gave:
above the rounding of bfloat16."""


def evaluate(
    model: Any,
    explanation: Explanation | Mapping[str, Explanation] | Sequence[Explanation],
    metrics: Sequence[Metric | str] | Metric | str | None = None,
    seed: int = 0,
    run: Run | None = None,
    target: Any = None,
    space: Space | None = None,
) -> Scores:
    """How good is an explanation (or several of the same rows), by every metric given?

    ``explanation``: one, a list, or a dict by label. ``metrics``: recipes' values or names (None: insertion, deletion
    and completeness). The rows, the target and the keys of random draws are those stored in the explanation; ``target``
    is needed only where a callable was read, ``space`` where the explanation lives in another space than the input. A
    model whose outputs are not the stored ones raises ``Unreliable``. Returns ``Scores``: .table, .summary(), .curves;
    the unit of analysis is the row. Cost: see the metrics; one forward a row is shared by all.
    """
    run = Run.of(run)
    chosen = pick_metrics(metrics)
    explanations = by_label(explanation)
    with untouched():
        question = ask_again(model, explanations, seed, run, target, space)
        with question.executor.measured(question.model.device):
            check_outputs(question, explanations)
            cells = judge(question, explanations, chosen, seed, run)
    return Scores(tuple(cells), int(seed), question.executor.cost.to_dict(), versions())


def pick_metrics(metrics: Sequence[Metric | str] | Metric | str | None) -> dict[str, Metric]:
    """Metrics by a label that is unique, from values or names; insertion, deletion and completeness by default."""
    catalogue: dict[str, Any] = {recipe.__name__: recipe for recipe in recipes.CATALOGUE}
    if metrics is None:
        metrics = [recipe() for recipe in recipes.DEFAULT]
    chosen: list[Metric] = []
    for metric in metrics if isinstance(metrics, Iterable) and not isinstance(metrics, str) else [metrics]:
        if isinstance(metric, str):
            if metric not in catalogue:
                raise BadInput(f"metric {metric!r} not found; have {listing(catalogue)}")
            try:
                metric = catalogue[metric]()
            except TypeError as error:
                raise BadInput(f"metric {metric!r} has no defaults: {error}; call metrics.{metric}(...)") from None
        if not isinstance(metric, Metric):
            raise BadInput(f"metric: expected a metric such as metrics.insertion() or its name, got {metric!r}")
        if metric not in chosen:
            chosen.append(metric)
    if not chosen:
        raise BadInput("metrics: the list is empty; name at least one, such as metrics.insertion()")
    return dict(zip(labels_of([metric.label for metric in chosen]), chosen, strict=True))


def by_label(explanation: Explanation | Mapping[str, Explanation] | Sequence[Explanation]) -> dict[str, Explanation]:
    """Explanations by a label that is unique: the method's name, with its number where a name comes twice."""
    if isinstance(explanation, Mapping):
        given = {str(label): e for label, e in explanation.items()}
    else:
        each: list[Any] = list(explanation) if isinstance(explanation, Iterable) else [explanation]
        names = [e.method["name"] if isinstance(e, Explanation) else "" for e in each]
        given = dict(zip(labels_of(names), each, strict=True))
    if not given:
        raise BadInput("evaluate: no explanation was given")
    for label, e in given.items():
        if not isinstance(e, Explanation):
            raise BadInput(f"evaluate: expected an Explanation, got {type(e).__name__} ({label!r})")
        if "sum_rule" in e.details or "local" in e.details:
            raise BadInput(
                f"evaluate: {label!r} is global, an average over rows; metrics score explanations of rows, which "
                "pellucid.explain gives"
            )
        if e.several:
            raise BadInput(
                f"evaluate: {label!r} explains several outputs at once; explain one target a row to score it"
            )
    return given


def labels_of(names: Sequence[str]) -> list[str]:
    """Unique labels: a name that comes again is numbered."""
    labels: list[str] = []
    for name in names:
        label, number = name, 1
        while label in labels:
            number += 1
            label = f"{name} {number}"
        labels.append(label)
    return labels


def ask_again(
    model: Any,
    explanations: Mapping[str, Explanation],
    seed: int,
    run: Run,
    target: Any = None,
    space: Space | None = None,
) -> Question:
    """The question that stored explanations answered, checked to be the same for all."""
    first = next(iter(explanations.values()))
    for label, e in explanations.items():
        if e.data.shape != first.data.shape or not np.array_equal(e.data, first.data):
            raise BadInput(
                f"evaluate: {label!r} explains other rows than the first explanation; score explanations of "
                "the same x together"
            )
        if dict(e.target) != dict(first.target):
            raise BadInput(
                f"evaluate: {label!r} explains target {e.target}, the first one {first.target}; use one target for all"
            )
    if target is None:
        if first.target["read"] not in READS:
            raise BadInput(
                f"evaluate: the explanation reads a callable ({first.target['read']}); pass it again: "
                "target=Target(read=...)"
            )
        target = Target(first.target["index"], first.target["read"])
    wrapped = wrap(model)
    return ask(wrapped, again(first, wrapped), target, space, None, seed, run, int(first.details.get("first_row", 0)))


def check_outputs(question: Question, explanations: Mapping[str, Explanation]) -> None:
    """Warn of explanations of the same number that say the model gave another one: they explain another model."""
    here = question.here()[:, 0].cpu().double().numpy()
    for label, e in explanations.items():
        if e.target["read"] != question.target.read_name:
            continue
        gap, size = np.abs(here - e.outputs).max(), np.abs(e.outputs).max()
        if gap > SAME_OUTPUTS * size:
            warnings.warn(
                f"{label}: the model's outputs differ by up to {gap:.2g} from those that were explained; "
                "it is another model, or its preprocessing has changed",
                Unreliable,
                stacklevel=3,
            )


def judge(
    question: Question,
    explanations: Mapping[str, Explanation],
    metrics: Mapping[str, Metric],
    seed: int,
    run: Run,
    remakers: Mapping[str, Callable[[slice], Remaker]] | None = None,
) -> list[Cell]:
    """A cell for every explanation and metric, rows taken in blocks that share their values at x and at the
    reference. ``remakers``: by label, how a method is run again on some of the rows, where it is known."""
    remakers = {} if remakers is None else remakers
    why: dict[tuple[str, str], str] = {}
    rows = len(question.z)
    size = question.executor.batch_size
    starts = range(0, rows, size)
    total = len(starts) * len(metrics) * len(explanations)
    found: dict[tuple[str, str], list[Marks]] = {}
    spent: dict[tuple[str, str], int] = {}
    done = 0
    for start in starts:
        part = slice(start, min(start + size, rows))
        desk = Desk(question.block(part))
        for name, metric in metrics.items():
            missing = metric.needs - abilities(question.model)
            if missing:
                raise Unsupported(
                    f"{metric.name} needs {' and '.join(sorted(missing))}, which {question.model.name} does not give"
                )
            for label, e in explanations.items():
                if metric.remakes and label not in remakers:
                    why[label, name] = NEEDS_METHOD
                if metric.status(e) == "measured" and (label, name) not in why:
                    before = question.executor.cost.forwards
                    known = replace(desk, again=remakers[label](part)) if metric.remakes else desk
                    try:
                        found.setdefault((label, name), []).append(metric.marks(known, e[part], seed))
                    except (BadInput, Unsupported) as error:
                        if not metric.remakes:
                            raise
                        why[label, name] = str(error)
                    spent[label, name] = spent.get((label, name), 0) + question.executor.cost.forwards - before
                done += 1
                if run.progress is not None:
                    run.progress("metrics", done, total)
    cells = []
    for name, metric in metrics.items():
        for label, e in explanations.items():
            marks, reason = found.get((label, name)), why.get((label, name))
            cell = _cell(e, metric, None if reason else marks, seed)
            cell = replace(cell, status=reason) if reason else cell
            cells.append(replace(cell, method=label, metric=name, forwards=spent.get((label, name), 0)))
    return cells


def _cell(explanation: Explanation, metric: Metric, marks: list[Marks] | None, seed: int) -> Cell:
    common: dict[str, Any] = {
        "method": explanation.method["name"],
        "metric": metric.label,
        "family": metric.name,
        "direction": metric.direction,
        "reference": metric.reference_name,
        "granularity": metric.granularity,
        "read": getattr(metric, "read", None),
        "matched": metric.matched(explanation),
        "control": bool(explanation.details.get("control", False)),
    }
    nan = float("nan")
    if marks is None:
        nothing = np.full(len(explanation), nan)
        return Cell(values=nothing, mean=nan, low=nan, high=nan, status=metric.status(explanation), **common)
    whole = join(marks)
    values = whole.values.numpy()
    low, high = interval(values, seed)
    finite = values[np.isfinite(values)]
    return Cell(
        values=values,
        mean=float(finite.mean()) if len(finite) else nan,
        low=low,
        high=high,
        fractions=None if whole.fractions is None else whole.fractions.numpy(),
        curve=None if whole.curve is None else whole.curve.double().numpy(),
        points=None if whole.points is None else whole.points.numpy(),
        censored=None if whole.censored is None else whole.censored.numpy(),
        gap=None if whole.gap is None else whole.gap.numpy(),
        floor=None if whole.floor is None else whole.floor.numpy(),
        **common,
    )


def join(marks: list[Marks]) -> Marks:
    """Marks of consecutive blocks of rows as one."""

    def rows(name: str) -> torch.Tensor | None:
        parts = [getattr(m, name) for m in marks]
        return None if parts[0] is None else torch.cat(parts)

    each = {name: rows(name) for name in ("curve", "points", "censored", "gap", "floor")}
    return replace(marks[0], values=torch.cat([m.values for m in marks]), **each)
