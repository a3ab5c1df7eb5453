"""Verdicts as the page shows them: a word, a shape and a colour, and the checks that led there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pellucid.core.comparison import Comparison
from pellucid.core.verdict import Check, Verdict
from pellucid.reporting import figures, numerals
from pellucid.reporting.references import display


@dataclass(frozen=True)
class Mark:
    """A verdict's fixed form: the word, the shape that goes with it, and the name of its colour."""

    word: str
    shape: str
    style: str


MARKS = {
    "trust": Mark("trust", "●", "trust"),
    "unclear": Mark("unclear", "◐", "unclear"),
    "do not trust": Mark("do not trust", "○", "distrust"),
    "control": Mark("control", "·", "control"),
}


OUTCOMES = {True: ("trust", "passed"), False: ("distrust", "failed"), None: ("unclear", "undecided")}
"""How a check came out: the name of its colour, and the word."""


@dataclass(frozen=True)
class Question:
    """What a check asks, and what it means to fail it; found by a word in the check's name."""

    hint: str
    asks: str
    failing: str
    passes: str
    failed: str
    open: str


QUESTIONS = (
    Question(
        "anchors",
        "Is the prediction harder to change with the positions it ranks first held, and easier with them alone free?",
        "its order is no guide to what would have to change for another prediction.",
        "over",
        "no guide to what changes the prediction",
        "not clearly a guide to what changes the prediction",
    ),
    Question(
        "weights",
        "Does the map change when the model's last layer is replaced by random numbers?",
        "it draws the picture's edges or textures, not what this model has learned.",
        "under",
        "unchanged by random weights",
        "may be unchanged by random weights",
    ),
    Question(
        "reference",
        "Does the method keep its place when something else stands in for what is taken away?",
        "its good or bad marks hang on one arbitrary choice of reference.",
        "at least",
        "its place hangs on the choice of reference",
        "its place may hang on the choice of reference",
    ),
    Question(
        "tag",
        "On a model whose class is decided by a small planted tag, does it point at the tag?",
        "it looks elsewhere even where the truth is known.",
        "over",
        "misses a planted tag",
        "half finds a planted tag",
    ),
    Question(
        "random",
        "Do the positions it ranks first matter more to the model than positions drawn at random?",
        "its order is no better than chance, so the bright spots are not what the model uses.",
        "over",
        "no better than random order",
        "not clearly better than random order",
    ),
)
"""In the order in which a name is searched: "randomised weights" is about weights."""


@dataclass(frozen=True)
class Outcome:
    """One check of one method."""

    style: str
    word: str
    figure: str
    span: str
    needs: str
    dot: figures.Dot | None
    reason: str


@dataclass(frozen=True)
class CheckColumn:
    """A check: its name, what it asks, and what failing means."""

    name: str
    asks: str
    failing: str


@dataclass(frozen=True)
class Case:
    """A method with its verdict and the outcome of every check, in the order of the columns (None: not made)."""

    method: str
    title: str
    anchor: str
    mark: Mark
    reason: str
    outcomes: tuple[Outcome | None, ...]


@dataclass(frozen=True)
class Trial:
    """All verdicts."""

    columns: tuple[CheckColumn, ...]
    cases: tuple[Case, ...]


def mark(word: str) -> Mark:
    """The form of a verdict's word."""
    return MARKS.get(word, Mark(word, "◐", "unclear"))


def anchor(chapter: str, index: int) -> str:
    """Where the checks of a method stand on the page."""
    return f"{chapter}-verdict-{index + 1}"


def trial(comparison: Comparison, chapter: str) -> Trial | None:
    """The verdicts of a comparison with their checks; None where none were made."""
    if not comparison.decided:
        return None
    names = tuple(dict.fromkeys(check.name for verdict in comparison.decided for check in verdict.checks))
    axes = {name: _axis([c for v in comparison.decided for c in v.checks if c.name == name]) for name in names}
    cases = []
    for i, verdict in enumerate(comparison.decided):
        found = {check.name: check for check in verdict.checks}
        outcomes = tuple(_outcome(found[name], axes[name]) if name in found else None for name in names)
        cases.append(
            Case(
                verdict.method,
                display(verdict.method),
                anchor(chapter, i),
                mark(verdict.word),
                verdict.reason,
                outcomes,
            )
        )
    return Trial(tuple(_column(name) for name in names), tuple(cases))


def question(name: str) -> Question | None:
    """What a check of this name asks."""
    return next((q for q in QUESTIONS if q.hint in name), None)


def because(verdict: Verdict) -> str:
    """Why a method is not trusted, in a few words: those of the check that decided, else the verdict's own sentence."""
    for check in verdict.checks:
        asked = question(check.name)
        if check.reason == verdict.reason and asked is not None and check.applies and check.passed is not True:
            return asked.failed if check.passed is False else asked.open
    return verdict.reason


def _column(name: str) -> CheckColumn:
    asked = question(name)
    return CheckColumn(
        name[:1].upper() + name[1:], "" if asked is None else asked.asks, "" if asked is None else asked.failing
    )


def _axis(checks: list[Check]) -> figures.Axis:
    return figures.Axis.around(value for c in checks if c.applies for value in (c.figure, c.low, c.high, c.threshold))


def _outcome(check: Check, axis: figures.Axis) -> Outcome:
    if not check.applies:
        return Outcome("none", "not applicable", "", "", "", None, check.reason)
    style, word = OUTCOMES[check.passed]
    mean, low, high = numerals.estimate(check.figure, check.low, check.high)
    known = math.isfinite(check.low) and math.isfinite(check.high) and check.low < check.high
    asked = question(check.name)
    needs = f"{'threshold' if asked is None else 'needs ' + asked.passes} {numerals.figure(check.threshold, 2)}"
    return Outcome(
        style,
        word,
        mean,
        f"{low} to {high}" if known else "",
        needs,
        figures.dot(axis, check.figure, check.low, check.high, check.threshold),
        check.reason,
    )
