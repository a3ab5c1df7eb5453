"""Recipes that cover, mask or vary parts of an input many times and look at the output: occlusion, RISE, LIME."""

from __future__ import annotations

from typing import Any

from pellucid.core import removal as absence
from pellucid.core.method import Method
from pellucid.core.settings import checked
from pellucid.games.bins import Tabular
from pellucid.games.masks import Masks
from pellucid.games.surrogate import Lime
from pellucid.games.windows import Occlusion

Extent = int | tuple[int, ...]


@checked
def occlusion(window: Extent | None = None, stride: Extent | None = None, removal: Any = 0.0) -> Method:
    """How much the output falls when a window over the input is covered.

    φ_p = mean over the windows w that cover position p of v(all) - v(all but w), where v is f with the absent entries
    replaced. ``window``: its size in positions (pixels, tokens, time steps), a whole number or one for each axis, all
    channels together (None: an eighth of every axis of a picture or signal, else one position). ``stride``: its step
    (None: the window, so that windows do not overlap). ``removal``: a number, an array or a removal. Windows start at
    position 0; the last one on an axis is cut off at the border, so that every position is covered. Every channel of
    a position has its value, as in captum; ``map()`` sums them. Promises nothing about sums. Returns values like z.
    Cost: one evaluation for each window, and one, a row and stand-in. Source: zeiler2014.

    >>> import torch, pellucid
    >>> signal = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    >>> pellucid.explain(lambda x: x.sum((1, 2)), signal, occlusion(2)).values.tolist()
    [[[3.0, 3.0, 7.0, 7.0, 5.0]]]
    """
    return Occlusion(_sizes(window), _sizes(stride), absence.of(removal))


@checked
def rise(budget: int = 4000, cells: int = 7, keep: float = 0.5, removal: Any = 0.0) -> Method:
    """What does the model say on average where a position can be seen?

    S(λ) = E[f(M) M(λ)] / E[M(λ)] over random soft masks M in [0, 1], f(M) the output at the input masked by M. Of
    pictures and signals a mask is a grid of ``cells`` cells an axis, each 1 with probability ``keep``, enlarged by
    linear interpolation and shifted at random by under one cell; elsewhere, and where players are given, each position
    or player is kept with probability ``keep`` on its own. ``budget``: masks a row. ``removal``: what shows through the
    mask, such as 0 or ``removal.blur()``.

    Values have the scale of f: a constant c explains as c everywhere. With independent masks and linear f = Σ g M they
    are keep Σ g + (1 - keep) g(λ). Nothing is promised about sums. Returns values and standard errors (B, height,
    width), (B, time), (B, features) or (B, n), and ``details["mean_output"]``, E[f(M)]. Errors are those of a ratio of
    means, linearised. Cost: budget evaluations a row; masks are never held beyond a chunk.

    Source: petsiuk2018. Departures: the denominator is the mean mask at each position, where the paper has ``keep``
    (its variance is smaller, and a constant comes out as such); f is what the target reads, where the paper has the
    probability, ``Target(read="prob")``.
    """
    return Masks(budget, cells, keep, absence.of(removal))


@checked
def lime(
    budget: int = 1000, width: float = 0.25, alpha: float = 1.0, distance: str = "cosine", removal: Any = 0.0
) -> Method:
    """Which linear function of the players' presence agrees best with the model near the input?

    min over β, b of Σ π(s) (v(s) - b - β·s)² + alpha |β|² over random coalitions s (each player in with probability
    1/2, and everybody once), π = sqrt(exp(-d² / width²)), with d the "cosine" or "euclidean" ``distance`` of s from
    everybody. ``budget``: coalitions a row; with all 2^n of them the fit is exact for the kernel. ``removal``: what
    absent players become: a number, "mean", the id of a mask token. Without players a picture is divided into about 50
    superpixels, whose coefficients are spread over their pixels, and anything else into its positions.

    Returns the coefficients β, (B, n) or like z, with standard errors (of the draw of coalitions, not of the misfit),
    ``base_values`` b, and ``details["r2"]``, the weighted R². Nothing is promised about sums. Where v is additive, β
    goes to its terms as alpha / budget goes to 0. At most 1,000 players. Cost: budget evaluations a row. Source:
    ribeiro2016. Departures: SLIC for quickshift; no selection of few features; words, too, are drawn by 1/2.
    """
    return Lime(budget, float(width), float(alpha), distance, absence.of(removal))


@checked
def lime_tabular(
    background: Any, budget: int = 5000, discretise: bool = True, width: float | None = None, alpha: float = 1.0
) -> Method:
    """LIME for tables: which columns, by staying near the row's value, hold the output where it is?

    As ``lime``, but samples come from the ``background`` (R, F), column by column: with ``discretise`` a quartile bin
    by its frequency and a normal value cut to it, and the regression is on "in the same bin as the row" (0 or 1);
    without, normal values around the background's mean (not around the row), and the regression is on standard
    deviations. Columns of categories are always drawn by frequency and compared. π = sqrt(exp(-d² / width²)) with d the
    Euclidean distance in these coordinates, ``width`` None: 0.75 √F. ``budget``: samples, the row itself included.

    Returns coefficients and standard errors (of the draw of samples) (B, F), ``base_values`` the intercept, and
    ``details["r2"]``. Nothing is promised about sums, and the width decides what is explained: with the usual one f =
    2 x₂² for x₁ > 0, else -x₂², has slope 1 in x₂ at (-0.001, 1), where the gradient is -2 (normal samples around
    that point, no bins). Cost: budget + B evaluations in all, since samples do not depend on the row, and all rows
    share them. Source: ribeiro2016. Departures: all columns are kept (no selection of ten); a column's distribution is
    represented by at least 1,024 equally likely points; a constant column stays constant.
    """
    rows = background if isinstance(background, absence.Marginal) else absence.rows_of(background, "lime_tabular")
    return Tabular(rows, budget, discretise, None if width is None else float(width), float(alpha))


def _sizes(extent: Any) -> Any:
    return tuple(extent) if isinstance(extent, list) else extent
