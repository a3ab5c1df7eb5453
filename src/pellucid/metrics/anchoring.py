"""The check for robust anchors: does holding what a method ranks first make a prediction harder to change, and does
letting only that move make it easier, than with positions drawn at random?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pellucid.attack.minimum import MinimumNorm
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.explanation import Explanation
from pellucid.core.method import plain
from pellucid.core.players import positions
from pellucid.core.question import Question
from pellucid.core.verdict import Check
from pellucid.metrics.metric import Desk
from pellucid.metrics.robustness import Irrelevant, Relevant, Robustness, optimises
from pellucid.metrics.robustness import work as attack_work
from pellucid.metrics.statistics import LEAST_ROWS, Difference, holm, paired
from pellucid.metrics.units import random_order

NAME = "robust anchors"
ROWS = 40
ENTRIES = 10_000
"""Entries of a row above which nothing is attacked unasked: a radius of a photo takes seconds."""
DRAWS = 5
"""Random orders whose mean is what a method is compared with."""
SIZE = 0.2
"""Share of the positions that is held, or moved: that of hsieh2021's ablations."""
GRID = 7
STEPS = 15
"""Of the attack: its radii are some percent too large, of all methods and controls alike."""
SIGNIFICANT = 0.05

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Radii:
    """Radii of a method's sets in each row, (B,), with its top features held and with them alone free, and the same of
    random orders."""

    held: Array
    moved: Array
    held_chance: Array
    moved_chance: Array

    def gains(self, rows: Array) -> tuple[Array, Array]:
        """By what share holding makes the radius larger than chance does, and moving makes it smaller, in the rows
        (B,) that count."""
        with np.errstate(divide="ignore", invalid="ignore"):  # a tie is lost without a change
            held, moved = self.held / self.held_chance - 1, 1 - self.moved / self.moved_chance
        return np.where(rows, held, np.nan), np.where(rows, moved, np.nan)


def refusal(question: Question) -> str | None:
    """Why there is nothing to check here, or None."""
    target = question.target
    if question.model.scale == "value":
        return "the model gives values, not classes, so there is no prediction to change"
    if target.columns() is None or target.read == "loss":
        return "what is explained is not the score of a class"
    return None


def price(question: Question) -> str | None:
    """Why radii are too dear to be measured unasked, or None."""
    ask = "compare(..., metrics=[metrics.robustness_irrelevant(grid=7), metrics.robustness_relevant(grid=7), ...])"
    if question.dims == ("feature",) and question.model.bounds is None:
        return f"not measured: columns have units of their own, which one radius would mix; ask for it by {ask}"
    entries = question.z[0].numel()
    if not question.model.differentiable:
        return f"not measured: without gradients a radius takes thousands of predictions; ask for it by {ask}"
    if entries > ENTRIES:
        return (
            f"not measured: a row has {entries:,} entries, over {ENTRIES:,}, and is dear to attack; ask for it by {ask}"
        )
    return None


def work(question: Question, rows: int, methods: int) -> tuple[float, float]:
    """About how many forwards and backwards the check of so many methods takes."""
    if refusal(question) or price(question):
        return 0.0, 0.0
    forwards, backwards = attack_work(MinimumNorm(STEPS))
    sets = 2 * min(rows, ROWS) * (methods + DRAWS)
    return sets * forwards, sets * backwards


def estimate(
    question: Question, rows: int, draws: int, seconds: Callable[[float, float], float]
) -> dict[str, Any] | None:
    """What both metrics, asked for, add to a comparison for one method and for the random orders; None where there is
    no prediction to change. ``seconds``: model time of some forwards and backwards."""
    units = positions().divide(question.z, question.dims, None).n
    if refusal(question) is not None or units < 2:
        return None
    each = [kind().work(question, units) for kind in (Irrelevant, Relevant)]
    one = rows * sum(seconds(*used) for used in each)
    return {"rows": rows, "seconds_a_method": one, "seconds_of_random_orders": draws * one}


def sentence(estimated: Mapping[str, Any] | None, number: Callable[[float], str]) -> str:
    """The estimate in words, after others."""
    if estimated is None:
        return ""
    return (
        " metrics.robustness_irrelevant() and robustness_relevant() would add up to "
        f"{number(estimated['seconds_a_method'])} s a method and {number(estimated['seconds_of_random_orders'])} s for "
        "random orders; fewer fractions, or method=attack.minimum_norm() alone, take a small part of it."
    )


def measured(
    question: Question, explanations: Mapping[str, Explanation], seed: int, progress: Callable[[int, int], None]
) -> dict[str, Radii | str]:
    """Radii of every method that has an order to attack, or in words why not; random orders are shared by methods with
    the same units."""
    part = slice(0, min(len(question.z), ROWS))
    desk = Desk(question.block(part))
    pair = [kind((SIZE,), GRID, 2, None, (MinimumNorm(STEPS),)) for kind in (Irrelevant, Relevant)]
    chance: dict[str, list[Array]] = {}
    found: dict[str, Radii | str] = {}
    for done, (label, whole) in enumerate(explanations.items()):
        e = whole[part]
        try:
            units = pair[0].units(e)
            key = str(plain(units.players.labels))
            if key not in chance:
                orders = [random_order(e, units.players, seed, draw) for draw in range(DRAWS)]
                chance[key] = [np.mean([_radii(metric, desk, order, seed) for order in orders], 0) for metric in pair]
            found[label] = Radii(*(_radii(metric, desk, e, seed) for metric in pair), *chance[key])
        except (BadInput, Unsupported) as error:
            found[label] = str(error)
        progress(done + 1, len(explanations))
    return found


