"""Recipes for quantitative input influence: what an output owes to inputs that are drawn anew, one by one or together.

An input is drawn from its own marginal distribution, independently of all others, so an input that f ignores has an
influence of exactly 0, however well it predicts the others (conditional removal would give it credit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from pellucid.core import removal as absence
from pellucid.core.errors import BadInput
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.core.settings import checked
from pellucid.core.state import Moments
from pellucid.games.coalitional import Board, Coalitional
from pellucid.games.shapley import TIMES
from pellucid.games.walks import Permutation


@checked
def unary_qii(background: Any) -> Method:
    """How much does the output change, on average, when one feature alone is drawn anew?

    ι(i) = f(x) - E f(x with x_i replaced by U_i), U_i the values of the feature in the ``background`` (R, ...), all of
    them. With players of several entries these are drawn together; see ``set_qii``. Returns values like z, or (B, n);
    promises nothing about sums: where one feature stands in for another, both have an influence of 0. Cost: n R
    evaluations a row. Source: datta2016.

    >>> import torch, pellucid
    >>> rows = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    >>> pellucid.explain(lambda x: 3 * x[:, 0] - x[:, 1], torch.tensor([[2.0, 1.0]]), unary_qii(rows)).values.tolist()
    [[3.0, 1.0]]
    """
    return Influence(absence.marginal(background), "unary_qii")


@checked
def set_qii(background: Any, draws: int | None = None) -> Method:
    """How much does the output change, on average, when a set of features is drawn anew, each independently?

    ι(S) = f(x) - E f(x with x_S replaced by U_S), the U_i independent draws from ``background`` (R, ...). The sets are
    the players: ``explain(..., players={"money": ["income", "savings"], "age": ["age"]})``; ask twice for sets that
    overlap. ``draws``: combinations averaged at a time (R by default), five times over. Returns values and standard
    errors (B, n). Cost: 5 n draws evaluations a row. Source: datta2016.
    """
    return Sets(absence.independent(background, draws), "set_qii")


@checked
def qii(background: Any, budget: int = 2048, draws: int | None = None) -> Method:
    """How much influence does each feature have, averaged over the sets it could be drawn anew with (Shapley QII)?

    φ_i = mean over orders of v(before i, and i) - v(before i) with v(S) = E f(x_S, U of the others), the U_i
    independent draws from ``background`` (R, ...): ``permutation_shapley`` where absent features are independent of
    each other, too. ``draws``: combinations that a coalition averages over (R by default), drawn afresh for every pair
    of orders. Σ φ = f(x) - E f(U). Returns values and standard errors (B, n). Cost: budget x draws evaluations a row.
    Departure: the paper averages random orders; here they come in reversed pairs, too. Source: datta2016.
    """
    return Permutation(budget, absence.independent(background, draws), name="qii")


@dataclass(frozen=True)
class Influence(Coalitional):
    """v(all) - v(all but i) for every player i, on five draws of stand-ins where these are random."""

    removal: Removal
    name: str
    access: ClassVar[str] = "predictions"

    def rounds(self, n: int) -> int:
        return TIMES if self.removal.sampled else 1

    def play(self, board: Board, index: int) -> Moments:
        without = board.value(1 - torch.eye(board.n), torch.full((board.n,), index))
        return Moments.of((board.ends()[:, 1:] - without).unsqueeze(0), 0)

    def settle(self, board: Board, state: Any) -> Result:
        if not self.removal.sampled:
            return Result(state.mean)
        return Result(state.mean, state.std_error, "the background", details={"degrees_of_freedom": state.count - 1})


@dataclass(frozen=True)
class Sets(Influence):
    """The same for sets of features, which are the players (see ``set_qii``)."""

    def prepared(self, question: Question) -> Method:
        if question.players is None:
            raise BadInput(
                f"{self.name}: say the sets, as players={{'name': [columns]}}; for single features use unary_qii()"
            )
        return self
