"""Settings of a recipe against their annotations: what is of the wrong kind is refused when it is given, not later."""

from __future__ import annotations

import functools
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
from torch import Tensor

from pellucid.core.errors import BadInput

P = ParamSpec("P")
T = TypeVar("T")

_NUMBERS: dict[Any, type] = {int: numbers.Integral, float: numbers.Real}
_ONE: dict[Any, str] = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
_SEVERAL: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "texts"}


def checked(recipe: Callable[P, T]) -> Callable[P, T]:
    """A recipe that refuses settings which are not of the annotated kind, and takes numpy's numbers for Python's.

    Numbers, texts, None, classes, and sequences of them are checked; ``Any`` is not. What the recipe itself says of a
    value comes first, since it names the range.
    """
    title, signature = _title(recipe), inspect.signature(recipe)

    @functools.wraps(recipe)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            given, hints = signature.bind(*args, **kwargs), _hints(recipe)
        except TypeError:  # too few or too many: Python says it best
            return recipe(*args, **kwargs)
        for key in given.arguments.keys() & hints.keys():
            given.arguments[key] = _number(given.arguments[key])
        try:
            made = recipe(*given.args, **given.kwargs)
        except Exception as error:
            if not str(error).startswith((title, recipe.__name__)):
                _check(title, given.arguments, hints)
            raise
        _check(title, given.arguments, hints)
        return made

    return wrapper


def function_of(function: Any, where: str, *arguments: str) -> None:
    """Refuse what cannot be called with these arguments, one after the other."""
    wanted = f"{where}: expected a function of ({', '.join(arguments)}), got"
    if not callable(function):
        raise BadInput(f"{wanted} {_shown(function)}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # functions written in C need not tell
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise BadInput(f"{wanted} one of {signature}") from None


def _check(title: str, given: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    for key in given.keys() & hints.keys():
        if not _fits(given[key], hints[key]):
            raise BadInput(f"{title}: {key} must be {_expected(hints[key])}, got {_shown(given[key])}") from None


@functools.cache
def _hints(recipe: Callable[..., Any]) -> dict[str, Any]:
    """The annotated kinds of the parameters that say one. Read at the first call: annotations may name what the module
    defines later."""
    hints = typing.get_type_hints(recipe)
    return {key: hint for key, hint in hints.items() if hint is not Any and key != "return"}


def _number(value: Any) -> Any:
    """An array of no axes as the number it holds."""
    return value.item() if isinstance(value, (np.generic, np.ndarray, Tensor)) and value.ndim == 0 else value


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool)
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in typing.get_args(hint))
    if origin in (tuple, Sequence):
        entries = value.tolist() if isinstance(value, (np.ndarray, Tensor)) else value
        if not isinstance(entries, Collection) or isinstance(entries, str):
            return False
        kinds = typing.get_args(hint)
        fixed = origin is tuple and kinds[-1] is not Ellipsis
        return (not fixed or len(entries) == len(kinds)) and all(_fits(entry, kinds[0]) for entry in entries)
    kind = origin or hint
    if not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return True
    return isinstance(value, kind)


def _expected(hint: Any) -> str:
    if hint is None or hint is type(None):
        return "None"
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        *first, last = (_expected(one) for one in typing.get_args(hint))
        return f"{', '.join(first)} or {last}"
    if typing.get_origin(hint) in (tuple, Sequence):
        kinds = typing.get_args(hint)
        count = f"{len(kinds)} " if len(kinds) > 1 and kinds[-1] is not Ellipsis else ""
        return f"a sequence of {count}{_SEVERAL.get(kinds[0]) or f'{kinds[0].__name__}s'}"
    if typing.get_origin(hint) is Callable:
        return "a function"
    name = getattr(hint, "__name__", str(hint))
    return _ONE.get(hint) or f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _shown(value: Any) -> str:
    if isinstance(value, (np.ndarray, Tensor)):
        return f"an array of shape {tuple(value.shape)}"
    if value is None or isinstance(value, (bool, int, float, complex, str, list, tuple)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:60]}..."
    return f"a {type(value).__name__}"


def _title(recipe: Callable[..., Any]) -> str:
    """The name as users write it: ``rise``, ``attack.pgd``, ``removal.blur``."""
    _, room, *rest = recipe.__module__.split(".")
    room = rest[0] if room == "core" else room
    return recipe.__name__ if room in ("methods", "metrics") else f"{room}.{recipe.__name__}"
