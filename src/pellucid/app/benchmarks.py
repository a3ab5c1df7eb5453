"""The benchmarks of the command line: checked places first, then hours of work that resume, then pages and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.app import summaries
from pellucid.app.console import Console
from pellucid.app.outputs import Outputs


def robustness(console: Console, settings: dict[str, Any], out: Path, store: Path | None, command: str) -> None:
    """A page and tables in the folder OUT."""
    from pellucid.experiments.settings import Settings

    chosen = Settings(**settings)
    fresh = not out.exists()
    outputs = Outputs(out) if fresh else None  # the place is checked before hours of work
    from pellucid.experiments import robustness, writing

    if outputs is not None:
        out.mkdir()
    outputs = Outputs(*(out / file for file in writing.files(chosen)))
    found = robustness.run(chosen, store or out / "store", console.progress, console.note)
    with outputs.staged() as places:
        writing.write(found, command, {path.name: path for path in places if path is not None})
    said = writing.said(found)
    console.result(
        {"files": [str(path) for path in outputs.targets], **said},
        *said["headline"],
        *(f"{claim['outcome']}: {claim['claim']} ({claim['reason']})" for claim in said["claims"]),
        *(summaries.wrote(str(path)) for path in outputs.targets),
    )


def semantic(console: Console, settings: dict[str, Any], out: Path, store: Path | None, command: str) -> None:
    """A folder OUT/semantic-EXPERIMENT for each, written as soon as it is done."""
    from pellucid.experiments.semantic.settings import Settings

    chosen = Settings(**settings)
    if not out.exists():
        Outputs(out)  # the place is checked before the work
        out.mkdir()
    from pellucid.experiments.semantic import running, writing

    told: dict[str, Any] = {}
    lines: list[str] = []
    for result in running.run(chosen, store or out / "store", console.progress, console.note):
        folder = out / f"semantic-{result.name}"
        folder.mkdir(exist_ok=True)
        outputs = Outputs(*(folder / file for file in writing.files(result)))
        with outputs.staged() as places:
            writing.write(result, command, {path.name: path for path in places if path is not None})
        claims = [
            {"claim": c.text, "source": c.source, "outcome": c.outcome, "reason": c.reason} for c in result.claims
        ]
        files = [str(path) for path in outputs.targets]
        told[result.name] = {"files": files, "headline": list(result.headline), "claims": claims}
        lines += [*result.headline, *(f"{c['outcome']}: {c['claim']} ({c['reason']})" for c in claims)]
        lines += [summaries.wrote(file) for file in files]
    console.result(told, *lines)
