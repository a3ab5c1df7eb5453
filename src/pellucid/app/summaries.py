"""Results as a command says them: for a machine a mapping, for people a heading and a short table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from pellucid.core.comparison import Comparison
    from pellucid.core.explanation import Explanation


def wrote(path: str) -> str:
    """The line that says that a file was written."""
    return f"wrote {path}"


def described(e: Explanation) -> dict[str, Any]:
    """What an explanation is, without the values of its features."""
    return {
        "method": e.method,
        "target": e.target,
        "seed": e.seed,
        "shape": e.values.shape,
        "outputs": e.outputs,
        "base_values": e.base_values,
        "residual_relative": e.residual_relative,
        "cost": e.cost,
        "versions": e.versions,
    }


def heading(e: Explanation) -> str:
    """An explanation in one line: method, sizes, residual and cost."""
    relative = e.residual_relative
    if relative is None:
        residual = "promises no sum"
    else:
        residual = f"largest relative residual {float(np.nanmax(relative, initial=0.0)):.1e}"
    cost = f"{e.cost['forwards']} forwards, {e.cost['backwards']} backwards, {e.cost['seconds']:.1f} s"
    return f"{e.method['name']} of {len(e)} rows, values {' x '.join(map(str, e.values.shape))}; {residual}; {cost}"


def compared(found: Comparison) -> dict[str, Any]:
    """A comparison's tables."""
    return {
        "summary": found.summary(),
        "verdicts": [{"method": v.method, "verdict": v.word, "reason": v.reason} for v in found.decided],
        "checks": found.verdicts(),
        "tests": found.tests(),
        "disagreement": found.disagreement(),
        "refused": found.refused,
        "about": found.about,
    }


def verdicts(found: Comparison) -> pd.DataFrame:
    """The verdict on every method and why, and the methods that could not run."""
    import pandas as pd

    rows = [{"method": v.method, "verdict": v.word, "why": v.reason} for v in found.decided]
    rows += [{"method": name, "verdict": "refused", "why": reason} for name, reason in found.refused.items()]
    return pd.DataFrame(rows)
