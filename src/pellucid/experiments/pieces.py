"""The pieces of the benchmark: what one method says about one row, and one group of numbers about that."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

import pellucid
from pellucid import attack, metrics
from pellucid.attack.problem import Attack
from pellucid.core.budget import Run
from pellucid.core.errors import BadInput, Unreliable
from pellucid.core.explanation import Explanation
from pellucid.core.method import Method
from pellucid.core.model import Model
from pellucid.evaluating import ask_again, evaluate
from pellucid.experiments.contestants import RELEVANT, Contestant, contestants
from pellucid.experiments.rows import Rows
from pellucid.experiments.settings import Settings
from pellucid.metrics.metric import Desk, Marks, Metric
from pellucid.metrics.robustness import Robustness
from pellucid.run.store import Store

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Piece:
    """One number or group of numbers: ``kind`` of what, about ``key`` (a contestant) in ``row``."""

    row: int
    key: str
    kind: str

    @property
    def name(self) -> str:
        """Its name in the store."""
        return f"{self.row:04d}-{self.key}-{self.kind}"


@dataclass(frozen=True, eq=False)
class Shown:
    """A row as a picture: x (H, W), or (T,) the scores that people gave the words of ``text`` at ``places``; its class
    and prediction, and every contestant's map, (H, W) or (T,), by key."""

    x: Array
    label: str
    prediction: str
    maps: dict[str, Array]
    text: str = ""
    places: tuple[tuple[int, int], ...] = ()


def pieces(settings: Settings, row: int) -> list[Piece]:
    """Every piece of a row, explanations before what needs them."""
    found = []
    for c in contestants(settings, torch.zeros(1, 1, 28, 28)):
        if settings.methods is not None and c.key not in settings.methods:
            continue
        if c.ablation:
            if row < settings.in_ablation:
                found += [Piece(row, c.key, "explanation"), Piece(row, c.key, str(c.criterion))]
            continue
        if c.only is not None:
            found += [Piece(row, c.key, kind) for kind in ("explanation", c.only)]
            continue
        kinds = ["explanation", *settings.kind.pieces]
        if row < settings.in_few and c.criterion != RELEVANT:  # of Greedy-AS, one is dear enough
            kinds += ["sensitivity"] if c.key == "random" else ["randomised", "sensitivity"]
        found += [Piece(row, c.key, kind) for kind in kinds]
    if row < settings.released:
        found.append(Piece(row, "released", "seconds"))
    return found


