"""Scores for values read as contributions: does removing features change the output by what their values say?

A contribution is what a value says the output loses when its feature is removed. The values of most methods are just
that. A slope (a method ranked by absolute value, with a value for each entry) is multiplied by the step from the
stand-in to x.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.core.method import plain
from pellucid.core.players import positions
from pellucid.core.question import Question
from pellucid.core.removal import Baseline, Removal
from pellucid.games.removal import RemovalGame
from pellucid.metrics.metric import Desk, Marks, Metric
from pellucid.metrics.perturbation import uses
from pellucid.metrics.units import Units, cells, own

_ENTRIES = 2**22
"""Entries of coalitions that are held at once."""
ROUNDING = 1e-6
"""Differences of outputs up to this share of the largest one count as none: float32 has 1e-7."""


@dataclass(frozen=True)
class Additivity(Metric):
    """A score from random coalitions of features that are taken away together."""

    samples: int
    removal: Removal
    grid: int | None = None

    name: ClassVar[str] = "additivity"
    direction: ClassVar[str] = "lower"

    def __post_init__(self) -> None:
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 2:
            raise BadInput(f"{self.name}: samples must be a whole number of at least 2, got {self.samples!r}")
        if self.grid is not None and (isinstance(self.grid, bool) or not isinstance(self.grid, int) or self.grid < 1):
            raise BadInput(f"{self.name}: grid must be a number of cells a side, got {self.grid!r}")

    @property
    def label(self) -> str:
        return f"{self.name}, {self.reference_name} removal, {self.granularity}"

    @property
    def reference_name(self) -> str:
        removal = self.removal
        if isinstance(removal, Baseline):
            return f"{removal.value:g}" if isinstance(removal.value, float) else "given"
        return removal.name

    @property
    def granularity(self) -> str:
        return "features" if self.grid is None else f"{self.grid} x {self.grid} patches"

    def units(self, explanation: Explanation) -> Units | None:
        return own(explanation) if self.grid is None else cells(explanation, self.grid)

    def matched(self, explanation: Explanation) -> bool:
        """Whether the method takes features away just as the metric does."""
        return uses(explanation, self.removal)

    def contributions(self, question: Question, explanation: Explanation) -> Units:
        """The units with what the explanation says each contributes, signed."""
        e = explanation
        if e.details.get("ranking") == "absolute" and e.values.shape == tuple(question.z.shape):
            stand_in = self.removal.absent(question, range(self.removal.draws)).mean(1)
            e = replace(e, values=e.values * (question.z - stand_in).cpu().double().numpy())
        e = replace(e, details={**e.details, "ranking": "signed", "reduction": "sum"})
        return own(e) if self.grid is None else cells(e, self.grid)

    def game(self, desk: Desk, units: Units, seed: int) -> RemovalGame:
        """What coalitions of the units are worth: what was explained, with the others removed."""
        return RemovalGame(replace(desk.question, players=units.players, seed=seed, memo={}), self.removal)

    def answers(self, desk: Desk, units: Units, seed: int, gone: Iterator[Tensor], what: str) -> tuple[Tensor, Tensor]:
        """(B, M) the sums of contributions of the units that are taken away, and the outputs then; ``gone`` gives
        coalitions (B, m, n) bool part by part. The outputs are shared by all methods with the same units."""
        game, sums, outputs = self.game(desk, units, seed), [], []
        key = f"{what}/{plain(self)}/{seed}/{plain(units.players.labels)}"
        known = desk.shared.get(key)
        for part in gone:
            sums.append(torch.einsum("bmn,bn->bm", part.double(), units.scores))
            if known is None:
                present = (~part).to(game.question.z.device)
                outputs.append(game(present.float())[..., 0].double().cpu())
        if known is None:
            known = desk.shared[key] = torch.cat(outputs, 1)
        return torch.cat(sums, 1), known

    def end(self, desk: Desk, units: Units, seed: int, present: bool) -> Tensor:
        """The output with everything present or absent, (B,), shared likewise."""
        key = f"end {present}/{plain(self.removal)}/{seed}/{plain(units.players.labels)}"
        if key not in desk.shared:
            s = torch.full((len(units.scores), 1, units.n), float(present))
            desk.shared[key] = self.game(desk, units, seed)(s.to(desk.question.z.device))[:, 0, 0].double().cpu()
        output: Tensor = desk.shared[key]
        return output

    def parts(self, units: Units, count: int) -> Iterator[range]:
        """0..count in pieces that keep memory small."""
        size = max(1, _ENTRIES // units.scores.numel())
        return (range(start, min(start + size, count)) for start in range(0, count, size))

    def any_size(self, question: Question, units: Units, seed: int, count: int) -> Iterator[Tensor]:
        """Random coalitions, every size from 1 to n - 1 as likely, any of that size as likely, (B, m, n) bool."""
        rows, n = units.scores.shape
        for part in self.parts(units, count):
            draws = [
                rng.uniform(seed, f"metrics.{self.name}", d, question.first_row, rows, 1 + n) for d in part
            ]  # a size, then an order
            numbers = torch.stack(draws, 1)
            size = 1 + (numbers[..., :1] * max(1, n - 1)).long()
            yield numbers[..., 1:].argsort(2).argsort(2) < size


@dataclass(frozen=True)
class Prediction(Additivity):
    """How far base + Σ of the values of those present is from the output (see ``metrics.value_error``)."""

    name: ClassVar[str] = "value_error"

    def units(self, explanation: Explanation) -> None:
        """A random order says nothing of heights; the control is the mean output, whose error is 1."""
        return

    def marks(self, desk: Desk, explanation: Explanation, seed: int) -> Marks:
        units = self.contributions(desk.question, explanation)
        gone = self.any_size(desk.question, units, seed, self.samples)
        lost, outputs = self.answers(desk, units, seed, gone, "any size")
        if explanation.base_values is None:
            base = self.end(desk, units, seed, present=False)
        else:
            base = torch.from_numpy(np.asarray(explanation.base_values)).double()
        predicted = (base + units.scores.sum(1)).unsqueeze(1) - lost
        error = ((outputs - predicted) ** 2).mean(1)
        spread = ((outputs - outputs.mean(1, keepdim=True)) ** 2).mean(1)
        return Marks(_share(error, spread, outputs).sqrt())


@dataclass(frozen=True)
class SensitivityN(Additivity):
    """Correlation of the drop of the output with the sum of the values taken away (see ``metrics.sensitivity_n``)."""

    sizes: int = 8

    name: ClassVar[str] = "sensitivity_n"
    direction: ClassVar[str] = "higher"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.sizes, bool) or not isinstance(self.sizes, int) or self.sizes < 1:
            raise BadInput(f"{self.name}: n_sizes must be a whole number of at least 1, got {self.sizes!r}")

    def marks(self, desk: Desk, explanation: Explanation, seed: int) -> Marks:
        units = self.contributions(desk.question, explanation)
        full = self.end(desk, units, seed, present=True).unsqueeze(1)
        correlations = []
        for size in self.counts(units.n):
            gone = self._of_size(desk.question, units, seed, size)
            lost, outputs = self.answers(desk, units, seed, gone, f"size {size}")
            correlations.append(_correlation(lost, full - outputs, outputs))
        return Marks(torch.stack(correlations, 1).nanmean(1))

    def counts(self, n: int) -> list[int]:
        """Sizes from 1 to 80 % of n, evenly spaced on a logarithmic scale."""
        last = max(1, math.floor(0.8 * n))
        return sorted({round(last ** (i / max(1, self.sizes - 1))) for i in range(self.sizes)})

    def _of_size(self, question: Question, units: Units, seed: int, size: int) -> Iterator[Tensor]:
        rows, n = units.scores.shape
        if math.comb(n, size) <= self.samples:  # all there are
            gone = torch.zeros(math.comb(n, size), n, dtype=torch.bool)
            for row, members in enumerate(itertools.combinations(range(n), size)):
                gone[row, list(members)] = True
            yield gone.expand(rows, -1, -1)
            return
        for part in self.parts(units, self.samples):
            stream = f"metrics.{self.name}.{size}"
            draws = [rng.uniform(seed, stream, d, question.first_row, rows, n) for d in part]
            yield torch.stack(draws, 1).argsort(2).argsort(2) < size


@dataclass(frozen=True)
class Infidelity(Additivity):
    """Squared error of the scaled values over random squares that are taken away (see ``metrics.infidelity``)."""

    name: ClassVar[str] = "infidelity"

    def marks(self, desk: Desk, explanation: Explanation, seed: int) -> Marks:
        units = self.contributions(desk.question, explanation)
        sides = _sides(units, explanation, self.grid)
        if sides is None:
            gone = self.any_size(desk.question, units, seed, self.samples)
        else:
            gone = self._squares(desk.question, units, seed, *sides)
        lost, outputs = self.answers(desk, units, seed, gone, "squares")
        drop = self.end(desk, units, seed, present=True).unsqueeze(1) - outputs
        size = (lost**2).sum(1)
        scale = ((lost * drop).sum(1) / torch.where(size > 0, size, 1)).clamp_min(0)
        error = ((scale.unsqueeze(1) * lost - drop) ** 2).mean(1)
        return Marks(_share(error, (drop**2).mean(1), outputs))

    def _squares(self, question: Question, units: Units, seed: int, height: int, width: int) -> Iterator[Tensor]:
        """Squares of any side up to half the picture, anywhere, (B, m, n) bool."""
        rows = len(units.scores)
        for part in self.parts(units, self.samples):
            draws = [rng.uniform(seed, f"metrics.{self.name}", d, question.first_row, rows, 3) for d in part]
            numbers = torch.stack(draws, 1)
            side = 1 + (numbers[..., 0] * max(1, min(height, width) // 2)).long()
            inside = []
            for extent, number in ((height, numbers[..., 1]), (width, numbers[..., 2])):
                start = (number * (extent - side + 1)).long().unsqueeze(-1)
                place = torch.arange(extent)
                inside.append((place >= start) & (place < start + side.unsqueeze(-1)))
            yield (inside[0].unsqueeze(-1) & inside[1].unsqueeze(-2)).flatten(2)


def _sides(units: Units, explanation: Explanation, grid: int | None) -> tuple[int, int] | None:
    """Rows and columns of the picture that the units form, or None."""
    axes = tuple(explanation.details["axes"])
    if "height" not in axes or "width" not in axes:
        return None
    data = torch.from_numpy(explanation.data)
    height, width = (data.shape[1 + axes.index(side)] for side in ("height", "width"))
    if grid is not None:
        return min(grid, height), min(grid, width)
    if units.n != height * width or units.players.labels.shape != data.shape[1:]:
        return None
    pixels = positions().divide(data, axes, None).labels
    return (height, width) if torch.equal(units.players.labels, pixels) else None


def _share(part: Tensor, whole: Tensor, outputs: Tensor) -> Tensor:
    """part / whole of mean squares (B,), where what rounding of the outputs (B, M) can make counts as 0, 0 / 0 is 0,
    and anything else over 0 is NaN."""
    floor = (ROUNDING * outputs.abs().amax(1)) ** 2
    part, whole = (torch.where(each > floor, each, 0) for each in (part, whole))
    share: Tensor = torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), torch.nan)
    return torch.where((whole == 0) & (part == 0), 0.0, share)


def _correlation(said: Tensor, drop: Tensor, outputs: Tensor) -> Tensor:
    """Pearson's over the last axis, (B,): 0 where only what is said is constant, for it tells nothing apart; NaN where
    the outputs are, but for rounding."""
    flat = drop.std(1, unbiased=False) <= ROUNDING * outputs.abs().amax(1)
    said, drop = (each - each.mean(1, keepdim=True) for each in (said, drop))
    scale = said.norm(dim=1) * drop.norm(dim=1)
    found = torch.where(scale > 0, (said * drop).sum(1) / torch.where(scale > 0, scale, 1), 0.0)
    return torch.where(flat, torch.nan, found)
