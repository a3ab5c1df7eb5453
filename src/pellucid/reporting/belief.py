"""What to believe: the first screen, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.scores import Cell
from pellucid.reporting import (
    contradictions,
    descriptions,
    figures,
    gallery,
    glossary,
    numerals,
    ranking,
    surfaces,
    trust,
)
from pellucid.reporting.references import display
from pellucid.reporting.sentences import Part, Sentence, Value, joined, say

AGREE = 0.5
"""Mean rank correlation from which methods are said to agree."""
FEW_ROWS = 12
"""Under this many inputs intervals are shown and no test is made."""


@dataclass(frozen=True)
class Standing:
    """A method in the roll of verdicts, and where its checks are."""

    title: str
    href: str


@dataclass(frozen=True)
class Group:
    """Methods that have one verdict for one reason; no reason is given for trust."""

    methods: tuple[Standing, ...]
    reason: str


@dataclass(frozen=True)
class Roll:
    """All methods with one verdict."""

    mark: trust.Mark
    groups: tuple[Group, ...]

    @property
    def count(self) -> int:
        """How many methods have this verdict."""
        return sum(len(group.methods) for group in self.groups)


@dataclass(frozen=True)
class Belief:
    """The first screen of a chapter: one input under the most trusted method, the verdicts, and what follows."""

    lead: gallery.Row | None
    caption: str
    rolls: tuple[Roll, ...]
    sentences: tuple[Sentence, ...]
    basis: str


def belief(comparison: Comparison, chapter: str) -> Belief:
    """What a reader should take away from a comparison."""
    method, caption = _lead(comparison)
    row = None if method is None else gallery.row(comparison, 0, f"{chapter}-lead", (method,))
    found = (_agreement(comparison), *_best(comparison), _contradiction(comparison, chapter), _size(comparison))
    said = tuple(sentence for sentence in found if sentence is not None)
    return Belief(row, caption, _rolls(comparison, chapter), said, _basis(comparison))


def _words(comparison: Comparison) -> dict[str, str]:
    return {verdict.method: verdict.word for verdict in comparison.decided}


def _lead(comparison: Comparison) -> tuple[str | None, str]:
    """The method whose map opens the page, and what to say of it."""
    words = _words(comparison)
    order = [m for m in ranking.standing(comparison.scores) if m in comparison.explanations]
    order += [m for m, e in comparison.explanations.items() if m not in order and not e.details.get("control")]
    order = [m for m in order if words.get(m) != "control"] or list(comparison.explanations)
    if not order:
        return None, ""
    for word in ("trust", "unclear"):
        for method in order:
            if words.get(method) == word:
                said = "the most trusted" if word == "trust" else "the least doubtful; no method earned trust"
                return method, f"{display(method)}, {said}"
    if words:
        return order[0], f"{display(order[0])}; no method earned trust, so do not rely on it"
    return order[0], f"{display(order[0])}; not judged"


def _rolls(comparison: Comparison, chapter: str) -> tuple[Roll, ...]:
    place = {method: i for i, method in enumerate(ranking.standing(comparison.scores))}
    rolls = []
    for word in ("trust", "unclear", "do not trust"):
        here = [(place.get(v.method, len(place)), i, v) for i, v in enumerate(comparison.decided) if v.word == word]
        groups: dict[str, list[Standing]] = {}
        for _, i, verdict in sorted(here, key=lambda entry: entry[:2]):
            reason = "" if word == "trust" else trust.because(verdict)
            groups.setdefault(reason, []).append(Standing(display(verdict.method), f"#{trust.anchor(chapter, i)}"))
        if groups:
            rolls.append(Roll(trust.mark(word), tuple(Group(tuple(m), reason) for reason, m in groups.items())))
    return tuple(rolls)


def _agreement(comparison: Comparison) -> Sentence | None:
    """Whether the trusted methods agree, and where they point in the first input."""
    words = _words(comparison)
    trusted = [m for m in comparison.agreement.methods if words.get(m) == "trust" and m in comparison.explanations]
    pairs = [pair for pair in contradictions.judged_pairs(comparison) if {pair[1], pair[2]} <= set(trusted)]
    if not pairs:
        return None
    names = joined(_name(method) for method in trusted)
    least = numerals.correlation(pairs[0][0])
    among = f"ρ\u00a0=\u00a0{least}" if len(trusted) == 2 else f"ρ\u00a0≥\u00a0{least} for every pair"
    if pairs[0][0] < AGREE:
        return say(
            "The trusted methods {names} do not all tell one story ([[rank correlation]] down to {least}).",
            names=names,
            least=least,
        )
    return say(
        "{names} agree ([[rank correlation]] {among}){where}.",
        names=names,
        among=among,
        where=_common_place(comparison, trusted),
    )


def _common_place(comparison: Comparison, methods: list[str]) -> str:
    """Where all of the methods have their positive evidence in the first input, if that is one place."""
    places = set()
    for method in methods:
        e = comparison.explanations[method]
        if surfaces.kind(e) != "image":
            return ""
        places.add(descriptions.region(descriptions.strong(surfaces.flat_map(e, 0))[0]))
    place = places.pop()
    return "" if places or place.startswith("spread") else f"; in the picture shown, the evidence for it lies {place}"


def _best(comparison: Comparison) -> list[Sentence]:
    """The best method by each criterion, and whether its lead over chance and over the next is more than luck."""
    scores = comparison.scores
    found = []
    for family in dict.fromkeys(cell.family for cell in scores.cells):
        metric = _headline(comparison, family)
        if metric is None:
            continue
        field = [
            c for c in scores.cells if c.metric == metric and c.measured and not c.control and math.isfinite(c.mean)
        ]
        field = [c for c in field if not c.matched]  # no method is praised for the criterion that it optimises
        field.sort(key=lambda cell: -cell.better * cell.mean)
        if len(field) < 2 or np.isfinite(field[0].values).sum() < figures.FEWEST_ROWS:
            continue
        test = next((t for t in comparison.test_rows if t["method"] == field[0].method and t["metric"] == metric), None)
        found.append(
            say(
                "Best by {family}: {best}{chance}; {lead}.",
                family=_family(family),
                best=_name(field[0].method),
                chance=_chance(test) or _constant(field[0]),
                lead=_margin(field[0], field[1:]),
            )
        )
    return found


def _family(family: str) -> Part:
    """The criterion, explained where the glossary has it."""
    key = glossary.key(family.partition("_")[0] if family in ranking.ATTACKS else family)
    return Part(display(family).lower(), term=key if key in glossary.TERMS else None)


def _headline(comparison: Comparison, family: str) -> str | None:
    """The metric that speaks for a family: no method's own reference and one grid for all, if there is such a one."""
    columns = [ranking.column(comparison.scores, m) for m in comparison.scores.metrics]
    cells = {cell.metric: cell for cell in comparison.scores.cells if cell.family == family}
    own = [c for c in columns if c.metric in cells]
    own.sort(key=lambda c: (c.matched, cells[c.metric].granularity == "features"))
    return own[0].metric if own else None


