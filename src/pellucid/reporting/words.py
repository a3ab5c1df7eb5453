"""A figure for texts: the words of a sentence on the colour of their values, one block for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.reporting import palette, surfaces
from pellucid.reporting.plot import Drawing, hexadecimal
from pellucid.reporting.references import display

_COLUMNS, _WIDTH, _LINE, _SIZE = 84, 7.0, 0.27, 9.5
"""Letters a line, inches a line is wide and high, points of a letter; all letters are equally wide."""
_INK, _SOFT = "#1b1a18", "#5b5852"


def sentence(
    explanations: Mapping[str, Explanation] | Explanation,
    words: Sequence[str],
    row: int = 0,
    marked: Sequence[bool] | None = None,
) -> Drawing:
    """Which words decide? The sentence as it is read, each word on the colour of its value: orange-red speaks for the
    explained output, blue against it.

    ``explanations``: one, or several by name, whose features (or tokens) in ``row`` are the ``words``, in order. Full
    colour is the largest |value| of the sentence, printed beside the name. A word whose 95 % interval (1.96 standard
    errors) holds 0 is written in light letters. ``marked``: words to underline, such as those that people call good.
    """
    named = {str(explanations.method["name"]): explanations} if isinstance(explanations, Explanation) else explanations
    if not named:
        raise BadInput("words.sentence: nothing to draw; pass at least one explanation")
    each = {name: _values(e, row, len(words)) for name, e in named.items()}
    under = np.zeros(len(words), dtype=bool) if marked is None else np.asarray(marked, dtype=bool)
    if under.shape != (len(words),):
        raise BadInput(f"words.sentence: marked must say of each of {len(words)} words, got shape {under.shape}")
    places, lines = _layout(words)
    block = lines + 1.6
    figure = Drawing(figsize=(_WIDTH, _LINE * block * len(each) + 0.1))
    ax = figure.add_axes((0.02, 0.0, 0.96, 1.0))
    ax.set(xlim=(-0.5, _COLUMNS), ylim=(block * len(each), 0))
    ax.set_axis_off()
    for number, (name, (values, unsure)) in enumerate(each.items()):
        top, scale = number * block, float(np.abs(values).max())
        title = f"{display(name)}: {surfaces.scale_words(named[name], row, scale)}"
        ax.text(0, top + 0.75, title, color=_SOFT, fontsize=_SIZE - 1, va="center")
        for word, (line, start), value, pale, line_under in zip(words, places, values, unsure, under, strict=True):
            _word(ax, word, (start, top + 1.6 + line), _shade(value, scale), pale, line_under)
    return figure


def _word(ax: Any, word: str, at: tuple[float, float], shade: tuple[int, int, int], pale: bool, under: bool) -> None:
    x, y = at
    ax.barh(y, len(word) + 0.6, 0.84, left=x - 0.3, color=hexadecimal(shade), linewidth=0)
    dark = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2] < 140
    colour = ("#ffffff" if dark else _INK) if not pale else ("#d9d5cc" if dark else "#8a867d")
    for place, letter in enumerate(word):  # one by one, so that no font moves them
        ax.text(x + place + 0.5, y, letter, color=colour, fontsize=_SIZE, family="monospace", va="center", ha="center")
    if under:
        ax.plot([x, x + len(word)], [y + 0.36] * 2, color=colour, linewidth=1)


def _layout(words: Sequence[str]) -> tuple[list[tuple[int, int]], int]:
    """Line and first column of every word, and how many lines there are."""
    places, line, column = [], 0, 0
    for word in words:
        if column and column + len(word) > _COLUMNS:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(word) + 1
    return places, line + 1


def _shade(value: float, scale: float) -> tuple[int, int, int]:
    """The colour of a value on white."""
    pixel = palette.over(palette.rgba(np.array([[value]]), scale), np.full((1, 1, 3), 255))[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])


def _values(e: Explanation, row: int, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A value for each word, and whether its interval holds 0."""
    if not 0 <= row < len(e):
        raise BadInput(f"words.sentence: row must be 0..{len(e) - 1}, got {row}")
    whole = e.dims[:1] == ("player",) or e.values[row].squeeze().ndim == 1
    values = surfaces.bars_in_order(e, row) if whole else np.asarray(e.map()[row], dtype=np.float64).reshape(-1)
    if len(values) != count:
        raise BadInput(
            f"words.sentence: {count} words were given for {len(values)} features of row {row}; pass the words that "
            "the features stand for, in order"
        )
    if e.details.get("pertinent") is not None:
        values = values * np.asarray(e.details["pertinent"][row], dtype=np.float64).reshape(-1)
    errors = surfaces.errors_in_order(e, row) if whole else None
    unsure = np.zeros(count, dtype=bool) if errors is None else np.abs(values) < 1.96 * errors
    return values, unsure


__all__ = ["sentence"]
