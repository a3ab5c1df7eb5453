"""The page as text: chapters put into the templates, every value escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pellucid.core.comparison import Comparison
from pellucid.core.errors import BadInput
from pellucid.reporting import chapter, glossary, numerals, palette

TEMPLATES = Path(__file__).parent / "templates"


def page(chapters: Sequence[Comparison], title: str | None = None) -> str:
    """The page as text."""
    each = list(chapters)
    for comparison in each:
        if not isinstance(comparison, Comparison):
            raise BadInput(
                f"report: expected comparisons, got {type(comparison).__name__}; use report(explanations=[...])"
            )
    if not each:
        raise BadInput("report: nothing to show; pass explanations=[...], scores=..., or comparisons=[...]")
    from markupsafe import Markup

    made = [chapter.chapter(comparison, i + 1) for i, comparison in enumerate(each)]
    # These two are files of this package, not of a user, and hold no template code.
    style, script = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("style.css", "script.js"))  # noqa: S704
    template = environment().get_template("report.html")
    text: str = template.render(
        title=title or (made[0].title if len(made) == 1 else "Explanations, and which to believe"),
        chapters=made,
        tokens=palette.TOKENS,
        ends={"plus": palette.POSITIVE, "minus": palette.NEGATIVE, "zero": palette.ZERO, "wash": palette.WASH},
        terms=glossary.TERMS,
        today=_today(each),
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return text


def environment() -> Any:
    """The templates; every value is escaped."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["rho"] = numerals.correlation
    return found


def _today(comparisons: Sequence[Comparison]) -> str:
    stated = next((str(c.about["date"]) for c in comparisons if c.about.get("date")), None)
    now = datetime.now(UTC).astimezone()
    return stated or f"{now.day} {now:%b %Y}"
