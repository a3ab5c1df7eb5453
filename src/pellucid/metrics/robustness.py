"""Robustness: how small a change of the features that a method calls relevant, or of all the others, changes the
prediction?

Nothing is removed, so there is no reference. One rule for a set of features that no attack succeeds on, the same for
every method, control and size: it counts as the largest distance that the model's bounds allow its free features, or,
where there are no bounds, as ``FAR`` times the smallest change of all features together; and never as less than what a
larger free set of the same order takes. The share of such sets is reported.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.attack.decision import Decision
from pellucid.attack.geometry import check_norm
from pellucid.attack.minimum import MinimumNorm
from pellucid.attack.pgd import INSIDE, PGD
from pellucid.attack.problem import Attack, Bracket, Problem
from pellucid.attack.radius import check_bounds, check_needs, pick, solve
from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.core.method import plain
from pellucid.core.question import Question
from pellucid.core.target import Target
from pellucid.metrics.metric import Desk, Marks, Metric
from pellucid.metrics.perturbation import FEW_UNITS, area, points
from pellucid.metrics.units import Units, cells, own

SIZES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)
"""Those of hsieh2021."""
KEYWORDS = 5
"""The most features of few, as of a sentence, that are looked at."""
FAR = 10.0
"""How many times the smallest change of all features together counts as out of reach, where there are no bounds."""
OPTIMISERS = ("counterfactual_cfx", "greedy_as", "greedy_as_released", "greedy", "one_step_banzhaf")
"""Methods that search for the order these metrics ask about."""


@dataclass(frozen=True)
class Robustness(Metric):
    """The mean smallest radius over sets of top features (see ``metrics.robustness_irrelevant``)."""

    fractions: tuple[float, ...] | None = None
    grid: int | None = None
    norm: float = 2
    against: Any = None
    method: tuple[Attack, ...] | None = None

    name: ClassVar[str] = "robustness"
    relevant: ClassVar[bool] = False
    """Whether the top features are the ones that may change."""

    def __post_init__(self) -> None:
        if self.grid is not None and (isinstance(self.grid, bool) or not isinstance(self.grid, int) or self.grid < 1):
            raise BadInput(f"{self.name}: grid must be a number of cells a side, got {self.grid!r}")
        check_norm(self.norm, f"{self.name}: ")
        if self.fractions is not None:
            sizes = tuple(float(f) for f in self.fractions)
            if not sizes or list(sizes) != sorted(set(sizes)) or sizes[0] < 0 or sizes[-1] > 1:
                raise BadInput(
                    f"{self.name}: fractions must increase from at least 0 to at most 1, got {self.fractions!r}"
                )
            object.__setattr__(self, "fractions", sizes)
        if self.method is not None:
            object.__setattr__(self, "method", pick(self.method, True))
        object.__setattr__(self, "against", Target(self.against).index)

    @property
    def label(self) -> str:
        parts = [self.name, self.granularity]
        if self.norm != 2:
            parts.append(f"{'∞' if self.norm == math.inf else 1}-norm")
        if self.against is not None:
            parts.append(f"towards {'given classes' if isinstance(self.against, tuple) else self.against}")
        if self.method is not None:
            parts.append(" and ".join(attack.name for attack in self.method))
        return ", ".join(parts)

    @property
    def granularity(self) -> str:
        return "features" if self.grid is None else f"{self.grid} x {self.grid} patches"

    def units(self, explanation: Explanation) -> Units:
        """What is ranked."""
        return own(explanation) if self.grid is None else cells(explanation, self.grid)

    def matched(self, explanation: Explanation) -> bool:
        """Whether the method searches for the order that this metric asks for."""
        return optimises(explanation)

    def counts(self, units: int) -> Tensor:
        """How many units are held or moved at each point of the curve: 1 to 5 where there are few units."""
        if units < 2:
            raise BadInput(f"{self.name}: {units} feature has no order; divide the input into more")
        if self.fractions is None and units <= FEW_UNITS:
            return torch.arange(1, min(KEYWORDS, units - 1) + 1)
        sizes = SIZES if self.fractions is None else self.fractions
        whole = [min(max(round(f * units), f > 0), units - (f < 1)) for f in sizes]  # of few, at least one each way
        counts: Tensor = torch.unique(torch.tensor(whole))
        return counts

    def attacks(self, differentiable: bool) -> tuple[Attack, ...]:
        """Those asked for; else two that a search does not use together, or the one that needs predictions only."""
        if self.method is None and differentiable:
            return MinimumNorm(40), PGD(100, 10, "margin", None, 10.0)
        return pick(self.method, differentiable)

    def work(self, question: Question, units: int) -> tuple[float, float]:
        """About how many forwards and backwards the sets of one row and method take."""
        sets = len(self.counts(units))
        each = [work(attack) for attack in self.attacks(question.model.differentiable)]
        return sets * sum(forwards for forwards, _ in each), sets * sum(backwards for _, backwards in each)

    def marks(self, desk: Desk, explanation: Explanation, seed: int) -> Marks:
        units, counts, free = self._sets(desk, explanation, seed)
        decision, attacks = self._decision(desk, seed), self.attacks(desk.question.model.differentiable)
        first, found = self._radii(desk, decision, attacks, free)
        first, found = self._nested(first), self._nested(found)
        curve, alone = self._counted(desk, decision, free, found), self._counted(desk, decision, free, first)
        fractions, share = counts.double() / units.n, found.isinf().double().mean(1)
        gap = None
        if len(attacks) > 1:  # what the second took off the first, and what it was not asked within
            gap = (alone - curve).mean(1) + torch.where(found.isfinite(), (1 - INSIDE) * curve, 0).mean(1)
        if len(counts) == 1:
            return Marks(curve[:, 0], fractions, curve, None, share, gap)
        few = self.fractions is None and units.n <= FEW_UNITS
        auc = torch.trapezoid(curve, counts.double(), dim=1) if few else points(curve, fractions, units.n)
        return Marks(area(curve, fractions), fractions, curve, auc, share, gap)

    def ahead(self, desk: Desk, explanations: Sequence[Explanation], seed: int) -> None:
        """Attack the sets of several explanations in calls that they share; their marks then take no more attacks."""
        free = torch.cat([self._sets(desk, e, seed)[2] for e in explanations], 1)
        self._radii(desk, self._decision(desk, seed), self.attacks(desk.question.model.differentiable), free)

    def _sets(self, desk: Desk, explanation: Explanation, seed: int) -> tuple[Units, Tensor, Tensor]:
        """What is ranked, how many are held or moved at each point, and which entries may then move, (B, C, d)."""
        units = self.units(explanation)
        counts = self.counts(units.n)
        order = units.order(seed, desk.question.first_row)
        place = torch.empty_like(order).scatter_(1, order, torch.arange(units.n).expand_as(order))
        top = place.unsqueeze(1) < counts.reshape(1, -1, 1)
        return units, counts, self._free(units, top, self._decision(desk, seed))

    def _decision(self, desk: Desk, seed: int) -> Decision:
        """Shared by all methods, with the slopes at the rows themselves."""
        key = f"decision/{seed}/{plain(self.against)}"
        if key not in desk.shared:
            question = replace(desk.question, players=None, seed=seed, memo={})
            check_needs(self.attacks(question.model.differentiable), question.model)
            check_bounds(question)
            desk.shared[key] = Decision.of(question, self._goals(question))
        decision: Decision = desk.shared[key]
        return decision

    def _goals(self, question: Question) -> Any:
        """The classes to be reached by the rows of the question."""
        if not isinstance(self.against, tuple):
            return self.against
        if len(self.against) != question.rows_in_all:
            raise BadInput(
                f"{self.name}: against needs one class a row, {question.rows_in_all} of them; got {len(self.against)}"
            )
        return self.against[question.offset : question.offset + len(question.z)]

    def _free(self, units: Units, top: Tensor, decision: Decision) -> Tensor:
        """Which entries may move, (B, C, d) bool; entries without a unit never do."""
        z, labels = decision.question.z, units.players.labels
        if tuple(labels.shape[units.players.by_row :]) != tuple(z.shape[1:]):
            raise BadInput(
                f"{self.name}: the explanation's features have shape {tuple(labels.shape)}, the coordinates "
                f"{tuple(z.shape[1:])}; pass the space that was explained: evaluate(..., space=...)"
            )
        chosen = units.players.mask(top.float()) > 0.5
        return ((chosen if self.relevant else ~chosen) & (labels >= 0).reshape(-1, 1, *z.shape[1:])).flatten(2)

    def _radii(self, desk: Desk, decision: Decision, attacks: Sequence[Attack], free: Tensor) -> tuple[Tensor, Tensor]:
        """Radii (B, C) after the first attack and after all; inf where none succeeded. A set is attacked once for all
        methods."""
        rows, count, _ = free.shape
        settings = f"{plain(list(attacks))}/{self.norm}/{plain(self.against)}/{decision.question.seed}"
        known: dict[Any, tuple[float, float]] = desk.shared.setdefault(f"radii/{settings}", {})
        keys = [[(row, *_key(mask)) for mask in masks] for row, masks in enumerate(free)]
        new = torch.tensor([[key not in known and line.index(key) == j for j, key in enumerate(line)] for line in keys])
        first, radius = (torch.full((rows, count), math.inf, dtype=torch.float64) for _ in range(2))
        if bool(new.any()):
            ordered = (attacks[0], _Noted(first), *attacks[1:])
            asked = free & new.unsqueeze(2)  # what has nothing free is not attacked
            parts = solve(decision, count, lambda row, mask: asked[row, mask], ordered, self.norm)
            radius = torch.cat([part.radius for part in parts]).cpu().double().unflatten(0, (rows, count))
            if len(attacks) == 1:
                first = radius
        for i, line in enumerate(keys):
            for j, key in enumerate(line):
                if new[i, j]:
                    known[key] = float(first[i, j]), float(radius[i, j])
        both = torch.tensor([[known[key] for key in line] for line in keys], dtype=torch.float64)
        return both[..., 0], both[..., 1]

    def _nested(self, radii: Tensor) -> Tensor:
        """What changes the prediction within a free set does so within a larger one: radii (B, C) that never rise with
        the free set."""
        if self.relevant:
            return radii.cummin(1).values
        return radii.flip(1).cummin(1).values.flip(1)

    def _counted(self, desk: Desk, decision: Decision, free: Tensor, radii: Tensor) -> Tensor:
        """Radii (B, C) with what counts for the infinite ones."""
        lost = radii.isinf()
        if not bool(lost.any()):
            return radii
        z, bounds = decision.question.z.flatten(1).cpu().double(), decision.bounds
        if bounds is None:
            far = FAR * self._whole(desk, decision).unsqueeze(1).expand_as(radii)
            far = torch.where(far.isinf(), math.nan, far)  # nothing changes this row's prediction: no number
        else:
            reach = torch.maximum(z - bounds[0], bounds[1] - z)
            far = torch.stack(
                [torch.linalg.vector_norm(reach * free[:, i], self.norm, dim=1) for i in range(radii.shape[1])], 1
            )
        most = torch.where(lost, -math.inf, radii).amax(1, keepdim=True)
        return torch.where(lost, torch.maximum(far, most), radii)

    def _whole(self, desk: Desk, decision: Decision) -> Tensor:
        """The radius with every entry free, (B,), by the first of the usual attacks, shared by all methods."""
        key = f"whole/{self.norm}/{plain(self.against)}/{decision.question.seed}"
        if key not in desk.shared:
            attacks = self.attacks(decision.question.model.differentiable)[:1]
            z = decision.question.z.flatten(1)
            parts = solve(decision, 1, lambda row, _: torch.ones_like(z[row], dtype=torch.bool), attacks, self.norm)
            desk.shared[key] = torch.cat([part.radius for part in parts]).cpu().double()
        whole: Tensor = desk.shared[key]
        return whole


@dataclass(frozen=True)
class Irrelevant(Robustness):
    """Radius with the top features held; higher is better."""

    name: ClassVar[str] = "robustness_irrelevant"
    direction: ClassVar[str] = "higher"


@dataclass(frozen=True)
class Relevant(Robustness):
    """Radius with the top features alone free; lower is better."""

    name: ClassVar[str] = "robustness_relevant"
    direction: ClassVar[str] = "lower"
    relevant: ClassVar[bool] = True


def work(attack: Attack) -> tuple[float, float]:
    """About how many forwards and backwards an attack takes for a set; PGD, to confirm a radius that is known."""
    if isinstance(attack, MinimumNorm):
        return attack.steps + 13, attack.steps
    if isinstance(attack, PGD):
        return attack.restarts * (attack.steps + 1), attack.restarts * (attack.steps + 1)
    return float(getattr(attack, "budget", 0)), 0.0


def optimises(explanation: Explanation) -> bool:
    """Whether a method (or one that it is made of) searches for radii itself."""
    return any(name in OPTIMISERS for name in _names(dict(explanation.method)))


def _names(value: Any) -> list[str]:
    """Every name of a {name, fields} among plain hyper-parameters."""
    if isinstance(value, dict):
        mine = [value["name"]] if {"name", "fields"} <= set(value) else []
        return mine + [name for entry in value.values() for name in _names(entry)]
    return [name for entry in value for name in _names(entry)] if isinstance(value, (list, tuple)) else []


@dataclass(frozen=True, eq=False)
class _Noted(Attack):
    """No attack: it writes down how far the ones before it have come, in ``radius`` (B, C)."""

    radius: Tensor

    name: ClassVar[str] = "noted"

    def improve(self, problem: Problem, known: Bracket) -> Bracket:
        self.radius[problem.rows, problem.masks] = known.radius.cpu().double()
        return known


def _key(mask: Tensor) -> tuple[int, bytes]:
    """A set of entries (d,) by their number and a hash."""
    return int(mask.sum()), hashlib.blake2b(mask.numpy().tobytes(), digest_size=16).digest()
