"""pellucid: explain any model's prediction and measure how far each explanation can be trusted."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pellucid.api import explain
    from pellucid.core import players, removal
    from pellucid.core.archive import load
    from pellucid.core.budget import Run
    from pellucid.core.errors import BadInput, Unreliable, Unsupported
    from pellucid.core.explanation import Explanation
    from pellucid.core.target import Target
    from pellucid.models.wrap import wrap

_HOME = {
    "BadInput": "core.errors",
    "Explanation": "core.explanation",
    "Run": "core.budget",
    "Target": "core.target",
    "Unreliable": "core.errors",
    "Unsupported": "core.errors",
    "aggregate": "aggregation",
    "audit": "auditing",
    "check": "checking",
    "compare": "comparing",
    "evaluate": "evaluating",
    "explain": "api",
    "explain_global": "averaging",
    "load": "core.archive",
    "play": "playing",
    "report": "reporting.html",
    "traverse": "traversing",
    "wrap": "models.wrap",
}
_MODULES = {
    "attack": "attack",
    "curves": "gradients.curves",
    "games": "games",
    "generative": "generative",
    "data": "data",
    "methods": "methods",
    "metrics": "metrics",
    "players": "core.players",
    "removal": "core.removal",
    "spaces": "spaces",
}

__all__ = [
    "BadInput",
    "Explanation",
    "Run",
    "Target",
    "Unreliable",
    "Unsupported",
    "__version__",
    "explain",
    "load",
    "players",
    "removal",
    "wrap",
]


def __getattr__(name: str) -> Any:
    # Names load on first use (PEP 562), so that importing pellucid loads neither torch nor pandas.
    if name in _MODULES:
        return importlib.import_module(f"pellucid.{_MODULES[name]}")
    if name in _HOME:
        return getattr(importlib.import_module(f"pellucid.{_HOME[name]}"), name)
    raise AttributeError(f"module 'pellucid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, *_HOME})
