"""Shapley regression values: features are absent from the training already."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pellucid.core import removal as absence
from pellucid.core.errors import Unsupported
from pellucid.core.method import Method
from pellucid.core.players import each
from pellucid.core.question import Question
from pellucid.core.removal import Marginal, Removal
from pellucid.core.settings import checked
from pellucid.core.space import Identity
from pellucid.games.coalitional import Board
from pellucid.games.retraining import RetrainingGame
from pellucid.games.walks import Permutation
from pellucid.models import wrap


@checked
def shapley_regression_values(estimator: Any, X: Any, y: Any, budget: int = 1024) -> Method:
    """How much does knowing each feature, in training and in prediction, add to the prediction at x?

    Shapley values of v(S) = prediction at x_S of a clone of ``estimator`` fitted on the columns S of ``X`` (R, n) and
    ``y`` (R,); v(∅) is the best constant. The model explained should be the same estimator fitted on the same data; the
    residual says by how much a fit on all columns differs from it. ``budget``: coalitions a row, that is fits, all of
    them when 2^n fits, else antithetic walks with standard errors. Returns values and standard errors (B, n). Cost: at
    most 2^n fits for all rows together. For what features are worth to the score as a whole, ``pellucid.play`` a
    ``games.RetrainingGame``. Source: lipovetsky2001, lundberg2017.
    """
    return Retrained(budget, Without(estimator, absence.rows_of(X, "shapley_regression_values"), np.asarray(y)))


@dataclass(frozen=True, eq=False)
class Without(Removal):
    """Absent features were never there: the estimator is fitted again without them."""

    estimator: Any = field(repr=False)
    source: Marginal
    y: np.ndarray[Any, Any]
    written: str = ""
    name: str = field(default="retraining", repr=False)

    def __post_init__(self) -> None:
        if hasattr(self.estimator, "get_params"):  # what names the method in a job's spec
            object.__setattr__(self, "written", f"{type(self.estimator).__name__}{self.estimator.get_params()}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Without):
            return NotImplemented
        return (self.written, self.source) == (other.written, other.source) and np.array_equal(self.y, other.y)

    def __hash__(self) -> int:
        return hash((self.written, self.source))

    def absent(self, question: Question, draws: range) -> Tensor:
        raise Unsupported("shapley_regression_values: nothing stands in for an absent feature; use a removal")


@dataclass(frozen=True)
class Retrained(Permutation):
    """See ``shapley_regression_values``."""

    removal: Without
    name: str = "shapley_regression_values"
    promise: ClassVar[str | None] = "completeness"

    def board(self, question: Question) -> Board:
        if "board" not in question.memo:
            question.memo["board"] = Board(self._game(question), question.seed, question.first_row)
        board: Board = question.memo["board"]
        return board

    def _game(self, question: Question) -> RetrainingGame:
        without, z = self.removal, question.z
        players = question.players or each().divide(z, question.dims, question.space.names)
        if not isinstance(question.space, Identity) or z.ndim != 2 or players.by_row:
            raise Unsupported(
                f"{self.name}: explains the columns of a table, the same in every row; use kernel_shap() or "
                "permutation_shapley()"
            )
        labels = players.labels.cpu()

        def predictions(fitted: Any, columns: np.ndarray[Any, Any]) -> Tensor:
            model = wrap(fitted)
            raw = model.matrix(model(question.x[:, torch.from_numpy(columns)]))
            if (raw.shape[1], model.scale) != (width, question.model.scale):
                raise Unsupported(
                    f"{self.name}: {type(fitted).__name__} gives {raw.shape[1]} outputs (scale {model.scale!r}), "
                    f"{question.model.name} gives {width} (scale {question.model.scale!r}); explain a classifier with "
                    "predict_proba or a regressor, or use kernel_shap() or permutation_shapley()"
                )
            return question.score(raw, question.every_row()).double()

        with torch.no_grad():
            width = question.model.matrix(question.run(question.x[:1])).shape[1]
        return RetrainingGame(
            without.estimator,
            without.source.rows(question).cpu().numpy(),
            without.y,
            predictions,
            seed=question.seed,
            groups=tuple(tuple((labels == player).nonzero()[:, 0].tolist()) for player in range(players.n)),
            always=tuple((labels < 0).nonzero()[:, 0].tolist()),
            names=players.names,
            rows=len(z),
        )
