"""The files of an experiment: a page with its pictures, the same in words for the documentation, and its tables."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pellucid import __version__
from pellucid.experiments.semantic import charts
from pellucid.experiments.semantic.blocks import Bars, Result, Table, Text
from pellucid.reporting import numerals, palette
from pellucid.reporting.page import TEMPLATES, environment

if TYPE_CHECKING:
    import pandas as pd

PAGE, WORDS = "page.html", "README.md"
MOST_LINES = 40
"""Lines of a table that are shown; all are written."""
MOST_WORDS = 15
"""Lines of a table up to which the words have it too."""


def files(result: Result) -> tuple[str, ...]:
    """Names of the files of an experiment."""
    return (PAGE, WORDS, *(f"{table.name}.csv" for table in result.tables))


def write(result: Result, command: str, places: dict[str, Path]) -> None:
    """Write every file to its place."""
    places[PAGE].write_text(page(result, command), encoding="utf-8")
    places[WORDS].write_text(words(result, command), encoding="utf-8")
    for table in result.tables:
        table.frame.to_csv(places[f"{table.name}.csv"], index=False, float_format="%.6g")


def page(result: Result, command: str) -> str:
    """The page as text."""
    from markupsafe import Markup

    now = datetime.now(UTC).astimezone()
    text: str = (
        environment()
        .get_template("experiment.html")
        .render(
            result=result,
            today=f"{now.day} {now:%b %Y}",
            tokens=palette.TOKENS,
            ends={"plus": palette.POSITIVE, "minus": palette.NEGATIVE, "zero": palette.ZERO, "wash": palette.WASH},
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704 - a file of this package
            drawing=charts.drawing,
            columns=charts.columns,
            numbers=charts.numbers,
            lines=lines,
            facts=[*result.facts, ("Made", made(command))],
        )
    )
    return text


def made(command: str) -> str:
    """The command and the versions."""
    return (
        f"{command}\npellucid {__version__}, torch {torch.__version__.partition('+')[0]}, "
        f"Python {platform.python_version()}."
    )


def lines(frame: pd.DataFrame) -> list[list[str]]:
    """The first lines of a table as a reader should meet them."""
    return [[cell(value) for value in row] for row in frame.head(MOST_LINES).itertuples(index=False)]


def cell(value: Any) -> str:
    """An entry of a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return numerals.figure(value)
    return numerals.NONE if value is None else str(value)


def words(result: Result, command: str) -> str:
    """The findings, tables and bars as Markdown."""
    parts = [
        f"# {result.title}",
        result.question,
        f"[The page]({PAGE}) has the pictures; the tables are beside it as csv.",
    ]
    parts += ["\n".join(f"- {sentence}" for sentence in result.headline)]
    if result.claims:
        rows = [[c.text, c.source, f"**{c.outcome}**", c.reason] for c in result.claims]
        parts += ["## What was claimed, and what is found", _markdown(["claim", "where", "here", "why"], rows)]
    for section in result.sections:
        body = []
        for block in section.blocks:
            if isinstance(block, Text):
                body.append(block.text)
            elif isinstance(block, Table) and block.shown and len(block.frame) <= MOST_WORDS:
                body += [block.caption] * bool(block.caption)
                body.append(_markdown([str(c) for c in block.frame.columns], lines(block.frame)))
            elif isinstance(block, Bars):
                body += [f"{block.title}. {block.caption}".rstrip(". ") + ":"]
                entries = [[name, *row] for name, row in zip(block.features, charts.numbers(block), strict=True)]
                body.append(_markdown(["", *(s.label for s in block.series)], entries))
        if body:
            parts += [f"## {section.title}", *body]
    parts += ["## How this was made", *(f"**{name}.** {text}" for name, text in result.facts)]
    first, _, rest = made(command).partition("\n")
    parts += [f"```sh\n{first}\n```", rest]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    def line(entries: list[str]) -> str:
        return "| " + " | ".join(entry.replace("|", "\\|") for entry in entries) + " |"

    return "\n".join([line(heads), line(["---"] * len(heads)), *(line(row) for row in rows)])
