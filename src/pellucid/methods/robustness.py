"""Recipes that optimise robustness: which features, kept as they are, protect the prediction?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pellucid.attack import pgd
from pellucid.attack.counterfactual import Counterfactual
from pellucid.attack.problem import Attack
from pellucid.core.method import Method
from pellucid.core.settings import checked
from pellucid.games.greedy import Greedy, GreedySets, Objective, OneStep


@checked
def greedy(
    criterion: str = "irrelevant",
    fraction: float = 0.3,
    step: float = 0.05,
    against: Any = None,
    attack: Attack | Sequence[Attack] | None = None,
    norm: float = 2,
) -> Method:
    """Which features protect the prediction when they are kept, chosen one by one?

    In each step every player i not yet chosen is tried with the set S so far, and the ``step`` best by v(S ∪ i) are
    added, until ``fraction`` of the players are chosen. v(S) is the smallest radius of an adversarial perturbation of
    the players outside S (``criterion`` "irrelevant", to be large) or of those in S ("relevant", to be small).
    ``step``: a share of the players or a number. ``against``: a class, for "why this and not that". ``attack``: finds
    the radii (None: ``minimum_norm(steps=15)``, or ``boundary()`` without gradients); ``norm`` 1, 2 or ∞. Two features
    that matter only together are missed: see ``greedy_as``. Returns rank scores in (0, 1], n distinct values, larger =
    more important under either criterion; ties of a step are broken by its score. ``details``: "chosen", "radius" of
    the set, "perturbation" with the set free, and "pertinent" (+1: the perturbation lowers the player's entries, so
    their presence matters; -1: it raises them, so their absence does). Cost: about n / step radii a row. Source:
    hsieh2021.
    """
    return Greedy(Objective(criterion, against, attack, norm), fraction, step)


@checked
def greedy_as(
    criterion: str = "irrelevant",
    fraction: float = 0.3,
    step: float = 0.05,
    subsets: int = 1000,
    inclusion: float = 0.2,
    against: Any = None,
    attack: Attack | Sequence[Attack] | None = None,
    norm: float = 2,
    intercept: bool = True,
    unreachable: float | str | None = None,
) -> Method:
    """Which features protect the prediction when they are kept, also those that do so only together?

    As ``greedy``, but each step draws ``subsets`` random sets of players not yet chosen (each player with probability
    ``inclusion``; all 2^n where they fit), values them together with the set so far, and adds the players with the
    largest slopes of a regression of v on presence: expected contributions, at inclusion ½ Banzhaf values. Departures
    from hsieh2021: an intercept, which the equation has and the released code has not; a ridge penalty chosen by
    leave-one-out error, since a thousand sets are few for 784 players; ``unreachable`` (None: the largest distance in
    the box) where no attack succeeds, which they count as ||x|| ("norm"). ``greedy_as_released`` keeps their settings.
    Returns and cost: as ``greedy``, with subsets x fraction / step radii a row. Source: hsieh2021.
    """
    objective = Objective(criterion, against, attack, norm, unreachable)
    return GreedySets(objective, fraction, step, subsets=subsets, inclusion=inclusion, intercept=intercept)


@checked
def greedy_as_released(
    criterion: str = "irrelevant", fraction: float = 0.5, subsets: int = 5000, steps: int = 100, against: Any = None
) -> Method:
    """``greedy_as`` with the settings of the code released with hsieh2021, kept to check published figures.

    ``subsets`` a step with inclusion .2, least squares without an intercept and without a penalty, radii by PGD of
    ``steps`` of length 1 on the plain logit with bisection from 10, ||x|| where no attack succeeds. Some hundred times
    slower than ``greedy_as``. Source: hsieh2021.
    """
    released = pgd(steps, loss="logit", step=1.0, start=10.0)
    objective = Objective(criterion, against, released, 2, "norm")
    return GreedySets(
        objective, fraction, 0.05, "greedy_as_released", subsets=subsets, inclusion=0.2, intercept=False, shrink=False
    )


@checked
def one_step_banzhaf(
    criterion: str = "irrelevant",
    fraction: float = 0.3,
    subsets: int = 2000,
    against: Any = None,
    attack: Attack | Sequence[Attack] | None = None,
    norm: float = 2,
    unreachable: float | str | None = None,
) -> Method:
    """How much does each feature protect the prediction, averaged over random sets of others?

    Slopes of one regression of v on presence over ``subsets`` sets with inclusion ½: the Banzhaf values of the
    robustness game, exact where all 2^n sets fit. v, criteria and arguments as for ``greedy_as``; no set is grown, so
    features that protect alike are all ranked high; ``fraction`` only says how many are called "chosen". Returns rank
    scores; details["scores"] holds the slopes, negated for "relevant". Cost: subsets radii a row. Source: hsieh2021.
    """
    objective = Objective(criterion, against, attack, norm, unreachable)
    return OneStep(objective, fraction, 1.0, subsets=subsets, inclusion=0.5)


@checked
def counterfactual_cfx(
    price: float = 0.05, against: Any = None, attack: Attack | Sequence[Attack] | None = None
) -> Method:
    """What is the nearest input of another class that differs in few features?

    min ||δ||₂² + price ||δ||₀ subject to: the class at x + δ is another (or ``against``), within the model's bounds.
    Solved over nested supports: the smallest perturbation of all players, then of the half that moved most, of the half
    of these, down to one; the best objective met is kept. ``price``: what one more changed player may cost in squared
    distance. Returns the change δ, (B, *dims), or summed over each player, (B, n), zero where nothing was found;
    ranked by size. ``details``: "found", "changed" (B, n), "radius" ||δ||₂. hsieh2021 compares with such a method and
    gives neither the solver nor a price: this is our choice, after wachter2018. Cost: about log2 n radii a row.
    """
    return Counterfactual(price, against, attack)