class Bench:
    """Makes pieces, and keeps them in a store. ``fixed``: what else than the settings decides the numbers."""

    fixed: ClassVar[dict[str, Any]] = {}

    def __init__(self, settings: Settings, rows: Rows, store: Store) -> None:
        self.settings, self.rows, self.store = settings, rows, store
        self.marks: dict[tuple[int, str, bool], dict[str, Marks]] = {}  # radii of the row at hand, by method
        self._known: dict[int, dict[str, Contestant]] = {}

    def of(self, row: int) -> dict[str, Contestant]:
        """The methods as they are asked about a row, by key."""
        if row not in self._known:
            self._known = {row: self._contestants(self.rows.background_of(row), self._fractions(row)[-1])}
        return self._known[row]

    def attacks(self) -> tuple[Attack, ...]:
        """What finds the radii of scores."""
        return attack.minimum_norm(), attack.pgd(self.settings.pgd_steps, self.settings.restarts)

    def references(self, row: int) -> dict[str, Any]:
        """References of insertion and deletion, by name."""
        return {name: name if name == "uniform" else float(name) for name in self.settings.kind.references}

    def shown(self, row: int, keys: set[str]) -> Shown:
        """A row as a picture, with the maps of the methods ``keys``."""
        maps = {key: self._map(row, key) for key in self.of(row) if key in keys}
        return Shown(self._picture(row), self._name(self.rows.labels[row]), self._name(self.predicted(row)), maps)

    def make(self, piece: Piece) -> None:
        """Make a piece, unless it is there and whole."""
        if piece.kind == "explanation":
            self.explanation(piece)
        elif self.store.load(piece.name) is None:
            start = time.perf_counter()
            with warnings.catch_warnings():
                # Of randomised weights the class is held fixed, which those that explain the prediction warn of.
                warnings.simplefilter("ignore", Unreliable)
                found = getattr(self, f"_{piece.kind}")(piece)
            self.store.save(piece.name, found | {"took": time.perf_counter() - start}, {"forwards": 0, "backwards": 0})

    def explanation(self, piece: Piece) -> Explanation:
        """What a method says about a row, made or read."""
        path = self.store.folder / f"{piece.row:04d}-{piece.key}-explanation.npz"
        if path.is_file():
            try:
                return pellucid.load(path)
            except BadInput:
                path.unlink(missing_ok=True)  # damaged: it is made again
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Unreliable)  # of anchors that are less precise than asked for
            e = self._explain(self.rows.model, self.rows.row(piece.row), self.of(piece.row)[piece.key], piece.row)
        e.save(path)
        return e

    def predicted(self, row: int) -> int:
        """The predicted class, which is held fixed."""
        with torch.no_grad():
            return int(self.rows.model.outputs(self.rows.row(row)).argmax(1))

    def _contestants(self, background: Tensor, fraction: float) -> dict[str, Contestant]:
        return {c.key: c for c in contestants(self.settings, background, fraction)}

    def _explain(
        self, model: Model, x: Tensor, who: Contestant | Method, first_row: int, target: int | None = None
    ) -> Explanation:
        method, parts = (who.method, who.parts) if isinstance(who, Contestant) else (who, True)
        players = self.rows.players if parts else None
        return pellucid.explain(
            model, x, method, target=target, players=players, seed=self.settings.seed, first_row=first_row
        )

    def _fractions(self, row: int) -> tuple[float, ...]:
        return self.rows.fractions(row, self.settings.sizes)

    def _map(self, row: int, key: str) -> Array:
        e = self.explanation(Piece(row, key, "explanation"))
        values = np.asarray(e.map()[0])
        if "pertinent" not in e.details:
            return values
        # What is chosen, coloured by what the perturbation does to it.
        return np.asarray(values * np.asarray(e.details["pertinent"])[0].reshape(values.shape))

    def _picture(self, row: int) -> Array:
        return self.rows.row(row)[0].numpy()

    def _name(self, label: int) -> str:
        return str(label) if self.rows.model.labels is None else self.rows.model.labels[label]

    def _scored(self, piece: Piece, wanted: dict[str, Metric]) -> dict[str, Any]:
        cells = evaluate(self.rows.model, self.explanation(piece), list(wanted.values()), seed=self.settings.seed).cells
        found: dict[str, Any] = {}
        sizes = np.array(self._fractions(piece.row))
        for name, cell in zip(wanted, cells, strict=True):
            # Of few features every size is measured: those nearest to the ones asked for.
            at = np.abs(np.asarray(cell.fractions)[:, None] - sizes).argmin(0)
            curve = np.asarray(cell.curve)[0][at]
            found[name] = {
                "value": float(np.trapezoid(curve, self.settings.sizes)),
                "curve": torch.from_numpy(curve.copy()),
                "censored": float("nan") if cell.censored is None else float(cell.censored[0]),
                "gap": float("nan") if cell.gap is None else float(cell.gap[0]) * np.ptp(self.settings.sizes).item(),
            }
        return found

    def _irrelevant(self, piece: Piece) -> dict[str, Any]:
        return self._robustness(piece, metrics.robustness_irrelevant)

    def _relevant(self, piece: Piece) -> dict[str, Any]:
        return self._robustness(piece, metrics.robustness_relevant)

    def _robustness(self, piece: Piece, metric: Callable[..., Metric]) -> dict[str, Any]:
        """One method's radii. Those of all methods of the row, or of the ablation, are found together, in model calls
        that are full; what was already in the store is found again, so that a resumed run makes the same calls."""
        s, ablation = self.settings, self.of(piece.row)[piece.key].ablation
        at = piece.row, piece.kind, ablation
        if at not in self.marks:
            asked = cast(Robustness, metric(self._fractions(piece.row), self.rows.grid, method=self.attacks()))
            there = [p for p in pieces(s, piece.row) if p.kind == piece.kind]
            rivals = [p for p in there if self.of(p.row)[p.key].ablation == ablation]
            each = {p.key: self.explanation(p) for p in rivals}
            desk = Desk(ask_again(self.rows.model, each, s.seed, Run()))
            asked.ahead(desk, list(each.values()), s.seed)
            self.marks = {key: marks for key, marks in self.marks.items() if key[0] == piece.row}
            self.marks[at] = {key: asked.marks(desk, e, s.seed) for key, e in each.items()}
        marks = self.marks[at][piece.key]
        assert marks.curve is not None and marks.censored is not None and marks.gap is not None  # noqa: S101, PT018
        curve = marks.curve[0].double()
        return {
            f"robustness_{piece.kind}": {
                "value": float(np.trapezoid(curve.numpy(), s.sizes)),
                "curve": curve,
                "censored": float(marks.censored[0]),
                "gap": float(marks.gap[0]) * np.ptp(s.sizes).item(),
            }
        }

    def _references(self, piece: Piece) -> dict[str, Any]:
        fractions, grid = self._fractions(piece.row), self.rows.grid
        each = {"insertion": metrics.insertion, "deletion": metrics.deletion}
        return self._scored(
            piece,
            {
                f"{kind}/{name}": metric(value, grid=grid, fractions=fractions)
                for kind, metric in each.items()
                for name, value in self.references(piece.row).items()
            },
        )
