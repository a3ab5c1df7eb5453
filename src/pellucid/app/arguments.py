"""What a user types, as values: numbers, names, tuples, files, players, and methods such as
``integrated_gradients:steps=128``.

Nothing typed is ever evaluated as code; a text means what the annotation of the parameter says, or what it looks like.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pellucid.core.errors import BadInput, listing

_WORDS = {"none": None, "true": True, "false": False}
_CALL = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
_FILES = (".npy", ".csv", ".txt")


def recipes(texts: Sequence[str], catalogue: Sequence[Callable[..., Any]], kind: str) -> list[Any]:
    """The values of recipes named in texts: ``saliency,integrated_gradients:steps=128`` or one recipe a text.

    A comma (semicolon, space) starts a new recipe where the name of one follows; otherwise it belongs to an option.
    """
    names = "|".join(recipe.__name__ for recipe in catalogue)
    between = re.compile(rf"[,;\s]+(?=(?:{names})(?:[:,;\s]|$))")
    return [recipe(text, catalogue, kind) for typed in texts for text in between.split(typed.strip()) if text]


def recipe(text: str, catalogue: Sequence[Callable[..., Any]], kind: str) -> Any:
    """One recipe's value from ``name`` or ``name:option=value,option=value``."""
    name, _, options = text.partition(":")
    have = {recipe.__name__: recipe for recipe in catalogue}
    if name not in have:
        raise BadInput(f"{kind} {name!r} not found; have {listing(have, 40)}")
    return call(have[name], options)


def call(function: Callable[..., Any], options: str) -> Any:
    """What a function returns for options typed as ``option=value,option=value``; a bare first value is its first
    argument."""
    name, parameters = function.__name__, signature(function)
    given: dict[str, Any] = {}
    for option, text in _pairs(options):
        option = next(iter(parameters), "") if option is None else option
        if option not in parameters:
            raise BadInput(f"{name}: {option!r} is not one of its options; have {offer(parameters) or 'none'}")
        if option in given:
            raise BadInput(f"{name}: {option!r} is given twice")
        given[option] = convert(text, parameters[option].annotation, f"{name}: {option}")
    for parameter in parameters.values():
        if parameter.default is parameter.empty and parameter.name not in given:
            shape = "rows.npy" if parameter.name == "background" else "VALUE"
            raise BadInput(f"{name}: {parameter.name!r} must be given, as in {name}:{parameter.name}={shape}")
    return function(**given)


