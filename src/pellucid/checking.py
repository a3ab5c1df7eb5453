"""check: what a model is, what is odd about it, which methods apply to it, and what a comparison would cost."""

from __future__ import annotations

import html
import inspect
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from pellucid import methods as recipes
from pellucid.api import abilities, ask, label, pick, refuse, untouched
from pellucid.comparing import CONTROL_DRAWS, default_methods, default_metrics
from pellucid.core import inputs as reading
from pellucid.core.budget import Executor, Run
from pellucid.core.errors import BadInput, Unreliable, Unsupported
from pellucid.core.method import Method, Result
from pellucid.core.probe import Probe, problems
from pellucid.core.question import Question
from pellucid.core.target import Target
from pellucid.judging import FAILURES, REDRAWN_ROWS, TAG_ROWS
from pellucid.metrics import anchoring
from pellucid.metrics.metric import Desk
from pellucid.models import wrap

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

ROWS = 4
"""Rows of x that the model is asked about."""
TRIED_ROWS = 2
"""Rows that each method is tried on."""
SECONDS = 0.5
"""After how long a trial stops at its next model call; the rest of its cost is then extrapolated."""


@dataclass(frozen=True, eq=False)
class Report:
    """What ``pellucid.check`` found.

    ``table``: a line for each method: whether it applies, why not (or what to know), how far it was tried, its
    forwards and backwards a row, and the seconds that the model would take for all rows. ``problems``: a sentence each.
    ``about``: what the model is. ``cost``: seconds of a comparison, estimated.
    """

    model: str
    table: pd.DataFrame
    problems: list[str]
    about: dict[str, Any]
    cost: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "model": self.model,
            "about": dict(self.about),
            "problems": list(self.problems),
            "methods": [{name: _plain(v) for name, v in line.items()} for line in self.table.to_dict("records")],
            "cost": dict(self.cost),
        }

    def __str__(self) -> str:
        lines = [("method", "applies", "tried", "forwards", "backwards", "seconds", "")]
        for line in self.table.to_dict("records"):
            numbers = (_short(line[name]) for name in ("forwards", "backwards", "seconds"))
            lines.append((line["method"], "yes" if line["applies"] else "no", line["tried"], *numbers, line["why"]))
        widths = [max(len(line[i]) for line in lines) for i in range(6)]
        table = "\n".join("  ".join([*map(str.ljust, line[:6], widths), line[6]]).rstrip() for line in lines)
        found = [f"- {problem}" for problem in self.problems] or ["- none found"]
        return "\n".join([self._headline(), "", "Problems", *found, "", "Methods", table, "", self._estimate()])

    def _repr_html_(self) -> str:
        found = "".join(f"<li>{html.escape(problem)}</li>" for problem in self.problems) or "<li>none found</li>"
        table = self.table.to_html(index=False, escape=True, na_rep="", float_format=_short)
        headline, estimate = html.escape(self._headline()), html.escape(self._estimate())
        return f"<p>{headline}</p><p>Problems</p><ul>{found}</ul>{table}<p>{estimate}</p>"

    def _headline(self) -> str:
        return f"{self.model}: " + ", ".join(f"{name} {value}" for name, value in self.about.items())

    def _estimate(self) -> str:
        if self.cost["seconds"] is None:
            return "What a comparison would cost cannot be said before the outputs are finite."
        parts = ", ".join(f"{name} {_short(value)} s" for name, value in self.cost["parts"].items())
        dear = anchoring.sentence(self.cost["robustness"], _short)
        return (
            f"A comparison of {len(self.cost['methods'])} methods on {self.cost['rows']} rows would take about "
            f"{_short(self.cost['seconds'])} s ({parts}). {self.cost['basis']}{dear}"
        )


