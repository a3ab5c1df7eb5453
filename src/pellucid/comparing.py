"""compare: several methods on the same rows, side by side, with tests against random orders and a verdict for each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pellucid import methods as recipes
from pellucid import metrics as scoring
from pellucid.api import abilities, ask, explain, pick, store, untouched, versions
from pellucid.core import inputs as reading
from pellucid.core import removal
from pellucid.core.budget import Run
from pellucid.core.comparison import Comparison
from pellucid.core.errors import BadInput, Unreliable, Unsupported, listing
from pellucid.core.explanation import Explanation
from pellucid.core.inputs import Inputs
from pellucid.core.method import Method, plain
from pellucid.core.model import Model
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.core.scores import Cell, Scores
from pellucid.core.target import Target
from pellucid.core.verdict import Disagreement
from pellucid.evaluating import check_outputs, judge, labels_of, pick_metrics
from pellucid.judging import Evidence, decide, of_rows
from pellucid.methods.control import Random
from pellucid.metrics.metric import Metric, Remaker
from pellucid.metrics.perturbation import uses
from pellucid.metrics.statistics import holm, overlap, paired, rank_correlation
from pellucid.metrics.units import cells, random_order
from pellucid.models import wrap

CONTROL_DRAWS = 10
"""Random orders whose mean is the control of every test."""
GRID = 7
"""Cells a side of the grid on which all methods are compared by default: fine enough to point, coarse enough that
smoothness decides nothing."""
TOP = 0.1
"""Share of the positions whose overlap is reported for a pair of methods."""


def compare(
    model: Any,
    x: Any,
    methods: Sequence[Method | str | Explanation] | Mapping[str, Method | str | Explanation] | None = None,
    metrics: Sequence[Metric | str] | None = None,
    target: Any = None,
    seed: int = 0,
    run: Run | None = None,
    about: Mapping[str, Any] | None = None,
    truth: Any = None,
) -> Comparison:
    """Why this prediction, and which explanation can be believed?

    ``methods``: values, names, or explanations made before with other players or spaces; a dict gives labels (None:
    what applies to the model). ``metrics`` (None: insertion and deletion under two references, one of which is no
    method's own baseline, on a common grid and on each method's own features, and completeness). ``target`` as for
    ``explain``; the predicted class, looked up once, by default. ``about``: words for the report ("title", "data",
    "model", "command", and "names", one a row); ``truth``: the true class of each row, for the report.

    The unit of analysis is the row. Every method is compared with the mean of 10 random orders by paired tests with
    Holm's correction; under 12 rows intervals only. Returns a ``Comparison``: .summary(), .tests(), .disagreement(),
    .verdicts(), .report(path). Cost: see ``pellucid.check``.
    """
    run = Run.of(run)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wrapped = wrap(model)
        batch = reading.read(x, wrapped)
        with untouched():
            question = ask(wrapped, batch, target, None, None, seed, run)
        if len(question.z) < 2:
            raise BadInput(
                "compare: one row has no spread to judge by; pass at least two rows, or use explain for a single one"
            )
        if question.target.several:
            raise BadInput("compare: several outputs at once cannot be scored; give one target a row")
        classes = None if truth is None else _classes(truth, question)
        names = _names(about, question)
        wanted = _wanted(question, methods)
        explanations, refused = _explanations(wrapped, batch, wanted, question, seed, run)
        if refused and all(e.details.get("control") for e in explanations.values()):
            raise Unsupported("compare: no method could run: " + "; ".join(refused.values()))
        chosen = pick_metrics(default_metrics(question, list(explanations.values())) if metrics is None else metrics)
        with untouched(), question.executor.measured(question.model.device):
            check_outputs(question, explanations)
            again = _remakers(wrapped, batch, wanted, question, run)
            found = Scores(tuple(judge(question, explanations, chosen, seed, run, again)), int(seed), {}, versions())
            control, gaps = _control(question, explanations, chosen, seed, run)
            evidence = Evidence(wrapped, batch, question, explanations, wanted, chosen, found, control, seed, run)
            verdicts = decide(evidence)
            probabilities = _probabilities(question)
        found = replace(found, cost=question.executor.cost.to_dict())
        comparison = Comparison(
            explanations=explanations,
            scores=found,
            test_rows=tuple(_tests(found, control, gaps)),
            agreement=_agreement({label: cells(e, 4 * GRID).scores.numpy() for label, e in explanations.items()}),
            decided=tuple(verdicts),
            about={"model": wrapped.name, "seed": int(seed), **(dict(about) if about else {})},
            probabilities=probabilities,
            truth=classes,
            names=names,
            warnings=tuple(dict.fromkeys(str(w.message) for w in caught)),
            refused=refused,
        )
    for w in {str(w.message): w for w in caught}.values():
        warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    return comparison


def default_methods(question: Question) -> list[Method]:
    """What applies to a model without further arguments, with the control last."""
    have = abilities(question.model)
    dims = question.dims
    chosen: list[Method] = []
    if "gradients" in have:
        chosen += [
            recipes.saliency(),
            recipes.input_x_gradient(),
            recipes.integrated_gradients(),
            recipes.smooth_grad(),
        ]
        if "layers" in have and "height" in dims:
            chosen.append(recipes.grad_cam())
    if question.z[0].numel() <= 4096:
        chosen.append(
            recipes.feature_ablation() if "feature" not in dims else recipes.feature_ablation(_typical(question))
        )
    return [*chosen, recipes.random_attribution()]


def default_metrics(question: Question, explanations: Sequence[Explanation]) -> list[Metric]:
    """Insertion and deletion under two references, at two granularities where there is a picture, and completeness."""
    candidates = _candidates(question)
    foreign = [reference for reference in candidates if not any(uses(e, reference) for e in explanations)]
    first = foreign[0] if foreign else candidates[0]
    second = next((reference for reference in reversed(candidates) if reference is not first), first)
    grids: tuple[int | None, ...] = (GRID, None) if "height" in question.dims else (None,)
    chosen: list[Metric] = []
    for grid in grids:
        for reference in dict.fromkeys((first, second)):
            chosen += [scoring.insertion(reference, grid=grid), scoring.deletion(reference, grid=grid)]
    return [*chosen, scoring.completeness()]


def _candidates(question: Question) -> list[Removal]:
    """References that make sense for the input, the usual baseline of methods last."""
    dims = set(question.dims)
    if not dims & {"height", "time", "token"} or not question.x.is_floating_point():  # ids have no mean either
        rows = question.x.detach().cpu()
        return [removal.marginal(rows, draws=min(len(rows), 20)), _typical(question)]
    chosen: list[Removal] = [removal.mean()]
    if dims & {"height", "time"}:
        chosen.append(removal.blur(10.0))
    try:
        question.bounds("compare")
        chosen.insert(0, removal.uniform())
    except BadInput:
        pass  # nobody said what the range of an entry is
    return [*chosen, removal.baseline(0.0)]


def _typical(question: Question) -> Removal:
    """The mean row of a table; where numbers are codes or ids, their most frequent one."""
    rows = question.x.detach().cpu()
    often = rows.mode(0).values
    if not rows.is_floating_point():
        return removal.baseline(often)
    frame = question.model.frame
    coded = torch.tensor([c.values is not None for c in frame.columns]) if frame else torch.tensor(False)
    return removal.baseline(torch.where(coded, often, rows.mean(0)))


def _wanted(question: Question, methods: Any) -> dict[str, Method | Explanation]:
    if methods is None:
        methods = default_methods(question)
    elif isinstance(methods, (Method, str, Explanation)):
        methods = [methods]
    each = list(methods.values() if isinstance(methods, Mapping) else methods)
    picked = [m if isinstance(m, Explanation) else pick(m) for m in each]
    if not picked:
        raise BadInput("compare: the list of methods is empty; name at least one")
    names = [m.method["name"] if isinstance(m, Explanation) else m.name for m in picked]
    labels = [str(label) for label in methods] if isinstance(methods, Mapping) else names
    if not any(isinstance(m, Random) for m in picked):
        picked.append(recipes.random_attribution())  # the control is part of every comparison
        labels = [*labels, "random_attribution"]
    return dict(zip(labels_of(labels), picked, strict=True))


def _classes(truth: Any, question: Question) -> tuple[int, ...]:
    """The true class of each row as a column."""
    given, rows = Target(truth).index, len(question.z)
    if not isinstance(given, tuple) or len(given) != rows:
        raise BadInput(f"compare: truth needs one class a row, {rows} of them; got {truth!r}")
    labels = list(question.model.labels or ())
    unknown = [c for c in given if isinstance(c, str) and c not in labels]
    if unknown:
        raise BadInput(f"compare: truth {unknown[0]!r} is not among the labels; have {listing(labels)}")
    return tuple(labels.index(c) if isinstance(c, str) else int(c) for c in given)


def _names(about: Mapping[str, Any] | None, question: Question) -> tuple[str, ...] | None:
    """What the rows are called, if the caller says so."""
    given = None if about is None else about.get("names")
    if given is None:
        return None
    names, rows = tuple(map(str, [given] if isinstance(given, str) else given)), len(question.z)
    if len(names) != rows:
        raise BadInput(f"compare: about['names'] needs one name a row, {rows} of them; got {len(names)}")
    return names


def _explanations(
    model: Model, x: Inputs, wanted: Mapping[str, Method | Explanation], question: Question, seed: int, run: Run
) -> tuple[dict[str, Explanation], dict[str, str]]:
    """Every method's explanation for the same resolved target; a method that the model cannot serve is refused with its
    reason."""
    done: dict[str, Explanation] = {}
    refused: dict[str, str] = {}
    data = store(question.x)
    for label, method in wanted.items():
        if isinstance(method, Explanation):
            if method.several or method.data.shape != data.shape or not np.array_equal(method.data, data):
                raise BadInput(
                    f"compare: the explanation {label!r} is of other rows or of several outputs; explain the "
                    "same x and one target a row"
                )
            index = question.target.index
            if list(method.target["index"] or ()) != list(index if isinstance(index, tuple) else ()):
                raise BadInput(
                    f"compare: the explanation {label!r} has target {method.target['index']}, the comparison {index}"
                )
            done[label] = method
            continue
        try:
            done[label] = explain(model, x, method, target=question.target, seed=seed, run=run)
        except Unsupported as error:
            refused[label] = str(error)
    return done, refused


def _remakers(
    model: Model, x: Inputs, wanted: Mapping[str, Method | Explanation], question: Question, run: Run
) -> dict[str, Callable[[slice], Remaker]]:
    """How the method of each label is run again on some of the rows, the class held fixed; of explanations made before
    the method is not known."""

    def known(method: Method) -> Callable[[slice], Remaker]:
        def on(rows: slice) -> Remaker:
            def make(other: Model, inputs: torch.Tensor, seed: int) -> Explanation:
                with warnings.catch_warnings():  # what other inputs do to a method is the figure, not news
                    warnings.simplefilter("ignore", Unreliable)
                    return explain(
                        other,
                        replace(x, tensor=inputs),
                        of_rows(method, x.tensor, rows),
                        target=question.target.take(rows),
                        seed=seed,
                        run=replace(run, progress=None),
                        first_row=rows.start,
                    )

            return Remaker(model, make)

        return on

    return {label: known(method) for label, method in wanted.items() if isinstance(method, Method)}


def _control(
    question: Question, explanations: Mapping[str, Explanation], metrics: Mapping[str, Metric], seed: int, run: Run
) -> tuple[dict[tuple[str, str], np.ndarray], dict[tuple[str, str], np.ndarray]]:
    """For each metric, the mean score of random orders in each row, (B,), by label of the method whose units they
    order; and, where attacks are scored, the mean gap likewise."""
    found: dict[tuple[str, str], np.ndarray] = {}
    gaps: dict[tuple[str, str], np.ndarray] = {}
    quiet = replace(run, progress=None)
    for name, metric in metrics.items():
        by_units: dict[str, list[Cell]] = {}
        for label, e in explanations.items():
            units = metric.units(e)
            if units is None:
                continue
            key = str(plain(units.players.labels))
            if key not in by_units:
                draws = {f"draw {d}": random_order(e, units.players, seed, d) for d in range(CONTROL_DRAWS)}
                by_units[key] = judge(question, draws, {name: metric}, seed, quiet)
            found[label, name] = np.mean([cell.values for cell in by_units[key]], axis=0)
            known = [cell.gap for cell in by_units[key] if cell.gap is not None]
            if known:
                gaps[label, name] = np.mean(known, axis=0)
    return found, gaps


def _tests(
    scores: Scores, control: Mapping[tuple[str, str], np.ndarray], gaps: Mapping[tuple[str, str], np.ndarray]
) -> list[dict[str, Any]]:
    """Paired differences from the control, positive = better than random, with Holm's correction over all tests
    made; a difference that better attacks could turn round is noted."""
    rows: list[dict[str, Any]] = []
    for cell in scores.cells:
        if not cell.measured or (cell.method, cell.metric) not in control or cell.control:
            continue
        difference = paired(cell.better * cell.values, cell.better * control[cell.method, cell.metric], scores.seed)
        rows.append(
            {
                "method": cell.method,
                "metric": cell.metric,
                "better_by": difference.mean,
                "low": difference.low,
                "high": difference.high,
                "rows": difference.rows,
                "p_wilcoxon": difference.p_wilcoxon,
                "p_t": difference.p_t,
                "matched": cell.matched,
                "note": _gap_note(cell, difference.mean, gaps.get((cell.method, cell.metric))),
            }
        )
    for name in ("p_wilcoxon", "p_t"):
        for row, p in zip(rows, holm([row[name] for row in rows]), strict=True):
            row[f"{name}_holm"] = p
    for row in rows:
        few = row["p_wilcoxon"] is None
        said = ["fewer than 12 rows: interval only, a test could not be trusted" if few else "", row["note"]]
        row["note"] = "; ".join(filter(None, said))
    return rows


def _gap_note(cell: Cell, difference: float, control: np.ndarray | None) -> str:
    if cell.gap is None or control is None or abs(difference) > np.nanmean(cell.gap + control):
        return ""
    return "within what better attacks might change"


def _agreement(scores: Mapping[str, np.ndarray]) -> Disagreement:
    names = tuple(scores)
    size = len(names)
    correlation, shared = np.eye(size), np.eye(size)
    for i in range(size):
        for j in range(i + 1, size):
            a, b = scores[names[i]], scores[names[j]]
            if a.shape != b.shape:
                correlation[i, j] = correlation[j, i] = shared[i, j] = shared[j, i] = np.nan
                continue
            rho = rank_correlation(a, b)
            correlation[i, j] = correlation[j, i] = np.nanmean(rho) if np.isfinite(rho).any() else np.nan
            shared[i, j] = shared[j, i] = overlap(a, b, TOP).mean()
    units = next(iter(scores.values())).shape[1]
    return Disagreement(names, correlation, shared, max(1, round(TOP * units)) / units)


def _probabilities(question: Question) -> np.ndarray | None:
    """Class probabilities for the predictions shown; None where the outputs are plain values or of another
    structure."""
    if callable(question.target.read) or question.model.scale == "value":
        return None
    with torch.no_grad():
        outputs = torch.cat(
            question.executor.map(lambda part: question.model.outputs(question.x[part]), len(question.x))
        )
    question.executor.cost.forwards += len(question.x)
    if question.model.scale == "prob":
        return np.asarray(outputs.float().cpu())
    if outputs.shape[1] == 1:
        return np.asarray(torch.sigmoid(outputs).float().cpu())
    return np.asarray(outputs.float().softmax(1).cpu())


__all__ = ["compare", "default_methods", "default_metrics"]
