"""aggregate: several explanations of the same rows as one, by mean rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.metrics.units import own, position_scores

_CARRIED = ("axes", "first_row", "model", "scale", "labels", "input")
"""What is the same of all explanations of a question, and needed to ask it again."""


def aggregate(explanations: Sequence[Explanation]) -> Explanation:
    """What do several methods say together?

    Each explanation's features are ranked as its method declares (rank 0 = least, n - 1 = most important, ties share
    their mean rank), and the value of a feature is its mean rank over the explanations divided by n - 1: 1 where all
    put it first, 0 where all put it last. Explanations of different shapes meet at the positions of the input. Returns
    one more explanation, (B, H, W), (B, T), (B, F) or (B, n); it promises nothing about sums. Source: rieger2020.
    """
    from scipy.stats import rankdata

    each = list(explanations)
    if len(each) < 2:
        raise BadInput(f"aggregate: needs at least two explanations, got {len(each)}")
    first = each[0]
    for e in each:
        if not isinstance(e, Explanation):
            raise BadInput(f"aggregate: expected explanations, got {type(e).__name__}")
        if e.several:
            raise BadInput("aggregate: an explanation has several outputs; explain one target a row")
        if e.data.shape != first.data.shape or not np.array_equal(e.data, first.data):
            raise BadInput("aggregate: the explanations are of different rows; aggregate explanations of the same x")
        if dict(e.target) != dict(first.target):
            raise BadInput(f"aggregate: the explanations have different targets, {first.target} and {e.target}")
    if all(_same_players(e, first) for e in each):
        scores = [own(e).scores.numpy() for e in each]
        dims, players, names = first.dims, first.players, first.feature_names
    else:
        scores = [position_scores(e).numpy() for e in each]
        axes = [dim for dim in first.details["axes"] if dim not in ("channel", "embedding")]
        dims, players = tuple(axes), None
        names = next((e.feature_names for e in each if e.dims == dims), None)
    n = scores[0][0].size
    ranks = [(rankdata(score.reshape(len(score), -1), axis=1) - 1) / max(1, n - 1) for score in scores]
    values = np.mean(ranks, axis=0).reshape(scores[0].shape)
    return replace(
        first,
        values=values,
        dims=dims,
        players=players,
        feature_names=names,
        std_error=None,
        base_values=None,
        residual=None,
        method={"name": "aggregate", "fields": {"of": [dict(e.method) for e in each]}},
        cost={name: sum(float(e.cost.get(name, 0)) for e in each) for name in ("forwards", "backwards", "seconds")},
        details={
            **{name: first.details[name] for name in _CARRIED if name in first.details},
            "ranking": "signed",
            "reduction": "sum",
            "promise": None,
            "control": False,
            "players_by_row": players is not None and bool(first.details.get("players_by_row")),
            "by_row": [],
            "agreement_spread": float(np.mean(np.std(ranks, axis=0))),
        },
    )


def _same_players(e: Explanation, first: Explanation) -> bool:
    return e.players is not None and first.players is not None and np.array_equal(e.players, first.players)
