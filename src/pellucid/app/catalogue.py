"""The methods and metrics there are, as rows to print."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pellucid import methods as method_recipes
from pellucid import metrics as metric_recipes
from pellucid.app import arguments
from pellucid.core.errors import BadInput, listing

_ANY = {"background": ((0.0,),), "layer": "layer"}
"""Values for arguments that have no default, to make an instance that is only asked what it is."""


def methods() -> list[dict[str, Any]]:
    """Every method: name, scope, access, stage, needs, promise, ranking, what it answers, and how it is called."""
    rows = []
    for recipe in method_recipes.CATALOGUE:
        method = _instance(recipe)
        rows.append(
            {
                "name": recipe.__name__,
                "scope": method.scope,
                "access": method.access,
                "stage": method.stage,
                "needs": sorted(method.needs),
                "promise": method.promise,
                "ranking": method.ranking,
                "answers": _first_line(recipe),
                "call": _call(recipe),
            }
        )
    return rows


def metrics() -> list[dict[str, Any]]:
    """Every metric: name, direction, needs, what it answers, and how it is called."""
    rows = []
    for recipe in metric_recipes.CATALOGUE:
        metric = _instance(recipe)
        rows.append(
            {
                "name": recipe.__name__,
                "better": metric.direction,
                "needs": sorted(metric.needs),
                "answers": _first_line(recipe),
                "call": _call(recipe),
            }
        )
    return rows


def entry(name: str) -> dict[str, Any]:
    """One method or metric with its whole description."""
    every = {recipe.__name__: recipe for recipe in (*method_recipes.CATALOGUE, *metric_recipes.CATALOGUE)}
    if name not in every:
        raise BadInput(f"{name!r} is neither a method nor a metric; have {listing(every, 40)}")
    row = next(row for row in [*methods(), *metrics()] if row["name"] == name)
    return {**row, "text": inspect.cleandoc(every[name].__doc__ or "").split("\n>>>")[0].rstrip()}


def _instance(recipe: Callable[..., Any]) -> Any:
    parameters = inspect.signature(recipe).parameters.values()
    return recipe(**{p.name: _ANY[p.name] for p in parameters if p.default is p.empty})


def _first_line(recipe: Callable[..., Any]) -> str:
    return (recipe.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def _call(recipe: Callable[..., Any]) -> str:
    return f"{recipe.__name__}({arguments.offer(arguments.signature(recipe))})"
