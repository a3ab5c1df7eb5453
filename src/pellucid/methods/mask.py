"""Recipes for masks found by gradient descent."""

from __future__ import annotations

from typing import Any

from pellucid.core import removal as absence
from pellucid.core.method import Method
from pellucid.core.settings import checked
from pellucid.gradients.mask import Mask, ReleasedMask, SmallBlur


@checked
def meaningful_perturbation(
    steps: int = 150, area: float = 0.5, smoothness: float = 0.2, removal: Any = "blur"
) -> Method:
    """What is the least that has to be taken away for the output to fall?

    min_m area mean(1 - m) + smoothness TV(m) + p(m z + (1 - m) absent), TV = Σ over axes of mean |m - neighbour|³, by
    Adam (rate 0.1) with m kept in [0, 1]; the importance is 1 - m. p is the probability of the explained class; of
    plain values, the output as a share of its fall from x to where everything is absent.

    ``steps`` of the descent. ``area``: the price of taking everything away, in probability. ``smoothness``: the price
    of rough masks. ``removal``: what absent parts become. Pictures and signals have a coarse mask (a cell for every 8
    pixels, at least 7 a side), enlarged; players one entry each; else one for each position. Returns values in [0, 1],
    (B, H, W), (B, T), (B, F) or (B, n); ``details`` hold the score at x and under the mask. Promises nothing about
    sums. Cost: steps forwards and backwards a row and output. Source: fong2017 (with its random shifts, of up to 4 in
    224 pixels); departure: the descent starts with everything absent, since at x a sure model's probability is flat;
    on digits it ends at a quarter of the loss reached from m = 0.5.
    """
    return Mask(steps, float(area), float(smoothness), absence.of(removal))


@checked
def meaningful_perturbation_as_released(steps: int = 1000) -> Method:
    """The loss that the code released with hsieh2021 calls BBMP, kept to check published figures: do not use it.

    min_m 10 mean(m) + 0.01 TV(m) + y(m z + (1 - m) blurred + noise), from m = 1 at full size, by ``steps`` of Adam
    (rate 0.1), with standard normal noise in every step and an 11 x 11 blur of sigma 5; m itself is taken for the
    importance. Both main terms push m to 0, so what stays marks pixels whose presence *lowers* the output; on digits
    with a planted tag its top pixels miss the tag. Returns values in [0, 1]. Cost: steps forwards and backwards a row
    and output. Source: hsieh2021.
    """
    return ReleasedMask(steps, 10.0, 0.01, SmallBlur())
