"""Windows that slide over the positions of an input, each taken away alone."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.method import Result
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.games.coalitional import Board, Coalitional, Pieces
from pellucid.games.presence import Plane, plane, plane_axes

_WINDOWS_PER_CHUNK = 64

Extent = int | tuple[int, ...]


@dataclass(frozen=True)
class Occlusion(Coalitional):
    """The mean drop of f over the windows that cover a position (see ``methods.occlusion``)."""

    window: Extent | None
    stride: Extent | None
    removal: Removal
    name: str = "occlusion"

    def __post_init__(self) -> None:
        for what, extent in (("window", self.window), ("stride", self.stride)):
            sizes = extent if isinstance(extent, tuple) else (1 if extent is None else extent,)
            if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
                raise BadInput(
                    f"occlusion: {what} must be a whole number from 1 on, or one for each axis, got {extent!r}"
                )

    def board(self, question: Question) -> Board:
        if "board" not in question.memo:
            question.memo["board"] = plane(question, self.removal)
        board: Board = question.memo["board"]
        return board

    def chunks(self, question: Question) -> int:
        windows = math.prod(len(along) for along in self.covers(*plane_axes(question)))
        return -(-windows // _WINDOWS_PER_CHUNK)

    def block_rows(self, question: Question) -> int:
        """Windows are the same for all rows, so a block holds as many as a model call carries."""
        return question.executor.batch_size

    def covers(self, axes: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        """For each axis the positions that each step of the window covers, (steps, size) bool."""
        windows = self._extents("window", self.window, axes, sizes)
        strides = windows if self.stride is None else self._extents("stride", self.stride, axes, sizes)
        return tuple(_steps(*each) for each in zip(axes, sizes, windows, strides, strict=True))

    def _extents(
        self, what: str, extent: Extent | None, axes: tuple[str, ...], sizes: tuple[int, ...]
    ) -> tuple[int, ...]:
        if extent is None:  # what has no neighbours goes one at a time
            near = ("height", "width", "time")
            eighths = [min(size, max(2, -(-size // 8))) for size in sizes]
            return tuple(eighth if axis in near else 1 for axis, eighth in zip(axes, eighths, strict=True))
        each = (extent,) * len(sizes) if isinstance(extent, int) else extent
        if len(each) != len(sizes):
            raise BadInput(
                f"occlusion: {what} {extent!r} needs one size for each of the axes {axes} (channels go together)"
            )
        return each

    def rounds(self, n: int) -> int:
        return -(-len(self.covers(("player",), (n,))[0]) // _WINDOWS_PER_CHUNK)

    def _covers(self, board: Board) -> tuple[Tensor, ...]:
        return (
            self.covers(board.axes, board.sizes) if isinstance(board, Plane) else self.covers(("player",), (board.n,))
        )

    def play(self, board: Board, index: int) -> Pieces:
        covers = self._covers(board)
        steps = tuple(len(along) for along in covers)
        numbers = torch.arange(math.prod(steps))[index * _WINDOWS_PER_CHUNK : (index + 1) * _WINDOWS_PER_CHUNK]
        places = torch.unravel_index(numbers, steps)
        gone = functools.reduce(_outer, [along[place] for along, place in zip(covers, places, strict=True)])
        s = torch.cat([~gone.flatten(1), torch.ones(int(index == 0), board.n, dtype=torch.bool)]).float()
        values = board.value(s)
        if index:
            return Pieces.of({"without": values})
        return Pieces.of({"all": values[:, -1:], "without": values[:, :-1]})

    def settle(self, board: Board, state: Any) -> Result:
        covers = [along.double() for along in self._covers(board)]
        drops = (state["all"] - state["without"]).unflatten(1, [len(along) for along in covers])
        count = torch.ones(())
        for along in covers:  # the first axis goes, its positions come last, before J: after all axes the order is back
            drops = torch.tensordot(drops, along, ([1], [0])).movedim(-1, -2)
            count = count.unsqueeze(-1) * along.sum(0)
        return Result((drops / count.unsqueeze(-1)).flatten(1, -2))

    def result(self, question: Question, state: Any) -> Result:
        values = self.settle(self.board(question), state).values
        named = zip(question.dims, question.z.shape[1:], strict=True)
        kept = [1 if dim in ("channel", "embedding") else size for dim, size in named]
        values = values.unflatten(1, kept).expand(*question.z.shape, values.shape[-1])
        return Result(question.gathered(values, torch.arange(len(values))))


def _steps(axis: str, size: int, window: int, stride: int) -> Tensor:
    """Windows from 0 on at every stride, until one reaches the end; that one may be cut off there."""
    if window > size:
        raise BadInput(f"occlusion: a window of {window} does not fit the axis {axis!r} of size {size}")
    if stride > window and window < size:
        raise BadInput(f"occlusion: a stride of {stride} leaves gaps between windows of {window} on the axis {axis!r}")
    starts = torch.arange(-(-(size - window) // stride) + 1).unsqueeze(1) * stride
    place = torch.arange(size)
    return (place >= starts) & (place < starts + window)


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """(m, *a) and (m, b) bool to (m, *a, b)."""
    return left.unsqueeze(-1) & right.reshape(len(right), *(1,) * (left.ndim - 1), -1)
