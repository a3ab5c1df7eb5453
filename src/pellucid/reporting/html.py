"""The report: explanations, scores and comparisons as one self-contained HTML page."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.core.scores import Scores
from pellucid.core.verdict import Disagreement
from pellucid.reporting import contradictions, page, semantic, surfaces


def report(
    path: str | PathLike[str],
    explanations: Sequence[Explanation] | Mapping[str, Explanation] | Explanation = (),
    scores: Scores | None = None,
    comparisons: Sequence[Comparison] | Comparison = (),
    title: str | None = None,
) -> str:
    """Write explanations, their scores and comparisons as one HTML page that needs no network; returns its path.

    ``explanations``: a list, or a dict by label; those of the same inputs stand side by side in one chapter.
    ``scores``: of these explanations. ``comparisons``: one chapter each, before the others. What was not given (scores,
    verdicts) the page says is missing.
    """
    chapters = [comparisons] if isinstance(comparisons, Comparison) else list(comparisons)
    chapters += loose(explanations, scores)
    return write(path, chapters, title)


def write(path: str | PathLike[str], chapters: Sequence[Comparison], title: str | None = None) -> str:
    """Write comparisons as the chapters of one HTML page; the file appears whole or not at all. Returns its path."""
    target = Path(path)
    if not target.parent.is_dir():
        raise BadInput(f"report: the folder {str(target.parent)!r} does not exist; create it first")
    if target.is_dir():
        raise BadInput(
            f"report: {str(target)!r} is a folder; name a file in it, such as {str(target / 'index.html')!r}"
        )
    text = page.page(chapters, title)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return str(target)


def loose(
    explanations: Sequence[Explanation] | Mapping[str, Explanation] | Explanation, scores: Scores | None = None
) -> list[Comparison]:
    """Explanations that no comparison made, as comparisons without verdicts: one for each set of inputs."""
    each = [explanations] if isinstance(explanations, Explanation) else explanations
    named = each.items() if isinstance(each, Mapping) else [(None, e) for e in each]
    groups: list[dict[str, Explanation]] = []
    given = list(named)
    for _, e in given:
        if not isinstance(e, Explanation):
            raise BadInput(
                f"report: expected explanations, got {type(e).__name__}; pass what pellucid.explain returned"
            )
    for label, e in sorted(given, key=lambda entry: surfaces.whole(entry[1])):  # what they are means of comes first
        group = next((g for g in groups if _together(g, e)), None)
        if group is None:
            groups.append(group := {})
        group[_unused(str(label if label is not None else e.method["name"]), group)] = e
    chapters = [unjudged(group, None) for group in groups]
    if scores is None:
        return chapters
    fitting = [i for i, group in enumerate(groups) if set(scores.methods) & set(group)]
    if len(fitting) == 1:
        chapters[fitting[0]] = unjudged(groups[fitting[0]], scores)
        return chapters
    return [*chapters, unjudged({}, scores)]


def unjudged(group: Mapping[str, Explanation], scores: Scores | None = None) -> Comparison:
    """Explanations of the same inputs as a comparison without verdicts."""
    nothing = np.empty((0, 0))
    plain = {label: e for label, e in group.items() if not surfaces.named(e)}
    agreement = (
        contradictions.agreement(plain) if len(plain) > 1 else Disagreement((), nothing, nothing, contradictions.TOP)
    )
    return Comparison(group, scores or Scores(()), (), agreement, ())


def _together(group: Mapping[str, Explanation], e: Explanation) -> bool:
    """Whether it is of the same inputs, or of the same features over all of them."""
    if surfaces.whole(e) and surfaces.named(e):
        return any(semantic.home(one) == semantic.home(e) for one in group.values())
    return _same_inputs(next(iter(group.values())), e)


def _same_inputs(a: Explanation, b: Explanation) -> bool:
    return a.data.shape == b.data.shape and bool(np.array_equal(a.data, b.data, equal_nan=True))


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    """The name, numbered where it is taken: the labels that ``pellucid.evaluate`` gives."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name} {number}", number + 1
    return found


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
