"""play: a coalitional method on any game."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from pellucid.api import check_seed, pick, store, untouched, versions
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.explanation import Explanation
from pellucid.core.game import Game
from pellucid.core.method import Method
from pellucid.games.coalitional import Board, Coalitional


def play(game: Game, method: Method | str, seed: int = 0) -> Explanation:
    """How is the worth of a game shared among its players?

    ``game``: ``games.FunctionGame(n, value)`` or any ``Game``; ``method``: a method on games, such as
    ``methods.exact_shapley()``. Returns an ``Explanation`` with values (1, n), or (1, n, J) for a game of J values;
    ``outputs`` is the worth of everybody, ``base_values`` that of nobody; ``data`` is ones.
    """
    chosen = pick(method)
    if not isinstance(chosen, Coalitional):
        raise Unsupported(f"play: {chosen.name} does not play games; use kernel_shap() or permutation_shapley()")
    if not (callable(game) and hasattr(game, "n") and hasattr(game, "names")):
        raise BadInput(f"play: expected a game such as games.FunctionGame(n=4, value=fn), got {type(game).__name__}")
    check_seed(seed)
    board, state, before, start = Board(game, int(seed)), None, game.calls, time.perf_counter()
    with untouched():
        for index in range(chosen.rounds(game.n)):
            part: Any = chosen.play(board, index)
            state = part if state is None else state.merge(part)
            if chosen.settled(state):
                break
        found = chosen.settle(board, state)
        everybody = board.ends()[:, 1]
    several = found.values.shape[-1] > 1

    def numbers(tensor: torch.Tensor | None) -> Any:
        return None if tensor is None else (tensor if several else tensor[..., 0]).numpy()

    residual = None
    if found.base is not None and chosen.promise is not None:
        residual = (found.values.sum(1) - (everybody - found.base)).abs()
    return Explanation(
        values=numbers(found.values),
        outputs=numbers(everybody),
        data=np.ones((1, game.n)),
        dims=found.dims or ("player",),
        method=chosen.describe(),
        target={"index": "all" if several else None, "read": "worth"},
        seed=int(seed),
        feature_names=tuple(game.names),
        std_error=numbers(found.std_error),
        base_values=numbers(found.base),
        residual=numbers(residual),
        players=np.arange(game.n),
        cost={"coalitions": game.calls - before, "forwards": 0, "backwards": 0, "seconds": time.perf_counter() - start},
        versions=versions(),
        details={
            "ranking": chosen.ranking,
            "reduction": chosen.reduction,
            "promise": chosen.promise,
            "control": False,
            "axes": ["feature"],
            "first_row": 0,
            "by_row": sorted(found.by_row),
            "std_error_covers": found.covers,
            **{name: store(value) for name, value in found.details.items()},
        },
    )
