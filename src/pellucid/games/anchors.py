"""Anchors: the few players that, held fixed, keep the decision whatever happens to the others (KL-LUCB beam search)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from pellucid.core.errors import BadInput, Unreliable, Unsupported
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.games.coalitional import check_players
from pellucid.games.neighbourhood import Neighbourhood

MOST_PLAYERS = 512
_FRESH = 2**20
"""Number of the first batch of fresh draws, out of reach of the search."""


@dataclass(frozen=True)
class Anchor:
    """The outcome for one row: its players in the order they were found, and what is known of them.

    ``low`` and ``high`` bound the precision, ``rare`` and ``common`` the coverage, each with probability 1 - delta.
    """

    players: tuple[int, ...]
    precision: float
    low: float
    high: float
    coverage: float
    rare: float
    common: float
    reached: bool
    rule: str
    draws: int


@dataclass(frozen=True)
class Anchored:
    """Anchors of consecutive rows."""

    rows: tuple[Anchor, ...]

    def merge(self, other: Anchored) -> Anchored:
        """Both, in order."""
        return Anchored(self.rows + other.rows)


@dataclass(frozen=True)
class Anchors(Method):
    """A short rule that suffices for the decision (see ``methods.anchors``)."""

    threshold: float
    delta: float
    tau: float
    beam: int
    longest: int | None
    budget: int
    removal: Removal
    name: str = "anchors"

    access: ClassVar[str] = "predictions"

    def __post_init__(self) -> None:
        for what in ("threshold", "delta", "tau"):
            if not 0 < getattr(self, what) < 1:
                raise BadInput(f"anchors: {what} must lie between 0 and 1, got {getattr(self, what)!r}")
        for what in ("beam", "budget", "longest"):
            number = getattr(self, what)
            if what == "longest" and number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise BadInput(f"anchors: {what} must be a whole number of at least 1, got {number!r}")

    def prepared(self, question: Question) -> Method:
        instead = "use kernel_shap() or feature_ablation()"
        if callable(question.target.read) or question.model.scale == "value":
            raise Unsupported(
                f"anchors: explains a decision for a class, and the explained output is a plain number; {instead}, or "
                "say what the outputs are with wrap(..., scale='logit' or 'prob')"
            )
        n = question.z[0].numel() if question.players is None else question.players.n
        check_players(self.name, n, MOST_PLAYERS, "players=players.grid(7) or players.segments(50), or occlusion()")
        return self

    @property
    def first(self) -> int:
        """Draws of every candidate before they are compared."""
        return max(1, min(20, self.budget // 500))

    @property
    def batch(self) -> int:
        """Draws of each of the two candidates that a round of KL-LUCB looks at."""
        return max(1, min(50, self.budget // 200))

    @property
    def proof(self) -> int:
        """Fresh draws on which the precision of a rule is proved; the search's own would flatter it."""
        return max(1, min(1000, self.budget // 10))

    def block_rows(self, question: Question) -> int:
        """All rows, one chunk each."""
        return len(question.z)

    def chunks(self, question: Question) -> int:
        return len(question.z) * self._outputs(question)

    def _outputs(self, question: Question) -> int:
        """Decisions that are explained for each row."""
        if not question.target.several:
            return 1
        if "outputs" not in question.memo:
            question.memo["outputs"] = question.block(slice(0, 1)).here().shape[1]
        return int(question.memo["outputs"])

    def chunk(self, question: Question, index: int) -> Anchored:
        row, output = divmod(index, self._outputs(question))
        asked = question.block(slice(row, row + 1))
        if question.target.several:
            asked = replace(asked, target=replace(asked.target, index=(output,)))
        return Anchored((_Search(self, Neighbourhood(asked, self.removal)).run(),))

    def result(self, question: Question, state: Any) -> Result:
        each: tuple[Anchor, ...] = state.rows
        rows, outputs, players = len(question.z), self._outputs(question), question.players
        order = torch.zeros(len(each), question.z[0].numel() if players is None else players.n, dtype=torch.long)
        for i, anchor in enumerate(each):
            order[i, list(anchor.players)] = torch.arange(1, len(anchor.players) + 1)
        order = order.unflatten(0, (rows, outputs)).mT
        missed = sum(not anchor.reached for anchor in each)
        if missed:
            warnings.warn(
                f"anchors: found no rule of precision {self.threshold:g} for {missed} of {len(each)} decisions; the "
                'most precise one found is given, and details["reached"] is False there. Lower the threshold, or '
                "raise budget or longest",
                Unreliable,
                stacklevel=2,
            )

        def told(name: str) -> np.ndarray[Any, Any]:
            column = np.array([getattr(anchor, name) for anchor in each]).reshape(rows, outputs)
            return column if question.target.several else column[:, 0]

        details: dict[str, Any] = {"rule": told("rule").tolist(), "reached": told("reached"), "draws": told("draws")}
        details |= {"precision": told("precision"), "precision_low": told("low"), "precision_high": told("high")}
        details |= {"coverage": told("coverage"), "coverage_low": told("rare"), "coverage_high": told("common")}
        details["order"] = order.numpy() if question.target.several else order[..., 0].numpy()
        dtype = question.z.dtype if question.z.is_floating_point() else torch.get_default_dtype()
        values = (order > 0).to(question.z.device, dtype)
        shaped = values if players is not None else values.unflatten(1, question.z.shape[1:])
        return Result(shaped, details=details | {"threshold": self.threshold}, by_row=frozenset(details))


@dataclass
class _Tally:
    """How often a candidate has kept the decision."""

    draws: int = 0
    hits: int = 0
    batches: int = 0

    @property
    def mean(self) -> float:
        return self.hits / self.draws if self.draws else 0.0


@dataclass
class _Search:
    """The beam search for one row."""

    method: Anchors
    world: Neighbourhood
    spent: int = 0
    proofs: int = 0
    best: Anchor | None = field(default=None)

    def run(self) -> Anchor:
        """The anchor of the largest coverage among those found first, else the most precise candidate."""
        method, world = self.method, self.world
        longest = len(world.players) if method.longest is None else min(method.longest, len(world.players))
        beam: list[tuple[int, ...]] = [()]
        self._judge(beam)
        for _ in range(longest):
            found = self.best is not None and self.best.reached
            grown = [(*members, i) for members in beam for i in world.players if i not in members]
            candidates = list({frozenset(members): members for members in grown}.values())
            if found and self.best is not None:  # only a wider rule could still be better
                wider = self.best.coverage
                candidates = [members for members in candidates if world.coverage(members)[0] > wider]
            if not candidates or self.spent + method.first * len(candidates) > method.budget:
                break
            beam = self._widest(candidates)
            self._judge(beam)
        if self.best is None:
            raise BadInput("anchors: nothing was tried")
        return replace(self.best, draws=self.spent)

    # ------------------------------------------------------------ which candidates are the most precise

    def _widest(self, candidates: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The ``beam`` most precise candidates, up to ``tau`` with probability 1 - delta (KL-LUCB, kaufmann2013)."""
        method = self.method
        tallies = [_Tally() for _ in candidates]
        self._draw(candidates, tallies, range(len(candidates)), method.first)
        size, limit = min(method.beam, len(candidates)), self.spent + (method.budget - self.spent) // 8
        turn = 1
        while True:
            order = sorted(range(len(candidates)), key=lambda i: -tallies[i].mean)
            top, rest = order[:size], order[size:]
            if not rest or self.spent + 2 * method.batch > limit:
                return [candidates[i] for i in top]
            level = _exploration(len(candidates), turn, method.delta)
            weakest = min(top, key=lambda i: lower(tallies[i].mean, level / tallies[i].draws))
            rival = max(rest, key=lambda i: upper(tallies[i].mean, level / tallies[i].draws))
            gap = upper(tallies[rival].mean, level / tallies[rival].draws)
            if gap - lower(tallies[weakest].mean, level / tallies[weakest].draws) <= method.tau:
                return [candidates[i] for i in top]
            self._draw(candidates, tallies, (weakest, rival), method.batch)
            turn += 1

    def _draw(
        self, candidates: Sequence[tuple[int, ...]], tallies: list[_Tally], which: Sequence[int], count: int
    ) -> None:
        hits = self.world.hits([candidates[i] for i in which], [tallies[i].batches for i in which], count)
        for i, hit in zip(which, hits, strict=True):
            tallies[i].draws += count
            tallies[i].hits += hit
            tallies[i].batches += 1
        self.spent += count * len(which)

    # ------------------------------------------------------------ is one precise enough

    def _judge(self, beam: list[tuple[int, ...]]) -> None:
        """Prove the precision of candidates on fresh draws, and keep the best of what is known."""
        for members in beam:
            anchor = self._proved(members)
            if self.best is None or _rank(anchor) > _rank(self.best):
                self.best = anchor

    def _proved(self, members: tuple[int, ...]) -> Anchor:
        """What fresh draws say of a candidate; a lower bound holds with probability 1 - delta over all candidates."""
        method, world = self.method, self.world
        if world.fixed(members):  # nothing can happen any more
            precision, low, high = 1.0, 1.0, 1.0
        else:
            self.proofs += 1
            seen = world.hits([members], [_FRESH + self.proofs], method.first)[0]
            promising = seen / method.first > method.threshold - method.tau
            draws = method.proof if promising else min(method.proof, 5 * method.first)
            hits = world.hits([members], [2 * _FRESH + self.proofs], draws)[0]
            self.spent += method.first + draws
            level = math.log(self.proofs * (self.proofs + 1) / method.delta) / draws
            precision, low, high = hits / draws, lower(hits / draws, level), upper(hits / draws, level)
        coverage, counted = world.coverage(members)
        level = math.log(1 / method.delta) / counted if counted else 0.0
        known = coverage, lower(coverage, level), upper(coverage, level)
        return Anchor(members, precision, low, high, *known, low >= method.threshold, world.words(members), self.spent)


def _rank(anchor: Anchor) -> tuple[bool, float, float]:
    """Reached before not; then the widest of those reached, the most precise of the others."""
    return anchor.reached, anchor.coverage if anchor.reached else anchor.precision, anchor.low


def _exploration(arms: int, turn: int, delta: float) -> float:
    """How far apart, in nats times draws, bounds must be to hold for all arms and turns (as the authors' code)."""
    level = math.log(405.5 * arms * turn**1.1 / delta)
    return level + math.log(level)


def divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of coins with chances p and q, in nats."""
    q = min(max(q, 1e-15), 1 - 1e-15)
    head = p * math.log(p / q) if p > 0 else 0.0
    return head + ((1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0)


def upper(p: float, level: float) -> float:
    """The largest chance whose divergence from the observed share p is at most ``level`` (Chernoff's bound)."""
    return _bisected(p, 1.0, p, level)


def lower(p: float, level: float) -> float:
    """The smallest such chance."""
    return _bisected(p, 0.0, p, level)


def _bisected(inside: float, outside: float, p: float, level: float) -> float:
    if divergence(p, outside) <= level:
        return outside
    for _ in range(40):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if divergence(p, middle) <= level else (inside, middle)
    return inside
