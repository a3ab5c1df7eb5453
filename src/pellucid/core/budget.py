"""The one executor: how many rows a model call carries, what a run may use, and what it did use."""

from __future__ import annotations

import contextlib
import functools
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from pellucid.core.errors import BadInput

T = TypeVar("T")

_ROWS_OF_ONE_ENTRY = 20_000
_ENTRIES_OF_SMALL_ROWS = 2**17
_MOST_ROWS = 8192


class Progress(Protocol):
    """Told after every chunk of work: what is running, how many chunks are done, and of how many."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show it."""
        ...


@dataclass(frozen=True)
class Run:
    """How the work is done, never what is computed: a Run changes no number beyond rounding.

    ``batch_size`` is the number of model rows in a call (None: a rule on the shapes); ``memory`` a bound in bytes on
    what a call may hold for its backward pass (None: no bound but the batch rule); ``fold`` allows the private
    BatchNorm-folded copy (None: where it helps); ``progress`` is told after each chunk. ``workers`` is the number
    of processes that share the work. ``store`` is a folder that keeps finished chunks, so that a job that was killed
    goes on where it was. ``resume`` uses what the folder has (else it is made again).
    """

    workers: int = 1
    store: str | Path | None = None
    resume: bool = True
    memory: int | None = None
    batch_size: int | None = None
    progress: Progress | None = None
    fold: bool | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "batch_size", "memory"):
            number = getattr(self, name)
            if number is None and name != "workers":
                continue
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise BadInput(f"Run: {name} must be a positive whole number, got {number!r}")

    @classmethod
    def of(cls, run: Run | None) -> Run:
        """A Run from what a user passes as ``run=``: None is the usual one."""
        if run is not None and not isinstance(run, Run):
            raise BadInput(f"run: expected pellucid.Run(...) or None, got {type(run).__name__}")
        return run or cls()


@dataclass
class Cost:
    """What a computation used: model rows forwards and backwards, wall seconds, peak extra bytes, rows a call,
    folding."""

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    batch_size: int = 0
    folded: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass
class Executor:
    """Cuts work into model calls of bounded size, backs off when memory runs out, and counts what was done.

    ``batch_size`` stays as planned, since chunks are cut by it; ``fits`` is what a call carries after a back-off.
    """

    batch_size: int
    cost: Cost = field(default_factory=Cost)
    fits: int = field(init=False)

    def __post_init__(self) -> None:
        self.fits = self.cost.batch_size = self.batch_size

    def slices(self, count: int) -> Iterator[slice]:
        """Consecutive slices of at most ``batch_size`` items covering 0..count."""
        for start in range(0, count, self.batch_size):
            yield slice(start, min(start + self.batch_size, count))

    def map(self, work: Callable[[slice], T], count: int, each: int = 1) -> list[T]:
        """``work`` on every slice in order, where an item makes ``each`` model rows.

        A slice that does not fit in memory is halved, and later ones with it.
        """
        done: list[T] = []
        start = 0
        while start < count:
            stop = min(start + max(1, self.fits // each), count)
            try:
                done.append(work(slice(start, stop)))
            except (RuntimeError, MemoryError) as error:
                if self.fits == 1 or not out_of_memory(error):
                    raise
                self.fits = self.cost.batch_size = max(1, self.fits // 2)
                continue
            start = stop
        return done

    @contextlib.contextmanager
    def measured(self, device: torch.device) -> Iterator[None]:
        """Add the wall time and the peak of extra memory of the enclosed work to the cost."""
        keep_pages()
        start, memory = time.perf_counter(), _PeakMemory(device)
        try:
            yield
        finally:
            self.cost.seconds += time.perf_counter() - start
            self.cost.peak_bytes = max(self.cost.peak_bytes, memory.extra())


@functools.cache
def keep_pages() -> None:
    """Let the C library keep blocks of memory under 32 MB for reuse, once a process.

    At first glibc maps every block over 128 KiB afresh and returns it when it is freed, so each tensor of a model call
    is paid for in page faults: a fifth to a third of the time on tables. Freeing one large block raises the limit
    (mallopt(3), M_MMAP_THRESHOLD); other allocators do not mind.
    """
    torch.empty(32_000_000, dtype=torch.uint8)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch on a CPU says so with a plain RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def batch_rows(entries: int, run: Run, bytes_per_row: int | None = None) -> int:
    """Model rows in one call: a fixed function of the size of a row and of what the run allows.

    20,000 / entries^(2/3) rows, or as many as hold 131,072 entries if that is more, at most 8,192, as a power of two.
    Measured on one CPU thread, forward and backward, where more rows are *slower* once a layer's output no longer fits
    the memory the allocator keeps:

        a row of                   best     the rule   at the rule, share of the best
        3 x 224 x 224, CNN         4-16     4          0.9-1.0  (16 rows take 4 times the memory)
        1 x 28 x 28, CNN           64       128        0.98     (2,048 rows: 0.43)
        30 features, MLP           4-8,192  4,096      1.0      (2,048 rows: 0.8, 256 rows: 0.2)

    ``Run.batch_size`` overrides the rule; ``Run.memory`` lowers it, at ``bytes_per_row`` or 512 bytes for each entry
    of a row (a convolutional net's activations and their gradients).
    """
    if run.batch_size is not None:
        return run.batch_size
    entries = max(1, entries)
    rows = min(_MOST_ROWS, max(1, int(_ROWS_OF_ONE_ENTRY / entries ** (2 / 3)), _ENTRIES_OF_SMALL_ROWS // entries))
    if run.memory is not None:
        rows = min(rows, max(1, run.memory // (bytes_per_row or 512 * entries)))
    return int(2 ** math.floor(math.log2(rows)))


class _PeakMemory:
    """Peak memory above the level at the start: the allocator's on a GPU, the process's resident set on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(device)
            self.start = torch.cuda.memory_allocated(device)
        else:
            with contextlib.suppress(OSError):  # Linux only: start the high-water mark again from here
                Path("/proc/self/clear_refs").write_text("5")
            self.start = _resident("VmRSS")
        self.device = device

    def extra(self) -> int:
        now = torch.cuda.max_memory_allocated(self.device) if self.cuda else _resident("VmHWM")
        return max(0, now - self.start)


def _resident(line: str) -> int:
    try:
        for entry in Path("/proc/self/status").read_text().splitlines():
            if entry.startswith(line):
                return int(entry.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
