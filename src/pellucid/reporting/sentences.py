"""Plain sentences whose technical words lead to the glossary: text, never HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pellucid.reporting import glossary


@dataclass(frozen=True)
class Part:
    """A piece of a sentence: plain, a glossary term, a link, or a method's name (strong)."""

    text: str
    term: str | None = None
    href: str | None = None
    strong: bool = False


Sentence = tuple[Part, ...]
Value = str | Part | Sentence

_MARKS = re.compile(r"\[\[(?P<word>[^\]|]+)(?:\|(?P<term>[^\]]+))?\]\]|\{(?P<name>\w+)\}")


def say(template: str, **values: Value) -> Sentence:
    """A sentence from a template: ``[[word]]`` and ``[[word|term]]`` are glossary terms, ``{name}`` takes a value.

    >>> plain(say("They agree ([[rank correlation]] {rho}).", rho=".71"))
    'They agree (rank correlation .71).'
    """
    parts: list[Part] = []
    end = 0
    for mark in _MARKS.finditer(template):
        if mark.start() > end:
            parts.append(Part(template[end : mark.start()]))
        if mark["name"] is not None:
            value = values[mark["name"]]
            parts += [Part(value)] if isinstance(value, str) else [value] if isinstance(value, Part) else value
        else:
            term = glossary.key(mark["term"] or mark["word"])
            if term not in glossary.TERMS:
                raise KeyError(f"the glossary does not explain {mark['term'] or mark['word']!r}")
            parts.append(Part(mark["word"], term=term))
        end = mark.end()
    if end < len(template):
        parts.append(Part(template[end:]))
    return tuple(parts)


def plain(sentence: Iterable[Part]) -> str:
    """The sentence as text."""
    return "".join(part.text for part in sentence)


def joined(parts: Iterable[Part], last: str = "and") -> Sentence:
    """A list in words: a, b and c.

    >>> plain(joined([Part("a"), Part("b"), Part("c")]))
    'a, b and c'
    """
    each = list(parts)
    out: list[Part] = []
    for i, part in enumerate(each):
        if i:
            out.append(Part(f" {last} " if i == len(each) - 1 else ", "))
        out.append(part)
    return tuple(out)
