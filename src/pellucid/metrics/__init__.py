"""Recipes for scores: how good is an explanation?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pellucid.attack.problem import Attack
from pellucid.attack.radius import pick
from pellucid.core import removal as absence
from pellucid.core.settings import checked
from pellucid.metrics.additivity import Infidelity, Prediction, SensitivityN
from pellucid.metrics.completeness import Completeness
from pellucid.metrics.labelled import Precision
from pellucid.metrics.metric import Metric
from pellucid.metrics.perturbation import FRACTIONS, Deletion, Insertion
from pellucid.metrics.randomisation import Randomisation
from pellucid.metrics.robustness import Irrelevant, Relevant
from pellucid.metrics.sensitivity import Sensitivity


@checked
def insertion(
    reference: Any = "uniform",
    read: str | None = None,
    grid: int | None = None,
    fractions: tuple[float, ...] = FRACTIONS,
) -> Metric:
    """Do the features that a method ranks first bring the prediction back?

    The top K features of x are put into a reference; the score is the mean height of f over K/n, and ``points`` the
    area from 5 % to 45 % with the axis in percent points (hsieh2021). Higher is better. ``reference``: a number, an
    array in input units, or a removal ("uniform" is drawn afresh for each row). ``read``: what of the output is
    watched, for all methods alike (None: what was explained). ``grid``: None ranks each method's own features (pixels
    with all channels, columns, players); an integer ranks the cells of a common grid x grid instead, so that a smooth
    method has no advantage. ``fractions``: sizes K/n to measure; with at most 20 features every size is measured. At K
    = n the curve is f(x). Cost: one forward for each size between 0 and 1, row and method. Sources: petsiuk2018,
    hsieh2021.
    """
    return Insertion(absence.of(reference), read, grid, tuple(fractions))


@checked
def deletion(
    reference: Any = "uniform",
    read: str | None = None,
    grid: int | None = None,
    fractions: tuple[float, ...] = FRACTIONS,
) -> Metric:
    """Does the prediction fall when the features that a method ranks first are taken away?

    As ``insertion``, with the top K features of x replaced by the reference; lower is better, and at K = n the curve is
    f(reference). Cost and sources as for ``insertion``.
    """
    return Deletion(absence.of(reference), read, grid, tuple(fractions))


def completeness() -> Metric:
    """Do the values add up to what they promise?

    |Σ values - (outputs - base_values)| / |outputs - base_values|; lower is better. A method that promises nothing is
    not scored, and one whose values add up by construction is marked so. Cost: none. Source: sundararajan2017.
    """
    return Completeness()


@checked
def value_error(samples: int = 128, removal: Any = 0.0, grid: int | None = None) -> Metric:
    """Do the values predict the output when any features are taken away?

    RMS of v(S) - (base + Σ_{i in S} φ_i) over ``samples`` fresh random S, divided by the standard deviation of v(S):
    0 is perfect, 1 what the best constant scores; lower is better. v(S) is the explained output with the features
    outside S removed (``removal``: a number, an array in input units, or a removal); every size of S from 1 to n - 1
    is as likely. base is the explanation's, else v(∅). ``grid`` as for ``insertion``. Slopes (of methods ranked by
    absolute value) are multiplied by the step from the stand-in to x. Cost: samples forwards a row and stand-in, shared
    by methods with the same features. Source: ribeiro2016 (fidelity of a surrogate).
    """
    return Prediction(samples, absence.of(removal), grid)


@checked
def sensitivity_n(n_sizes: int = 8, samples: int = 32, removal: Any = 0.0, grid: int | None = None) -> Metric:
    """Does the output fall the more, the larger the values of the features taken away?

    The correlation of Σ_{i in T} φ_i with f(x) - f(x without T) over ``samples`` random T of one size (all there are,
    where they are fewer), averaged over ``n_sizes`` sizes from 1 to 80 % of the features, evenly spaced on a
    logarithmic scale; higher is better, 1 is perfect, 0 what a random explanation scores in the mean. Sizes at which
    the output never changes are left out. ``removal``, ``grid``, slopes as for ``value_error``. Cost: n_sizes x samples
    forwards a row and stand-in, shared by methods with the same features. Source: ancona2018.
    """
    return SensitivityN(samples, absence.of(removal), grid, n_sizes)


@checked
def infidelity(samples: int = 128, removal: Any = 0.0, grid: int | None = None) -> Metric:
    """Do the values say how much the output falls when a square of the picture is taken away?

    E (c Σ_{i in T} φ_i - (f(x) - f(x without T)))² / E (f(x) - f(x without T))², with T a square of any side up to half
    the picture (of other inputs, features of any number), and c >= 0 the scale that fits best, since maps have units
    of their own; lower is better, 0 is perfect, 1 is what the zero map scores and what points the wrong way (any
    positive map scores less, since larger squares lose more). ``removal``, ``grid``,
    slopes as for ``value_error``. Cost: samples forwards a row and stand-in, shared by methods with the same features.
    Source: yeh2019, their removal of squares with their scaling, relative to the zero map; theirs lets c be negative.
    """
    return Infidelity(samples, absence.of(removal), grid)


@checked
def robustness_irrelevant(
    fractions: tuple[float, ...] | None = None,
    grid: int | None = None,
    norm: float = 2,
    against: Any = None,
    method: Attack | Sequence[Attack] | None = None,
) -> Metric:
    """With the features that a method ranks first held fixed, how large must a change of the others be?

    The mean, over K = 5 %, 10 %, ..., 45 % of the features (1 to 5 of at most 20), of the smallest ||δ|| that changes
    the prediction while the top K may not move; higher is better. It is the predicted class that is changed, right or
    wrong, whatever was explained; ``against``: the class to be reached instead, for all rows or one for each. One
    length measures all entries, so columns of a table should share a unit. ``points``: area with the axis in percent
    points (in features where they are few). ``fractions``: other sizes K/n. ``grid`` as for ``insertion``. ``norm``: 1,
    2 or math.inf. ``method``: an attack or several (None: ``attack.minimum_norm()``, confirmed just inside it by
    ``attack.pgd(restarts=10)``; ``attack.boundary()`` for a model without gradients).

    A set that no attack succeeds on counts as the largest distance that the model's bounds allow its free features
    (without bounds: 10 times the radius of all features together), and as no less than a larger free set of the same
    order took; ``censored`` is the share of such sets. What succeeds within a free set succeeds within a larger one, so
    radii that are found rise with K. ``within_gap`` marks methods so near that better attacks could change their order:
    how much the later attacks gained on the first, and the last 1 % that they were not asked about. A method that
    searches for this order is marked as matched. Cost: see the attacks, for each size, row and method; a set is
    attacked once for all methods. Source: hsieh2021 (Robustness-S̄r), who score with the attack that is searched with,
    and leave failures out.
    """
    return Irrelevant(_sizes(fractions), grid, norm, against, _attacks(method))


@checked
def robustness_relevant(
    fractions: tuple[float, ...] | None = None,
    grid: int | None = None,
    norm: float = 2,
    against: Any = None,
    method: Attack | Sequence[Attack] | None = None,
) -> Metric:
    """How small a change of nothing but the features that a method ranks first changes the prediction?

    As ``robustness_irrelevant``, with the top K features the only ones that may move; lower is better, and the curve
    falls. Cost likewise. Source: hsieh2021 (Robustness-Sr).
    """
    return Relevant(_sizes(fractions), grid, norm, against, _attacks(method))


@checked
def sensitivity(radius: float = 0.1, neighbours: int = 20, norm: float = 2, grid: int | None = None) -> Metric:
    """How much of what a method ranks first may change when the input hardly does?

    max over y of 1 - |Φ(y) ∩ Φ(x)| / |Φ(x)|, with Φ the top 20 % of the positions and ``neighbours`` points y drawn
    uniformly from the ball of ``radius`` in the ``norm`` (2 or math.inf) around x, then moved into the model's bounds;
    the class is held fixed. 0 is best, a constant explanation has it too. Neighbours are the same for all methods, and
    each is explained under a seed of its own: ``floor`` is the same with radius 0, 0 for methods without random draws,
    and what is above it is due to the input. A random order scores .85 with 20 neighbours. ``grid`` as for
    ``insertion``. Only ``compare`` can ask it, since the method is run again. Cost: neighbours + 1 explanations a row
    (twice that with random draws). Source: hsieh2021 (Eq. 12, whose sign is corrected; norm and number are ours), after
    yeh2019.
    """
    return Sensitivity(radius, neighbours, norm, grid)


@checked
def parameter_randomisation(kind: str = "last", draws: int = 1, stages: int = 10) -> Metric:
    """Does the map change when what the model has learned is replaced by random numbers?

    Spearman's rank correlation of the positions' scores with those under weights drawn afresh from each layer's own
    initialiser, the class held fixed; lower is better, 1 means that the weights do not matter. ``kind``: "last" layer;
    "cascading", from the last to the first and what was drawn stays; "independent", one layer at a time. The last two
    give the mean over at most ``stages`` stages spread evenly over the layers, and a curve over depth (the share of the
    layers from the last to the one drawn). ``draws`` of the weights are averaged. Layers are in order of registration.
    Only ``compare`` can ask it, since the method is run again. Cost: stages x draws explanations a row. Source:
    adebayo2018, which lets the class follow the random network.
    """
    return Randomisation(kind, draws, stages)


@checked
def precision_at_k(truth: Any, k: tuple[int, ...] = (1, 2, 3, 4, 5)) -> Metric:
    """How many of the features that a method ranks first are the ones that people marked, or that were planted?

    The share of the top k features that are marked, averaged over ``k`` (mAP, as hsieh2021 calls it); the curve holds
    each k. Higher is better. ``truth``: (B, ...) bool, one mask a row over the explanation's own features (players) or
    the positions of the input (pixels, tokens, columns). Ties count by chance; a row without a mark has no number.
    Cost: none. Source: hsieh2021.
    """
    return Precision(truth, tuple(k))


def _sizes(fractions: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if fractions is None else tuple(fractions)


def _attacks(method: Attack | Sequence[Attack] | None) -> tuple[Attack, ...] | None:
    return None if method is None else pick(method, True)


CATALOGUE = (
    insertion,
    deletion,
    completeness,
    value_error,
    sensitivity_n,
    infidelity,
    robustness_irrelevant,
    robustness_relevant,
    sensitivity,
    parameter_randomisation,
    precision_at_k,
)
"""Every metric recipe."""
DEFAULT = (insertion, deletion, completeness)
"""What ``evaluate`` asks where nothing is named."""

__all__ = [
    "CATALOGUE",
    "DEFAULT",
    "completeness",
    "deletion",
    "infidelity",
    "insertion",
    "parameter_randomisation",
    "precision_at_k",
    "robustness_irrelevant",
    "robustness_relevant",
    "sensitivity",
    "sensitivity_n",
    "value_error",
]
