"""Photos as rows: ImageNet photos read by EfficientNet-Lite0, ranked by the cells of a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pellucid import attack, data, players
from pellucid.attack.problem import Attack
from pellucid.core.budget import Progress
from pellucid.core.model import Model
from pellucid.experiments.pieces import Array, Bench, Piece
from pellucid.experiments.rows import Rows, digest
from pellucid.metrics.units import cells

CELLS = 7
"""Cells a side: 24 x 24 pixels each, which radii of some hundred sets can be found for in minutes."""
SIDE = 168
"""Pixels a side: as many of the twenty photos are predicted rightly as at 224, in half the time."""

STEPS = 15
"""Of the minimum-norm search when a radius is scored."""


@dataclass(frozen=True, eq=False)
class Photos(Rows):
    """Photos x (B, 3, 168, 168) in [0, 1] of a model; ``every``: all there are, whose others are the background."""

    about: str
    model: Model
    labels: tuple[int, ...]
    weights: str
    x: Tensor
    every: Tensor
    names: tuple[str, ...]

    players: ClassVar[Any] = players.grid(CELLS)
    grid: ClassVar[int | None] = CELLS

    def row(self, row: int) -> Tensor:
        return self.x[row : row + 1]

    def background_of(self, row: int) -> Tensor:
        """The other photos."""
        return torch.cat([self.every[:row], self.every[row + 1 :]])


def photos(count: int, seed: int, progress: Progress | None = None) -> Photos:
    """The first ``count`` photos of ``data.photos``, predicted by ``data.efficientnet``; ``seed`` does not choose."""
    every = data.photos(size=SIDE)
    net = data.efficientnet_module()
    return Photos(
        about=every.about,
        model=data.efficientnet(),
        labels=tuple(every.y[:count].tolist()),
        weights=digest(net),
        x=every.x[:count],
        every=every.x,
        names=every.labels,
    )


class PhotosBench(Bench):
    """Makes the pieces of photos, with shorter attacks: a step takes two hundred times as long as on digits."""

    fixed: ClassVar[dict[str, Any]] = {"cells": CELLS, "side": SIDE, "steps": STEPS}
    rows: Photos

    def attacks(self) -> tuple[Attack, ...]:
        return attack.minimum_norm(STEPS), attack.pgd(self.settings.pgd_steps, self.settings.restarts)

    def _map(self, row: int, key: str) -> Array:
        """By cell, as it is ranked."""
        e = self.explanation(Piece(row, key, "explanation"))
        scores = cells(e, CELLS).scores[0].numpy()
        if "pertinent" in e.details:
            scores = scores * np.asarray(e.details["pertinent"])[0]
        return np.asarray(scores.reshape(CELLS, CELLS))
