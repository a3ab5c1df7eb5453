"""Stand-ins for absent entries that look at the present ones: a normal distribution, and the nearest rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.absence import Removal, StandIns
from pellucid.core.errors import BadInput, Unreliable, Unsupported

if TYPE_CHECKING:
    from pellucid.core.question import Question
    from pellucid.core.removal import Marginal

MOST_ENTRIES = 1000
"""Entries whose covariance matrix is still solved, once for every coalition."""
_RIDGE = 1e-6
_BLOCK = 2**22  # numbers in the matrices that are solved at a time


@dataclass(frozen=True)
class Normal:
    """A normal distribution on z: mean and standard deviation (D,), and correlation (D, D) with a ridge; float64."""

    mean: Tensor
    scale: Tensor
    correlation: Tensor

    @classmethod
    def fitted(cls, background: Tensor, who: str) -> Normal:
        """The normal distribution of background rows (R, *dims)."""
        rows = background.flatten(1).double()
        count, entries = rows.shape
        if entries > MOST_ENTRIES:
            raise Unsupported(
                f"{who}: {entries} entries are too many for a covariance matrix, its limit is {MOST_ENTRIES}; use "
                "removal.marginal(background) or removal.nearest(background)"
            )
        if count < 2:
            raise BadInput(f"{who}: a covariance takes at least 2 background rows, got {count}")
        if count <= entries:
            warnings.warn(
                f"{who}: {count} background rows for {entries} entries leave the covariance singular, so absent "
                f"entries follow from present ones by chance; pass more than {entries} rows",
                Unreliable,
                stacklevel=2,
            )
        centred = rows - rows.mean(0)
        spread = (centred**2).sum(0).div(count - 1).sqrt()
        scale = torch.where(spread > 0, spread, 1.0)
        unit = centred / scale
        ridge = _RIDGE * torch.eye(entries, dtype=rows.dtype, device=rows.device)
        return cls(rows.mean(0), scale, unit.T @ unit / (count - 1) + ridge)

    def draws(self, noise: Tensor) -> Tensor:
        """Joint draws from standard normal noise (.., D)."""
        drawn: Tensor = noise.to(self.mean) @ torch.linalg.cholesky(self.correlation).T * self.scale
        return drawn + self.mean

    def moved(self, start: Tensor, goal: Tensor, present: Tensor) -> Tensor:
        """Points start (P or 1, k, *dims), moved to have the present entries of goal (P, *dims), absent ones by
        regression on them.

        start + Σ_·S Σ_SS⁻¹ (goal_S - start_S): from the mean it is the conditional mean, from a joint draw a draw of
        the conditional distribution (Matheron's rule).
        """
        pairs, shape = len(goal), start.shape[2:]
        if not bool(((present == 0) | (present == 1)).all()):
            raise BadInput("removal.gaussian: entries are present or absent; this method asks for partial presence")
        first = ((start.flatten(2).double() - self.mean) / self.scale).expand(pairs, -1, -1)
        last = (goal.flatten(1).double() - self.mean) / self.scale
        keep, moved = present.flatten(1).double(), []
        for part in torch.arange(pairs).split(max(1, _BLOCK // len(self.mean) ** 2)):
            kept = keep[part]
            among = self.correlation * kept.unsqueeze(1) * kept.unsqueeze(2) + torch.diag_embed(1 - kept)
            gap = (last[part].unsqueeze(1) - first[part]) * kept.unsqueeze(1)
            pull = torch.cholesky_solve(gap.mT, torch.linalg.cholesky(among))
            moved.append(first[part] + (self.correlation @ pull).mT)
        return (torch.cat(moved) * self.scale + self.mean).reshape(pairs, -1, *shape).to(goal)


@dataclass(frozen=True)
class Gaussian(Removal):
    """Absent entries are drawn from a fitted normal distribution given the present ones (see ``removal.gaussian``)."""

    source: Marginal
    samples: int
    sampled: bool = field(default=True, repr=False)
    name: str = field(default="gaussian", repr=False)

    @property
    def draws(self) -> int:
        return self.samples

    def absent(self, question: Question, draws: range) -> Tensor:
        z, normal, half = question.z, fitted(self.source, question), self.samples // 2
        turns = range(draws.start // self.samples, (draws.stop - 1) // self.samples + 1)
        size = half * len(normal.mean)
        noise = [
            rng.normal(question.seed, "removal.gaussian", turn, question.first_row, len(z), size).unflatten(
                1, (half, -1)
            )
            for turn in turns
        ]
        mirrored = torch.cat([torch.stack([turn, -turn], 2).flatten(1, 2) for turn in noise], 1)
        part = mirrored[:, draws.start - turns.start * self.samples :][:, : len(draws)]
        return normal.draws(part).reshape(len(z), -1, *z.shape[1:]).to(z)

    def stand_ins(self, question: Question) -> StandIns:
        joint, normal = super().stand_ins(question), fitted(self.source, question)

        def pick(turns: Tensor, rows: Tensor, draws: range, present: Tensor) -> Tensor:
            return normal.moved(joint(turns, rows, draws, present), question.z[rows], present)

        return pick


@dataclass(frozen=True)
class Nearest(Removal):
    """Absent entries come from the nearest background rows (see ``removal.nearest``)."""

    source: Marginal
    k: int
    sampled: bool = field(default=True, repr=False)
    name: str = field(default="nearest", repr=False)

    @property
    def draws(self) -> int:
        return self.k

    def absent(self, question: Question, draws: range) -> Tensor:
        background = question.space.encode(self.source.rows(question))
        order = self._order(question, len(background))
        place = torch.arange(draws.start, draws.stop) % len(background)
        return background[order[:, place].to(background.device)]

    def _order(self, question: Question, size: int) -> Tensor:
        """The order in which equally near rows are taken, (B, R)."""
        return rng.permutation(question.seed, "removal.nearest", 0, question.first_row, len(question.z), size)

    def stand_ins(self, question: Question) -> StandIns:
        background = question.space.encode(self.source.rows(question))
        size, order = len(background), self._order(question, len(background)).to(background.device)
        far = _Distance.of(question, background)

        def pick(turns: Tensor, rows: Tensor, draws: range, present: Tensor) -> Tensor:
            if not bool(((present == 0) | (present == 1)).all()):
                raise BadInput("removal.nearest: entries are present or absent; this method asks for partial presence")
            start = (turns * self.k).to(order.device).unsqueeze(1)
            ties = order[rows].gather(1, (torch.arange(size, device=order.device) + start) % size)
            ranks = far(question.z[rows], present).gather(1, ties).argsort(dim=1, stable=True)
            return background[ties.gather(1, ranks[:, draws.start : draws.stop])]

        return pick


@dataclass(frozen=True)
class _Distance:
    """Squared distance of rows to background rows in their present entries, in standard deviations."""

    unit: Tensor  # background rows (R, D), standardised
    codes: Tensor  # background rows (R, C) in columns of text
    text: Tensor  # which columns those are, (C,)
    centre: Tensor
    scale: Tensor

    @classmethod
    def of(cls, question: Question, background: Tensor) -> _Distance:
        flat, frame = background.flatten(1).double(), question.model.frame
        columns = () if frame is None or len(frame.columns) != flat.shape[1] else frame.columns
        text = torch.tensor([i for i, c in enumerate(columns) if c.text], dtype=torch.long, device=flat.device)
        spread = flat.std(0, correction=0)
        scale = torch.where(spread > 0, spread, 1.0)
        scale[text] = torch.inf  # counted apart
        return cls((flat - flat.mean(0)) / scale, flat[:, text], text, flat.mean(0), scale)

    def __call__(self, z: Tensor, present: Tensor) -> Tensor:
        """(P, R), rounded so that rows that differ by rounding alone are equally near."""
        keep, flat = present.flatten(1).double(), z.flatten(1).double()
        unit = (flat - self.centre) / self.scale
        kept = keep * unit
        square = (kept * unit).sum(1, keepdim=True) - 2 * kept @ self.unit.T + keep @ (self.unit**2).T
        for place, codes in zip(self.text, self.codes.T, strict=True):
            square = square + keep[:, place, None] * (flat[:, place, None] != codes)
        return (square * 1e9).round()


@dataclass(frozen=True)
class ConditionalMean(Removal):
    """Absent entries take their expected value given the present ones: what the draws of ``Gaussian`` come to for a
    linear f."""

    source: Marginal
    name: str = field(default="conditional_mean", repr=False)

    def absent(self, question: Question, draws: range) -> Tensor:
        z = question.z
        return fitted(self.source, question).mean.reshape(1, 1, *z.shape[1:]).to(z)

    def stand_ins(self, question: Question) -> StandIns:
        normal = fitted(self.source, question)
        mean = normal.mean.reshape(1, 1, *question.z.shape[1:])

        def pick(turns: Tensor, rows: Tensor, draws: range, present: Tensor) -> Tensor:
            return normal.moved(mean, question.z[rows], present)

        return pick


def fitted(source: Marginal, question: Question) -> Normal:
    """The normal distribution of a background in the coordinates of the question."""
    if ("normal", source) not in question.memo:
        background = question.space.encode(source.rows(question))
        question.memo["normal", source] = Normal.fitted(background, "removal.gaussian")
    found: Normal = question.memo["normal", source]
    return found
