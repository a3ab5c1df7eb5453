"""A chapter of the report: one comparison, seen from every side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pellucid.core.comparison import Comparison
from pellucid.core.explanation import Explanation
from pellucid.reporting import (
    belief,
    contradictions,
    contrast,
    features,
    gallery,
    numerals,
    places,
    provenance,
    ranking,
    semantic,
    surfaces,
    trust,
)
from pellucid.reporting.references import display


@dataclass(frozen=True)
class Section:
    """A heading of a chapter."""

    key: str
    number: int
    title: str


SECTIONS = (
    Section("gallery", 1, "Gallery"),
    Section("leaderboard", 2, "Which is better"),
    Section("contradictions", 3, "Who contradicts whom"),
    Section("checks", 4, "Checks"),
    Section("contrast", 5, "Why this and not that"),
    Section("semantic", 6, "In features that have a meaning"),
    Section("tables", 7, "Feature by feature"),
    Section("making", 8, "How this was made"),
)
"""All there can be, in order; a chapter that lacks one counts on without it."""


@dataclass(frozen=True)
class Chapter:
    """Everything the template shows of one comparison; a part that the comparison does not have is None."""

    key: str
    title: str
    subject: str
    belief: belief.Belief
    gallery: gallery.Gallery | None
    marks: dict[str, trust.Mark]
    board: ranking.Board | None
    curves: tuple[ranking.Curves, ...]
    drawn: tuple[tuple[str, str], ...]
    contradictions: contradictions.Contradictions | None
    trial: trust.Trial | None
    contrasts: tuple[contrast.Contrast, ...]
    meanings: tuple[semantic.Meaning, ...]
    tables: features.Tables | None
    further: tuple[tuple[ranking.Board, bool], ...]
    places: tuple[places.Places, ...]
    placed: tuple[tuple[str, str], ...]
    unjudged: str
    provenance: provenance.Provenance

    @property
    def sections(self) -> tuple[Section, ...]:
        """The headings of this chapter."""
        brought = (("contrast", self.contrasts), ("semantic", self.meanings), ("tables", self.tables))
        lacking = {key for key, part in brought if not part}
        if self.meanings and (self.gallery is None or (self.unjudged and self.repeated)):
            lacking.add("gallery")
        scored = self.board or self.further or self.places
        judged = (("leaderboard", scored), ("contradictions", self.contradictions), ("checks", self.trial))
        if self.unjudged:  # a reason on top says it once; elsewhere what is missing says how to get it
            lacking |= {key for key, part in judged if not part}
        elif self.contrasts or self.meanings:  # there is something to read: one such hint will do
            lacking |= {key for key, part in judged[1:] if not part}
        there = [section for section in SECTIONS if section.key not in lacking]
        if not self.trial:  # nothing is judged: what the chapter is about comes first
            place = ("contrast", "semantic", "gallery") if self.unjudged else ("gallery", "contrast", "semantic")
            there.sort(key=lambda section: place.index(section.key) if section.key in place else len(place))
        return tuple(Section(section.key, i + 1, section.title) for i, section in enumerate(there))

    @property
    def number(self) -> dict[str, int]:
        """The number of each section."""
        return {section.key: section.number for section in self.sections}

    @property
    def repeated(self) -> bool:
        """Whether the gallery would show again the maps that stand beside features with a meaning."""
        g = self.gallery
        return g is not None and len(g.methods) <= semantic.MAPS and g.total <= semantic.SHOWN

    @property
    def own_baselines(self) -> bool:
        """Whether some method takes one of the references of the places for absence itself."""
        return any(track is not None and track.matched for row in self.places for track in row.tracks)

    @property
    def attacked(self) -> str:
        """The sizes of the sets at which robustness is drawn, in words; empty where it is not."""
        reached = {row.reach for row in self.curves if row.family in ranking.ATTACKS}
        return f"0 to {numerals.percent(max(reached))}" if reached else ""

    @property
    def tally(self) -> tuple[tuple[trust.Mark, int], ...]:
        """How many methods have each verdict."""
        return tuple((roll.mark, roll.count) for roll in self.belief.rolls)


def chapter(comparison: Comparison, number: int) -> Chapter:
    """The chapter of a comparison."""
    key = f"c{number}"
    plain, named = semantic.parts(comparison)
    meanings = semantic.meanings(comparison, key)
    judged = plain if plain.explanations or not named else replace(plain, explanations=_local(named))
    rows = max((len(e) for e in comparison.explanations.values()), default=0)
    made = provenance.provenance(comparison)
    model = dict(made.facts).get("Model", "")
    title = str(
        comparison.about.get("title")
        or (f"{model}, {numerals.plural(rows, 'input')}" if model else numerals.plural(rows, "input"))
    )
    parts = (model if model not in title else "", str(comparison.about.get("data") or numerals.plural(rows, "input")))
    return Chapter(
        key,
        title,
        " · ".join(part for part in parts if part and part not in title),
        _with(belief.belief(judged, key), meanings),
        gallery.gallery(plain, key),
        {verdict.method: trust.mark(verdict.word) for verdict in comparison.decided},
        ranking.board(comparison),
        ranking.curves(comparison),
        tuple((m, display(m)) for m in ranking.columns(comparison)),
        contradictions.contradictions(plain, key),
        trust.trial(comparison, key),
        contrast.contrasts(comparison),
        meanings,
        features.tables(plain),
        ranking.further(comparison),
        places.places(comparison),
        tuple((m, display(m)) for m in places.drawn(comparison)),
        str(comparison.about.get("unjudged", "")),
        made,
    )


def _with(said: belief.Belief, meanings: tuple[semantic.Meaning, ...]) -> belief.Belief:
    """The first screen with what features that have a meaning say."""
    return replace(said, sentences=(*said.sentences, *(s for m in meanings for s in m.findings)))


def _local(named: Mapping[str, Explanation]) -> dict[str, Explanation]:
    """Those of single inputs."""
    return {label: e for label, e in named.items() if not surfaces.whole(e)}
