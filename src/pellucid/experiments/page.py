"""The page of the benchmark: tables, curves and pictures put into the template, every value escaped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pellucid.experiments import findings, making, portraits, tables
from pellucid.experiments.kinds import Kind
from pellucid.experiments.published import AS
from pellucid.experiments.robustness import Found
from pellucid.experiments.tables import Line, better, words
from pellucid.reporting import figures, numerals, palette
from pellucid.reporting.page import TEMPLATES, environment

HELD_OUT = {"digits": "held-out digits", "text": "held-out movie sentences", "photos": "ImageNet photos (reduced)"}
_STYLES = {"Random": "soft", AS: "accent", "IG": "minus", "SHAP": "minus", "LOO": "minus", "EG": "trust", "CFX": "plus"}
_DASHES = {"SHAP": "6 3", "LOO": "2 3", "Random": "2 4", "Greedy-AS Sr": "6 3", "BBMP": "6 3"}


@dataclass(frozen=True)
class Entry:
    """A cell of a board."""

    mean: str
    span: str
    dot: figures.Dot | None
    matched: bool
    best: bool
    notes: tuple[str, ...]
    paper: str


@dataclass(frozen=True)
class Board:
    """Methods by criteria: ``columns`` are (name, which is better), ``lines`` (method, control, entries)."""

    columns: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str, bool, tuple[Entry | None, ...]], ...]


def page(found: Found, command: str) -> str:
    """The page as text."""
    from markupsafe import Markup

    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - a file of this package
    now = datetime.now(UTC).astimezone()
    count, kind = found.settings.examples, found.kind
    several = len(kind.references) > 2  # of two references there are no lines to draw
    text: str = (
        environment()
        .get_template("benchmark.html")
        .render(
            title=f"Robustness analysis of explanations, run again on {count} {HELD_OUT[kind.name]}",
            count=count,
            kind=kind,
            rows=HELD_OUT[kind.name],
            intro=making.intro(found),
            today=f"{now.day} {now:%b %Y}",
            tokens=palette.TOKENS,
            ends={"plus": palette.POSITIVE, "minus": palette.NEGATIVE, "zero": palette.ZERO, "wash": palette.WASH},
            style=style,
            few=found.settings.in_few,
            headline=findings.headline(found),
            claims=findings.claims(found),
            boards={
                "headline": board(found, kind.headline),
                "robustness": board(found, kind.curves[:2], ablation=True),
                "insertion": board(found, tuple(f"insertion/{name}" for name in kind.references)),
                "deletion": board(found, tuple(f"deletion/{name}" for name in kind.references)),
                "keywords": board(found, tuple(c for c in kind.tables if c.startswith("precision"))),
                "sanity": board(found, ("randomised", "sensitivity", "floor", "seconds", "explained"), ablation=True),
            },
            curves=[_curves(found, criterion) for criterion in kind.curves],
            drawn=[c.label for c in found.contestants if not c.ablation],
            ranks=[_ranks(found, name) for name in ("insertion", "deletion")] if several else [],
            trials=_trials(found),
            gallery=portraits.gallery(found) if kind.name != "text" else None,
            passages=portraits.passages(found),
            dark=portraits.dark(found),
            released=making.released(found),
            facts=making.facts(found, command),
        )
    )
    return text


def board(found: Found, criteria: tuple[str, ...], ablation: bool = False) -> Board | None:
    """Criteria side by side, methods by their first criterion."""
    each = {
        c: {line.who.key: line for line in tables.lines(found, c) if ablation or not line.who.ablation}
        for c in criteria
    }
    each = {c: lines for c, lines in each.items() if lines}
    if not each:
        return None
    axes = {
        c: figures.Axis.around([v for x in lines.values() for v in (x.mean, x.low, x.high)])
        for c, lines in each.items()
    }
    order = [key for lines in each.values() for key in lines]
    who = {c.key: c for c in found.contestants}
    most = {c: max(x.rows for x in lines.values()) for c, lines in each.items()}
    best = {
        c: next(
            (
                x.who.key
                for x in lines.values()
                if not x.matched and x.who.key != "random" and c != "floor" and x.rows == most[c]
            ),
            None,
        )
        for c, lines in each.items()
    }
    return Board(
        tuple((words(found.kind, c), "higher" if better(c) > 0 else "lower") for c in each),
        tuple(
            (
                who[key].label,
                key == "random",
                tuple(
                    None
                    if key not in lines
                    else _entry(found.kind, lines[key], axes[c], lines.get("random"), best[c] == key, most[c])
                    for c, lines in each.items()
                ),
            )
            for key in dict.fromkeys(order)
        ),
    )


def _entry(kind: Kind, line: Line, axis: figures.Axis, random: Line | None, best: bool, most: int) -> Entry:
    mean, _, _ = numerals.estimate(line.mean, line.low, line.high)
    notes = []
    if line.rows < most:
        notes.append(f"{numerals.plural(line.rows, kind.one)} only")
    if line.matched:
        notes.append("its own criterion")
    if math.isfinite(line.censored) and line.censored > 0:
        notes.append(f"{numerals.percent(line.censored)} out of reach")
    if line.within_gap:
        notes.append("≈ better attacks could reorder")
    return Entry(
        mean,
        numerals.span(line.low, line.high, line.mean),
        figures.dot(axis, line.mean, line.low, line.high, math.nan if random is None else random.mean),
        line.matched,
        best,
        tuple(notes),
        _paper(kind, line),
    )


def _paper(kind: Kind, line: Line) -> str:
    if line.paper is None:
        return ""
    values = {name: x for name, x in kind.figures[line.criterion].items() if name not in ("Greedy", "Banzhaf")}
    text = f"paper {numerals.figure(line.paper)}"
    if line.who.paper not in values or line.criterion in ("seconds", "explained"):
        return text
    sign = better(line.criterion)
    rank = 1 + sum(sign * (x - line.paper) > 0 for x in values.values())
    return f"{text}, rank {rank} of {len(values)}"


def _curves(found: Found, criterion: str) -> dict[str, Any]:
    """Small multiples: one panel a method, Random behind each."""
    sizes = np.array(found.settings.sizes)
    at = (sizes - sizes[0]) / (sizes[-1] - sizes[0])
    each = [(c, found.get(criterion, c.key)) for c in found.contestants if not c.ablation]
    bands = {c.key: figures.mean_and_band(n.curve) for c, n in each if n is not None and n.curve is not None}
    axis = figures.Axis.around([float(v) for parts in bands.values() for part in parts for v in part])
    control = found.get(criterion, "random")
    behind = None if control is None or control.curve is None else figures.band(at, control.curve, axis)
    panels: list[dict[str, Any] | None] = []
    unit = "" if found.kind.counted else " %"
    for c, n in each:
        if n is None or n.curve is None:
            panels.append(None)
            continue
        mean = n.curve.mean(0)
        ends = [f"{numerals.figure(float(mean[i]))} at {sizes[i]:g}{unit}" for i in (0, -1)]
        told = f"{c.label}: {', '.join(ends)}"
        panels.append(
            {"own": figures.band(at, n.curve, axis), "control": behind, "words": told, "matched": c.matched(criterion)}
        )
    sign = "higher is better" if better(criterion) > 0 else "lower is better"
    return {"name": words(found.kind, criterion), "detail": sign, "ticks": figures.ticks(axis), "panels": panels}


def _ranks(found: Found, kind: str) -> dict[str, Any]:
    """Lines of ranks against the reference, with the method's name at the end of each."""
    ranks = tables.mean_ranks(found, kind)
    count = max(len(ranks), 1)
    height = 22.0 * count

    def y(rank: float) -> float:
        return round(14 + (rank - 1) * (height - 28) / max(count - 1, 1), 1)

    names = found.kind.references
    x = [40 + i * 62 for i in range(len(names))]
    taken: list[float] = []
    drawn = []
    for label, each in sorted(ranks.items(), key=lambda entry: entry[1][-1]):
        at = y(each[-1])
        while any(abs(at - other) < 13 for other in taken):  # ties share a rank, not a place for their names
            at += 13
        taken.append(at)
        style = next((s for name, s in _STYLES.items() if label.startswith(name)), "unclear")
        points = " ".join(f"{a},{y(rank)}" for a, rank in zip(x, each, strict=True))
        told = f"{label}: ranks {', '.join(f'{rank:.0f} at {r}' for rank, r in zip(each, names, strict=True))}"
        drawn.append(
            {
                "label": label,
                "points": points,
                "y": at + 4,
                "style": style,
                "dash": _DASHES.get(label, ""),
                "words": told,
            }
        )
    places = [{"rank": rank, "y": y(rank) + 4} for rank in range(1, count + 1)]
    return {
        "kind": kind,
        "height": max([height, *(at + 10 for at in taken)]),
        "x": list(zip(x, names, strict=True)),
        "lines": drawn,
        "places": places,
    }


