"""Digits as rows: held-out digits and their network, and tagged digits, whose evidence is known."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import pellucid
from pellucid import data, methods
from pellucid.core import rng
from pellucid.core.budget import Progress
from pellucid.core.model import Model
from pellucid.experiments.contestants import TAG, TOP, WHOLE, Contestant
from pellucid.experiments.pieces import Array, Bench, Piece
from pellucid.experiments.rows import Rows, digest
from pellucid.experiments.settings import Settings
from pellucid.metrics.statistics import overlap, rank_correlation, top
from pellucid.metrics.units import own
from pellucid.run.store import Store

BACKGROUND = 200
"""Training digits that Expected Gradients averages over."""
RADIUS, SHARE = 0.1, 0.2
"""Of sensitivity: how far neighbours are at most in any pixel, and the share of the pixels that is compared."""
MARKED = 8
"""Pixels that are looked for in the tag: as many as it lights. Of its dark ones a baseline of 0 knows nothing."""
STEP = 39
"""Pixels that the released code adds in a step."""
DRAWING = ("eg", "shap", "random")
"""Methods whose own random draws are measured too, as the floor of sensitivity."""


@dataclass(frozen=True, eq=False)
class Digits(Rows):
    """Inputs x (B, 1, 28, 28) in [0, 1] of a model, with ``background`` (R, 1, 28, 28) from its training data.

    ``last``: the same model with its last layer drawn anew. ``planted``: inputs, as many, of the model ``finder``, for
    whose prediction nothing matters outside ``tag`` (B, 784) bool. ``dark``: the model of the inverted inputs.
    """

    about: str
    model: Model
    x: Tensor
    labels: tuple[int, ...]
    background: Tensor
    last: Model
    finder: Model
    planted: Tensor
    planted_background: Tensor
    tag: Tensor
    dark: Model
    weights: str

    def row(self, row: int) -> Tensor:
        return self.x[row : row + 1]

    def background_of(self, row: int) -> Tensor:
        return self.background


class Inverted(nn.Module):
    """1 - x: what was bright is dark."""

    def forward(self, x: Tensor) -> Tensor:
        """Invert."""
        return 1 - x


def digits(count: int, seed: int, progress: Progress | None = None) -> Digits:
    """``count`` held-out digits, predicted by ``data.digits_cnn``, and as many tagged ones."""
    test, train = data.digits("test", count, seed), data.digits("train", BACKGROUND, seed)
    net, finder = data.digits_cnn(progress=progress), data.tagged_digits_cnn(progress=progress)
    tagged = data.tagged_digits("test", None, seed)
    kept = torch.nonzero(tagged.y == 1).reshape(-1)[:count]
    return Digits(
        about=test.about,
        model=pellucid.wrap(net, bounds=(0, 1)),
        x=test.x,
        labels=tuple(test.y.tolist()),
        background=train.x,
        last=pellucid.wrap(last_layer_anew(net, seed), bounds=(0, 1)),
        finder=pellucid.wrap(finder, bounds=(0, 1)),
        planted=tagged.x[kept],
        planted_background=data.tagged_digits("train", BACKGROUND, seed).x,
        tag=tagged.truth["tag"][kept].flatten(1),
        dark=pellucid.wrap(nn.Sequential(Inverted(), net).eval(), bounds=(0, 1)),
        weights=digest(net, finder),
    )


def last_layer_anew(net: nn.Module, seed: int) -> nn.Module:
    """A copy whose last linear layer starts again, uniform in +-1/sqrt(inputs)."""
    made = copy.deepcopy(net)
    layer = [module for module in made.modules() if isinstance(module, nn.Linear)][-1]
    bound = layer.in_features**-0.5
    with torch.no_grad():
        for name, values in layer.named_parameters():
            numbers = rng.uniform(seed, f"experiments.last_layer/{name}", 0, 0, 1, values.numel())
            values.copy_(((2 * numbers - 1) * bound).reshape(values.shape))
    return made.eval()


class DigitsBench(Bench):
    """Makes the pieces of digits: with planted truth, random weights, sensitivity and the released settings."""

    fixed: ClassVar[dict[str, Any]] = {"marked": MARKED}
    rows: Digits

    def __init__(self, settings: Settings, rows: Digits, store: Store) -> None:
        super().__init__(settings, rows, store)
        whole = min(WHOLE, settings.fractions[-1] - 0.003)
        self.full = self._contestants(rows.background, max(whole, TAG))
        self.short = self._contestants(rows.background, TOP)
        self.tagging = self._contestants(rows.planted_background, TAG)

    def of(self, row: int) -> dict[str, Contestant]:
        return self.full

    def _picture(self, row: int) -> Array:
        return self.rows.x[row, 0].numpy()

    def _planted(self, piece: Piece) -> dict[str, Any]:
        x = self.rows.planted[piece.row : piece.row + 1]
        e = self._explain(self.rows.finder, x, self.tagging[piece.key], piece.row, target=1)
        first = top(own(e).scores.numpy(), MARKED)
        return {"planted": {"value": float((first * self.rows.tag[piece.row].numpy()).sum() / MARKED)}}

    def _randomised(self, piece: Piece) -> dict[str, Any]:
        x, target = self.rows.row(piece.row), self.predicted(piece.row)
        who = self.short[piece.key]
        maps = [
            np.abs(own(self._explain(model, x, who, piece.row, target)).scores.numpy())
            for model in (self.rows.model, self.rows.last)
        ]
        return {"randomised": {"value": float(rank_correlation(*maps)[0])}}

    def _sensitivity(self, piece: Piece) -> dict[str, Any]:
        s, row = self.settings, piece.row
        x, target, who = self.rows.row(row), self.predicted(row), self.short[piece.key]
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
        self._explain(self.rows.model, self.rows.row(piece.row), method, piece.row)
        steps = -(-int(SHARE * 784) // STEP) - 1  # 156 pixels in four steps, as ours
        return {"released": {"value": (time.perf_counter() - start) * 5000 / subsets * steps}}