def _basis(comparison: Comparison) -> str:
    """The settings behind the sentences on what is best."""
    families = dict.fromkeys(cell.family for cell in comparison.scores.cells)
    metrics = [metric for family in families if (metric := _headline(comparison, family)) is not None]
    details = dict.fromkeys(ranking.column(comparison.scores, metric).detail for metric in metrics)
    shown = "; ".join(detail for detail in details if detail)
    return f"Figures here: {shown}. All others are under “Which is better”." if shown else ""


def _chance(test: Mapping[str, Any] | None) -> Sentence:
    if test is None:
        return ()
    p, low = test.get("p_wilcoxon_holm"), float(test.get("low", math.nan))
    gap = ranking.against_random(test)
    if p is not None and p < 0.05 and low > 0:
        return say(", [[significantly|significant]] better than [[random|random control]] order by {gap}", gap=gap)
    if p is None and low > 0:
        return say(", better than [[random|random control]] order by {gap}", gap=gap)
    return say(", yet not clearly better than [[random|random control]] order: {gap}", gap=gap)


def _constant(best: Cell) -> Sentence:
    """Whether the best is better than a constant guess, where that is the control."""
    guess = ranking.CONSTANT.get(best.family)
    if guess is None:
        return ()
    low, high = sorted((best.better * (best.low - guess), best.better * (best.high - guess)))
    word = "better than" if low > 0 else "worse than" if high < 0 else "not clearly better than"
    yet = "" if low > 0 else " yet"
    shown = numerals.figure(best.mean, 2)
    told = f"{shown}, where the guess scores {guess:g}"
    return say(",{yet} {word} a constant guess ({told})", yet=yet, word=word, told=told)


def _margin(first: Cell, others: list[Cell]) -> Sentence:
    """By how much the best leads the next, and which others cannot be told from it either."""
    gaps = {c.method: figures.paired_interval(first.better * (first.values - c.values)) for c in others}
    mean, low, high = gaps[others[0].method]
    name = _name(others[0].method)
    if not math.isfinite(low):
        return say("the next is {name}", name=name)
    shown = numerals.estimate(mean, low, high)
    gap = f"{shown[0]}, {shown[1]} to {shown[2]}"
    level = [_name(c.method) for c in others[1:] if gaps[c.method][1] <= 0]
    rest = say(", and over {names} too", names=joined(level)) if level else ()
    if low > 0:
        luck = say("; over {names} it may be luck", names=joined(level)) if level else ()
        return say("its lead over {name} ({gap}) is more than luck{luck}", name=name, gap=gap, luck=luck)
    return say("its lead over {name} ({gap}){rest} may be luck", name=name, gap=gap, rest=rest)


def _contradiction(comparison: Comparison, chapter: str) -> Sentence | None:
    pairs = contradictions.judged_pairs(comparison)
    if not pairs:
        return None
    rho, a, b = pairs[0]
    see = Part("see below", href=f"#{chapter}-contradictions")
    shown: dict[str, Value] = {"a": _name(a), "b": _name(b), "rho": numerals.correlation(rho), "see": see}
    if rho < contradictions.CONTRADICT:
        many = sum(pair[0] < contradictions.CONTRADICT for pair in pairs) - 1
        rest = f", and so do {numerals.plural(many, 'other pair')}" if many else ""
        return say("{a} and {b} contradict each other ([[rank correlation]] {rho}){rest}: {see}.", **shown, rest=rest)
    if rho < AGREE:
        return say("{a} and {b} agree least ([[rank correlation]] {rho}): {see}.", **shown)
    return say(
        "No two methods contradict each other; {a} and {b} agree least ([[rank correlation]] {rho}): {see}.", **shown
    )


def _size(comparison: Comparison) -> Sentence | None:
    rows = max((len(e) for e in comparison.explanations.values()), default=0)
    if not comparison.scores.cells or rows >= FEW_ROWS:
        return None
    if rows == 1:
        return say(
            "There is one input only: figures have no interval, and nothing can be concluded about other inputs."
        )
    return say(
        "With {n} there are [[intervals|95 % interval]] but no tests: under {few} a test could not be trusted.",
        n=numerals.plural(rows, "input"),
        few=str(FEW_ROWS),
    )


def _name(method: str) -> Part:
    return Part(display(method), strong=True)
