"""The methods and metrics there are, as rows to print."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from pellucid import methods as method_recipes
from pellucid import metrics as metric_recipes
from pellucid.app import arguments
from pellucid.core.errors import BadInput, listing

METHOD_FACTS = ("scope", "access", "stage", "needs", "promise", "ranking")
METRIC_FACTS = ("direction", "needs")
_STAND_INS = {"background": ((0.0,), (1.0,)), "X": ((0.0,), (1.0,)), "y": (0.0, 1.0)}
"""Values for arguments that have no default, to make an instance that is only asked what it is."""


def methods() -> list[dict[str, Any]]:
    """Every method: name, scope, access, stage, needs, promise, ranking, what it answers, and how it is called."""
    return [_row(recipe, METHOD_FACTS) for recipe in method_recipes.CATALOGUE]


def metrics() -> list[dict[str, Any]]:
    """Every metric: name, direction (which is better), needs, what it answers, and how it is called."""
    return [_row(recipe, METRIC_FACTS) for recipe in metric_recipes.CATALOGUE]


def _row(recipe: Callable[..., Any], names: Sequence[str]) -> dict[str, Any]:
    facts = _facts(recipe, names)
    return {"name": recipe.__name__, **facts, "answers": _first_line(recipe), "call": _call(recipe)}


def entry(name: str) -> dict[str, Any]:
    """One method or metric with its whole description."""
    every = {recipe.__name__: recipe for recipe in (*method_recipes.CATALOGUE, *metric_recipes.CATALOGUE)}
    if name not in every:
        raise BadInput(f"{name!r} is neither a method nor a metric; have {listing(every, 40)}")
    row = next(row for row in [*methods(), *metrics()] if row["name"] == name)
    return {**row, "text": inspect.cleandoc(every[name].__doc__ or "").split("\n>>>")[0].rstrip()}


def _facts(recipe: Callable[..., Any], names: Sequence[str]) -> dict[str, Any]:
    """What an instance says of itself; None for a recipe whose arguments only a user has, such as an estimator."""
    needed = [p.name for p in arguments.signature(recipe).values() if p.default is p.empty]
    try:
        made = recipe(**{name: _STAND_INS[name] for name in needed})
    except (KeyError, BadInput):
        return dict.fromkeys(names)
    facts = {name: getattr(made, name) for name in names}
    return {name: sorted(fact) if isinstance(fact, frozenset) else fact for name, fact in facts.items()}


def _first_line(recipe: Callable[..., Any]) -> str:
    return " ".join((recipe.__doc__ or "").strip().split("\n\n")[0].split())


def _call(recipe: Callable[..., Any]) -> str:
    return f"{recipe.__name__}({arguments.offer(arguments.signature(recipe))})"
