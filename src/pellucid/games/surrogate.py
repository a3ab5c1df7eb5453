"""A weighted linear model of the game around everybody (LIME)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unreliable
from pellucid.core.method import Result
from pellucid.core.players import Players, positions, segments
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.games.coalitional import (
    COALITIONS_PER_CHUNK,
    Board,
    Coalitional,
    Pieces,
    check_budget,
    check_players,
    warn_few,
)
from pellucid.games.coalitions import every
from pellucid.games.presence import independent, outputs_last, there
from pellucid.games.removal import RemovalGame
from pellucid.games.shapley import COVERS, enumerated

MOST_PLAYERS = 1000
"""Players for which the surrogate is still fitted: its normal matrix is n x n for every row."""
SEGMENTS = 50
"""Superpixels of a picture for which no players are given."""
DISTANCES = ("cosine", "euclidean")

_RANK = 1e-10
"""Eigenvalues of the design below this part of the largest count as zero."""
_DESIGN = 2**22
"""Entries of the designs that are fitted together, about: 32 MB in float64."""


@dataclass(frozen=True)
class Lime(Coalitional):
    """Weighted ridge regression of v on the presence of players (see ``methods.lime``)."""

    budget: int
    width: float
    alpha: float
    distance: str
    removal: Removal
    name: str = "lime"

    def __post_init__(self) -> None:
        check_settings(self.name, self.budget, self.width, self.alpha)
        if self.distance not in DISTANCES:
            raise BadInput(f"lime: distance must be 'cosine' or 'euclidean', got {self.distance!r}")

    def board(self, question: Question) -> Board:
        if "board" not in question.memo:
            game = RemovalGame(replace(question, players=_players(question)), self.removal)
            question.memo["board"] = Board(game, question.seed, question.first_row)
        board: Board = question.memo["board"]
        return board

    def chunks(self, question: Question) -> int:
        return self.rounds(self.board(question).n)

    def block_rows(self, question: Question) -> int:
        """Rows fitted together; a picture that is divided by its own colours comes alone, with its own n."""
        if question.players is None and "height" in question.dims:
            return 1
        n = question.z[0].numel() if question.players is None else question.players.n
        return max(1, min(question.executor.batch_size, _DESIGN // (self.budget * n)))

    def rounds(self, n: int) -> int:
        instead = "players=players.segments(50) or players.windows(length), or rise() or permutation_shapley()"
        check_players(self.name, n, MOST_PLAYERS, instead)
        check_budget(self.name, self.budget, n)
        return -(-(2**n) // COALITIONS_PER_CHUNK) if self._fits(n) else -(-self.budget // COALITIONS_PER_CHUNK)

    def _fits(self, n: int) -> bool:
        """Whether all coalitions are valued instead of random ones."""
        return enumerated(n, self.budget, self.removal.sampled)

    def play(self, board: Board, index: int) -> Pieces:
        n, start = board.n, index * COALITIONS_PER_CHUNK
        if self._fits(n):
            s = every(n, start, min(2**n, start + COALITIONS_PER_CHUNK)).expand(board.rows, -1, -1)
        else:
            s = independent(board, self.name, index, COALITIONS_PER_CHUNK, 0.5)[:, : self.budget - start]
            if index == 0:
                s[:, 0] = True  # the row itself, as the authors do
        turns = start + torch.arange(s.shape[1])
        return Pieces.of({"s": s, "values": board.value(s.float(), turns)})

    def settle(self, board: Board, state: Any) -> Result:
        exists = there(board).unsqueeze(1)
        s, values, exact = state["s"] & exists, state["values"], self._fits(board.n)
        weight = self._proximity(s.sum(2), exists.sum(2))
        drawn = torch.ones(s.shape[1], dtype=torch.float64)
        if exact:  # each coalition as often as a draw would find it, so that shrinkage means what it meant
            weight, drawn = weight * (self.budget / s.shape[1]), drawn * 0
        else:
            drawn[0] = 0
        found = ridge(s.double(), values, weight, self.alpha, drawn)
        details: dict[str, Any] = {"r2": found.r2}
        if exact:
            covers = "nothing: all coalitions were valued"
            details["exact"] = True
        else:
            found.warn(self.name, weight, self.width)
            covers = COVERS + (" and the background" if self.removal.sampled else "")
            details |= {"draws": self.budget - 1, "degrees_of_freedom": max(0, self.budget - 1 - board.n)}
        return Result(found.values, found.std_error, covers, found.intercept, None, details, frozenset({"r2"}))

    def _proximity(self, present: Tensor, n: Tensor) -> Tensor:
        """Weights of coalitions by how many of n players they hold; the empty one is at cosine distance 1."""
        share = present.double() / n.clamp_min(1)
        distance = 1 - share.sqrt() if self.distance == "cosine" else ((1 - share) * n).sqrt()
        return proximity(distance, self.width)

    def result(self, question: Question, state: Any) -> Result:
        board = self.board(question)
        found = outputs_last(self.settle(board, state), question)
        if question.players is not None or found.std_error is None:
            return found
        players = board.game.players  # type: ignore[attr-defined]
        values, errors = players.scatter(found.values), players.scatter(found.std_error)
        details, by_row = found.details, found.by_row
        if players.by_row:
            details, by_row = details | {"segments": players.labels}, by_row | {"segments"}
        return Result(values, errors, found.covers, found.base, None, details, by_row)


def _players(question: Question) -> Players:
    """The players asked for, else superpixels of a picture, else positions."""
    if question.players is not None:
        return question.players
    division = segments(SEGMENTS) if "height" in question.dims else positions()
    return division.divide(question.z, question.dims, question.space.names)


def check_settings(name: str, budget: int, width: float | None, alpha: float) -> None:
    """Refuse a budget that is no number of samples, a kernel without width, a negative penalty."""
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise BadInput(f"{name}: budget must be a whole number of at least n + 1 samples, got {budget!r}")
    if width is not None and not 0 < width < float("inf"):
        raise BadInput(f"{name}: width must be positive, got {width!r}")
    if not 0 <= alpha < float("inf"):
        raise BadInput(f"{name}: alpha must be at least 0, got {alpha!r}")


def proximity(distance: Tensor, width: float) -> Tensor:
    """sqrt(exp(-d² / width²)), the weight of a sample at distance d; the root is in the authors' code only."""
    return torch.exp(-(distance**2) / (2 * width**2))