def _trials(found: Found) -> list[dict[str, Any]]:
    """Win, draw or loss of each variant of Greedy-AS, a line a criterion, a column a rival."""
    made = tables.tests(found)
    rivals = list(dict.fromkeys(t.other.label for t in made))
    trials = []
    for one in dict.fromkeys(t.one.label for t in made):
        mine = [t for t in made if t.one.label == one]
        rows = []
        for criterion in dict.fromkeys(t.criterion for t in mine):
            cells = {t.other.label: t for t in mine if t.criterion == criterion}
            rows.append(
                {
                    "name": words(found.kind, criterion),
                    "matched": mine[0].one.matched(criterion),
                    "cells": [_trial(cells.get(rival)) for rival in rivals],
                }
            )
        trials.append({"method": one, "rivals": rivals, "rows": rows})
    return trials


def _trial(test: tables.Test | None) -> dict[str, str] | None:
    if test is None:
        return None
    d = test.difference
    mean, low, high = numerals.estimate(d.mean, d.low, d.high)
    p = numerals.probability(test.p_wilcoxon)
    style = {"win": "trust", "loss": "distrust"}.get(test.outcome, "soft")
    return {
        "outcome": test.outcome,
        "style": style,
        "difference": f"{mean} ({low} to {high})",
        "p": f"Wilcoxon {p}" if p else "",
        "paper": f"paper: {test.paper}" if test.paper else "",
    }
