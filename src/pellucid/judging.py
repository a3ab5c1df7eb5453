"""Verdicts: five checks of a method, each with its figure and a threshold written down here.

1. *Beats random.* Insertion minus deletion on the common grid, under the reference that is no method's own baseline,
   exceeds the mean of 10 random orders: the 95 % interval of the paired difference lies above 0, and Wilcoxon's p after
   Holm's correction is under .05. It fails where the interval ends at or below 0. Under 12 rows there is no test, and
   an interval alone decides nothing.
2. *Depends on the weights.* With the last layer drawn afresh (three times, each for a third of the rows, at most 40
   rows in all, class held fixed) the rank correlation of the map with the original is under .7.
3. *Survives a change of reference.* Its place among the methods changes by at most one under the second reference, in
   at least 80 % of bootstrap resamples of the rows.
4. *Finds a planted tag.* On digits whose class is decided by a small tag, at least half of its top pixels lie in the
   tag (as many pixels are taken as the tag has bright ones, so that a method which is blind to black pixels can still
   find it whole).
5. *Robust anchors.* With the top fifth of the positions held, on the common grid, the smallest change that alters the
   prediction is larger than with random positions held; with that fifth alone free it is smaller. Both against the mean
   of 5 random orders, as shares of it, on at most 40 rows, those where the predicted class is explained: both 95 %
   intervals lie above 0, and both of Wilcoxon's p after Holm's correction over methods and criteria are under .05. It
   fails where either interval ends at or below 0. It needs no reference. It does not apply to a method that searches
   for these radii; nor, since a radius is dear, to models without gradients or to rows of over 10,000 entries; nor to
   tables without bounds, whose columns have units of their own; unless the comparison asks for both metrics, whose
   figures are then used.

Trust: the first check and at least three in all pass, and none fails. Do not trust: check 1, 2 or 4 fails. Unclear:
anything else. So the fifth counts as the third does: failing it withholds trust and proves nothing worse, since what
an attack moves is not all that a model uses.
"""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from pellucid.api import explain
from pellucid.core import rng
from pellucid.core.budget import Run
from pellucid.core.errors import Unreliable
from pellucid.core.explanation import Explanation
from pellucid.core.inputs import Inputs
from pellucid.core.method import Method, plain
from pellucid.core.model import Model
from pellucid.core.question import Question
from pellucid.core.removal import Baseline, Marginal
from pellucid.core.scores import Scores
from pellucid.core.verdict import Check, Verdict
from pellucid.metrics import anchoring
from pellucid.metrics.metric import Metric
from pellucid.metrics.perturbation import Perturbation
from pellucid.metrics.statistics import LEAST_ROWS, holm, interval, paired, rank_correlation, top
from pellucid.metrics.units import position_scores

