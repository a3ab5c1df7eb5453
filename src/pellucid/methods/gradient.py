"""Recipes that average gradients."""

from __future__ import annotations

from typing import Any

from pellucid.core import removal
from pellucid.core.method import Method
from pellucid.core.settings import checked
from pellucid.gradients import curves
from pellucid.gradients.paths import Gradient, PathIntegral
from pellucid.gradients.samples import Expected, Smoothed
from pellucid.gradients.spread import Varied


def saliency() -> Method:
    """How fast the output changes when one entry of the input moves a little.

    s_i = ∂f/∂z_i at x, with its sign; ranked by absolute value, since the sign of a slope says which way, not whether.
    Returns values like z. Promises nothing about sums. Cost: 1 forward and 1 backward a row and output.
    Departure: the paper takes the absolute value and the maximum over channels; here the sign is kept and plots decide.
    Source: simonyan2014.

    >>> import torch, pellucid
    >>> net = torch.nn.Linear(2, 1, bias=False).eval()
    >>> pellucid.explain(net, torch.ones(1, 2), saliency(), target=0).values.shape
    (1, 2)
    """
    return Gradient("saliency")


def input_x_gradient() -> Method:
    """How much each entry contributes to a linear approximation of the output at x.

    s_i = z_i ∂f/∂z_i. Returns values like z; they sum to f(x) only where f is linear through the origin, so nothing is
    promised. Cost: 1 forward and 1 backward a row and output. Source: shrikumar2016.
    """
    return Gradient("input_x_gradient", times_input=True)


@checked
def integrated_gradients(
    steps: int = 64, baseline: Any = 0.0, rule: str = "gauss_legendre", tolerance: float | None = None
) -> Method:
    """How much each entry adds to f on the straight way from a baseline to x.

    IG_i = (z_i - b_i) ∫₀¹ ∂f/∂z_i (b + α (z - b)) dα, by quadrature; Σ IG = f(x) - f(b), and the residual says how
    nearly.

    ``steps``: gradient evaluations a row (with ``tolerance``: in each panel). ``baseline``: a number, an array, or a
    removal; with several stand-ins (a background) their integrals are averaged. ``rule``: "gauss_legendre" (exact for
    polynomial gradients), "trapezoid" (the authors' code), "left", "right". ``tolerance``: bisect the path, doubling
    the panels, until the residual and the largest change of a value are both under tolerance x |f(x) - f(b)|, at most
    4,096 evaluations a row and baseline; rows that do not get there raise ``Unreliable``. Returns values like z. Cost:
    steps forwards and backwards a row and output. Source: sundararajan2017.

    >>> import torch, pellucid
    >>> e = pellucid.explain(lambda x: x[:, 0] * x[:, 1], torch.tensor([[3.0, 2.0]]), integrated_gradients(steps=4))
    >>> e.values.round(4).tolist()  # the product is shared equally
    [[3.0, 3.0]]
    """
    return PathIntegral(steps, removal.of(baseline), rule, tolerance)


@checked
def path_integrated_gradients(path: Any = "straight", steps: int = 64) -> Method:
    """How much each entry adds to f on a way of your choice from a baseline to x.

    PG_i = ∫ ∂f/∂z_i dγ_i along γ, as Σ_j ∂f/∂z_i (middle of piece j) (γ_{j+1} - γ_j)_i; Σ PG = f(x) - f(γ(0)), and the
    residual says how nearly.

    ``path``: "straight", "axis_order" or "blur" (see ``pellucid.curves`` for their options), or a function (z,
    baseline, alpha) that gives z at alpha = 1. ``steps``: pieces of the path, a gradient each. The values depend on
    the path; the straight one alone treats interchangeable entries alike. Returns values like z. Cost: steps forwards
    and backwards a row, output and baseline. Sources: friedman2004, sundararajan2017.

    >>> import torch, pellucid
    >>> from pellucid import curves
    >>> x = torch.tensor([[3.0, 2.0]])
    >>> e = pellucid.explain(lambda x: x[:, 0] * x[:, 1], x, path_integrated_gradients(curves.axis_order()))
    >>> e.values.round(4).tolist()  # the product is credited to the feature that moves last
    [[0.0, 6.0]]
    """
    return curves.CurveIntegral(curves.of(path), steps)


@checked
def expected_gradients(background: Any, samples: int = 200) -> Method:
    """How much each entry adds to f on the way from a typical input to x.

    EG_i = E[(z_i - b_i) ∂f/∂z_i (b + α (z - b))] with b drawn from ``background`` (R, ...) and α from U(0, 1); Σ EG =
    f(x) - E f(b) in expectation. ``samples``: draws a row; from 2 R on, every background row gets its share of them.
    Returns values and standard errors like z. Cost: samples forwards and backwards a row and output, and R forwards.
    Source: erion2021.
    """
    if not isinstance(background, removal.Marginal):
        background = removal.rows_of(background, "expected_gradients")
    return Expected(background, samples)


@checked
def smooth_grad(samples: int = 50, sigma: float = 0.15) -> Method:
    """The slope of the output averaged over a neighbourhood of x, which removes shattered detail.

    s_i = mean over k of ∂f/∂z_i (z + ε_k), ε_k ~ N(0, (sigma x (max z - min z))²) for each row. Returns values (signed)
    and standard errors like z. Cost: samples forwards and backwards a row and output. Source: smilkov2017.
    """
    return Smoothed(samples, float(sigma))


@checked
def var_grad(samples: int = 50, sigma: float = 0.15) -> Method:
    """Where the slope of the output changes most around x: curvature, blind to what is linear.

    s_i = variance over k of ∂f/∂z_i (z + ε_k), ε_k ~ N(0, (sigma x (max z - min z))²) for each row, with n - 1 in the
    denominator. Zero where f is linear in entry i and alone. Returns values >= 0 and jackknife standard errors like z;
    the entries of a player are summed before their variance is taken. Cost: samples (at least 3 for an error) forwards
    and backwards a row and output. Sources: adebayo2018local, seo2018.
    """
    return Varied(samples, float(sigma))
