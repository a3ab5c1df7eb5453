"""Any value function as a game: data valuation, feature selection, neurons, voting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput


@dataclass
class FunctionGame:
    """A game of ``n`` players from ``value``: a CPU bool tensor (M, n) of coalitions to their values (M,) or (M, J),
    numpy or torch.

    >>> import pellucid
    >>> from pellucid import methods
    >>> majority = FunctionGame(3, lambda s: (s.sum(1) >= 2).double())
    >>> pellucid.play(majority, methods.exact_shapley()).values.round(4).tolist()
    [[0.3333, 0.3333, 0.3333]]
    """

    n: int
    value: Callable[[Tensor], Any]
    names: tuple[str, ...] = ()
    calls: int = 0
    rows: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1:
            raise BadInput(f"FunctionGame: n must be a whole number of at least 1, got {self.n!r}")
        if not callable(self.value):
            raise BadInput(
                f"FunctionGame: value must be a function of coalitions (M, n), got {type(self.value).__name__}"
            )
        names = tuple(map(str, self.names)) or tuple(f"x{i}" for i in range(self.n))
        if len(names) != self.n:
            raise BadInput(f"FunctionGame: names must have n = {self.n} entries, got {len(names)}")
        self.names = names

    def __call__(self, s: Tensor, turns: Tensor | None = None) -> Tensor:
        """Values (1, M, J); each coalition is asked about once."""
        if bool(((s != 0) & (s != 1)).any()):
            raise BadInput("FunctionGame: coalitions are all or nothing; this method asks for partial presence")
        distinct, back = torch.unique(s[0].cpu() > 0.5, dim=0, return_inverse=True)
        self.calls += len(distinct)
        raw = self.value(distinct.clone())
        try:
            values = (
                raw.detach().cpu() if isinstance(raw, Tensor) else torch.from_numpy(np.array(raw, dtype=np.float64))
            )
        except (TypeError, ValueError):
            raise BadInput(
                f"FunctionGame: value must return numbers (M,) or (M, J), it returned {type(raw).__name__}"
            ) from None
        if values.ndim not in (1, 2) or len(values) != len(distinct):
            raise BadInput(
                f"FunctionGame: value must return one number for each of the {len(distinct)} coalitions, (M,) "
                "or (M, J); "
                f"it returned shape {tuple(values.shape)}"
            )
        if not bool(torch.isfinite(values.double()).all()):
            raise BadInput("FunctionGame: value returned NaN or infinity; every coalition needs a finite worth")
        values = values.double().reshape(len(distinct), -1)
        return values[back].unsqueeze(0)