def signature(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a function or class by name, annotations as types."""
    return dict(inspect.signature(function, eval_str=True).parameters)


def convert(text: str, hint: Any, where: str) -> Any:
    """A text as a value of an annotated type; where the annotation says nothing, as what it looks like.

    >>> convert("128", int, "steps"), convert("none", float | None, "at"), convert("0,.5,1", tuple[float, ...], "at")
    (128, None, (0.0, 0.5, 1.0))
    """
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    hints = typing.get_args(hint) if union else (hint,)
    if type(None) in hints and text.strip().lower() == "none":
        return None
    for one in hints:
        kind = typing.get_origin(one) or one
        try:
            if kind is bool:
                return {"true": True, "false": False}[text.strip().lower()]
            if kind in (int, float, str, Path):
                return kind(text)
            if kind is tuple:
                return tuple(convert(part, typing.get_args(one)[0], where) for part in _elements(text))
        except (ValueError, KeyError):
            continue
        if kind is not type(None):
            return literal(text, where)
    words = {bool: "true or false", int: "a whole number", float: "a number", tuple: "numbers such as 0,1"}
    kinds = [typing.get_origin(one) or one for one in hints]
    expected = " or ".join("none" if kind is type(None) else words.get(kind, kind.__name__) for kind in kinds)
    raise BadInput(f"{where} must be {expected}, got {text!r}")


def literal(text: str, where: str) -> Any:
    """What a text looks like: none, true, false, a number, a file of numbers, a removal such as ``blur(5)``, a tuple,
    or a word."""
    plain = text.strip()
    if plain.lower() in _WORDS:
        return _WORDS[plain.lower()]
    for number in (int, float):
        try:
            return number(plain)
        except ValueError:
            pass
    if Path(plain).suffix.lower() in _FILES:
        return array(Path(plain), where)
    called = _CALL.fullmatch(plain)
    if called is not None:
        return _removal(called[1], called[2], where)
    parts = _elements(plain)
    return (
        plain if len(parts) == 1 and not plain.startswith(("(", "[")) else tuple(literal(part, where) for part in parts)
    )


def array(path: Path, where: str) -> Any:
    """The numbers in a .npy file or in the columns of a .csv, or the lines of a .txt as a tuple."""
    import numpy as np

    if not path.is_file():
        raise BadInput(f"{where}: there is no file {str(path)!r}")
    if path.suffix.lower() == ".txt":
        return lines(path, where)
    if path.suffix.lower() == ".csv":
        from pellucid.app.loading import table

        return table(path).to_numpy()
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(
            f"{where}: {str(path)!r} cannot be read as an array of numbers ({error}); write it with numpy.save"
        ) from None


def lines(path: Path, where: str) -> tuple[str, ...]:
    """The lines of a text file that are not empty."""
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{where}: {str(path)!r} cannot be read as text ({error})") from None


def labels(text: str, where: str) -> tuple[str, ...]:
    """Names from a file with one a line, or from a comma list.

    >>> labels("cat, dog", "labels")
    ('cat', 'dog')
    """
    path = Path(text)
    if path.is_file():
        return lines(path, where)
    if path.suffix.lower() == ".txt":
        raise BadInput(f"{where}: there is no file {text!r}")
    return tuple(part.strip() for part in text.split(","))


def target(text: str, where: str) -> Any:
    """Columns or labels, one for all rows or one a row: ``3``, ``cat``, ``all``, ``3,1,cat``, or a file of them.

    >>> target("3", "--target"), target("3,1", "--target"), target("crane (bird)", "--target")
    (3, (3, 1), 'crane (bird)')
    """
    if Path(text).suffix.lower() in _FILES:
        found = array(Path(text), where)
        parts = list(found) if isinstance(found, tuple) else [str(entry) for entry in found.reshape(-1).tolist()]
    else:
        parts = _split(text)
    each = tuple(int(part) if re.fullmatch(r"\s*[+-]?\d+\s*", part) else part.strip() for part in parts)
    return each[0] if len(each) == 1 else each


def division(text: str, where: str) -> Any:
    """Players from ``grid:14``, ``grid:4,6``, ``each``, ``positions``, or a file of integer labels."""
    from pellucid.core import players

    if Path(text).suffix.lower() in _FILES:
        return array(Path(text), where)
    return recipe(text, (players.grid, players.each, players.positions), "players")


def space(text: str, where: str) -> Any:
    """A space from ``fourier`` or ``fourier:bins=25``; others need functions, which Python has."""
    from pellucid import spaces

    return recipe(text, (spaces.fourier, spaces.wavelets), "space")


def _removal(name: str, options: str, where: str) -> Any:
    from pellucid.core import removal

    known = (removal.baseline, removal.mean, removal.blur, removal.uniform, removal.marginal)
    have = {recipe.__name__: recipe for recipe in known}
    if name not in have:
        raise BadInput(f"{where}: {name!r} is not a removal; have {listing(have)}")
    return call(have[name], options)


def _pairs(options: str) -> Iterator[tuple[str | None, str]]:
    """(option, value) of ``option=value,option=value``; a piece without = belongs to the value before it, as in
    ``at=0,.5,1``."""
    pieces: list[tuple[str | None, str]] = []
    for piece in _split(options):
        option, equals, value = piece.partition("=")
        if equals and option.strip().isidentifier():
            pieces.append((option.strip(), value.strip()))
        elif pieces:
            pieces[-1] = (pieces[-1][0], f"{pieces[-1][1]},{piece}")
        else:
            pieces.append((None, piece.strip()))
    return iter(pieces)


def _elements(text: str) -> list[str]:
    plain = text.strip()
    if plain[:1] + plain[-1:] in ("()", "[]"):
        plain = plain[1:-1]
    return [part.strip() for part in _split(plain)]


def _split(text: str) -> list[str]:
    """The pieces between commas that are outside of brackets."""
    pieces, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [piece for piece in pieces if piece.strip()]


def offer(parameters: dict[str, inspect.Parameter]) -> str:
    """Parameters with their defaults, as they are written in a call."""
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters.values())
