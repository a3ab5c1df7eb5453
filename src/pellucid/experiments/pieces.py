"""The pieces of the benchmark: what one method says about one row, and one group of numbers about that."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import pellucid
from pellucid import attack, methods, metrics
from pellucid.core import rng
from pellucid.core.budget import Run
from pellucid.core.errors import BadInput, Unreliable
from pellucid.core.explanation import Explanation
from pellucid.core.method import Method
from pellucid.core.model import Model
from pellucid.evaluating import ask_again, evaluate
from pellucid.experiments.contestants import IRRELEVANT, RELEVANT, TAG, TOP, WHOLE, Contestant, contestants
from pellucid.experiments.published import REFERENCES
from pellucid.experiments.rows import Rows
from pellucid.experiments.settings import Settings
from pellucid.metrics.metric import Desk, Marks, Metric
from pellucid.metrics.robustness import Robustness
from pellucid.metrics.statistics import overlap, rank_correlation, top
from pellucid.metrics.units import own
from pellucid.run.store import Store

RADIUS, SHARE = 0.1, 0.2
"""Of sensitivity: how far neighbours are at most in any pixel, and the share of the pixels that is compared."""
MARKED = 8
"""Pixels that are looked for in the tag: as many as it lights. Of its dark ones a baseline of 0 knows nothing."""
STEP = 39
"""Pixels that the released code adds in a step."""
DRAWING = ("eg", "shap", "random")
"""Methods whose own random draws are measured too, as the floor of sensitivity."""


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
        kinds = ["explanation", IRRELEVANT, RELEVANT, "references", "planted"]
        if row < settings.in_few and c.criterion != RELEVANT:  # of Greedy-AS, one is dear enough
            kinds += ["sensitivity"] if c.key == "random" else ["randomised", "sensitivity"]
        found += [Piece(row, c.key, kind) for kind in kinds]
    if row < settings.released:
        found.append(Piece(row, "released", "seconds"))
    return found


class Bench:
    """Makes pieces, and keeps them in a store."""

    def __init__(self, settings: Settings, rows: Rows, store: Store) -> None:
        self.settings, self.rows, self.store = settings, rows, store
        whole = min(WHOLE, settings.fractions[-1] - 0.003)
        self.full = self._contestants(rows.background, max(whole, TAG))
        self.short = self._contestants(rows.background, TOP)
        self.tagging = self._contestants(rows.planted_background, TAG)
        self.marks: dict[tuple[int, str, bool], dict[str, Marks]] = {}  # radii of the row at hand, by method

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
        e = self._explain(self.rows.model, self.rows.x[piece.row : piece.row + 1], self.full[piece.key], piece.row)
        e.save(path)
        return e

    def predicted(self, row: int) -> int:
        """The predicted class, which is held fixed."""
        with torch.no_grad():
            return int(self.rows.model.outputs(self.rows.x[row : row + 1]).argmax(1))

    def _contestants(self, background: Tensor, fraction: float) -> dict[str, Contestant]:
        return {c.key: c for c in contestants(self.settings, background, fraction)}

    def _explain(
        self, model: Model, x: Tensor, who: Contestant | Method, first_row: int, target: int | None = None
    ) -> Explanation:
        method = who.method if isinstance(who, Contestant) else who
        return pellucid.explain(model, x, method, target=target, seed=self.settings.seed, first_row=first_row)

    def _scored(self, piece: Piece, wanted: dict[str, Metric]) -> dict[str, Any]:
        cells = evaluate(self.rows.model, self.explanation(piece), list(wanted.values()), seed=self.settings.seed).cells
        found: dict[str, Any] = {}
        for name, cell in zip(wanted, cells, strict=True):
            curve = np.asarray(cell.curve)[0]
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
        s, ablation = self.settings, self.full[piece.key].ablation
        at = piece.row, piece.kind, ablation
        if at not in self.marks:
            attacks = (attack.minimum_norm(), attack.pgd(s.pgd_steps, s.restarts))
            asked = cast(Robustness, metric(s.fractions, method=attacks))
            rivals = [p for p in pieces(s, piece.row) if p.kind == piece.kind and self.full[p.key].ablation == ablation]
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
        values = {name: name if name == "uniform" else float(name) for name in REFERENCES}
        each = {"insertion": metrics.insertion, "deletion": metrics.deletion}
        return self._scored(
            piece,
            {
                f"{kind}/{name}": metric(value, fractions=self.settings.fractions)
                for kind, metric in each.items()
                for name, value in values.items()
            },
        )

    def _planted(self, piece: Piece) -> dict[str, Any]:
        x = self.rows.planted[piece.row : piece.row + 1]
        e = self._explain(self.rows.finder, x, self.tagging[piece.key], piece.row, target=1)
        first = top(own(e).scores.numpy(), MARKED)
        return {"planted": {"value": float((first * self.rows.tag[piece.row].numpy()).sum() / MARKED)}}

    def _randomised(self, piece: Piece) -> dict[str, Any]:
        x, target = self.rows.x[piece.row : piece.row + 1], self.predicted(piece.row)
        who = self.short[piece.key]
        maps = [
            np.abs(own(self._explain(model, x, who, piece.row, target)).scores.numpy())
            for model in (self.rows.model, self.rows.last)
        ]
        return {"randomised": {"value": float(rank_correlation(*maps)[0])}}

    def _sensitivity(self, piece: Piece) -> dict[str, Any]:
        s, row = self.settings, piece.row
        x, target, who = self.rows.x[row : row + 1], self.predicted(row), self.short[piece.key]
        here = own(self._explain(self.rows.model, x, who, row, target)).scores.numpy()
        numbers = rng.uniform(s.seed, "experiments.neighbours", 0, row * s.neighbours, s.neighbours, x[0].numel())
        steps = ((2 * numbers - 1) * RADIUS).to(x).reshape(s.neighbours, *x.shape[1:])
        start = time.perf_counter()
        found = {"sensitivity": {"value": self._most_changed((x + steps).clamp(0, 1), who, piece, target, here)}}
        found["seconds"] = {"value": (time.perf_counter() - start) / s.neighbours}
        if piece.key in DRAWING:
            still = x.expand(s.neighbours, *x.shape[1:])
            found["floor"] = {"value": self._most_changed(still, who, piece, target, here)}
        return found

    def _most_changed(self, x: Tensor, who: Contestant, piece: Piece, target: int, here: Any) -> float:
        """The largest share of the top pixels that some input of x (M, 1, 28, 28) does not share."""
        first = 1_000_000 + piece.row * len(x)  # draws of its own for each
        there = own(self._explain(self.rows.model, x, who, first, target)).scores.numpy()
        return float((1 - overlap(np.repeat(here, len(x), 0), there, SHARE)).max())

    def _seconds(self, piece: Piece) -> dict[str, Any]:
        """The released settings, timed on one step with few subsets."""
        subsets = self.settings.released_subsets
        method = methods.greedy_as_released(fraction=TAG, subsets=subsets)
        start = time.perf_counter()
        self._explain(self.rows.model, self.rows.x[piece.row : piece.row + 1], method, piece.row)
        steps = -(-int(SHARE * 784) // STEP) - 1  # 156 pixels in four steps, as ours
        return {"released": {"value": (time.perf_counter() - start) * 5000 / subsets * steps}}
