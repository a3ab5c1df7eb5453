"""A chapter of the report: one comparison, seen from every side."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.core.comparison import Comparison
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
    Section("tables", 6, "Feature by feature"),
    Section("making", 7, "How this was made"),
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
    contradictions: contradictions.Contradictions | None
    trial: trust.Trial | None
    contrasts: tuple[contrast.Contrast, ...]
    tables: features.Tables | None
    further: tuple[ranking.Board, ...]
    places: tuple[places.Places, ...]
    placed: tuple[tuple[str, str], ...]
    unjudged: str
    provenance: provenance.Provenance

    @property
    def sections(self) -> tuple[Section, ...]:
        """The headings of this chapter."""
        lacking = {key for key, part in (("contrast", self.contrasts), ("tables", self.tables)) if not part}
        if self.unjudged:  # a reason on top says it once; elsewhere what is missing says how to get it
            scored = self.board or self.further or self.places
            judged = (("leaderboard", scored), ("contradictions", self.contradictions), ("checks", self.trial))
            lacking |= {key for key, part in judged if not part}
        there = [section for section in SECTIONS if section.key not in lacking]
        if self.unjudged:  # nothing to judge: what the chapter is about comes first
            there.sort(key=lambda section: section.key != "contrast")
        return tuple(Section(section.key, i + 1, section.title) for i, section in enumerate(there))

    @property
    def number(self) -> dict[str, int]:
        """The number of each section."""
        return {section.key: section.number for section in self.sections}

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
    def drawn(self) -> tuple[ranking.Line, ...]:
        """The methods that have a column among the curves, in the order of the panels."""
        shown = {panel.method for row in self.curves for panel in row.panels if panel is not None}
        return () if self.board is None else tuple(line for line in self.board.lines if line.method in shown)

    @property
    def tally(self) -> tuple[tuple[trust.Mark, int], ...]:
        """How many methods have each verdict."""
        return tuple((roll.mark, roll.count) for roll in self.belief.rolls)


def chapter(comparison: Comparison, number: int) -> Chapter:
    """The chapter of a comparison."""
    key = f"c{number}"
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
        belief.belief(comparison, key),
        gallery.gallery(comparison, key),
        {verdict.method: trust.mark(verdict.word) for verdict in comparison.decided},
        ranking.board(comparison),
        ranking.curves(comparison),
        contradictions.contradictions(comparison, key),
        trust.trial(comparison, key),
        contrast.contrasts(comparison),
        features.tables(comparison),
        ranking.further(comparison),
        places.places(comparison),
        tuple((m, display(m)) for m in places.drawn(comparison)),
        str(comparison.about.get("unjudged", "")),
        made,
    )