REDRAWS = 3
REDRAWN_ROWS = 40
WEIGHTS_THRESHOLD = 0.7
RANK_SHARE = 0.8
RANK_SHARE_FAIL = 0.5
TAG_THRESHOLD = 0.5
TAG_ROWS = 40
SIGNIFICANT = 0.05
FAILURES = (ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What a method may raise where it cannot run, a user's own included; the check then does not apply and says why."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the checks look at."""

    model: Model
    x: Inputs
    question: Question
    explanations: Mapping[str, Explanation]
    wanted: Mapping[str, Method | Explanation]
    metrics: Mapping[str, Metric]
    scores: Scores
    control: Mapping[tuple[str, str], np.ndarray]
    seed: int
    run: Run


def decide(evidence: Evidence) -> list[Verdict]:
    """A verdict for every method, controls included (their checks are shown, their word is "control")."""
    random, reference, anchors = beats_random(evidence), survives_reference(evidence), robust_anchors(evidence)
    verdicts = []
    for done, (label, e) in enumerate(evidence.explanations.items()):
        checks = (
            random[label],
            depends_on_weights(evidence, label),
            reference[label],
            finds_tag(evidence.wanted[label]),
            anchors[label],
        )
        if evidence.run.progress is not None:
            evidence.run.progress("checks", done + 1, len(evidence.explanations))
        word, reason = (
            ("control", "a trivial control, not an explanation") if e.details.get("control") else verdict_of(checks)
        )
        verdicts.append(Verdict(label, word, checks, reason))
    return verdicts


def verdict_of(checks: tuple[Check, ...]) -> tuple[str, str]:
    """The word that checks 1 to 5 lead to, and the sentence that says which one decided."""
    failed = [check for check in (checks[0], checks[1], checks[3]) if check.passed is False]
    if failed:
        return "do not trust", failed[0].reason
    passed = [check for check in checks if check.passed]
    against = [check for check in checks if check.passed is False]
    if checks[0].passed and len(passed) >= 3 and not against:
        return "trust", f"{len(passed)} of {len(checks)} checks pass and none fails"
    open_ = [check for check in checks if check.passed is None]
    return "unclear", (against or open_)[0].reason


def beats_random(evidence: Evidence) -> dict[str, Check]:
    """Check 1 for every method; p-values are corrected over the methods."""
    name = "beats random order"
    pairs = _pairs(evidence)
    if not pairs:
        reason = "no insertion and deletion under one reference were asked for"
        return {label: Check.silent(name, 0.0, reason) for label in evidence.explanations}
    pair = pairs[0]
    judged = [label for label, e in evidence.explanations.items() if not e.details.get("control")]
    differences = {}
    for label in evidence.explanations:
        score = evidence.scores.cell(label, pair[0]).values - evidence.scores.cell(label, pair[1]).values
        chance = evidence.control[label, pair[0]] - evidence.control[label, pair[1]]
        differences[label] = paired(score, chance, evidence.seed)
    corrected = dict(zip(judged, holm([differences[label].p_wilcoxon for label in judged]), strict=True))
    checks = {}
    for label, d in differences.items():
        p = corrected.get(label, d.p_wilcoxon)
        passed = None if p is None else True if d.low > 0 and p < SIGNIFICANT else False if d.high <= 0 else None
        tested = f", p = {p:.2g} (Wilcoxon, Holm)" if p is not None else f" (under {LEAST_ROWS} rows: interval only)"
        verb = {True: "beats", False: "does not beat", None: "is not shown to beat"}[passed]
        gained = f"{d.mean:+.2g} [{d.low:+.2g}, {d.high:+.2g}]"
        reason = f"{verb} random order: {gained} in insertion minus deletion{tested}"
        checks[label] = Check(name, d.mean, d.low, d.high, 0.0, passed, reason)
    return checks


def depends_on_weights(evidence: Evidence, label: str) -> Check:
    """Check 2: rank correlation of the map with the one of a model whose last layer is random."""
    name, method, original = "depends on the weights", evidence.wanted[label], evidence.explanations[label]
    if isinstance(method, Explanation):
        return Check.silent(
            name,
            WEIGHTS_THRESHOLD,
            "the explanation was made elsewhere, so it cannot be made again with random weights",
        )
    count = min(len(original), REDRAWN_ROWS)
    share = -(-count // REDRAWS)  # each draw of the weights judges its own rows: no row is explained twice
    found = []
    try:
        for redraw, start in enumerate(range(0, count, share)):
            rows = slice(start, min(start + share, count))
            # Not 0, 1, 2: a user may well have drawn the last layer under these.
            draw = int(rng.integers(evidence.seed, "judging.weights", redraw, 0, 1, 1, 2**31))
            with warnings.catch_warnings():  # what a random net does to a method is the figure, not news
                warnings.simplefilter("ignore", Unreliable)
                again = explain(
                    evidence.model.randomised(draw),
                    replace(evidence.x, tensor=evidence.x.tensor[rows]),
                    of_rows(method, evidence.x.tensor, rows),
                    target=evidence.question.target.take(rows),
                    seed=evidence.seed,
                    run=replace(evidence.run, progress=None),
                    first_row=start,
                )
            maps = [position_scores(e).flatten(1).numpy() for e in (original[rows], again)]
            found.append(rank_correlation(*maps))
    except FAILURES as error:
        return Check.silent(name, WEIGHTS_THRESHOLD, f"could not run with random weights: {error}")
    rho = np.concatenate(found)
    values = rho[np.isfinite(rho)]
    if len(values) == 0:
        return Check.silent(
            name, WEIGHTS_THRESHOLD, "the map is constant under random weights, so it has no order to compare"
        )
    mean, (low, high) = float(values.mean()), interval(values, evidence.seed)
    low, high = (mean, mean) if math.isnan(low) else (low, high)
    passed = True if high < WEIGHTS_THRESHOLD else False if low >= WEIGHTS_THRESHOLD else None
    verb = {True: "changes", False: "hardly changes", None: "may hardly change"}[passed]
    reason = (
        f"{verb} when the last layer is randomised: rank correlation {mean:.2f} [{low:.2f}, {high:.2f}] "
        "with the original"
    )
    return Check(name, mean, low, high, WEIGHTS_THRESHOLD, passed, reason)


def survives_reference(evidence: Evidence) -> dict[str, Check]:
    """Check 3: the share of bootstrap resamples in which a method's place changes by at most one between two
    references."""
    name = "survives a change of reference"
    pairs = _pairs(evidence)
    judged = [label for label, e in evidence.explanations.items() if not e.details.get("control")]
    if len(pairs) < 2 or len(judged) < 3:
        reason = "needs insertion and deletion under two references and at least three methods"
        return {label: Check.silent(name, RANK_SHARE, reason) for label in evidence.explanations}

    def net(pair: tuple[str, str]) -> np.ndarray:
        return np.stack(
            [evidence.scores.cell(m, pair[0]).values - evidence.scores.cell(m, pair[1]).values for m in judged]
        )

    a, b = map(net, pairs)
    rows = a.shape[1]
    draws = np.random.default_rng(evidence.seed).integers(0, rows, (1000, rows))
    places = [(-side[:, draws].mean(2)).argsort(0, kind="stable").argsort(0, kind="stable") for side in (a, b)]
    moved = np.abs(places[0] - places[1])
    checks = {}
    for label in evidence.explanations:
        if label not in judged:
            checks[label] = Check.silent(name, RANK_SHARE, "a control has no place among the methods")
            continue
        i = judged.index(label)
        share = float((moved[i] <= 1).mean())
        places_now = [int((-side.mean(1)).argsort(kind="stable").argsort(kind="stable")[i]) + 1 for side in (a, b)]
        passed = True if share >= RANK_SHARE else False if share < RANK_SHARE_FAIL else None
        reason = (
            f"place {places_now[0]} of {len(judged)} under one reference, {places_now[1]} under the "
            f"other; within one place in {share:.0%} of resamples"
        )
        checks[label] = Check(name, share, share, share, RANK_SHARE, passed, reason)
    return checks


def finds_tag(method: Method | Explanation) -> Check:
    """Check 4: precision of the top pixels on digits whose class is decided by a planted tag."""
    name = "finds a planted tag"
    if isinstance(method, Explanation):
        return Check.silent(
            name, TAG_THRESHOLD, "the explanation was made elsewhere, so its method cannot be run on the tagged digits"
        )
    try:
        values = _tag_precision(_Key(_transferred(method)))
    except FAILURES as error:
        return Check.silent(name, TAG_THRESHOLD, f"could not run on the tagged digits: {error}")
    mean, (low, high) = float(values.mean()), interval(values)
    low, high = (mean, mean) if math.isnan(low) else (low, high)
    passed = True if low > TAG_THRESHOLD else False if high < TAG_THRESHOLD else None
    verb = {True: "finds", False: "misses", None: "half finds"}[passed]
    return Check(
        name,
        mean,
        low,
        high,
        TAG_THRESHOLD,
        passed,
        f"{verb} a planted tag: {mean:.0%} [{low:.0%}, {high:.0%}] of its top pixels lie in it",
    )


def robust_anchors(evidence: Evidence) -> dict[str, Check]:
    """Check 5 for every method; p-values are corrected over the methods and both criteria."""
    question, labels, pair = evidence.question, evidence.explanations, anchoring.asked(evidence.metrics)
    reason = anchoring.refusal(question) or (None if pair else anchoring.price(question))
    if reason is not None:
        return {label: Check.silent(anchoring.NAME, 0.0, reason) for label in labels}
    if pair is None:
        progress = evidence.run.progress
        radii = anchoring.measured(
            question, labels, evidence.seed, lambda d, n: None if progress is None else progress("attacks", d, n)
        )
    else:
        radii = {
            label: anchoring.Radii(
                *(evidence.scores.cell(label, metric).values for metric in pair),
                *(evidence.control[label, metric] for metric in pair),
            )
            for label in labels
        }
    return anchoring.decided(radii, labels, question, evidence.seed)


class _Key:
    """A method as a cache key: its class and description, since arrays among hyper-parameters cannot be hashed."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.parts = type(method), json.dumps(method.describe(), sort_keys=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


@functools.lru_cache(maxsize=64)
def _tag_precision(key: _Key) -> np.ndarray:
    net, examples = _tagged()
    with warnings.catch_warnings():  # about these digits, not about the user's rows
        warnings.simplefilter("ignore", Unreliable)
        e = explain(net, examples.x, key.method, target=examples.y)
    tag = examples.truth["tag"].flatten(1)
    bright = (tag & (examples.x.flatten(1) > 0.5)).sum(1).numpy()
    chosen = top(position_scores(e).flatten(1).numpy(), bright)
    precision: np.ndarray = (chosen * tag.numpy()).sum(1) / bright
    return precision


@functools.cache
def _tagged() -> tuple[Any, Any]:
    """The net trained on tagged digits, and held-out digits that carry the tag and that it classifies by it."""
    import torch

    from pellucid import data

    net = data.tagged_digits_cnn()
    examples = data.tagged_digits("test")
    with torch.no_grad():
        right = net(examples.x).argmax(1) == examples.y
    kept = torch.nonzero(right & examples.truth["tag"].flatten(1).any(1)).reshape(-1)[:TAG_ROWS]
    return net, examples[kept]


def _transferred(method: Method) -> Method:
    """The method as it would be set up for the tagged digits: layers found by default, backgrounds and baselines of
    digits."""
    from pellucid import data

    def change(name: str, value: Any) -> Any:
        if name == "layer":
            return None
        if isinstance(value, Marginal):
            return Marginal(data.tagged_digits("train").x[: min(20, len(value.background))], value.samples)
        if isinstance(value, Baseline) and not isinstance(value.value, float):
            return Baseline(data.tagged_digits("train").x.mean(0))  # an array is what the inputs usually look like
        return value

    return _changed(method, change)


def of_rows(method: Method, x: Tensor, rows: slice) -> Method:
    """The method for some of the rows: a baseline that is given for every row is cut with them."""

    def change(name: str, value: Any) -> Any:
        if isinstance(value, Baseline) and isinstance(value.value, Tensor) and value.value.shape == x.shape:
            return replace(value, value=value.value[rows])
        return value

    return _changed(method, change)


def _changed(method: Method, change: Callable[[str, Any], Any]) -> Method:
    """The method with its hyper-parameters passed through a function of (name, value)."""
    if not is_dataclass(method):
        return method
    each = {f.name: getattr(method, f.name) for f in fields(method) if f.init}
    changes = {name: new for name, value in each.items() if (new := change(name, value)) is not value}
    return replace(method, **changes) if changes else method


def _pairs(evidence: Evidence) -> list[tuple[str, str]]:
    """Labels of (insertion, deletion) that differ in nothing else, under two references (or fewer): first the one that
    is no method's own baseline, on a common grid where there is one; then another reference, all else equal if it can
    be."""
    found: dict[str, dict[str, tuple[str, Perturbation]]] = {}
    for label, metric in evidence.metrics.items():
        if isinstance(metric, Perturbation):
            found.setdefault(json.dumps(plain(metric)["fields"]), {})[metric.name] = label, metric
    whole = [(pair["insertion"], pair["deletion"]) for pair in found.values() if len(pair) == 2]

    def matched(metric: Perturbation) -> bool:
        return any(metric.matched(e) for e in evidence.explanations.values())

    def setting(metric: Perturbation) -> tuple[Any, ...]:
        return metric.grid, metric.read, metric.fractions

    if not whole:
        return []
    first = min(whole, key=lambda pair: (matched(pair[0][1]), pair[0][1].grid is None))
    one = first[0][1]
    others = [pair for pair in whole if plain(pair[0][1].reference) != plain(one.reference)]
    others.sort(key=lambda pair: (setting(pair[0][1]) != setting(one), matched(pair[0][1])))
    return [(inserted[0], deleted[0]) for inserted, deleted in (first, *others[:1])]
