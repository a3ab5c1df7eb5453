"""Shapley values of a few players when the budget is too small for all: chosen by lasso, then fitted."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.method import Result
from pellucid.games import regression
from pellucid.games.coalitional import Board
from pellucid.games.kernel import Drawn

LEAST_BUDGET = 4
"""Nobody, everybody and one pair."""
_EXACT = 1e-20  # a residual under this part of the data is rounding


@dataclass(frozen=True)
class Lasso(Drawn):
    """Kernel least squares on the players that a lasso chooses (see ``methods.kernel_shap_lasso``)."""

    features: int | None = None
    name: str = "kernel_shap_lasso"
    share: ClassVar[str] = "equal"

    def check(self, n: int) -> None:
        if isinstance(self.budget, bool) or not isinstance(self.budget, int) or self.budget < LEAST_BUDGET:
            raise BadInput(f"{self.name}: budget must be at least {LEAST_BUDGET} coalitions, got {self.budget!r}")
        if self.features is not None and self.features > n:
            raise BadInput(f"{self.name}: features must be at most {n}, the number of players, got {self.features}")

    def doubt(self, fitted: regression.Fit) -> None:
        """Nothing to say: that a choice of players leaves no standard error is part of the method."""

    def settle(self, board: Board, state: Any) -> Result:
        found = super().settle(board, state)
        if found.std_error is None or bool(torch.isfinite(found.std_error).all()):
            return found
        return replace(found, covers="nothing: errors do not count the choice of players")

    def solve(self, side: Tensor, half: Tensor, weight: Tensor, open_share: Tensor, total: Tensor) -> regression.Fit:
        rows, pairs, n = side.shape
        values = torch.zeros(rows, n, half.shape[2], dtype=torch.float64)
        errors, freedom, most = torch.full_like(values, torch.nan), pairs, 0
        for row in range(rows):
            for j in range(half.shape[2]):
                here, column = slice(row, row + 1), slice(j, j + 1)
                chosen = self._chosen(side[row], half[row, :, j], float(total[row, :, j].mean()))
                found = regression.linear(
                    side[here][..., chosen],
                    half[here, :, column],
                    weight[here],
                    open_share[here],
                    total[here, :, column],
                )
                values[row, chosen, j] = found.values[0, :, 0]
                if len(chosen) == n:  # nothing was selected away, so the errors are those of kernel_shap
                    errors[row, :, j] = found.std_error[0, :, 0]
                freedom, most = min(freedom, found.freedom), max(most, len(chosen))
        return regression.Fit(values, errors, most, 1, pairs, freedom)

    def _chosen(self, side: Tensor, half: Tensor, total: float) -> Tensor:
        """Numbers of the chosen players of one row and output, in order.

        Every pair counts the same here: under kernel weights a few pairs would decide alone.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import lars_path

        n = side.shape[1]
        sign = torch.cat([side.double() * 2 - 1, torch.ones(1, n, dtype=torch.float64)])  # the last pair: all or nobody
        x, y = sign.numpy(), torch.cat([half, half.new_tensor([total / 2])]).numpy()
        if not y.any():
            return torch.arange(n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the path ends early where the data are fitted exactly
            path = lars_path(x, y, method="lasso")[2] != 0
        supports = [np.flatnonzero(step) for step in path.T if step.any()]
        if self.features is not None:
            return torch.from_numpy(max((s for s in supports if len(s) <= self.features), key=len))
        return torch.from_numpy(min(supports, key=lambda support: _criterion(x[:, support], y)))


def _criterion(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """Akaike's criterion with its correction for few data (hurvich1989), of least squares refitted on a support."""
    count, terms = x.shape
    if terms >= count - 1:
        return math.inf
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    squares = max(float(residual @ residual), _EXACT * float(y @ y))
    return float(count * math.log(squares / count) + 2 * terms + 2 * terms * (terms + 1) / (count - terms - 1))
