"""Insertion and deletion: put the features back, or take them away, in the order a method gives, and watch the
output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.core.method import plain
from pellucid.core.removal import Baseline, Removal
from pellucid.core.target import READS, Target
from pellucid.games.removal import RemovalGame
from pellucid.metrics.metric import Desk, Marks, Metric
from pellucid.metrics.units import Units, cells, own

FRACTIONS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.6, 0.8, 1.0)
"""Dense where the paper's area lies (5 % to 45 %), with both ends."""
PAPER = (0.05, 0.45)
ROUNDING = 0.025
"""How far a size may lie from 5 % or 45 % and stand for it: half a step of the paper's axis."""
FEW_UNITS = 20


@dataclass(frozen=True)
class Perturbation(Metric):
    """The area under f as the top features are inserted into (or deleted towards) a reference (see
    ``metrics.insertion``)."""

    reference: Removal
    read: str | None = None
    grid: int | None = None
    fractions: tuple[float, ...] = FRACTIONS

    name: ClassVar[str] = "perturbation"
    inserting: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.read is not None and self.read not in READS:
            raise BadInput(
                f"{self.name}: read must be one of {', '.join(map(repr, READS))} or None (as explained), got "
                f"{self.read!r}"
            )
        if self.grid is not None and (not isinstance(self.grid, int) or self.grid < 1):
            raise BadInput(f"{self.name}: grid must be a number of cells a side, got {self.grid!r}")
        ordered = tuple(float(f) for f in self.fractions)
        if len(ordered) < 2 or list(ordered) != sorted(set(ordered)) or ordered[0] < 0 or ordered[-1] > 1:
            raise BadInput(
                f"{self.name}: fractions must increase from at least 0 to at most 1, two or more; got "
                f"{self.fractions!r}"
            )
        object.__setattr__(self, "fractions", ordered)

    @property
    def label(self) -> str:
        read = "" if self.read is None else f", {self.read}"
        return f"{self.name}, {self.reference_name} reference, {self.granularity}{read}"

    @property
    def reference_name(self) -> str:
        reference = self.reference
        if isinstance(reference, Baseline):
            return f"{reference.value:g}" if isinstance(reference.value, float) else "given"
        return reference.name

    @property
    def granularity(self) -> str:
        return "features" if self.grid is None else f"{self.grid} x {self.grid} patches"

    def matched(self, explanation: Explanation) -> bool:
        """Whether the method takes features away just as the reference does."""
        return uses(explanation, self.reference)

    def units(self, explanation: Explanation) -> Units:
        """What is ranked."""
        return own(explanation) if self.grid is None else cells(explanation, self.grid)

    def counts(self, units: int) -> Tensor:
        """How many units are moved at each point of the curve: all sizes where there are few units."""
        if units <= FEW_UNITS:
            return torch.arange(units + 1)
        counts: Tensor = torch.unique(torch.tensor([round(f * units) for f in self.fractions]))
        if len(counts) < 2:
            raise BadInput(f"{self.name}: fractions {self.fractions} are one and the same size of {units} features")
        return counts

    def marks(self, desk: Desk, explanation: Explanation, seed: int) -> Marks:
        units = self.units(explanation)
        question = replace(desk.question, players=units.players, seed=seed, target=self._target(desk.question.target))
        game = RemovalGame(question, self.reference)
        order = units.order(seed, question.first_row)
        place = torch.empty_like(order).scatter_(1, order, torch.arange(units.n).expand_as(order))
        counts = self.counts(units.n)
        moved = place.unsqueeze(1) < counts.reshape(1, -1, 1)
        present = moved if self.inserting else ~moved
        inner = [i for i, count in enumerate(counts.tolist()) if 0 < count < units.n]
        ends = self._ends(desk, game, units.n)
        curve = torch.empty(len(order), len(counts), dtype=ends.dtype)
        if inner:
            curve[:, inner] = game(present[:, inner].to(question.z.device))[..., 0].cpu()
        for i, count in enumerate(counts.tolist()):
            if i not in inner:
                curve[:, i] = ends[:, int((count > 0) == self.inserting)]
        fractions = counts.double() / units.n
        return Marks(area(curve, fractions), fractions, curve, points(curve, fractions, units.n))

    def _target(self, explained: Target) -> Target:
        """What is watched: what was explained, or the metric's own read of the same class."""
        if self.read is None:
            return explained
        if callable(explained.read):
            raise BadInput(
                f"{self.name}: read={self.read!r} needs a class, and the explanation reads a callable; use read=None"
            )
        return replace(explained, read=self.read)

    def _ends(self, desk: Desk, game: RemovalGame, n: int) -> Tensor:
        """f with nothing and with everything present, (B, 2), shared by all methods under this reference and read."""
        key = f"{plain(self.reference)}/{self.read}/{game.question.seed}"
        if game.players.by_row or bool((game.players.labels < 0).any()):
            key = ""  # entries without a player stay, so the ends belong to this division alone
        if not key or key not in desk.shared:
            s = torch.stack([torch.zeros(n), torch.ones(n)]).expand(len(game.question.z), 2, n)
            ends: Tensor = game(s.to(game.question.z.device))[..., 0].cpu()
            if not key:
                return ends
            desk.shared[key] = ends
        shared: Tensor = desk.shared[key]
        return shared


@dataclass(frozen=True)
class Insertion(Perturbation):
    """Area under f as the top features are put back into the reference; higher is better."""

    name: ClassVar[str] = "insertion"
    direction: ClassVar[str] = "higher"
    inserting: ClassVar[bool] = True


@dataclass(frozen=True)
class Deletion(Perturbation):
    """Area under f as the top features are replaced by the reference; lower is better."""

    name: ClassVar[str] = "deletion"
    direction: ClassVar[str] = "lower"
    inserting: ClassVar[bool] = False


def area(curve: Tensor, fractions: Tensor) -> Tensor:
    """Mean height of the curve (trapezoid over the fractions, divided by their range), (B,)."""
    span = float(fractions[-1] - fractions[0])
    height: Tensor = torch.trapezoid(curve.double(), fractions, dim=1) / span
    return height


def points(curve: Tensor, fractions: Tensor, units: int) -> Tensor | None:
    """Area from 5 % to 45 % with the axis in percent points, as hsieh2021 tabulates it; None where those sizes were not
    asked. Where they are no whole numbers of units, it is the mean height between the nearest sizes times 40."""
    rounding = min(0.5 / units, ROUNDING) + 1e-9
    inside = (fractions >= PAPER[0] - rounding) & (fractions <= PAPER[1] + rounding)
    kept = fractions[inside]
    if len(kept) < 3 or kept[0] > PAPER[0] + rounding or kept[-1] < PAPER[1] - rounding:
        return None
    return 100 * (PAPER[1] - PAPER[0]) * area(curve[:, inside], kept)


def uses(explanation: Explanation, reference: Removal) -> bool:
    """Whether the method (or one that it is made of) puts the same in place of a feature, in however many draws."""
    wanted = _drawless(plain(reference))
    return any(record == wanted for record in _records(explanation.method["fields"]))


def _records(value: Any) -> Iterator[dict[str, Any]]:
    """Every {name, fields} among plain hyper-parameters, without its number of draws."""
    if isinstance(value, Mapping):
        if {"name", "fields"} <= set(value):
            yield _drawless(value)
        for entry in value.values():
            yield from _records(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _records(entry)


def _drawless(record: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in record["fields"].items() if name != "samples"}
    return {"name": record["name"], "fields": fields}
