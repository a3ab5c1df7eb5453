"""The experiments one after the other: each is a module with ``run(bench)`` that returns a ``Result``."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pellucid.core.budget import Progress
from pellucid.experiments.semantic.bench import opened
from pellucid.experiments.semantic.blocks import Result
from pellucid.experiments.semantic.settings import Settings
from pellucid.reporting import numerals

Note = Callable[[str], None]


def run(
    settings: Settings, folder: Path, progress: Progress | None = None, note: Note | None = None
) -> Iterator[Result]:
    """Every experiment that is asked for, as it is done; finished pieces are kept in ``folder``."""
    for name in settings.named:
        module = importlib.import_module(f"pellucid.experiments.semantic.{name}")
        start = time.perf_counter()
        constants = {
            key: value for key, value in vars(module).items() if key.isupper() and isinstance(value, (int, float))
        }
        with opened(name, settings, folder, progress, constants) as bench:
            result: Result = module.run(bench)
        if note is not None:
            made = numerals.plural(bench.made, "piece")
            note(f"{name}: {made} made in {numerals.seconds(time.perf_counter() - start)}; others were in the store")
        yield result
