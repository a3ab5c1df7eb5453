"""Where an experiment works: its settings, its store of finished pieces, and who is told how far it is."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pellucid
from pellucid import __version__, generative
from pellucid.core.budget import Progress, Run
from pellucid.core.errors import BadInput, Unreliable
from pellucid.core.explanation import Explanation
from pellucid.experiments.semantic.settings import Settings
from pellucid.generative.fit import Fitted
from pellucid.generative.learner import Recipe
from pellucid.generative.quality import Coding
from pellucid.run.store import Store

Array = np.ndarray[Any, Any]


@dataclass
class Bench:
    """What an experiment is given. Pieces are made once: a run that was killed finds those that it had finished."""

    settings: Settings
    store: Store
    models: Path
    progress: Progress | None = None
    made: int = 0
    marks: list[str] = field(default_factory=list)

    def examples(self, usual: int) -> int:
        """How many inputs are explained."""
        return usual if self.settings.examples is None else self.settings.examples

    def steps(self, usual: int) -> int:
        """How long a network is trained."""
        return usual if self.settings.steps is None else self.settings.steps

    def orders(self, usual: int) -> int:
        """Pairs of orders for a single input."""
        return usual if self.settings.orders is None else self.settings.orders

    def uses(self, *nets: torch.nn.Module) -> None:
        """Pieces that follow depend on these weights: others are not mistaken for them."""
        for net in nets:
            digest = hashlib.sha256()
            for name, values in net.state_dict().items():
                digest.update(name.encode() + values.cpu().numpy().tobytes())
            self.marks.append(digest.hexdigest()[:8])

    def piece(self, name: str, make: Callable[[], Any]) -> Any:
        """Numbers and arrays by name, made or read: ``make`` returns a dict, a list or an array."""
        key = self._key(name)
        loaded = self.store.load(key)
        if loaded is None:
            with quiet():
                self.store.save(key, make(), {"forwards": 0, "backwards": 0})
            self.made += 1
            loaded = self.store.load(key)
        if loaded is None:
            raise BadInput(f"benchmark: the piece {name!r} cannot be read back from {str(self.store.folder)!r}")
        self._tell(name)
        return loaded[0]

    def explanation(self, name: str, make: Callable[[], Explanation]) -> Explanation:
        """An explanation, made or read."""
        path = self.store.folder / f"{self._key(name)}-explanation.npz"
        if path.is_file():
            try:
                return pellucid.load(path)
            except BadInput:
                path.unlink(missing_ok=True)  # damaged: it is made again
        with quiet():
            e = make()
        e.save(path)
        self.made += 1
        self._tell(name)
        return e

    def fitted(self, recipe: Recipe, x: Any, y: Any = None, **how: Any) -> Fitted:
        """``generative.fit`` with its checkpoints in the store, for all settings that train alike."""
        run = Run(store=self.models, progress=self.progress)
        return generative.fit(recipe, x, y, seed=self.settings.seed, run=run, **how)

    def separate(self, model: Coding, x: Tensor, factors: Tensor, names: Sequence[str]) -> tuple[float, float]:
        """DCI disentanglement of a model's codes, and of principal components."""

        def make() -> list[float]:
            found = generative.dci(model, x, factors, names)
            return [found.disentanglement, found.control[0]]

        own, control = self.piece("dci", make)
        return own, control

    def _key(self, name: str) -> str:
        return "-".join([name, *self.marks])

    def _tell(self, name: str) -> None:
        if self.progress is not None:
            self.progress(name, 1, 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings that a page says in its own words: single rows have no error over rows, way backs are not exact."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Unreliable)
        yield


@contextmanager
def opened(
    name: str,
    settings: Settings,
    folder: Path,
    progress: Progress | None = None,
    constants: Mapping[str, Any] | None = None,
) -> Iterator[Bench]:
    """The bench of one experiment under these settings, its own ``constants`` and this version."""
    spec = settings.spec() | {"experiment": name, "version": __version__, "torch": torch.__version__}
    spec["constants"] = dict(constants or {})
    with Store.opened(folder, spec, temporary=False, resume=True) as store:
        assert store is not None  # noqa: S101 - a folder was given
        yield Bench(settings, store, folder / "models", progress)
