"""What a run of the robustness benchmark is asked for."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from pellucid.core.errors import BadInput, Unsupported

ROWS = ("digits", "photos", "text")
METHODS = (
    *("grad", "ig", "eg", "shap", "loo", "bbmp", "cfx", "greedy_as_irrelevant", "greedy_as_relevant"),
    *("greedy_irrelevant", "greedy_relevant", "banzhaf_irrelevant", "banzhaf_relevant", "random"),
)
MOST = 1000
"""Held-out digits there are."""
HOW = ("examples", "few", "ablation", "released", "methods", "workers")
"""Settings that say how much is done and by whom, never what a chunk holds."""


@dataclass(frozen=True)
class Settings:
    """What the benchmark computes; the defaults take about four hours on two cores for 100 digits.

    ``rows``: which data, digits (photos and text are not there yet); ``examples``: how many held-out digits; ``seed``:
    of every draw; ``subsets``: random sets in each step of Greedy-AS; ``banzhaf``: random sets of One-step Banzhaf;
    ``restarts``: tries of PGD when a radius is scored; ``pgd_steps``: steps of each; ``few``: how many
    digits randomisation and sensitivity are measured on; ``neighbours``: inputs around each of them; ``ablation``: how
    many digits Greedy and One-step Banzhaf run on (None: all); ``released``: digits on which the settings of the
    released code are timed; ``released_subsets``: sets of its one timed step, from which the time of 5,000 is
    extrapolated; ``sizes``: sizes of relevant sets, in % of the features; ``methods``: some of them by name, as
    grad,greedy_as_irrelevant,random (None: all); ``workers``: processes that share the digits (None:
    two where there are two processors).
    """

    rows: str = "digits"
    examples: int = 100
    seed: int = 0
    subsets: int = 1000
    banzhaf: int = 2000
    restarts: int = 10
    pgd_steps: int = 100
    few: int = 25
    neighbours: int = 10
    ablation: int | None = None
    released: int = 2
    released_subsets: int = 100
    sizes: tuple[float, ...] = (5, 10, 15, 20, 25, 30, 35, 40, 45)
    methods: tuple[str, ...] | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.rows not in ROWS:
            raise BadInput(f"--rows must be one of {', '.join(ROWS)}, got {self.rows!r}")
        if self.rows == "photos":
            raise Unsupported(
                "--rows photos: each radius takes EfficientNet about a thousand times as long as the network of the "
                "digits, and a reduced run is not there yet; use --rows digits, or pellucid.compare(model, photos, "
                "[methods.greedy_as(subsets=50)], [metrics.robustness_irrelevant(grid=7)]) on your own photos"
            )
        if self.rows == "text":
            raise Unsupported(
                "--rows text: needs labelled sentences and a network over word vectors, which this installation has "
                "not (pip install vaderSentiment has 10,605 movie sentences; the classifier is not there yet); use "
                "--rows digits, or pellucid.compare on your own model of embeddings"
            )
        least = {"examples": 2, "subsets": 2, "banzhaf": 2, "restarts": 1, "pgd_steps": 1, "few": 0, "neighbours": 1}
        least |= {"released": 0, "released_subsets": 2, "seed": 0}
        for name, low in least.items():
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < low:
                raise BadInput(f"--{name.replace('_', '-')} must be a whole number of at least {low}, got {number!r}")
        if self.examples > MOST:
            raise BadInput(f"--examples must be at most {MOST:,}, the held-out digits there are; got {self.examples}")
        for name, low in (("ablation", 0), ("workers", 1)):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < low):
                raise BadInput(f"--{name} must be a whole number of at least {low}, or none; got {number!r}")
        if self.methods is not None:
            named = tuple(self.methods)
            unknown = [name for name in named if name not in METHODS]
            if unknown or not named:
                wrong = f"{unknown[0]!r} is not there" if unknown else "nothing is named"
                raise BadInput(f"--methods: {wrong}; have {', '.join(METHODS)}")
            object.__setattr__(self, "methods", named)
        sizes = tuple(float(size) for size in self.sizes)
        if len(sizes) < 2 or list(sizes) != sorted(set(sizes)) or sizes[0] <= 0 or sizes[-1] >= 100:
            raise BadInput(f"--sizes must be two or more numbers that rise between 0 and 100, got {self.sizes!r}")
        object.__setattr__(self, "sizes", sizes)

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
