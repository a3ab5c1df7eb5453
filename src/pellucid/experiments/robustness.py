"""The robustness benchmark as resumable work: which pieces there are, who makes them, and what they come to."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid import __version__
from pellucid.core.budget import Progress
from pellucid.core.method import plain
from pellucid.experiments import photos, sentences
from pellucid.experiments.blindness import Blindness, blindness
from pellucid.experiments.contestants import Contestant, contestants
from pellucid.experiments.digits import DRAWING, Digits, DigitsBench, digits
from pellucid.experiments.kinds import Kind
from pellucid.experiments.pieces import Array, Bench, Piece, Shown, pieces
from pellucid.experiments.rows import Rows
from pellucid.experiments.settings import Settings
from pellucid.reporting import numerals
from pellucid.run.store import Store

PICTURES = 4
"""Rows whose maps are shown."""
Note = Callable[[str], None]
Load = Callable[[int, int, Progress | None], Any]
_HOW: dict[str, tuple[Load, type[Bench]]] = {
    "digits": (digits, DigitsBench),
    "photos": (photos.photos, photos.PhotosBench),
    "text": (sentences.texts, sentences.TextsBench),
}
"""For each kind of rows, who reads them and who makes their pieces."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """One criterion of one contestant: values (N,) in ``rows`` (N,), and its curve (N, F) where it has one."""

    criterion: str
    key: str
    rows: Array
    values: Array
    curve: Array | None
    censored: Array
    gap: Array


@dataclass(frozen=True, eq=False)
class Found:
    """All numbers of a run."""

    settings: Settings
    numbers: dict[tuple[str, str], Numbers]
    contestants: tuple[Contestant, ...]
    about: str
    accuracy: float
    made: int
    seconds: float
    shown: tuple[Shown, ...]
    blindness: Blindness | None

    @property
    def kind(self) -> Kind:
        """What is particular to these rows."""
        return self.settings.kind

    def get(self, criterion: str, key: str) -> Numbers | None:
        """The numbers of a criterion and a contestant, if there are any."""
        return self.numbers.get((criterion, key))


def estimate(settings: Settings, todo: Sequence[Piece]) -> float:
    """About how many seconds pieces take on one core, from what each took where this was written."""
    return sum(_seconds(settings, piece) for piece in todo)


_PACE = {"text": (0.0015, 0.1, 0.4), "photos": (0.3, 1.0, 4.0)}
"""Seconds that a radius takes in a search and in a score, and any explanation that searches for none."""


def _seconds(s: Settings, piece: Piece) -> float:
    if s.rows in _PACE:
        search, score, other = _PACE[s.rows]
        steps = s.sizes[-1] if s.kind.counted else -(-s.sizes[-1] // 10)
        tried = {"greedy": 18 * steps, "greedy_as": s.subsets * steps, "banzhaf": s.banzhaf}
        if piece.kind == "explanation":
            grown = tried.get(piece.key.removesuffix("_irrelevant").removesuffix("_relevant"))
            return other if grown is None else grown * search
        return len(s.sizes) * score if piece.kind in ("irrelevant", "relevant") else score
    steps = max(1, round(s.fractions[-1] / 0.05))
    grows = piece.key.startswith("greedy_as")
    cheap = {"bbmp": 1.0, "cfx": 0.4, "shap": 0.5}.get(piece.key, 0.1)
    step, short = 0.003 * s.subsets, 0.012 * s.subsets if grows else cheap
    draws = 2 * s.neighbours + 1 if piece.key in DRAWING else s.neighbours + 1
    whole = {"greedy": 1.6 * steps, "greedy_as": step * steps, "banzhaf": 0.0035 * s.banzhaf}
    return {
        "explanation": whole.get(piece.key.removesuffix("_irrelevant").removesuffix("_relevant"), cheap),
        "references": 0.05,
        "planted": step if grows else cheap,
        "randomised": 2 * short,
        "sensitivity": draws * short,
        "seconds": 0.5 * s.released_subsets,
    }.get(piece.kind, 0.1 + 0.011 * len(s.sizes) * s.restarts * s.pgd_steps / 100)


def run(settings: Settings, folder: Path, progress: Progress | None = None, note: Note | None = None) -> Found:
    """Make every piece that is not in the store ``folder`` yet, and gather them all."""
    start = time.perf_counter()
    load, bench_of = _HOW[settings.rows]
    rows: Rows = load(settings.examples, settings.seed, progress)
    with opened(settings, rows, folder) as store:
        todo = [piece for row in range(settings.examples) for piece in pieces(settings, row)]
        missing = [piece for piece in todo if not store.has(piece.name)]
        expected = estimate(settings, missing) / settings.processes
        if note is not None:
            kept = f"; {len(todo) - len(missing)} are in the store" if len(missing) < len(todo) else ""
            note(f"{len(missing)} pieces to make, about {numerals.seconds(expected)}{kept}")
        if settings.processes > 1 and len({piece.row for piece in missing}) > 1:
            _shared(settings, folder, missing, len(todo), progress)
        bench = bench_of(settings, rows, store)
        for done, piece in enumerate(todo):  # what a worker made is only looked at
            bench.make(piece)
            if progress is not None:
                progress("pieces", done + 1, len(todo))
        return _gathered(settings, rows, bench, todo, len(missing), time.perf_counter() - start)


@contextmanager
def opened(settings: Settings, rows: Rows, folder: Path) -> Iterator[Store]:
    """The store of these settings, this version and these weights."""
    spec = settings.spec() | {"version": __version__, "torch": torch.__version__, "weights": rows.weights}
    spec |= _HOW[settings.rows][1].fixed
    spec["methods"] = [[c.key, plain(c.method)] for c in contestants(settings, rows.background_of(0))]
    with Store.opened(folder, spec, temporary=False, resume=True) as store:
        assert store is not None  # noqa: S101 - a folder was given
        yield store


_BENCH: dict[str, Bench] = {}


def _shared(settings: Settings, folder: Path, missing: list[Piece], total: int, progress: Progress | None) -> None:
    """Pieces made by processes of their own, a row at a time."""
    by_row: dict[int, list[Piece]] = {}
    for piece in missing:
        by_row.setdefault(piece.row, []).append(piece)
    done = total - len(missing)
    with ProcessPoolExecutor(settings.processes, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_make, settings, folder, tuple(row)) for row in by_row.values()]
        for future in as_completed(futures):
            done += future.result()
            if progress is not None:
                progress(f"pieces ({settings.processes} processes)", done, total)


def _make(settings: Settings, folder: Path, todo: tuple[Piece, ...]) -> int:
    torch.set_num_threads(1)
    load, bench_of = _HOW[settings.rows]
    rows: Rows = load(settings.examples, settings.seed, None) if not _BENCH else _BENCH["here"].rows
    with opened(settings, rows, folder) as store:
        bench = _BENCH.setdefault("here", bench_of(settings, rows, store))
        for piece in todo:
            bench.make(piece)
    return len(todo)


def _gathered(settings: Settings, rows: Rows, bench: Bench, todo: list[Piece], made: int, seconds: float) -> Found:
    found: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
    for piece in todo:
        if piece.kind == "explanation":
            took = {"value": float(bench.explanation(piece).cost["seconds"])}
            found.setdefault(("explained", piece.key), []).append((piece.row, took))
            continue
        loaded = bench.store.load(piece.name)
        for criterion, entry in ({} if loaded is None else loaded[0]).items():
            if criterion != "took":
                found.setdefault((criterion, piece.key), []).append((piece.row, entry))
    numbers = {}
    for (criterion, key), entries in found.items():
        each = [entry for _, entry in entries]
        curves = [np.asarray(entry["curve"]) for entry in each if "curve" in entry]
        numbers[criterion, key] = Numbers(
            criterion,
            key,
            np.array([row for row, _ in entries]),
            np.array([entry["value"] for entry in each]),
            np.stack(curves) if curves else None,
            np.array([entry.get("censored", np.nan) for entry in each]),
            np.array([entry.get("gap", np.nan) for entry in each]),
        )
    there = {key for _, key in numbers}
    right = np.mean([bench.predicted(row) == label for row, label in enumerate(rows.labels)])
    kept = tuple(c for c in bench.of(0).values() if c.key in there)
    shown = tuple(
        bench.shown(row, {p.key for p in todo if p.row == row}) for row in range(min(PICTURES, settings.examples))
    )
    dark = blindness(settings, rows, bench.store) if isinstance(rows, Digits) else None
    return Found(settings, numbers, kept, rows.about, float(right), made, seconds, shown, dark)
