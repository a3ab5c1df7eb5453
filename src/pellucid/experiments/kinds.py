"""Kinds of rows: what is measured on digits, on photos and on sentences, and what the paper says of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pellucid.experiments import published

METHODS = (
    *("grad", "ig", "eg", "shap", "loo", "bbmp", "cfx", "greedy_as_irrelevant", "greedy_as_relevant"),
    *("greedy_irrelevant", "greedy_relevant", "banzhaf_irrelevant", "banzhaf_relevant", "random"),
)
ROBUSTNESS = ("robustness_irrelevant", "robustness_relevant")


@dataclass(frozen=True)
class Kind:
    """One kind of rows.

    ``one``: what a row is called; ``part``: what of it is ranked; ``most``: held-out rows there are; ``defaults``:
    settings where none are given; ``methods``: keys of those that are compared. ``pieces``: groups of numbers about
    each explanation. ``references``: of insertion and deletion, those in ``foreign`` no compared method's own;
    ``noise``: the one of Table 2. ``headline``: criteria that no method optimises or assumes; ``tables``: the paper's
    table of each criterion, in the order of the page; ``figures``: its figures; ``tested``: whom its Table 4 compares
    Greedy-AS with. ``counted``: sizes of relevant sets are numbers of parts, not shares in %.
    """

    name: str
    one: str
    part: str
    most: int
    defaults: Mapping[str, Any]
    pieces: tuple[str, ...]
    references: tuple[str, ...]
    foreign: tuple[str, ...]
    noise: str
    headline: tuple[str, ...]
    tables: Mapping[str, str]
    figures: Mapping[str, Mapping[str, float]]
    methods: tuple[str, ...] = METHODS
    tested: tuple[str, ...] = ()
    counted: bool = False
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def many(self) -> str:
        """Rows, in the plural."""
        return f"{self.one}s"

    @property
    def compared(self) -> tuple[str, ...]:
        """Criteria of the paired tests: those of Table 4, and the headline."""
        return (*ROBUSTNESS, f"insertion/{self.noise}", f"deletion/{self.noise}", *self.headline)

    @property
    def curves(self) -> tuple[str, ...]:
        """Criteria whose curves are drawn."""
        return (*ROBUSTNESS, f"insertion/{self.noise}", f"deletion/{self.noise}")


def _references(names: tuple[str, ...], tables: Mapping[str, str]) -> dict[str, str]:
    return {f"{kind}/{name}": tables[name] for kind in ("insertion", "deletion") for name in names}


_FOREIGN = ("insertion/foreign", "deletion/foreign")
_TIMES = {"explained": "11"}
DIGITS = Kind(
    name="digits",
    one="digit",
    part="pixel",
    most=1000,
    defaults={
        "examples": 100,
        "subsets": 1000,
        "banzhaf": 2000,
        "restarts": 10,
        "pgd_steps": 100,
        "few": 25,
        "released": 2,
        "sizes": (5, 10, 15, 20, 25, 30, 35, 40, 45),
    },
    pieces=("irrelevant", "relevant", "references", "planted"),
    references=published.REFERENCES,
    foreign=published.FOREIGN,
    noise="uniform",
    headline=(*_FOREIGN, "planted"),
    tables={
        **dict.fromkeys((*_FOREIGN, "planted"), "headline"),
        **dict.fromkeys(ROBUSTNESS, "1, 3"),
        **_references(published.REFERENCES, dict.fromkeys(published.REFERENCES, "5") | {"uniform": "2, 5"}),
        "randomised": "7",
        **dict.fromkeys(("sensitivity", "floor"), "8"),
        "seconds": "11",
        **_TIMES,
        "released": "11",
    },
    figures=published.FIGURES,
    tested=published.TESTED,
    words={"planted": "planted tag: share of the top 8 pixels inside it"},
)
TEXT = Kind(
    name="text",
    one="sentence",
    part="word",
    most=1000,
    defaults={
        "examples": 50,
        "subsets": 200,
        "banzhaf": 500,
        "restarts": 4,
        "pgd_steps": 100,
        "few": 0,
        "released": 0,
        "sizes": (1, 2, 3, 4, 5),
    },
    pieces=("irrelevant", "relevant", "references", "keywords"),
    references=("0", "words"),
    foreign=("words",),
    noise="words",
    headline=("insertion/words", "deletion/words", "precision"),
    tables={
        **dict.fromkeys(("insertion/words", "deletion/words", "precision"), "headline"),
        **dict.fromkeys(ROBUSTNESS, "9"),
        **_references(("0", "words"), {"0": "9", "words": "2, 9"}),
        **dict.fromkeys(("precision@1", "precision@2", "precision@3", "precision@4", "precision@5"), "10"),
        **_TIMES,
    },
    figures=published.TEXT,
    methods=(
        *("grad", "ig", "eg", "shap", "loo", "cfx", "greedy_as_irrelevant", "greedy_as_relevant"),
        *("greedy_irrelevant", "greedy_relevant", "banzhaf_irrelevant", "banzhaf_relevant", "anchor", "random"),
    ),
    counted=True,
    words={
        "precision": "keywords: mean precision at 1 to 5",
        **{f"precision@{k}": f"precision at {k}" for k in range(1, 6)},
        "insertion/words": "insertion, random words as reference",
        "deletion/words": "deletion, random words as reference",
    },
)
PHOTOS = Kind(
    name="photos",
    one="photo",
    part="cell",
    most=20,
    defaults={
        "examples": 4,
        "subsets": 30,
        "banzhaf": 40,
        "restarts": 1,
        "pgd_steps": 10,
        "few": 0,
        "released": 0,
        "sizes": (10, 20, 30),
    },
    pieces=("irrelevant", "relevant", "references"),
    references=published.REFERENCES,
    foreign=published.FOREIGN,
    noise="uniform",
    headline=_FOREIGN,
    tables={
        **dict.fromkeys(_FOREIGN, "headline"),
        **dict.fromkeys(ROBUSTNESS, "1, 3"),
        **_references(published.REFERENCES, dict.fromkeys(published.REFERENCES, "5") | {"uniform": "2"}),
        **_TIMES,
    },
    figures=published.PHOTOS,
    methods=(
        *("grad", "ig", "eg", "shap", "loo", "bbmp", "cfx", "greedy_as_irrelevant", "greedy_as_relevant"),
        *("banzhaf_irrelevant", "banzhaf_relevant", "random"),
    ),
)
KINDS = {kind.name: kind for kind in (DIGITS, PHOTOS, TEXT)}
