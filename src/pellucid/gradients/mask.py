"""Masks found by gradient descent: how little has to be taken away for the output to fall."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Removal

Score = Callable[[Tensor], Tensor]

_NEAR = ("height", "width", "time")
_ENLARGE = {1: "linear", 2: "bilinear"}
_CELLS, _PIXELS_A_CELL = 7, 8
"""A coarse grid has a cell for every 8 pixels of a side, as the paper's 28 for 224, and at least 7."""
_JITTER = 1 / 56
"""Largest random shift of the masked picture as a share of its side, 4 of the paper's 224 pixels."""


@dataclass(frozen=True)
class Sheet:
    """Where the entries of a mask lie: one for each player, else one for each position, or each cell of a grid over
    positions that have neighbours (``fine``: each position there too)."""

    question: Question
    fine: bool = False

    @property
    def axes(self) -> tuple[tuple[str, int], ...]:
        """Names and sizes of the axes of the importance."""
        question = self.question
        if question.players is not None:
            return (("player", question.players.n),)
        named = zip(question.dims, question.z.shape[1:], strict=True)
        return tuple((dim, size) for dim, size in named if dim not in ("channel", "embedding")) or (("feature", 1),)

    @property
    def near(self) -> bool:
        """Whether entries next to each other belong together."""
        return len(self.axes) in _ENLARGE and all(dim in _NEAR for dim, _ in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a mask."""
        sizes = tuple(size for _, size in self.axes)
        if self.fine or not self.near:
            return sizes
        return tuple(min(size, max(_CELLS, -(-size // _PIXELS_A_CELL))) for size in sizes)

    def enlarged(self, mask: Tensor) -> Tensor:
        """A mask (B, *shape) at the size of the importance."""
        sizes = [size for _, size in self.axes]
        if list(mask.shape[1:]) == sizes:
            return mask
        return functional.interpolate(mask[:, None], sizes, mode=_ENLARGE[len(sizes)], align_corners=False)[:, 0]

    def present(self, mask: Tensor) -> Tensor:
        """How far each entry of z keeps its value under a mask, (B, *dims)."""
        question, large = self.question, self.enlarged(mask)
        if question.players is not None:
            return question.players.mask(large.unsqueeze(1))[:, 0]
        kept = [size if dim not in ("channel", "embedding") else 1 for dim, size in self._dims]
        return large.reshape(len(large), *kept).expand_as(question.z)

    @property
    def _dims(self) -> tuple[tuple[str, int], ...]:
        return tuple(zip(self.question.dims, self.question.z.shape[1:], strict=True))


@dataclass(frozen=True)
class Mask(Method):
    """min_m area mean(1 - m) + smoothness TV(m) + probability of m z + (1 - m) absent; the importance is 1 - m (see
    ``methods.meaningful_perturbation``)."""

    steps: int
    area: float
    smoothness: float
    removal: Removal
    name: str = "meaningful_perturbation"

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    access: ClassVar[str] = "gradients"
    rate: ClassVar[float] = 0.1
    power: ClassVar[int] = 3
    start: ClassVar[float] = 0.0  # at 1 a sure model has no slope; from 0 the lowest losses were found
    fine: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise BadInput(f"{self.name}: steps must be a whole number of at least 1, got {self.steps!r}")
        for what, number in (("area", self.area), ("smoothness", self.smoothness)):
            if not 0 <= number < math.inf:
                raise BadInput(f"{self.name}: {what} must be a finite number of at least 0, got {number!r}")

    def attribute(self, question: Question) -> Result:
        target, rows = question.target, len(question.z)
        outputs = question.here()
        columns = [replace(target, index=(j,) * rows) for j in range(outputs.shape[1])] if target.several else [target]
        each = []  # every output has a mask of its own
        for column in columns:
            found = question.executor.map(functools.partial(self._part, replace(question, target=column)), rows)
            each.append([torch.cat(parts) for parts in zip(*found, strict=True)])
        values, after, before = (torch.stack(parts, -1) for parts in zip(*each, strict=True))
        dims = tuple(dim for dim, _ in Sheet(question).axes)
        details = {"score": before, "score_masked": after}
        if not target.several:
            details = {name: part[:, 0] for name, part in details.items()}
        return Result(values, dims=dims, details=details, by_row=frozenset(details), outputs=outputs)

    def _part(self, question: Question, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        return self.descend(question.block(part))

    def descend(self, question: Question) -> tuple[Tensor, Tensor, Tensor]:
        """Importance (B, *positions), and the score (B,) under the final mask and at x, of some rows."""
        sheet, z, rows = Sheet(question, self.fine), question.z, question.every_row()
        stand_ins, score = self.removal.stand_ins(question), self.score(question)

        def masked(mask: Tensor, step: int) -> Tensor:
            """m z + (1 - m) absent, with one stand-in a step, each in its turn."""
            present, sampled = sheet.present(mask), self.removal.sampled
            turns = torch.full((len(z),), step if sampled else 0)
            draw = 0 if sampled else step % self.removal.draws
            absent = stand_ins(turns, rows, range(draw, draw + 1), present.detach())[:, 0].detach()
            return absent + present * (z - absent)

        mask = torch.full((len(z), *sheet.shape), self.start, dtype=z.dtype, device=z.device).requires_grad_()
        optimiser = torch.optim.Adam([mask], lr=self.rate)
        for step in range(self.steps):
            with torch.enable_grad():
                loss = score(self.disturbed(question, masked(mask, step), step)) + self.price(mask, sheet.near)
                gradient = question.derivatives(loss.unsqueeze(1), mask, needed="the mask")
            mask.grad = gradient[..., 0]
            optimiser.step()
            with torch.no_grad():
                mask.clamp_(0, 1)
        with torch.no_grad():
            mask = mask.detach()
            return self.importance(sheet.enlarged(mask)), score(masked(mask, self.steps)), score(z)

    def score(self, question: Question) -> Score:
        """What is to fall, a function of z (B, *dims) to (B,): the probability of the class; of plain values, the
        output as a share of its fall from x to where everything is absent."""
        target, rows = question.target, question.every_row()
        if not callable(target.read) and question.model.scale != "value":
            probable = replace(question, target=replace(target, read="prob"))
            return lambda z: probable.score(probable.raw(z), rows)[:, 0]
        sheet, turn = Sheet(question, self.fine), torch.zeros(len(rows), dtype=torch.long)
        present = sheet.present(question.z.new_zeros(len(rows), *sheet.shape))  # entries without a player stay
        absent = self.removal.stand_ins(question)(turn, rows, range(1), present)[:, 0]
        low = question.value(absent + present * (question.z - absent), rows)[:, 0]
        high = question.value(question.z, rows)[:, 0]
        fall = torch.where(high == low, torch.ones_like(high), high - low)
        return lambda z: (question.score(question.raw(z), rows)[:, 0] - low) / fall

    def price(self, mask: Tensor, near: bool) -> Tensor:
        """What a mask costs, (B,)."""
        price: Tensor = self.area * (1 - mask).flatten(1).mean(1)
        return price + self.smoothness * self.variation(mask) if near else price

    def variation(self, mask: Tensor) -> Tensor:
        """Σ over axes of the mean of |m - its neighbour|³, (B,)."""
        axes = [axis for axis in range(1, mask.ndim) if mask.shape[axis] > 1]
        differences = [mask.diff(dim=axis).abs().pow(self.power).flatten(1).mean(1) for axis in axes]
        return sum(differences, mask.new_zeros(len(mask)))

    def importance(self, mask: Tensor) -> Tensor:
        """What a mask says of its positions."""
        return 1 - mask

    def disturbed(self, question: Question, z: Tensor, step: int) -> Tensor:
        """The masked picture moved by a few pixels, so that no mask lives off a chance pattern."""
        for axis, dim in enumerate(question.dims, 1):
            reach = round(z.shape[axis] * _JITTER) if dim in _NEAR else 0
            if reach:
                stream = f"{self.name}.{dim}"
                shift = rng.integers(question.seed, stream, step, question.first_row, len(z), 1, 2 * reach + 1) - reach
                place = (torch.arange(z.shape[axis]) + shift).clamp(0, z.shape[axis] - 1).to(z.device)
                index = place.reshape(len(z), *(-1 if a == axis else 1 for a in range(1, z.ndim)))
                z = z.gather(axis, index.expand_as(z))
        return z


@dataclass(frozen=True)
class ReleasedMask(Mask):
    """The loss of the code released with hsieh2021 (see ``methods.meaningful_perturbation_as_released``)."""

    name: str = "meaningful_perturbation_as_released"

    start: ClassVar[float] = 1.0
    fine: ClassVar[bool] = True

    def score(self, question: Question) -> Score:
        """The output itself."""
        rows = question.every_row()
        return lambda z: question.score(question.raw(z), rows)[:, 0]

    def price(self, mask: Tensor, near: bool) -> Tensor:
        """The area is that of what is kept."""
        price: Tensor = self.area * mask.flatten(1).mean(1)
        return price + self.smoothness * self.variation(mask) if near else price

    def importance(self, mask: Tensor) -> Tensor:
        """The mask itself."""
        return mask

    def disturbed(self, question: Question, z: Tensor, step: int) -> Tensor:
        """Standard normal noise on every entry."""
        noise = rng.normal(question.seed, self.name, step, question.first_row, len(z), z[0].numel())
        return z + noise.reshape(z.shape).to(z)


@dataclass(frozen=True)
class SmallBlur(Removal):
    """A Gaussian of ``sigma`` cut off to a square of ``size`` pixels, mirrored at the border, as OpenCV blurs."""

    size: int = 11
    sigma: float = 5.0
    name: str = field(default="small blur", repr=False)

    def absent(self, question: Question, draws: range) -> Tensor:
        x = question.x
        dims = question.model.dims(tuple(x.shape[1:]))
        reach = self.size // 2
        place = torch.arange(-reach, reach + 1, dtype=torch.float64)
        weight = torch.exp(-(place**2) / (2 * self.sigma**2))
        for axis in [i + 1 for i, dim in enumerate(dims) if dim in _NEAR]:
            size = x.shape[axis]
            around = (torch.arange(size).unsqueeze(1) + place.long()).abs()
            around = (size - 1 - (size - 1 - around).abs()).clamp(0, size - 1).to(x.device)
            windows = x.index_select(axis, around.flatten()).unflatten(axis, around.shape)
            x = torch.movedim(windows, axis + 1, -1) @ (weight / weight.sum()).to(x)
        return question.space.encode(x).unsqueeze(1)
