"""Files a command writes: the place is checked before any work, and they appear whole and together, or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pellucid.core.errors import BadInput


class Outputs:
    """The files of one command; None stands for one that was not asked for."""

    def __init__(self, *targets: Path | None) -> None:
        self.targets = targets
        asked = [target for target in targets if target is not None]
        for target in asked:
            _check(target)
        if len({target.absolute() for target in asked}) < len(asked):
            raise BadInput(f"two outputs have one name: {', '.join(map(str, asked))}")

    @contextlib.contextmanager
    def staged(self) -> Iterator[tuple[Path | None, ...]]:
        """Paths to write to; when all is written, the files move to their places, and on an error none does."""
        with contextlib.ExitStack() as stack:
            places: list[Path | None] = []
            for target in self.targets:
                if target is None:
                    places.append(None)
                    continue
                folder = tempfile.TemporaryDirectory(
                    dir=target.parent, prefix=".pellucid-"
                )  # one disk, so that moving is atomic
                places.append(Path(stack.enter_context(folder)) / target.name)
            yield tuple(places)
            for place, target in zip(places, self.targets, strict=True):
                if place is not None and target is not None:
                    place.replace(target)


def _check(target: Path) -> None:
    parent = target.parent
    if not parent.is_dir():
        raise BadInput(f"output: the folder {str(parent)!r} does not exist; create it first")
    if target.is_dir():
        raise BadInput(f"output: {str(target)!r} is a folder; name a file in it")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise BadInput(f"output: the folder {str(parent)!r} cannot be written to")
