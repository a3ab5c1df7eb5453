"""What a page is made of: text, tables, bars, lines, pictures and claims, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from pellucid.experiments.findings import Claim
from pellucid.generative.fit import Fitted

Array = np.ndarray[Any, Any]

STYLES = ("accent", "plus", "minus", "trust", "unclear", "soft")
"""Colours of series, in the order in which they are taken; dashes tell lines apart as well."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True, eq=False)
class Table:
    """A table, shown and written to ``name``.csv; ``shown`` False: written only. ``frame``: a DataFrame, or what one is
    made of, such as a list of dicts."""

    name: str
    frame: Any
    caption: str = ""
    shown: bool = True
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        import pandas as pd

        object.__setattr__(self, "frame", pd.DataFrame(self.frame))


def losses(fitted: Fitted, lines: int = 200) -> Table:
    """The record of a training as means over stretches of it, since a step has the terms of one part alone."""
    frame = fitted.losses
    size = max(1, -(-len(frame) // lines))
    means = frame.groupby((frame.index - 1) // size).mean()
    means.insert(0, "up to step", np.minimum(size * (np.arange(len(means)) + 1), len(frame)))
    return Table("losses", means, shown=False)


@dataclass(frozen=True, eq=False)
class Series:
    """Values (n,) under a label, with standard errors (n,) where they are known."""

    label: str
    values: Array
    errors: Array | None = None
    style: str = "accent"


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars with 95 % whiskers: a line for each feature, a column for each series; all on one scale, or each on its
    own."""

    title: str
    features: tuple[str, ...]
    series: tuple[Series, ...]
    caption: str = ""
    shared: bool = True
    kind: ClassVar[str] = "bars"


@dataclass(frozen=True, eq=False)
class Lines:
    """Series over ``x`` (n,) with 95 % bands, in one drawing; ``across`` says what x is, ``up`` what the values are;
    ``marks`` are places on x that the eye should find."""

    title: str
    x: Array
    series: tuple[Series, ...]
    across: str
    up: str
    caption: str = ""
    marks: tuple[tuple[float, str], ...] = ()
    kind: ClassVar[str] = "lines"


@dataclass(frozen=True)
class Tile:
    """A picture (data URI, see ``tiles``) with a few words under it."""

    src: str
    words: str
    alt: str = ""


@dataclass(frozen=True)
class Strip:
    """Pictures side by side under a name; None leaves a place empty."""

    name: str
    tiles: tuple[Tile | None, ...]


@dataclass(frozen=True)
class Gallery:
    """Strips under one another; ``columns`` are the heads of their places."""

    title: str
    strips: tuple[Strip, ...]
    columns: tuple[str, ...] = ()
    caption: str = ""
    kind: ClassVar[str] = "gallery"


Block = Text | Table | Bars | Lines | Gallery


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, eq=False)
class Result:
    """One experiment as it came out.

    ``headline``: what it says, a sentence each; ``claims``: the paper's findings and whether they hold here; ``facts``:
    how it was made, by name; ``short``: as the run is called in a list of pages.
    """

    name: str
    title: str
    question: str
    headline: tuple[str, ...]
    claims: tuple[Claim, ...]
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...] = ()
    source: str = ""
    tables: tuple[Table, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = tuple(b for section in self.sections for b in section.blocks if isinstance(b, Table))
        object.__setattr__(self, "tables", found)
