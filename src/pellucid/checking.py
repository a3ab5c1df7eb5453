"""check: what a model is, what is odd about it, which methods apply to it, and what a comparison would cost."""

from __future__ import annotations

import html
import inspect
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from pellucid import methods as recipes
from pellucid.api import abilities, ask, label, pick, refuse, untouched
from pellucid.comparing import CONTROL_DRAWS, default_methods, default_metrics
from pellucid.core import inputs as reading
from pellucid.core.budget import Executor, Run
from pellucid.core.errors import BadInput, Unreliable, Unsupported
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.target import Target
from pellucid.judging import FAILURES, REDRAWN_ROWS, REDRAWS
from pellucid.metrics.metric import Desk
from pellucid.models import wrap
from pellucid.probing import Probe, problems_of

if TYPE_CHECKING:
    import pandas as pd

ROWS = 4
"""Rows of x that the model is asked about."""
TRIED_ROWS = 2
"""Rows that each method is tried on."""
SECONDS = 0.5
"""After how long the trial of a method stops at its next model call; what it would have cost is then extrapolated."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Report:
    """What ``pellucid.check`` found.

    ``table``: a line for each method: whether it applies, why not (or what to know), how far it was tried, its
    forwards and backwards a row, and the seconds that the model would take for all rows. ``problems``: a sentence each.
    ``about``: what the model is. ``cost``: seconds of a comparison by default, estimated.
    """

    model: str
    table: pd.DataFrame
    problems: list[str]
    about: dict[str, Any]
    cost: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        methods = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in line.items()}
            for line in self.table.astype(object).to_dict("records")
        ]
        return {
            "model": self.model,
            "about": dict(self.about),
            "problems": list(self.problems),
            "methods": methods,
            "cost": dict(self.cost),
        }

    def __str__(self) -> str:
        about = ", ".join(f"{name} {value}" for name, value in self.about.items())
        found = [f"- {problem}" for problem in self.problems] or ["- none found"]
        table = self.table.to_string(index=False, formatters={"seconds": _number, "forwards": _number}, na_rep="")
        return "\n".join([f"{self.model}: {about}", "", "Problems", *found, "", "Methods", table, "", self._estimate()])

    def _repr_html_(self) -> str:
        found = "".join(f"<li>{html.escape(problem)}</li>" for problem in self.problems) or "<li>none found</li>"
        about = ", ".join(f"{name} {value}" for name, value in self.about.items())
        return (
            f"<p><b>{html.escape(self.model)}</b>: {html.escape(about)}</p><p>Problems</p><ul>{found}</ul>"
            f"{self.table.to_html(index=False, escape=True, na_rep='')}<p>{html.escape(self._estimate())}</p>"
        )

    def _estimate(self) -> str:
        if self.cost["seconds"] is None:
            return "A comparison cannot be made before these problems are solved."
        parts = ", ".join(f"{name} {_number(value)} s" for name, value in self.cost["parts"].items())
        return (
            f"A comparison of {len(self.cost['methods'])} methods on {self.cost['rows']} rows would take about "
            f"{_number(self.cost['seconds'])} s ({parts}): an estimate, from {self.cost['basis']}."
        )


def check(model: Any, x: Any, methods: Sequence[Method | str] | None = None) -> Report:
    """Which methods apply to this model and these inputs, which do not and why, and what is odd about them?

    ``model``, ``x``: as for ``explain``; only the first 4 rows of x are computed. ``methods``: values or names (None: all
    of the catalogue). Looked for: outputs that differ from call to call, rows that change one another, NaN, probabilities
    where logits are expected and the reverse, train mode, low precision, inputs outside the bounds, outputs that ignore
    x, batch norm without running statistics. Every method that applies is tried on 2 rows for about half a second.

    The cost is an estimate: measured seconds for a forward and a backward row, times the rows that methods and metrics
    would use; work outside the model is not in it.

    >>> import torch
    >>> report = check(torch.nn.Linear(3, 2).eval(), torch.ones(5, 3), ["saliency", "grad_cam"])
    >>> report.table["applies"].tolist(), report.problems
    ([True, False], [])
    """
    with untouched():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wrapped = wrap(model)
        problems = [str(w.message) for w in caught if issubclass(w.category, Unreliable)]
        batch = reading.read(x, wrapped)
        few = replace(batch, tensor=batch.tensor[:ROWS])
        question = ask(wrapped, few, Target("all"), None, None, 0, Run(), fold=False)
        probe = Probe(question)
        problems += problems_of(probe, batch.tensor)
        rates = Rates.of(question)
        wanted = _named(methods, question)
        lines, chosen = [], None
        if probe.finite:
            question = replace(question, target=Target().resolve(probe.outputs, question.model.labels))
            trials = {name: _trial(made, question) for name, made in wanted.items()}
            lines = [trial.line(name, rates, len(batch.tensor)) for name, trial in trials.items()]
            chosen = trials
        else:
            lines = [_Trial(made if isinstance(made, str) else "the outputs are not finite").line(name, rates, 0) for name, made in wanted.items()]
        cost = _comparison(question, chosen, methods, rates, len(batch.tensor))
    import pandas as pd

    return Report(wrapped.name, pd.DataFrame(lines, columns=list(_COLUMNS)), problems, _about(question, probe), cost)


_COLUMNS = ("method", "applies", "why", "tried", "forwards", "backwards", "seconds")
