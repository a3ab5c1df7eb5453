"""Attacks on a prediction: how small a change of some features changes it, found from above or proven from below."""

from __future__ import annotations

from pellucid.attack.boundary import Boundary
from pellucid.attack.certified import Certified
from pellucid.attack.minimum import MinimumNorm
from pellucid.attack.pgd import PGD
from pellucid.attack.problem import Attack
from pellucid.attack.radius import Radius, minimal_radius
from pellucid.core.settings import checked


@checked
def minimum_norm(steps: int = 40) -> Attack:
    """Which perturbation is the smallest? A direct search, without guessing a radius first.

    The smaller of two, bisected towards the input. One is the nearest of the planes on which one of the 9 strongest
    rivals draws level, within the box, by the slopes at the input (croce2020): for a linear model, the answer. The
    other is met on a walk from the input along the slope of the margin, on a ball that shrinks where the prediction has
    changed and grows where it has not (rony2019, pintor2021); its first step is tiny and random, so that a tie of two
    ways is broken. Norms 1, 2 and ∞. Cost: up to 9 backwards a row, steps forwards and backwards and up to 13 forwards
    a problem, on digits 8.
    """
    return MinimumNorm(steps)


@checked
def pgd(
    steps: int = 100, restarts: int = 1, loss: str = "margin", step: float | None = None, start: float = 10.0
) -> Attack:
    """The attack that hsieh2021 evaluates with: projected gradient ascent at a fixed radius, the radius bisected.

    From ``start`` the radius is divided or multiplied by 10 until one try has succeeded and one has failed, then
    bisected to 1e-3. A radius that an attack before it has found is only confirmed: PGD tries 1 % inside it; what
    succeeds there is walked towards the input as by ``minimum_norm`` and tried again, until all tries fail. ``loss``:
    "margin" (max_{j ≠ y} z_j - z_y), "logit" (-z_y, as released: it cannot see a feature that only raises a rival) or
    "ce". ``step``: length of a step (None: 2.5 radius / steps; released: 1). ``restarts``: tries, the first from the
    input, the others, together, from points drawn uniformly from the ball of the free features. A problem is solved
    with the first iterate that changes the prediction (released: the last one only). On the margin, with no ``step``
    given, a try ends when at its pace of the last 5 steps the steps that are left do not reach the boundary: progress
    within a ball slows down, and of 47 successful tries in 324 on digits none would have ended so.
    Cost: up to 25 x restarts x steps forwards and backwards a problem.
    """
    return PGD(steps, restarts, loss, step, start)


@checked
def boundary(budget: int = 1000) -> Attack:
    """How small a perturbation changes the prediction of a model that gives predictions only: a forest, k nearest
    neighbours, any callable on numpy?

    Changed predictions are found by moving one feature at a time (a quarter of the budget; three quarters where only
    one is free, which is then nearly exact) and by random draws, in the box or, without one, ever farther away. The
    smallest is then reduced: shorter; with random groups of features back at their values, which costs a tree nothing;
    to the nearest point of the plane whose slope is estimated from up to 64 predictions around it (chen2020); and by
    random steps sideways and inwards (brendel2018). Where class scores are more than labels, differences of the margin
    are used, so that a linear model with up to 64 free features is solved in one step. Norms 1, 2 and ∞. Draws are
    keyed by row and mask. Cost: at most ``budget`` forwards a problem, fewer where three rounds bring less than 0.1 %.
    """
    return Boundary(budget)


@checked
def certified(rounds: int = 10) -> Attack:
    """Below which radius is it proven that no perturbation changes the prediction?

    The model is read off one call, operation by operation and with its preprocessing: linear and convolutional layers,
    BatchNorm, ReLU and its kin (leaky, ReLU6, clamp), average and max pooling, sums, selections, flatten; any other is
    refused by name. Over a ball in the box, every rival's lead is bounded by a linear function of the perturbation
    (zhang2018: backwards from the outputs, ReLUs between two lines), which proves the distance to its plane, as far as
    the ball reaches; ``rounds`` balls are tried. Layers of up to 512 entries are bounded backwards too; larger ones
    forwards, by intervals met with the spectral norms of the layers before (of a convolution, that of the circulant
    one), which is looser. Exact for linear models.

    Computed in float64 from the weights as stored, for exact arithmetic: a rival must stay behind by 1e-9 of the
    outputs and the radius is shrunk by 1e-7; the model's own rounding in float32 is not covered. It only raises
    ``lower``: ask for it after an attack, ``method=[attack.minimum_norm(), attack.certified()]``, for a bracket. More
    free features never raise the true radius; of this bound that holds to a few %. Norms 1, 2 and ∞. Cost: five
    forwards in all, no backwards; as much time a problem as some hundred backwards a round (0.3 s for the digits
    network in all, whose bounds are about 5 % of an attack's radius in norm 2 and 20 % in norm ∞).
    """
    return Certified(rounds)


__all__ = ["Attack", "Radius", "boundary", "certified", "minimal_radius", "minimum_norm", "pgd"]