def check(model: Any, x: Any, methods: Sequence[Method | str] | None = None) -> Report:
    """Which methods apply to this model and these inputs, which do not and why, and what is odd about the model?

    ``model``, ``x``: as for ``explain``; the model is asked about the first 4 rows. ``methods``: values or names (None:
    the whole catalogue). Looked for: outputs that differ from call to call, rows that change one another, NaN,
    probabilities where logits are expected and the reverse, train mode, low precision, inputs outside the bounds,
    outputs that ignore x, batch norm without running statistics. Every method that applies is tried on 2 rows for about
    half a second; one that needs a background is given the rows of x.

    The cost is an estimate: seconds measured for a forward and a backward row, times the rows that methods and metrics
    would use; work outside the model is not in it.

    >>> import torch
    >>> report = check(torch.nn.Linear(3, 2).eval(), torch.eye(3), ["saliency", "grad_cam"])
    >>> report.table["applies"].tolist(), report.problems
    ([True, False], [])
    """
    import pandas as pd

    with untouched():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Unreliable)  # train mode, which is among the problems below
            wrapped = wrap(model)
        batch = reading.read(x, wrapped)
        few = replace(batch, tensor=batch.tensor[:ROWS])
        nothing = Target(read=lambda raw: raw)  # yet: what the outputs are is for the probe to see
        probe = Probe(ask(wrapped, few, nothing, None, None, 0, Run(), fold=False))
        question = replace(probe.question, target=Target())
        found = problems(probe, batch.tensor)
        if probe.finite:
            question = replace(question, target=question.target.resolve(probe.outputs, question.model.labels))
        rates = _rates(replace(question, model=question.model.fast(question.x)), probe.finite)
        trials = {name: _trial(name, made, question, probe.finite) for name, made in _wanted(methods, question).items()}
        cost = _comparison(question, methods is None, trials, rates, len(batch.tensor)) if probe.finite else _NO_COST
    lines = [trial.line(name, rates, len(batch.tensor)) for name, trial in trials.items()]
    about = {
        "scale": question.model.scale,
        "outputs": probe.outputs.shape[1],
        "row": " x ".join(map(str, question.x.shape[1:])),
        "dtype": str(probe.dtype).removeprefix("torch."),
        "device": str(question.model.device),
        "gives": " and ".join(sorted(abilities(question.model))),
    }
    return Report(wrapped.name, pd.DataFrame(lines, columns=list(_COLUMNS)), found, about, cost)


_COLUMNS = ("method", "applies", "why", "tried", "forwards", "backwards", "seconds")


@dataclass(frozen=True)
class Rates:
    """Seconds that the model takes for a row, forwards and (on top) backwards, in calls of ``rows`` rows."""

    forward: float
    backward: float
    rows: int
    how: str = ""

    def seconds(self, forwards: float, backwards: float) -> float:
        """Model time of some work."""
        return forwards * self.forward + (backwards * self.backward if backwards else 0.0)


@dataclass(frozen=True)
class Trial:
    """What came of trying a method: whether it applies and why not, and what a row costs."""

    applies: bool
    why: str = ""
    tried: str = "no"
    forwards: float = math.nan
    backwards: float = math.nan

    def line(self, name: str, rates: Rates, rows: int) -> dict[str, Any]:
        """Its line in the table."""
        seconds = rows * rates.seconds(self.forwards, self.backwards)
        numbers = {"forwards": self.forwards, "backwards": self.backwards, "seconds": seconds}
        return {"method": name, "applies": self.applies, "why": self.why, "tried": self.tried, **numbers}


class Enough(Exception):
    """A trial has taken long enough; ``share`` of the work at hand is done."""

    def __init__(self, share: float) -> None:
        super().__init__(share)
        self.share = share


