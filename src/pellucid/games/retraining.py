"""The worth of features to an estimator that is fitted again without the absent ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unsupported

Array = np.ndarray[Any, Any]


@dataclass
class RetrainingGame:
    """v(S) = worth of a clone of ``estimator`` fitted on the columns S of ``X`` (R, n) and ``y`` (R,).

    ``worth``: a function of the fitted clone and of the numbers of its columns, which returns a number, J numbers, or
    (rows, J) for a game of several ``rows``; by default the clone's score, R² or accuracy, on (X, y) or on ``test``, a
    pair like it. Nobody's worth is that of the constant that fits best (scikit-learn's Dummy estimators). Every
    coalition is fitted once, with ``seed`` where the estimator has a ``random_state`` that is None. ``groups``: columns
    of each player, where a player has several; ``always``: columns that are never absent.

    >>> import numpy as np, pellucid
    >>> from pellucid import methods
    >>> from sklearn.linear_model import LinearRegression
    >>> X = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    >>> game = RetrainingGame(LinearRegression(), X, X @ [4.0, 3.0])
    >>> pellucid.play(game, methods.exact_shapley()).values.round(4).tolist()  # squared correlations
    [[0.64, 0.36]]
    """

    estimator: Any
    X: Any
    y: Any
    worth: Callable[[Any, Array], Any] | None = None
    test: tuple[Any, Any] | None = None
    seed: int = 0
    groups: tuple[tuple[int, ...], ...] | None = None
    always: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    rows: int = 1
    calls: int = 0
    known: dict[bytes, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (hasattr(self.estimator, "fit") and hasattr(self.estimator, "get_params")):
            raise BadInput(
                f"RetrainingGame: expected a scikit-learn estimator, with fit and get_params, got "
                f"{type(self.estimator).__name__}"
            )
        columns = tuple(str(name) for name in getattr(self.X, "columns", ()))
        self.X, self.y = _table(self.X), np.asarray(self.y)
        if len(self.X) != len(self.y):
            raise BadInput(f"RetrainingGame: X has {len(self.X)} rows and y has {len(self.y)}; they must be as many")
        if self.test is not None:
            self.test = (_table(self.test[0]), np.asarray(self.test[1]))
        if self.groups is None:
            self.groups = tuple((column,) for column in range(self.X.shape[1]))
            self.names = self.names or columns
        self.names = tuple(self.names) or tuple(f"x{i}" for i in range(self.n))
        if len(self.names) != self.n:
            raise BadInput(f"RetrainingGame: names must have n = {self.n} entries, got {len(self.names)}")

    @property
    def n(self) -> int:
        """Number of players."""
        return len(self.groups or ())

    def __call__(self, s: Tensor, turns: Tensor | None = None) -> Tensor:
        """Values (B, M, J); each coalition is fitted once, for all rows and for all times."""
        if bool(((s != 0) & (s != 1)).any()):
            raise BadInput("RetrainingGame: coalitions are all or nothing; this method asks for partial presence")
        bits = s.cpu() > 0.5
        found = [[self._value(coalition)[row] for coalition in bits[row]] for row in range(self.rows)]
        return torch.stack([torch.stack(row) for row in found])

    def _value(self, coalition: Tensor) -> Tensor:
        """The worth of one coalition (n,) for every row: (rows, J)."""
        key = coalition.numpy().tobytes()
        if key not in self.known:
            self.calls += 1
            groups = self.groups or ()
            columns = [c for player in coalition.nonzero()[:, 0].tolist() for c in groups[player]]
            chosen = np.array(sorted([*self.always, *columns]), dtype=np.int64)
            worth = self._score if self.worth is None else self.worth
            try:
                value = torch.as_tensor(np.asarray(worth(self._fitted(chosen), chosen), dtype=np.float64))
            except (BadInput, Unsupported):
                raise
            except (TypeError, ValueError) as error:
                raise BadInput(f"RetrainingGame: columns {chosen.tolist()} have no worth: {error}") from error
            if not bool(torch.isfinite(value).all()):
                raise BadInput(f"RetrainingGame: the worth of columns {chosen.tolist()} is NaN or infinite")
            self.known[key] = value.reshape(self.rows, -1)
        return self.known[key]

    def _fitted(self, columns: Array) -> Any:
        from sklearn.base import clone, is_classifier
        from sklearn.dummy import DummyClassifier, DummyRegressor

        if len(columns) == 0:
            constant = DummyClassifier(strategy="prior") if is_classifier(self.estimator) else DummyRegressor()
            return constant.fit(np.zeros((len(self.X), 1)), self.y)
        fresh = clone(self.estimator)
        open_ = [name for name in fresh.get_params() if name.rpartition("__")[2] == "random_state"]
        fresh.set_params(**{name: self.seed for name in open_ if fresh.get_params()[name] is None})
        return fresh.fit(self.X[:, columns], self.y)

    def _score(self, fitted: Any, columns: Array) -> float:
        X, y = (self.X, self.y) if self.test is None else self.test
        return float(fitted.score(X[:, columns], y))


def _table(X: Any) -> Array:
    try:
        table = np.array(X, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInput("RetrainingGame: X must be a table of numbers; encode text and categories first") from None
    if table.ndim != 2 or table.size == 0:
        raise BadInput(f"RetrainingGame: X must be a table (R, n), got shape {table.shape}")
    return table
