"""Relevant sets grown step by step: the features whose fixing protects the prediction, or whose freedom endangers
it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.attack.game import CRITERIA, RobustnessGame
from pellucid.attack.minimum import MinimumNorm
from pellucid.attack.problem import Attack, needs
from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.core.method import Result
from pellucid.core.question import Question
from pellucid.core.state import Done
from pellucid.games.coalitional import Board, Coalitional

SEARCH = MinimumNorm(15)
"""What finds radii by default: enough steps to tell sets apart. A score is measured with more, by another attack."""
_CALL = 2**22
"""Entries of coalitions (subsets x players) that are valued at a time."""
_PENALTIES = (0.0, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 1e2, 1e3)
"""Ridge penalties to choose from, in units of the variance that one player's presence adds to the sample."""


@dataclass(frozen=True)
class Objective:
    """What the set is to do, and how it is measured: the fields that all methods of this file share.

    ``criterion`` "irrelevant" maximises the radius with the set fixed, "relevant" minimises the radius with only the
    set free; ``against``: the class to be reached, or None; ``attack``: what finds radii (None: what the model allows);
    ``unreachable``: what a radius counts where no attack succeeds, a number or "norm" for ||x||_p (None: the largest
    distance in the box, without one twice the largest radius of the step).
    """

    criterion: str = "irrelevant"
    against: Any = None
    attack: Attack | Sequence[Attack] | None = None
    norm: float = 2
    unreachable: float | str | None = None

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise BadInput(f"criterion must be 'irrelevant' or 'relevant', got {self.criterion!r}")
        number = isinstance(self.unreachable, (int, float)) and self.unreachable > 0
        if not (self.unreachable in (None, "norm") or number):
            raise BadInput(f"unreachable must be a positive number, 'norm' or None, got {self.unreachable!r}")

    def gain(self, values: Tensor) -> Tensor:
        """Values as what is to be maximised."""
        return values if self.criterion == "irrelevant" else -values

    def finite(self, values: Tensor) -> Tensor:
        """Values (M,) without infinities: what no attack reached counts twice the largest radius."""
        reached = values.isfinite()
        largest = float(torch.where(reached, values, 0).amax())
        return torch.where(reached, values, 2 * largest if largest > 0 else 1.0)