class Stopwatch(Executor):
    """An executor that stops when its time is up: inside a map, so that the share of it that is done is known, and
    before one only after twice the time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.start = time.perf_counter()

    def map(self, work: Callable[[slice], T], count: int, each: int = 1) -> list[T]:
        def timed(part: slice) -> T:
            if self.cost.forwards and time.perf_counter() - self.start > (SECONDS if part.start else 2 * SECONDS):
                raise Enough(part.start / count)
            try:
                return work(part)
            except Enough as stop:
                stop.share = (part.start + stop.share * (part.stop - part.start)) / count
                raise

        return super().map(timed, count, each)


def _wanted(methods: Sequence[Method | str] | None, question: Question) -> dict[str, Method | str]:
    """Methods by label, or in words what a recipe still needs; one that needs a background gets the rows of x."""
    if methods is not None:
        each = [methods] if isinstance(methods, (Method, str)) else list(methods)
        if not each:
            raise BadInput("check: the list of methods is empty; name at least one, or leave it out for all")
    else:
        each = [recipe.__name__ for recipe in recipes.CATALOGUE]
    catalogue: dict[str, Callable[..., Method]] = {recipe.__name__: recipe for recipe in recipes.CATALOGUE}
    made: dict[str, Method | str] = {}
    for entry in each:
        name = entry if isinstance(entry, str) else getattr(entry, "name", "")
        if not isinstance(entry, str) or entry not in catalogue:
            made[name] = pick(entry)
            continue
        parameters = inspect.signature(catalogue[entry]).parameters.values()
        missing = [p.name for p in parameters if p.default is p.empty]
        if not missing:
            made[name] = catalogue[entry]()
        elif missing == ["background"]:
            made[name] = catalogue[entry](question.x.detach().cpu())
        else:
            made[name] = f"needs {' and '.join(missing)}: methods.{name}({', '.join(f'{m}=...' for m in missing)})"
    return made


def _trial(name: str, made: Method | str, question: Question, finite: bool) -> Trial:
    if isinstance(made, str):
        return Trial(True, made)
    needs = "needs a background; tried with rows of x" if _takes_background(name) else ""
    try:
        refuse(made, question.model)
        if not finite:
            return Trial(True, needs or "not tried: the outputs are not finite")
        return _tried(made, question, needs)
    except (BadInput, Unsupported) as error:
        return Trial(False, str(error).removeprefix(f"{name} ").removeprefix(f"{name}: "))
    except FAILURES as error:
        return Trial(
            False, f"raised {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        )


def _takes_background(name: str) -> bool:
    recipe: Any = next((recipe for recipe in recipes.CATALOGUE if recipe.__name__ == name), None)
    return recipe is not None and "background" in inspect.signature(recipe).parameters


def _tried(method: Method, question: Question, notes: str) -> Trial:
    """Run a method on a few rows until its time is up, and count what it used."""
    watch = Stopwatch(question.executor.batch_size)
    rows = min(TRIED_ROWS, len(question.z))
    asked = replace(question, executor=watch).block(slice(0, rows))
    share, result = 1.0, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state: Any = None
        done = count = 0
        try:
            method = method.prepared(asked)
            count = method.chunks(asked)
            for index in range(count):
                part: Any = method.chunk(asked, index)
                state, done = part if state is None else state.merge(part), index + 1
                if method.settled(state):
                    break
            else:
                result = method.result(asked, state)
        except Enough as stop:
            share = (done + stop.share) / count if count else 0.0
    said = [
        notes,
        "" if share else "costs at least this much",
        *(str(w.message) for w in caught if issubclass(w.category, Unreliable)),
    ]
    if result is not None and not bool(torch.isfinite(result.values).all()):
        said.append("gives values that are NaN or infinite")
    why = "; ".join(dict.fromkeys(filter(None, said)))
    forwards, backwards = (n / rows / (share or 1.0) for n in (watch.cost.forwards, watch.cost.backwards))
    return Trial(True, why, "yes" if share == 1 else "in part", forwards, backwards)


def _rates(question: Question, finite: bool) -> Rates:
    """Seconds a row, in calls as large as methods make them, or of fewer rows where that would take long."""

    def timed(rows: int, work: Callable[[Question], Any]) -> float:
        asked = question.rows(torch.arange(rows) % len(question.z))
        start = time.perf_counter()
        work(asked)
        return (time.perf_counter() - start) / rows

    def forward(asked: Question) -> None:
        with torch.no_grad():
            asked.raw(asked.z)

    def both(asked: Question) -> None:
        asked.gradient(asked.z, asked.every_row())

    rows, many = len(question.z), question.executor.batch_size
    while rows < many and timed(rows, forward) * rows < SECONDS / 10:
        rows = min(many, 8 * rows)  # what a call costs of itself may be most of a small one
    ahead = min(timed(rows, forward) for _ in range(2))
    try:
        back = timed(rows, both) - ahead if finite and question.model.differentiable else math.nan
    except (BadInput, Unsupported, *FAILURES):
        back = math.nan
    how = " to the copy with batch norm folded in, which most of the work uses" if question.model.folded else ""
    return Rates(ahead, max(back, 0.0) if math.isfinite(back) else math.nan, rows, how)


_NO_COST: dict[str, Any] = {"rows": 0, "methods": [], "seconds": None, "parts": {}, "basis": ""}


def _comparison(
    question: Question, usual: bool, trials: Mapping[str, Trial], rates: Rates, rows: int
) -> dict[str, Any]:
    """Seconds of ``pellucid.compare``: the methods, the metrics on each, random orders, and methods made again."""
    names = [method.name for method in default_methods(question)] if usual else list(trials)
    chosen = [name for name in names if name in trials and trials[name].applies and trials[name].forwards >= 0]
    once = sum(trials[name].forwards for name in chosen), sum(trials[name].backwards for name in chosen)
    judged = _metric_forwards(question)
    redrawn = min(rows, REDRAWN_ROWS) if "layers" in abilities(question.model) else 0
    scored = len({*chosen, "random_attribution"})  # a comparison always has its control
    work = {
        "methods": (rows * once[0], rows * once[1]),
        "metrics": (rows * scored * judged, 0.0),
        "random orders": (rows * CONTROL_DRAWS * judged, 0.0),
        "random weights": (redrawn * once[0], redrawn * once[1]),
        "attacks": anchoring.work(question, rows, scored),
    }
    parts = {name: rates.seconds(*used) for name, used in work.items()}
    return {
        "rows": rows,
        "methods": chosen,
        "seconds": sum(parts.values()),
        "parts": parts,
        "forwards": round(sum(used[0] for used in work.values())),
        "backwards": round(sum(used[1] for used in work.values())),
        "forward_seconds": rates.forward,
        "backward_seconds": None if math.isnan(rates.backward) else rates.backward,
        "robustness": anchoring.estimate(question, rows, CONTROL_DRAWS, rates.seconds),
        "basis": (
            f"This is an estimate: model time measured on calls of {rates.rows} rows{rates.how}, times the rows that "
            "would be computed; work outside the model is not in it. Nor is the check on tagged digits, which is the "
            f"same for any model: each method explains {TAG_ROWS} digits of a small network, in under a second by "
            "gradients and in several where features are taken away one by one; training it takes about 4 s, once."
        ),
    }


def _metric_forwards(question: Question) -> float:
    """Forwards a row that the default metrics use on one method (what they share among methods is counted in)."""
    watch = Stopwatch(question.executor.batch_size)
    asked = replace(question, executor=watch).block(slice(0, min(TRIED_ROWS, len(question.z))))
    control = recipes.random_attribution()
    made = control.attribute(asked)
    values = made if isinstance(made, Result) else Result(made)
    e = label(asked, control, values, asked.here())
    total, desk = 0.0, Desk(asked)
    for metric in default_metrics(asked, [e]):
        before, watch.start, share = watch.cost.forwards, time.perf_counter(), 1.0
        try:
            if metric.status(e) == "measured":
                metric.marks(desk, e, 0)
        except Enough as stop:
            share = stop.share or 1.0
        except BadInput:
            continue  # a reference that needs to know more than we do
        total += (watch.cost.forwards - before) / share
    return total / len(asked.z)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def _short(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"
