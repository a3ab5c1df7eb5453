"""The demonstration: real photos, digits and tables, explained and judged, on one page."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from pellucid.app.chapters import Settings, closely, contrast, digits, forest, network, photos
from pellucid.app.console import Console
from pellucid.app.meanings import causes, frequencies
from pellucid.app.outputs import Outputs
from pellucid.core.budget import Progress
from pellucid.core.comparison import Comparison
from pellucid.core.errors import Unsupported

TITLE = "Why this prediction, and which explanation to believe"
CHAPTERS = (photos, closely, digits, contrast, frequencies, causes, forest, network)
"""The chapters of the page, in order."""
LONG = (photos, closely, digits, frequencies)
"""Those that are begun first, the longest before the others, so that no process waits for one at the end."""
OFTEN = 0.2
"""Seconds between two words of progress from another process."""

Chapter = Callable[[Settings, Progress | None], Comparison | None]


@dataclass(frozen=True, eq=False)
class Made:
    """A chapter (None: left out), how long it took, and the warnings raised on the way."""

    comparison: Comparison | None
    seconds: float
    warnings: tuple[Warning, ...] = ()


def write(out: Path, settings: Settings, console: Console) -> dict[str, Any]:
    """Make every chapter, write ``out/index.html``, and return where it is, the verdicts and how long each part
    took."""
    from pellucid.reporting import html

    fresh = not out.exists()
    Outputs(out if fresh else out / "index.html")
    made = _made(CHAPTERS, settings, console)
    chapters = {name: one.comparison for name, one in made.items() if one.comparison is not None}
    seconds = {name: one.seconds for name, one in made.items() if name in chapters}
    start = time.perf_counter()
    if fresh:
        out.mkdir()
    try:
        path = html.write(out / "index.html", list(chapters.values()), title=TITLE)
    except BaseException:
        if fresh:
            out.rmdir()
        raise
    seconds["page"] = round(time.perf_counter() - start, 1)
    console.note(f"page: {seconds['page']:.1f} s")
    verdicts = {name: {v.method: v.word for v in one.decided} for name, one in chapters.items()}
    return {"report": path, "seconds": seconds, "verdicts": verdicts, "command": settings.command}


def _made(chapters: Sequence[Chapter], settings: Settings, console: Console) -> dict[str, Made]:
    """Every chapter by its name, in order."""
    workers = _processors() if settings.workers is None else settings.workers
    if min(workers, len(chapters)) > 1 and sys.platform == "linux":  # elsewhere forking is not safe, or not there
        found = _side_by_side(chapters, settings, workers, console)
    else:
        found = {}
        for number, chapter in enumerate(chapters):
            found[number] = _make(chapter, settings, console.progress)
            _say(chapter, found[number], console)
    return {_name(chapter): found[number] for number, chapter in enumerate(chapters)}


def _make(chapter: Chapter, settings: Settings, progress: Progress | None) -> Made:
    start = time.perf_counter()
    try:
        comparison = chapter(settings, progress)
    except ModuleNotFoundError as error:
        raise Unsupported(str(error)) from error
    return Made(comparison, round(time.perf_counter() - start, 1))


def _side_by_side(chapters: Sequence[Chapter], settings: Settings, workers: int, console: Console) -> dict[int, Made]:
    """Chapters in processes of their own, ``workers`` at a time and one thread each: small networks gain little from
    a second thread, and everything from a second process. Results come back through pipes."""
    context = multiprocessing.get_context("fork")
    found = dict[int, Made]()
    waiting = sorted(enumerate(chapters), key=lambda one: LONG.index(one[1]) if one[1] in LONG else len(LONG))
    running: dict[Connection, tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number, chapter = waiting.pop(0)
                here, there = context.Pipe(duplex=False)
                process = context.Process(target=_apart, args=(there, chapter, settings), daemon=True)
                process.start()
                there.close()  # so that its end is seen here
                running[here] = number, process
            for pipe in wait(list(running)):
                number, process = running[pipe]  # type: ignore[index]
                kind, content = _heard(pipe, chapters[number])  # type: ignore[arg-type]
                if kind == "progress":
                    if console.progress is not None:
                        console.progress(*content)
                    continue
                process.join()
                del running[pipe]  # type: ignore[arg-type]
                if kind == "failed":
                    raise content
                found[number] = content
                for warning in content.warnings:
                    warnings.warn(warning, stacklevel=2)
                _say(chapters[number], content, console)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()
    return found


def _heard(pipe: Connection, chapter: Chapter) -> tuple[str, Any]:
    try:
        kind, content = pipe.recv()
    except EOFError:
        return "failed", RuntimeError(f"the process that made {_name(chapter)!r} was stopped, perhaps for its memory")
    return kind, content


def _apart(pipe: Connection, chapter: Chapter, settings: Settings) -> None:
    """Make a chapter in this process and send it."""
    torch.set_num_threads(1)
    last = 0.0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        if done >= total or time.monotonic() - last > OFTEN:
            last = time.monotonic()
            pipe.send(("progress", (f"{_name(chapter)}: {what}", done, total)))

    try:
        with warnings.catch_warnings(record=True) as caught:
            made = _make(chapter, settings, progress)
        told = tuple(w.message for w in caught if isinstance(w.message, UserWarning))
        pipe.send(("made", Made(made.comparison, made.seconds, told)))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        known = isinstance(error, (ValueError, TypeError))  # ours are; others may not survive the pipe
        told_error = error if known else RuntimeError(f"{type(error).__name__}: {error}")
        told_error.add_note(traceback.format_exc())
        pipe.send(("failed", told_error))


def _say(chapter: Chapter, made: Made, console: Console) -> None:
    if made.comparison is not None:
        console.note(f"{_name(chapter)}: {made.seconds:.1f} s")


def _name(chapter: Chapter) -> str:
    return str(getattr(chapter, "__name__", "chapter"))


def _processors() -> int:
    """Processors that this process may use, two at most: more would gain little and hold more memory."""
    return min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


__all__ = ["CHAPTERS", "Settings", "write"]
