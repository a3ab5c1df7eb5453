"""How a chapter was made: model, data, seed, versions, every hyper-parameter, cost, residuals, warnings, references."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.explanation import Explanation
from pellucid.reporting import numerals, ranking
from pellucid.reporting.references import Paper, display, papers


@dataclass(frozen=True)
class Making:
    """How one method was run."""

    title: str
    settings: str
    residual: str
    spread: str
    cost: tuple[tuple[str, str, float], ...]
    batch: str
    warnings: tuple[int, ...]


@dataclass(frozen=True)
class Provenance:
    """What is needed to make a chapter again."""

    facts: tuple[tuple[str, str], ...]
    command: str | None
    makings: tuple[Making, ...]
    warnings: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    papers: tuple[Paper, ...]


def provenance(comparison: Comparison) -> Provenance:
    """The provenance of a comparison."""
    about, explanations = comparison.about, comparison.explanations
    first = next(iter(explanations.values()), None)
    versions = dict(comparison.scores.versions) or (dict(first.versions) if first is not None else {})
    seeds = {int(e.seed) for e in explanations.values()} | (
        {int(comparison.scores.seed)} if comparison.scores.cells else set()
    )
    facts: list[tuple[str, str]] = [("Model", _model(comparison)), ("Data", str(about.get("data", "")) or _data(first))]
    if first is not None:
        facts.append(("Explained", _target(first)))
    facts.append(("Made smaller", str(about.get("reduced", ""))))
    facts.append(("Seed", str(about.get("seed", ", ".join(map(str, sorted(seeds)))))))
    facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    if comparison.scores.cost:
        spent = ranking.costs(comparison.scores.cost)
        facts.append(
            (
                "Cost of judging",
                ", ".join(
                    f"{text} {name}" if name.endswith("wards") else f"{name} {text}"
                    for name, text, x in spent
                    if x == x
                ),
            )
        )
    names = {str(e.method["name"]) for e in explanations.values()} | {cell.family for cell in comparison.scores.cells}
    listed = papers(names, scored=bool(comparison.test_rows), checked=bool(comparison.decided))
    command = about.get("command")
    return Provenance(
        tuple((name, text) for name, text in facts if text),
        None if command is None else str(command),
        tuple(_making(comparison, label, e) for label, e in explanations.items()),
        tuple(map(str, comparison.warnings)),
        tuple((display(label), reason) for label, reason in comparison.refused.items()),
        tuple(listed),
    )


def _model(comparison: Comparison) -> str:
    first = next(iter(comparison.explanations.values()), None)
    return str(comparison.about.get("model") or ("" if first is None else first.details.get("model", "")))


def _data(e: Explanation | None) -> str:
    if e is None:
        return ""
    return f"{numerals.plural(len(e), 'input')} of {' × '.join(map(str, e.data.shape[1:]))}"


def _target(e: Explanation) -> str:
    read = {"raw": "the model's raw output"}.get(str(e.target.get("read")), str(e.target.get("read")))
    index = e.target.get("index")
    where = (
        "every output"
        if index == "all"
        else "one class for each input"
        if isinstance(index, (list, tuple))
        else "the value"
    )
    scale = e.details.get("scale")
    return f"{read}{f' ({scale})' if scale else ''}, {where}"


def _making(comparison: Comparison, label: str, e: Explanation) -> Making:
    warned = ranking.warned(comparison, e)
    spent = ranking.costs(e.cost)
    return Making(display(label), settings(e.method), _residual(e), _spread(e), spent, _batch(e.cost), warned)


def settings(method: Mapping[str, Any]) -> str:
    """Every hyper-parameter in words.

    >>> settings({"name": "smooth_grad", "fields": {"samples": 50, "sigma": 0.15}})
    'samples = 50, sigma = 0.15'
    """
    fields = method.get("fields", {})
    return ", ".join(f"{name} = {_setting(value)}" for name, value in fields.items()) or "no settings"


def _setting(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping) and "array" in value:
        return f"array {' × '.join(map(str, value.get('shape', ())))}, sha256 {value['array']}"
    if isinstance(value, Mapping) and "name" in value:
        inner = settings(value)
        return str(value["name"]) if inner == "no settings" else f"{value['name']}({inner})"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {_setting(entry)}" for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_setting(entry) for entry in value)}]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _residual(e: Explanation) -> str:
    relative = e.residual_relative
    if e.details.get("promise") == "completeness by construction":
        return "exact by construction"
    if relative is None:
        return "promises no sum"
    finite = relative[np.isfinite(relative)]
    if len(finite) == 0:
        return numerals.NONE
    return f"median {numerals.figure(float(np.median(finite)), 2)}, worst {numerals.figure(float(finite.max()), 2)}"


def _spread(e: Explanation) -> str:
    """The typical standard error in percent of the largest |value| of its row, and what it covers."""
    if e.std_error is None:
        return "none: not sampled"
    flat, errors = np.abs(e.values.reshape(len(e), -1)), e.std_error.reshape(len(e), -1)
    top = np.nanmax(flat, axis=1, keepdims=True) if flat.size else flat
    share = np.divide(errors, top, out=np.full_like(errors, np.nan, dtype=np.float64), where=top > 0)
    typical = float(np.nanmedian(share)) if np.isfinite(share).any() else math.nan
    covers = e.details.get("std_error_covers")
    text = f"{numerals.percent(typical)} of the largest value" if math.isfinite(typical) else "unknown: too few draws"
    return f"{text}; covers {covers}" if covers else text


def _batch(cost: Mapping[str, Any]) -> str:
    size = cost.get("batch_size")
    return "" if not size else f"{numerals.count(size)} rows a call{', folded copy' if cost.get('folded') else ''}"