def _radii(metric: Robustness, desk: Desk, explanation: Explanation, seed: int) -> Array:
    values: Array = metric.marks(desk, explanation, seed).values.numpy()
    return values


def predicted(question: Question, count: int) -> Array:
    """In which of the first rows what is explained is the predicted class, (count,)."""
    block = question.block(slice(0, count))
    columns = block.columns
    with torch.no_grad():
        outputs = torch.cat(block.executor.map(lambda part: block.model.outputs(block.x[part]), count))
    block.executor.cost.forwards += count
    if outputs.shape[1] == 1:  # one column stands for two classes, and what is explained is the second
        boundary = 0.5 if block.model.scale == "prob" else 0.0
        second: Array = (outputs[:, 0] > boundary).cpu().numpy()
        return second
    own: Array = outputs.argmax(1).eq(columns if columns is not None else -1).cpu().numpy()
    return own


def decided(
    radii: Mapping[str, Radii | str], explanations: Mapping[str, Explanation], question: Question, seed: int
) -> dict[str, Check]:
    """The outcome for every method; p-values are corrected over methods and both criteria."""
    differences: dict[str, tuple[Difference, Difference]] = {}
    checks: dict[str, Check] = {}
    count = max((len(found.held) for found in radii.values() if isinstance(found, Radii)), default=0)
    rows = predicted(question, count) if count else np.zeros(0, dtype=bool)
    for label, found in radii.items():
        if isinstance(found, str):
            checks[label] = Check.silent(NAME, 0.0, found)
        elif optimises(explanations[label]):
            checks[label] = Check.silent(NAME, 0.0, "it searches for these radii itself, and is not praised for them")
        else:
            held, moved = found.gains(rows)
            differences[label] = paired(held, 0 * held, seed), paired(moved, 0 * moved, seed)
    judged = [label for label in differences if not explanations[label].details.get("control")]
    tests = holm([d.p_wilcoxon for label in judged for d in differences[label]])
    corrected = {label: tests[2 * i : 2 * i + 2] for i, label in enumerate(judged)}
    for label, pair in differences.items():
        p_values = corrected.get(label, [d.p_wilcoxon for d in pair])
        outcomes = [_outcome(d, p) for d, p in zip(pair, p_values, strict=True)]
        checks[label] = _check(pair, outcomes)
    return {label: checks[label] for label in radii}


def _outcome(d: Difference, p: float | None) -> bool | None:
    if p is None:
        return None
    return True if d.low > 0 and p < SIGNIFICANT else False if d.high <= 0 else None


def _check(pair: tuple[Difference, Difference], outcomes: list[bool | None]) -> Check:
    passed = False if False in outcomes else None if None in outcomes else True
    weaker = min(range(2), key=lambda i: ({False: 0, None: 1, True: 2}[outcomes[i]], pair[i].mean))
    d = pair[weaker]
    if d.rows == 0:
        return Check.silent(NAME, 0.0, "in no row is what is explained the predicted class, whose radii are measured")
    held, moved = pair[0], replace(pair[1], mean=-pair[1].mean, low=-pair[1].high, high=-pair[1].low)
    said = [f"{e.mean:+.0%} [{e.low:+.0%}, {e.high:+.0%}]" for e in (held, moved)]
    verb = {True: "guides an attack", False: "guides an attack no better than chance", None: "may guide an attack"}
    few = "" if d.rows >= LEAST_ROWS else f" (under {LEAST_ROWS} rows: intervals only)"
    reason = (
        f"{verb[passed]}: of the smallest change that alters the prediction, against random order, holding its top "
        f"positions makes {said[0]} (more is better) and moving them alone {said[1]} (less is better){few}"
    )
    return Check(NAME, d.mean, d.low, d.high, 0.0, passed, reason)


def asked(metrics: Mapping[str, Any]) -> tuple[str, str] | None:
    """Labels of both criteria with equal settings, on a common grid if there is one; None where they were not asked."""
    found: dict[str, dict[str, tuple[str, Robustness]]] = {}
    for label, metric in metrics.items():
        if isinstance(metric, Robustness) and metric.against is None:
            found.setdefault(str(plain(metric)["fields"]), {})[metric.name] = label, metric
    whole = [pair for pair in found.values() if len(pair) == 2]
    if not whole:
        return None
    best = min(whole, key=lambda pair: pair[Irrelevant.name][1].grid is None)
    return best[Irrelevant.name][0], best[Relevant.name][0]


__all__ = [
    "NAME",
    "Radii",
    "asked",
    "decided",
    "estimate",
    "measured",
    "predicted",
    "price",
    "refusal",
    "sentence",
    "work",
]
