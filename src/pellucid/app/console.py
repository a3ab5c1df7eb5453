"""What a command says: results on stdout, everything else on stderr, errors as one line and an exit code."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from pellucid.core.errors import BadInput, Unreliable, Unsupported

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress, TaskID

OK, FAILED, USAGE, UNSUPPORTED = 0, 1, 2, 3
_WIDE = 160


@dataclass(frozen=True)
class Voice:
    """How a command speaks.

    ``json``: print the result as JSON on stdout, and nothing else there.
    ``quiet``: show no progress.
    ``debug``: on an error show where it came from.
    """

    json: bool = False
    quiet: bool = False
    debug: bool = False


class Console:
    """Where a command's result, notes and progress go."""

    def __init__(self, voice: Voice) -> None:
        self.voice = voice
        self.warnings: list[str] = []
        self._bars: Bars | None = None
        self._stdout = sys.stdout

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """While open: progress is shown, warnings are one line each on stderr, and an error ends the program with its
        code."""
        code, self._stdout = OK, sys.stdout
        # A model may print; where the result is for a machine, that goes to stderr with the rest.
        aside = contextlib.redirect_stdout(sys.stderr) if self.voice.json else contextlib.nullcontext()
        with warnings.catch_warnings(), aside:
            for category in (
                DeprecationWarning,
                PendingDeprecationWarning,
                FutureWarning,
                ImportWarning,
                ResourceWarning,
            ):
                warnings.simplefilter("ignore", category)
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = self._warned
            try:
                yield
            except Exception as error:  # noqa: BLE001  # whatever the user's model raised ends here as one line
                self._stop()
                code = _code(error)
                if self.voice.debug:
                    sys.stderr.write(traceback.format_exc())
                self._line("error", _one_line(error))
                if code == FAILED and not self.voice.debug:
                    self._line("hint", "--debug shows where it came from")
            finally:
                self._stop()
        if code != OK:
            raise SystemExit(code)

    @property
    def progress(self) -> Bars | None:
        """What ``Run.progress`` is told."""
        if self.voice.quiet:
            return None
        if self._bars is None:
            self._bars = Bars()
        return self._bars

    def note(self, text: str) -> None:
        """A line on stderr, for people."""
        if not self.voice.quiet:
            self._stop()
            sys.stderr.write(text + "\n")

    def result(self, found: Mapping[str, Any], *shown: pd.DataFrame | str) -> None:
        """The result: as JSON if asked, else the tables and lines shown to people."""
        self._stop()
        if self.voice.json:
            every = {**found, "warnings": self.warnings}
            self._stdout.write(json.dumps(jsonable(every), allow_nan=False, ensure_ascii=False, indent=2) + "\n")
            return
        for part in shown:
            if isinstance(part, str):
                sys.stdout.write(part + "\n")
            elif len(part):
                _print(part)

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.close()
            self._bars = None

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = " ".join(str(message).split())
        if text not in self.warnings:
            self.warnings.append(text)
            self._line("warning", text if issubclass(category, Unreliable) else f"{category.__name__}: {text}")

    def _line(self, kind: str, text: str) -> None:
        line = f"pellucid: {kind}: {text}"
        if self._bars is None:
            sys.stderr.write(line + "\n")
        else:
            self._bars.say(line)


class Bars:
    """Progress on stderr: a bar for each piece of work on a terminal, elsewhere a line when one is done."""

    def __init__(self) -> None:
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.terminal = Terminal(stderr=True, highlight=False, markup=False)
        columns = (TextColumn("  {task.description:<28}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
        self.bars: Progress | None = None
        if self.terminal.is_terminal:
            self.bars = Progress(*columns, console=self.terminal, redirect_stdout=False)
            self.bars.start()
        self.running: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if self.bars is None:
            if done >= total:
                self.say(f"  {what}: done")
            return
        if what not in self.running:
            self.running[what] = self.bars.add_task(what, total=total)
        self.bars.update(self.running[what], completed=done, total=total)
        if done >= total:
            del self.running[what]  # the next time it comes it is other work

    def say(self, line: str) -> None:
        """A line above the bars."""
        self.terminal.print(line, soft_wrap=True)

    def close(self) -> None:
        """Leave the bars as they are."""
        if self.bars is not None:
            self.bars.stop()
            self.bars = None


def jsonable(value: Any) -> Any:
    """As strict JSON: arrays as lists, tables as records, numbers that are not finite as null."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return [jsonable(row) for row in value.to_dict("records")]
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(entry) for entry in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def _print(frame: pd.DataFrame) -> None:
    from rich.console import Console as Terminal
    from rich.table import Table
    from rich.text import Text

    terminal = Terminal(highlight=False)
    if not terminal.is_terminal:
        terminal = Terminal(highlight=False, width=_WIDE)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in frame.columns:
        numbers = frame[column].dtype.kind in "iuf"
        name = column in ("name", "method")  # what one copies is not cut in two
        table.add_column(Text(str(column)), justify="right" if numbers else "left", overflow="fold", no_wrap=name)
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(_cell(entry)) for entry in row))
    terminal.print(table)


def _cell(entry: Any) -> str:
    if entry is None or (isinstance(entry, float) and math.isnan(entry)):
        return "-"
    return f"{entry:.4g}" if isinstance(entry, float) else str(entry)


def _code(error: Exception) -> int:
    if isinstance(error, BadInput):  # what a model raises is BadInput too, since x may be why, but nobody foresaw it
        return FAILED if str(error).startswith("the model raised ") else USAGE
    return UNSUPPORTED if isinstance(error, Unsupported) else FAILED


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, (BadInput, Unsupported)) else f"{type(error).__name__}: {text}".rstrip(": ")
