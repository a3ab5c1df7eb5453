"""What a run of the semantic benchmark is asked for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pellucid.core.errors import BadInput

EXPERIMENTS = ("frequencies", "textures", "sprites", "latents", "faces")
"""Each is a module of this package with ``run(bench) -> Result``."""


@dataclass(frozen=True)
class Settings:
    """Which experiments run, and at what size; by default each takes 15 minutes on one core or less, latents
    30, faces 100.

    ``experiment``: some of them by name, as sprites,frequencies (None: all); ``examples``: how many inputs each
    explains (None: its own number); ``seed``: of every draw; ``steps``: of training of the generative
    models (None: its own number); ``orders``: pairs of random orders in which the features of a single explained input
    join (None: its own number).
    """

    experiment: tuple[str, ...] | None = None
    examples: int | None = None
    seed: int = 0
    steps: int | None = None
    orders: int | None = None

    def __post_init__(self) -> None:
        if self.experiment is not None:
            named = (self.experiment,) if isinstance(self.experiment, str) else tuple(self.experiment)
            unknown = [name for name in named if name not in EXPERIMENTS]
            if unknown or not named:
                wrong = f"{unknown[0]!r} is not there" if unknown else "nothing is named"
                raise BadInput(f"--experiment: {wrong}; have {', '.join(EXPERIMENTS)}")
            object.__setattr__(self, "experiment", tuple(dict.fromkeys(named)))
        for name, least in (("examples", 2), ("seed", 0), ("steps", 1), ("orders", 2)):
            number = getattr(self, name)
            if number is None and name != "seed":
                continue
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise BadInput(f"--{name} must be a whole number of at least {least}, got {number!r}")

    @property
    def named(self) -> tuple[str, ...]:
        """The experiments that run."""
        return EXPERIMENTS if self.experiment is None else self.experiment

    def spec(self) -> dict[str, Any]:
        """What decides the numbers of a piece."""
        kept = dataclasses.asdict(self)
        del kept["experiment"]
        return kept
