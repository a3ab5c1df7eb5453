"""What a run of the robustness benchmark is asked for."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from pellucid.core.errors import BadInput
from pellucid.experiments.kinds import KINDS, Kind

BY_ROWS: Any = None
"""The default is that of the kind of rows."""
HOW = ("examples", "few", "ablation", "released", "methods", "workers")
"""Settings that say how much is done and by whom, never what a chunk holds."""


@dataclass(frozen=True)
class Settings:
    """What the benchmark computes; the defaults take about three hours on two cores for 100 digits, a quarter
    of an hour on one for 50 sentences or 4 photos.

    ``rows``: which data, digits, text (sentences) or photos; the other defaults depend on it. ``examples``: how many
    held-out rows (None: 100 digits, 50 sentences, 4 photos); ``seed``: of every draw; ``subsets``: random sets in each
    step of Greedy-AS (None: 1000, 200, 30); ``banzhaf``: random sets of One-step Banzhaf (None: 2000, 500, 40);
    ``restarts``: tries of PGD when a radius is scored (None: 10, 4, 1); ``pgd_steps``: steps of each (None: 100, 100,
    10); ``few``: how many digits randomisation and sensitivity are measured on (None: 25); ``neighbours``: inputs
    around each of them; ``ablation``: how many rows Greedy and One-step Banzhaf run on (None: all); ``released``:
    digits on which the settings of the released code are timed (None: 2); ``released_subsets``: sets of its one timed
    step, from which the time of 5,000 is extrapolated; ``sizes``: sizes of relevant sets, in % of the features, of
    sentences in words (None: 5 to 45 % of the pixels, 10 to 30 % of the cells, 1 to 5 words); ``methods``: some of them
    by name, as grad,greedy_as_irrelevant,random (None: all); ``workers``: processes that share the rows (None: two
    where there are two processors).
    """

    rows: str = "digits"
    examples: int = BY_ROWS
    seed: int = 0
    subsets: int = BY_ROWS
    banzhaf: int = BY_ROWS
    restarts: int = BY_ROWS
    pgd_steps: int = BY_ROWS
    few: int = BY_ROWS
    neighbours: int = 10
    ablation: int | None = None
    released: int = BY_ROWS
    released_subsets: int = 100
    sizes: tuple[float, ...] = BY_ROWS
    methods: tuple[str, ...] | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.rows not in KINDS:
            raise BadInput(f"--rows must be one of {', '.join(KINDS)}, got {self.rows!r}")
        kind = self.kind
        for name, value in kind.defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        least = {"examples": 2, "subsets": 2, "banzhaf": 2, "restarts": 1, "pgd_steps": 1, "few": 0, "neighbours": 1}
        least |= {"released": 0, "released_subsets": 2, "seed": 0}
        for name, low in least.items():
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < low:
                raise BadInput(f"--{name.replace('_', '-')} must be a whole number of at least {low}, got {number!r}")
        if self.examples > kind.most:
            raise BadInput(
                f"--examples must be at most {kind.most:,}, the held-out {kind.many} there are; got {self.examples}"
            )
        for name in ("few", "released"):
            if getattr(self, name) and not kind.defaults[name]:
                raise BadInput(f"--{name}: measured on digits only, not on {kind.many}; leave it out")
        for name, low in (("ablation", 0), ("workers", 1)):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < low):
                raise BadInput(f"--{name} must be a whole number of at least {low}, or none; got {number!r}")
        if self.methods is not None:
            named = tuple(self.methods)
            unknown = [name for name in named if name not in kind.methods]
            if unknown or not named:
                wrong = f"{unknown[0]!r} is not there" if unknown else "nothing is named"
                raise BadInput(f"--methods: {wrong}; have {', '.join(kind.methods)}")
            object.__setattr__(self, "methods", named)
        sizes = tuple(float(size) for size in self.sizes)
        most = 6 if kind.counted else 100
        if len(sizes) < 2 or list(sizes) != sorted(set(sizes)) or sizes[0] <= 0 or sizes[-1] >= most:
            raise BadInput(f"--sizes must be two or more numbers that rise between 0 and {most}, got {self.sizes!r}")
        if kind.counted and any(size % 1 for size in sizes):
            raise BadInput(f"--sizes must be numbers of {kind.part}s, whole ones; got {self.sizes!r}")
        object.__setattr__(self, "sizes", sizes)

    @property
    def kind(self) -> Kind:
        """What is particular to these rows."""
        return KINDS[self.rows]

    @property
    def fractions(self) -> tuple[float, ...]:
        """Sizes of relevant sets as shares of the features."""
        return tuple(size / 100 for size in self.sizes)

    @property
    def processes(self) -> int:
        """How many share the work."""
        if self.workers is not None:
            return self.workers
        there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(2, there)

    @property
    def in_ablation(self) -> int:
        """On how many digits Greedy and One-step Banzhaf run."""
        return self.examples if self.ablation is None else min(self.ablation, self.examples)

    @property
    def in_few(self) -> int:
        """On how many digits randomisation and sensitivity are measured."""
        return min(self.few, self.examples)

    def spec(self) -> dict[str, Any]:
        """What decides the numbers of a chunk. More digits find the chunks of fewer."""
        kept = dataclasses.asdict(self)
        for name in HOW:
            kept.pop(name)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}