@dataclass(frozen=True)
class Surrogate:
    """A fitted linear model: slopes (B, n, J), their standard errors (NaN where the sample leaves no freedom),
    intercept and weighted R² (B, J)."""

    values: Tensor
    std_error: Tensor
    intercept: Tensor
    r2: Tensor

    def warn(self, name: str, weight: Tensor, width: float) -> None:
        """Say so where errors could not be estimated, or where the kernel leaves next to nothing of the sample."""
        if not bool(torch.isfinite(self.std_error).all()):
            warn_few(name, weight.shape[1] - 1)
        effective = float((weight.sum(1) ** 2 / (weight**2).sum(1)).min())
        if effective < self.values.shape[1] + 1:
            warnings.warn(
                f"{name}: with width={width:g} only about {effective:.0f} samples of {weight.shape[1]} carry weight, "
                f"for {self.values.shape[1]} coefficients; widen the kernel or raise the budget",
                Unreliable,
                stacklevel=2,
            )


def ridge(design: Tensor, values: Tensor, weight: Tensor, alpha: float, drawn: Tensor) -> Surrogate:
    """min over β and b of Σ weight (value - b - x·β)² + alpha |β|², for each row.

    ``design`` (B, m, n) holds the x, ``values`` (B, m, J), ``weight`` (B, m); ``drawn`` (m,) is 1 for samples that are
    random and 0 for those that are not. Errors are heteroscedasticity-consistent (HC3, the jackknife's); they say how
    the fit would vary with other draws, not how far the model is from linear: that is R².
    """
    mass, row = weight.sum(1).reshape(-1, 1, 1), weight.unsqueeze(1)
    centre, level = row @ design / mass, row @ values / mass
    root = weight.sqrt().unsqueeze(-1)
    x, y = torch.sub(design, centre).mul_(root), (values - level) * root
    inverse, rank = _inverse(x.mT @ x, alpha)
    slopes = inverse @ (x.mT @ y)
    residual, influence = y - x @ slopes, x @ inverse
    leverage = (influence * x).sum(2) + weight / mass[:, 0]
    left_out = residual / (1 - leverage.clamp(max=1 - 1e-9)).unsqueeze(-1)
    error = (influence.square_().mT @ (left_out**2 * drawn.unsqueeze(1))).sqrt()
    poor = (drawn.sum() > 0) & (drawn.sum() - rank < 2)
    error = torch.where(poor.reshape(-1, 1, 1), torch.nan, error)
    spread = (y**2).sum(1)
    constant = spread <= 1e-24 * (row @ values**2)[:, 0]  # a constant is fitted exactly
    r2 = torch.where(constant, 1.0, 1 - (residual**2).sum(1) / torch.where(constant, 1.0, spread))
    intercept = (level - centre @ slopes)[:, 0]
    return Surrogate(slopes, error, intercept, r2)


def _inverse(gram: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(gram + alpha)^-1 of matrices (B, n, n), and their ranks (B,); what a sample says nothing about is left at 0."""
    largest = gram.diagonal(dim1=1, dim2=2).amax(1)
    if alpha > _RANK * float(largest.max()):
        penalty = alpha * torch.eye(gram.shape[1], dtype=gram.dtype)
        return torch.cholesky_inverse(torch.linalg.cholesky(gram + penalty)), (gram.diagonal(dim1=1, dim2=2) > 0).sum(1)
    power, axes = torch.linalg.eigh(gram)
    kept = power > _RANK * largest.unsqueeze(1)
    return (axes * torch.where(kept, 1 / (power + alpha), 0).unsqueeze(1)) @ axes.mT, kept.sum(1)
