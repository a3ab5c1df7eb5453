"""The three ways pellucid says that something is wrong."""

from __future__ import annotations

from collections.abc import Iterable


class BadInput(ValueError):
    """The caller passed something that cannot be used; the message says what was expected, what came and the fix."""


class Unsupported(TypeError):
    """The request is well formed but cannot be done right on this model; the message names methods that would work."""


class Unreliable(UserWarning):
    """A number was computed but should not be believed as it stands; the message says why and what to do."""


def listing(names: Iterable[object], limit: int = 8) -> str:
    """Quote a list of names for an error message, shortened in the middle: ``'a', 'b' .. 'z'``."""
    quoted = [repr(str(name)) for name in names]
    if not quoted:
        return "none"
    if len(quoted) <= limit:
        return ", ".join(quoted)
    return ", ".join(quoted[: limit - 1]) + " .. " + quoted[-1]
