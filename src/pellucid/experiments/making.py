"""How a run was made, in words for its page."""

from __future__ import annotations

import platform

import torch

from pellucid import __version__
from pellucid.experiments.robustness import Found
from pellucid.reporting import numerals


def released(found: Found) -> str:
    """What the released settings would take."""
    n, s = found.get("released", "released"), found.settings
    if n is None:
        return ""
    return (
        "Greedy-AS with the settings of the released code (5,000 subsets a step, PGD of 100 steps with bisection) "
        f"would take about {numerals.seconds(float(n.values.mean()))} for the top 20 % of one digit: extrapolated in "
        f"proportion from one step of {s.released_subsets} subsets, timed on {numerals.plural(len(n.values), 'digit')}."
    )


def facts(found: Found, command: str) -> list[tuple[str, str]]:
    """Settings, departures, versions."""
    s = found.settings
    part = f", Greedy and One-step Banzhaf on {s.in_ablation} of them" if s.in_ablation < s.examples else ""
    said: dict[str, str] = {}
    said["Rows"] = (
        f"{found.about} The first {s.examples} of seed {s.seed}{part}; {numerals.percent(found.accuracy)} are read "
        "rightly. The predicted class is explained."
    )
    said["Model"] = (
        "The small network of pellucid.data.digits_cnn (two convolutions, 105,866 parameters, trained on 4,000 "
        "digits), not the paper's: compare ranks with the paper's, not areas."
    )
    said["Greedy-AS"] = (
        f"{s.subsets:,} subsets a step with inclusion .2 (the paper: 5,000), radii by a minimum-norm search of 15 "
        "steps, an intercept and a ridge penalty, which the released code has not. One-step Banzhaf: "
        f"{s.banzhaf:,} subsets."
    )
    said["Radii of scores"] = (
        f"The smaller of a minimum-norm search of 40 steps and PGD ({s.pgd_steps} steps, "
        f"{numerals.plural(s.restarts, 'try', 'tries')}), which confirms it just inside and bisects where it "
        "succeeds. Sets out of reach count as the largest distance in the box; their share is printed."
    )
    said["Areas"] = (
        f"Trapezoid over {', '.join(f'{size:g}' for size in s.sizes)} % of the pixels, the axis in percent points. "
        "Insertion and deletion read the logit of the predicted class."
    )
    said["Rankings"] = (
        "Grad and CFX by size, the others by signed value, as this library's methods declare; the released code "
        "takes absolute values. IG is multiplied by x - baseline, theirs is not; SHAP is a regression under the "
        "Shapley kernel with exact sums, theirs is not; BBMP ranks what has to be taken away, theirs what is kept."
    )
    said["Planted truth"] = (
        "Tagged digits: a mark of 4 x 4 pixels in a corner alone decides the class, and 8 of its pixels are lit. "
        "Chance is 2 %."
    )
    said["Randomised weights"] = (
        f"The last layer drawn once, the class held fixed, on {s.in_few} digits. Methods that explain the "
        "prediction itself (CFX, Greedy-AS) explain that of the random network. Of IG, LOO and SHAP four pixels in "
        "five are 0 before and after, since they are black, which by itself makes ranks agree."
    )
    said["Sensitivity"] = (
        f"Top 20 % at {s.neighbours} neighbours drawn uniformly within .1 in every pixel: the largest share not "
        f"kept, on {s.in_few} digits; every neighbour has random draws of its own."
    )
    said["Intervals"] = (
        "95 %, bootstrap over rows. Tests: paired t and Wilcoxon, both with Holm's correction over all tests of "
        "this page; win, draw and loss by the t-test, under 12 rows by the interval."
    )
    said["Made"] = (
        f"{command}\npellucid {__version__}, torch {torch.__version__.partition('+')[0]}, Python "
        f"{platform.python_version()}; {numerals.count(found.made)} pieces made in this call, in "
        f"{numerals.seconds(found.seconds)}; the others were in the store."
    )
    return list(said.items())
