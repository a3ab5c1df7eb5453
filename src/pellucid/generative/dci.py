"""Disentanglement, completeness and informativeness: which code does a predictor of each known factor lean on?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.generative.quality import Coding, applied, components, titles

Array = np.ndarray[Any, Any]

TREES, DEPTH = 50, 10
HELD_OUT = 0.3
"""The share of rows on which predictors are tested."""


@dataclass(frozen=True, eq=False)
class DCI:
    """How codes and factors belong together, each 0..1.

    ``disentanglement``: whether a code is leant on for one factor only; ``completeness``: whether a factor leans on
    one code only; ``informativeness``: how well held-out rows are predicted, by factor: 0 as by the most common value
    or the mean, 1 without error. ``importance`` (codes, factors) sums to 1 over codes. ``control``: the same three (the
    last as a mean) of as many principal components of the pictures.
    """

    disentanglement: float
    completeness: float
    informativeness: dict[str, float]
    importance: Tensor
    control: tuple[float, float, float]

    @property
    def passes(self) -> bool:
        """Whether codes are more separate than principal components."""
        return self.disentanglement > self.control[0]


def dci(model: Coding, x: Tensor, factors: Tensor, names: Sequence[str] | None = None, bins: int = 20) -> DCI:
    """Does each code stand for one factor, each factor for one code, and is all told? By forests.

    For each factor a random forest predicts it from the codes; R_jk is the importance of code j for factor k.
    Disentanglement = Σ_j ρ_j (1 - H(R_j· / Σ_k R_jk) / log K), ρ_j code j's share of all importance; completeness =
    mean over k of 1 - H(R_·k) / log L; informativeness on rows that were held out. ``factors``: (N, K), K of 2 or more;
    those with at most ``bins`` values are classes, others numbers. Unlike the mutual information gap it also counts
    factors that codes tell only together. Cost: a forward of each picture and 2 K forests of 50 trees, about 0.5 s a
    factor for 1,000 pictures. Departure: importance is the forest's own, of training rows, as in released code. Source:
    eastwood2018.
    """
    if factors.ndim != 2 or factors.shape[1] < 2 or len(factors) != len(x):
        raise BadInput(f"generative.dci: needs factors (N, K) with K of 2 or more, got {tuple(factors.shape)}")
    if len(x) < 20:
        raise BadInput(f"generative.dci: needs at least 20 pictures, got {len(x)}")
    codes = applied(model.codes, x).double()
    told, importance = _forests(codes, factors, bins)
    by_components, other = _forests(components(x, codes.shape[1]), factors, bins)
    return DCI(
        _disentanglement(importance),
        _completeness(importance),
        dict(zip(titles(names, factors), told.tolist(), strict=True)),
        importance,
        (_disentanglement(other), _completeness(other), float(by_components.mean())),
    )


def _forests(codes: Tensor, factors: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """How well each factor is predicted, (K,), and how much by each code, (L, K)."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    z = codes.numpy()
    last = len(z) - round(HELD_OUT * len(z))
    told, importance = [], []
    for column in factors.double().T:
        distinct, places = column.unique(return_inverse=True)
        if len(distinct) < 2:
            raise BadInput("generative.dci: a factor is constant; leave it out")
        classes = len(distinct) <= bins
        forest = (RandomForestClassifier if classes else RandomForestRegressor)(TREES, max_depth=DEPTH, random_state=0)
        wanted = (places if classes else column).numpy()
        forest.fit(z[:last], wanted[:last])
        found, true = forest.predict(z[last:]), wanted[last:]
        if classes:
            guess = np.bincount(wanted[:last]).argmax()
            error, trivial = float((found != true).mean()), float((guess != true).mean())
        else:
            error, trivial = float(((found - true) ** 2).mean()), float(((wanted[:last].mean() - true) ** 2).mean())
        told.append(max(0.0, 1 - error / trivial) if trivial > 0 else math.nan)
        weights = forest.feature_importances_
        importance.append(
            torch.from_numpy(weights / weights.sum() if weights.sum() else np.full(len(weights), 1 / len(weights)))
        )
    return torch.tensor(told, dtype=torch.float64), torch.stack(importance, 1)


def _disentanglement(importance: Tensor) -> float:
    total = importance.sum(1)
    rows = importance / total.clamp_min(1e-12)[:, None]
    return float((total / total.sum() * (1 - _entropy(rows, 1) / math.log(importance.shape[1]))).sum())


def _completeness(importance: Tensor) -> float:
    return float((1 - _entropy(importance, 0) / math.log(len(importance))).mean())


def _entropy(shares: Tensor, axis: int) -> Tensor:
    entropy: Tensor = -torch.special.xlogy(shares, shares).sum(axis)
    return entropy