@dataclass(frozen=True)
class Greedy(Coalitional):
    """Adds the players that look best one at a time (see ``methods.greedy``)."""

    objective: Objective
    fraction: float
    step: float
    name: str = "greedy"

    ranking: ClassVar[str] = "signed"

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What its attack needs."""
        return needs(self.objective.attack)

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise BadInput(
                f"{self.name}: fraction must be in (0, 1], the share of players to choose; got {self.fraction!r}"
            )
        if not (0 < self.step <= 1 or (isinstance(self.step, int) and self.step >= 1)):
            raise BadInput(
                f"{self.name}: step must be a share of the players in (0, 1], or how many are added at a time; got "
                f"{self.step!r}"
            )

    def board(self, question: Question) -> Board:
        """The robustness game of a question."""
        if question.target.several:
            raise BadInput(f"{self.name}: explains why a prediction stands, so one target; got 'all'")
        if "board" not in question.memo:
            o = self.objective
            attack = SEARCH if o.attack is None and question.model.differentiable else o.attack
            game = RobustnessGame(question, o.criterion, attack, o.norm, o.against, o.unreachable)
            question.memo["board"] = Board(game, question.seed, question.first_row)
        board: Board = question.memo["board"]
        return board

    def block_rows(self, question: Question) -> int:
        """One: its subsets fill the calls, and a board has a single row, as that of a game on its own has."""
        return 1

    def rounds(self, n: int) -> int:
        return 1

    def play(self, board: Board, index: int) -> Done:
        """All steps at once, since each depends on the ones before."""
        return Done({name: found.unsqueeze(0) for name, found in self._grown(board).items()})

    def settle(self, board: Board, state: Any) -> Result:
        found = state.value
        details: dict[str, Any] = {"chosen": found["chosen"], "scores": found["scores"], "radius": found["radius"]}
        if isinstance(board.game, RobustnessGame):
            details["perturbation"], details["pertinent"] = board.game.change(found["chosen"])
        return Result(found["values"].unsqueeze(-1), details=details, by_row=frozenset(details))

    def _grown(self, board: Board) -> dict[str, Tensor]:
        """The set: ``values`` (n,) rank scores, ``chosen`` (n,) bool, and the last ``scores`` (n,)."""
        n = board.n
        wanted = max(1, int(self.fraction * n + 1e-9))
        batch = self.step if isinstance(self.step, int) else max(1, int(self.step * n))
        chosen = torch.zeros(n, dtype=torch.bool)
        order: list[int] = []
        scores = torch.zeros(n, dtype=torch.float64)
        turn = 0
        while len(order) < wanted:
            fresh = self._scores(board, chosen, turn)
            scores[~chosen] = fresh[~chosen]
            best = torch.where(chosen, -torch.inf, fresh).argsort(descending=True, stable=True)
            added = best[: min(batch, wanted - len(order))]
            order += added.tolist()
            chosen[added] = True
            turn += 1
        rest = torch.where(chosen, -torch.inf, scores).argsort(descending=True, stable=True)[: n - len(order)]
        ranked = torch.tensor([*order, *rest.tolist()])
        values = torch.empty(n, dtype=torch.float64)
        values[ranked] = torch.arange(n, 0, -1, dtype=torch.float64) / n
        radius = self._worth(board, chosen.unsqueeze(0).double())[0]
        return {"values": values, "chosen": chosen, "scores": scores, "radius": radius}

    def _scores(self, board: Board, chosen: Tensor, turn: int) -> Tensor:
        """How much each player not yet chosen would gain, (n,)."""
        left = torch.nonzero(~chosen).reshape(-1)
        s = chosen.double().repeat(len(left), 1)
        s[torch.arange(len(left)), left] = 1
        scores = torch.zeros(board.n, dtype=torch.float64)
        scores[left] = self.objective.gain(self._worth(board, s))
        return scores

    def _worth(self, board: Board, s: Tensor) -> Tensor:
        """Finite values (M,) of coalitions s (M, n)."""
        parts = [board.value(part)[0, :, 0] for part in s.split(max(1, _CALL // board.n))]
        return self.objective.finite(torch.cat(parts))


@dataclass(frozen=True)
class GreedySets(Greedy):
    """Adds the players that do best together with random others (see ``methods.greedy_as``)."""

    subsets: int = 1000
    inclusion: float = 0.2
    intercept: bool = True
    shrink: bool = True
    name: str = "greedy_as"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.subsets, bool) or not isinstance(self.subsets, int) or self.subsets < 2:
            raise BadInput(f"{self.name}: subsets must be a whole number of at least 2, got {self.subsets!r}")
        if not 0 < self.inclusion < 1:
            raise BadInput(f"{self.name}: inclusion must be a probability in (0, 1), got {self.inclusion!r}")

    def _scores(self, board: Board, chosen: Tensor, turn: int) -> Tensor:
        left = torch.nonzero(~chosen).reshape(-1)
        sets, weight = self._sets(board, len(left), turn)
        s = chosen.double().repeat(len(sets), 1)
        s[:, left] = sets
        values = self._worth(board, s)
        fixed = torch.ones(len(sets), 1 if self.intercept else int(chosen.any()), dtype=torch.float64)
        scores = torch.zeros(board.n, dtype=torch.float64)
        shrink = self.shrink and 2 ** len(left) > self.subsets  # all sets there are leave no noise to shrink
        scores[left] = self.objective.gain(slopes(sets, values, weight, fixed, shrink))
        return scores

    def _sets(self, board: Board, players: int, turn: int) -> tuple[Tensor, Tensor]:
        """Subsets (M, players) of those not yet chosen, all 2^players where they are no more, and their weights."""
        if 2**players <= self.subsets:
            every = torch.arange(2**players).unsqueeze(1) >> torch.arange(players) & 1
            size = every.sum(1)
            share = self.inclusion**size * (1 - self.inclusion) ** (players - size)
            return every.double(), share.double()
        numbers = rng.uniform(board.seed, f"{self.name}.{turn}", 0, board.first_row, 1, self.subsets * players)
        sets = (numbers.reshape(self.subsets, players) < self.inclusion).double()
        return sets, torch.ones(self.subsets, dtype=torch.float64)


@dataclass(frozen=True)
class OneStep(GreedySets):
    """All players ranked by one regression (see ``methods.one_step_banzhaf``)."""

    name: str = "one_step_banzhaf"


def slopes(sets: Tensor, values: Tensor, weight: Tensor, fixed: Tensor, shrink: bool) -> Tensor:
    """What each player's presence adds, (n,): weighted least squares of values (M,) on sets (M, n) and on columns
    ``fixed`` (M, 0 or 1) that are never shrunk; ``shrink`` penalises the others as far as leave-one-out error asks for.

    With fewer sets than players, or hardly more, plain least squares fits the noise; its scores then rank at random.
    """
    root = (weight / weight.mean()).sqrt().unsqueeze(1)
    x, y, f = sets * root, values.unsqueeze(1) * root, fixed * root
    if f.shape[1]:  # the unshrunk column is swept out first
        f = f / torch.linalg.vector_norm(f)
        x, y = x - f @ (f.T @ x), y - f @ (f.T @ y)
    u, level, v = torch.linalg.svd(x, full_matrices=False)
    kept = level > level[0] * 1e-9
    u, level, v = u[:, kept], level[kept], v[kept]
    along = u.T @ y
    if not shrink:
        plain: Tensor = (v.T @ (along / level.unsqueeze(1)))[:, 0]
        return plain
    unit = x.square().sum(0).mean()
    best, found = math.inf, torch.zeros(x.shape[1], 1, dtype=torch.float64)
    for penalty in _PENALTIES:
        gain = level**2 / (level**2 + penalty * unit)
        leverage = (u.square() * gain).sum(1, keepdim=True) + f.square().sum(1, keepdim=True)
        left_out = (y - u @ (gain.unsqueeze(1) * along)) / (1 - leverage).clamp_min(1e-6)
        error = float(left_out.square().mean())
        if penalty == 0 and len(x) <= x.shape[1] + 1:
            continue
        if error < best * (1 - 1e-12):
            best, found = error, v.T @ ((gain / level).unsqueeze(1) * along)
    return found[:, 0]
