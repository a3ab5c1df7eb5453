"""Random soft masks over positions: what f says, averaged over the masks that show a position (RISE)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput, Unreliable, Unsupported
from pellucid.core.method import Result
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.core.state import Sums
from pellucid.games.coalitional import COALITIONS_PER_CHUNK, Board, Coalitional, warn_few
from pellucid.games.coalitions import every
from pellucid.games.presence import Plane, independent, outputs_last, plane, there
from pellucid.games.shapley import enumerated

_BLOCK = 64
"""Masks whose random numbers are drawn in one call."""
_MOST_BLOCKS = 8
_ENTRIES = 2**20
"""Mask entries that a chunk holds, about, where 64 masks are not more: 8 MB in float64."""
_BY_ROW = frozenset({"mean_output"})


@dataclass(frozen=True)
class Masks(Coalitional):
    """S(λ) = E[f(M) M(λ)] / E[M(λ)] (see ``methods.rise``)."""

    budget: int
    cells: int
    keep: float
    removal: Removal
    name: str = "rise"

    def __post_init__(self) -> None:
        for what, number in (("budget", self.budget), ("cells", self.cells)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise BadInput(f"rise: {what} must be a whole number of at least 1, got {number!r}")
        if not 0 < self.keep < 1:
            raise BadInput(f"rise: keep must lie between 0 and 1, got {self.keep!r}")

    def board(self, question: Question) -> Board:
        if question.players is not None:
            return super().board(question)
        if "board" not in question.memo:
            board = plane(question, self.removal)
            if _smooth(board) and not question.z.is_floating_point():
                raise Unsupported(
                    "rise: x holds whole numbers, which cannot be masked in part; pass players=players.positions(), or "
                    "use feature_ablation() or kernel_shap()"
                )
            question.memo["board"] = board
        found: Board = question.memo["board"]
        return found

    def chunks(self, question: Question) -> int:
        board = self.board(question)
        return -(-self.budget // self._per_chunk(board.n)) if _smooth(board) else self.rounds(board.n)

    def block_rows(self, question: Question) -> int:
        """As many rows as a model call carries, unless their masks are large."""
        n = question.z[0].numel() if question.players is None else question.players.n
        return max(1, min(question.executor.batch_size, 2 * _ENTRIES // (self._per_chunk(n) * n)))

    def _per_chunk(self, n: int) -> int:
        """Masks of a chunk, a multiple of those drawn together; a fixed function of n, so that rows agree."""
        return _BLOCK * max(1, min(_MOST_BLOCKS, _ENTRIES // (_BLOCK * n)))

    def rounds(self, n: int) -> int:
        return -(-(2**n) // COALITIONS_PER_CHUNK) if self._fits(n) else -(-self.budget // self._per_chunk(n))

    def _listed(self, board: Board) -> bool:
        """Whether all coalitions are valued, each with its probability."""
        return not _smooth(board) and self._fits(board.n)

    def _fits(self, n: int) -> bool:
        """Whether all coalitions are valued instead of random ones."""
        return enumerated(n, self.budget, self.removal.sampled)

    def play(self, board: Board, index: int) -> Sums:
        if self._listed(board):
            start = index * COALITIONS_PER_CHUNK
            s = every(board.n, start, min(2**board.n, start + COALITIONS_PER_CHUNK)).double()
            held = s.sum(1)
            share = self.keep**held * (1 - self.keep) ** (board.n - held)
            return _sums(s.expand(board.rows, *s.shape), board.value(s), share)
        per = self._per_chunk(board.n)
        draws = torch.arange(index * per, min((index + 1) * per, self.budget))
        blocks = range(int(draws[0]) // _BLOCK, int(draws[-1]) // _BLOCK + 1)
        present = torch.cat([self._block(board, block) for block in blocks], 1)[:, : len(draws)]
        return _sums(present, board.value(present, draws), torch.ones(len(draws), dtype=torch.float64))

    def _block(self, board: Board, block: int) -> Tensor:
        """One block of masks for each row, (B, 64, n) float64."""
        if isinstance(board, Plane) and _smooth(board):
            return soft_masks(board, self.name, block, self.cells, self.keep).flatten(2)
        return independent(board, self.name, block, _BLOCK, self.keep).double()

    def settle(self, board: Board, state: Any) -> Result:
        shown, exists = state["shown"].unsqueeze(-1), there(board).unsqueeze(-1)
        values = state["product"] / shown
        if not bool((exists <= (shown > 0)).all()):
            warnings.warn(
                f"rise: no mask showed some positions, whose values are NaN; raise budget={self.budget} or "
                f"keep={self.keep}",
                Unreliable,
                stacklevel=2,
            )
        values = torch.where(exists, values, 0)
        details: dict[str, Any] = {"mean_output": state["output"] / state["count"]}
        if self._listed(board):
            details["exact"] = True
            covers = "nothing: all coalitions were valued"
            return Result(values, torch.zeros_like(values), covers, details=details, by_row=_BY_ROW)
        if self.budget < 2:
            warn_few(self.name, self.budget)
        # The ratio of two means, linearised at them: its error is that of the mean of M (f - S), divided by E[M].
        spread = state["square2"] - 2 * values * state["product2"] + state["shown2"].unsqueeze(-1) * values**2
        freedom = self.budget / (self.budget - 1) if self.budget > 1 else torch.nan
        errors = torch.where(exists, spread.clamp_min(0).sqrt() / shown * freedom**0.5, 0)
        covers = "the masks" + (" and the background" if self.removal.sampled else "")
        details |= {"draws": self.budget, "degrees_of_freedom": self.budget - 1}
        return Result(values, errors, covers, details=details, by_row=_BY_ROW)

    def result(self, question: Question, state: Any) -> Result:
        board = self.board(question)
        found = outputs_last(self.settle(board, state), question)
        if not isinstance(board, Plane) or found.std_error is None:
            return found
        values, errors = (part.unflatten(1, board.sizes) for part in (found.values, found.std_error))
        return Result(values, errors, found.covers, None, board.axes, found.details, found.by_row)


def _smooth(board: Board) -> bool:
    """Whether players are neighbours in a picture or a signal, so that masks are smooth."""
    return isinstance(board, Plane) and set(board.axes) <= {"height", "width", "time"}


def _sums(present: Tensor, values: Tensor, share: Tensor) -> Sums:
    """What the estimate and its error need of masks M (B, m, n) and values f (B, m, J): never budget x positions."""
    weighted = present * share.unsqueeze(-1)
    square = weighted * present
    return Sums(
        {
            "count": share.sum(),
            "output": (values * share.unsqueeze(-1)).sum(1),
            "shown": weighted.sum(1),
            "product": weighted.mT @ values,
            "shown2": square.sum(1),
            "product2": square.mT @ values,
            "square2": square.mT @ values**2,
        }
    )


def soft_masks(board: Plane, stream: str, block: int, cells: int, keep: float) -> Tensor:
    """A block of masks, (B, 64, *sizes) in [0, 1]: coarse grids of zeros and ones, enlarged and shifted.

    Of a picture of height H each of the ``cells`` cells is enlarged to (cells + 1) ⌈H / cells⌉ / cells pixels by linear
    interpolation, and the mask is cut out at a random offset under ⌈H / cells⌉ pixels; likewise for other axes.
    """
    axes = len(board.sizes)
    numbers = rng.uniform(board.seed, stream, block, board.first_row, board.rows, _BLOCK * (cells**axes + axes))
    numbers = numbers.unflatten(1, (_BLOCK, -1))
    masks = (numbers[..., axes:] < keep).double().unflatten(2, (*(cells,) * axes, 1))
    for axis, size in enumerate(board.sizes):
        cell = -(-size // cells)
        first = (numbers[..., axis] * cell).long().unsqueeze(-1)
        pixels = enlargement((cells + 1) * cell, cells)[first + torch.arange(size)]  # (B, 64, size, cells)
        # The first axis of the grid becomes pixels and goes last, so after all axes the order is back.
        masks = (pixels @ masks.flatten(3)).unflatten(3, masks.shape[3:]).movedim(2, -1)
    whole: Tensor = masks.squeeze(2)
    return whole


def enlargement(size: int, cells: int) -> Tensor:
    """Weights (size, cells) of linear interpolation from cell centres to pixel centres, mirrored at the border as
    scikit-image's resize(order=1, mode="reflect") does, which the authors use."""
    place = (torch.arange(size, dtype=torch.float64) + 0.5) * cells / size - 0.5
    low = place.floor().long()
    weights = torch.zeros(size, cells, dtype=torch.float64)
    for cell, weight in ((low, 1 - (place - low)), (low + 1, place - low)):
        inside = cell.abs()
        inside = torch.where(inside >= cells, 2 * (cells - 1) - inside, inside).clamp(0, cells - 1)
        weights.scatter_add_(1, inside.unsqueeze(1), weight.unsqueeze(1))
    return weights
