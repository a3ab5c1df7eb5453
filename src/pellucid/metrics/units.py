"""What an order of features is an order of: an explanation's own features, or the cells of a grid common to all
methods."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.core.players import Players, grid, positions


@dataclass(frozen=True, eq=False)
class Units:
    """Units of input (a partition of the entries of z) and the score that a method gives each, larger = more
    important."""

    players: Players
    scores: Tensor

    @property
    def n(self) -> int:
        """Number of units."""
        return self.players.n

    def order(self, seed: int, first_row: int) -> Tensor:
        """Units of each row from most to least important, (B, n); ties are broken at random, keyed by seed and row."""
        shuffled = rng.permutation(seed, "metrics.ties", 0, first_row, len(self.scores), self.n)
        by_score = self.scores.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
        return shuffled.gather(1, by_score)


def own(explanation: Explanation) -> Units:
    """The explanation's own units: its players, else the positions of the input, ranked as the method declares."""
    if explanation.dims == ("player",) and explanation.players is not None:
        labels = torch.from_numpy(np.ascontiguousarray(explanation.players))
        names = tuple(map(str, range(explanation.values.shape[1])))
        players = Players(labels, names, bool(explanation.details.get("players_by_row")))
        return Units(players, _ranked(torch.from_numpy(explanation.values).double(), explanation))
    return each_position(explanation)


def each_position(explanation: Explanation) -> Units:
    """The positions of the input: pixels, tokens, columns."""
    axes = tuple(explanation.details["axes"])
    like = explanation.values if explanation.dims == axes else explanation.data  # in another space, z is not the input
    return Units(positions().divide(torch.from_numpy(like), axes, None), position_scores(explanation).flatten(1))


def cells(explanation: Explanation, size: int) -> Units:
    """The cells of a ``size`` x ``size`` grid, each with the sum of the scores of its positions; tables and sequences
    keep their positions."""
    axes = tuple(explanation.details["axes"])
    if "height" not in axes:
        return each_position(explanation)
    data = torch.from_numpy(explanation.data)
    rows = min(size, data.shape[1 + axes.index("height")])
    columns = min(size, data.shape[1 + axes.index("width")])
    scores = position_scores(explanation)
    plane = grid(rows, columns).divide(scores, ("height", "width"), None)
    return Units(grid(rows, columns).divide(data, axes, None), plane.gather(scores))


def position_scores(explanation: Explanation) -> Tensor:
    """A score for every position of the input, (B, H, W), (B, T) or (B, F) float64: channels joined and ranked as the
    method declares."""
    if explanation.several:
        raise BadInput("metrics: the explanation has several outputs; explain one target, or take one output of it")
    axes = tuple(explanation.details["axes"])
    joined = [i + 1 for i, dim in enumerate(explanation.dims) if dim in ("channel", "embedding")]
    if joined and explanation.details.get("reduction") == "sum of absolute values":
        return torch.from_numpy(np.abs(explanation.values).sum(tuple(joined))).double()
    score = _ranked(torch.from_numpy(np.ascontiguousarray(explanation.map())).double(), explanation)
    expected = sum(dim not in ("channel", "embedding") for dim in axes) + 1
    if score.ndim != expected:
        raise BadInput(
            f"metrics: the explanation's map has shape {tuple(score.shape)}, which does not fit an input with "
            f"axes {axes}"
        )
    return score


def random_order(like: Explanation, players: Players, seed: int, draw: int) -> Explanation:
    """An explanation of the same rows that knows nothing: every order of the units is equally likely."""
    first_row = int(like.details.get("first_row", 0))
    return replace(
        like,
        values=rng.uniform(seed, "compare.control", draw, first_row, len(like), players.n).numpy(),
        dims=("player",),
        players=players.labels.numpy(),
        std_error=None,
        base_values=None,
        residual=None,
        method={"name": "random order", "fields": {"draw": draw}},
        details={
            "ranking": "signed",
            "axes": like.details["axes"],
            "first_row": first_row,
            "players_by_row": players.by_row,
            "by_row": [],
        },
    )


def _ranked(values: Tensor, explanation: Explanation) -> Tensor:
    return values.abs() if explanation.details.get("ranking") == "absolute" else values
