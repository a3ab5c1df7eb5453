"""What features that have a meaning come to, in sentences: what all inputs rest on, and how far to rely on that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pellucid.core.explanation import Explanation
from pellucid.reporting import figures, numerals, spectrum, surfaces
from pellucid.reporting.sentences import Part, Sentence, joined, say

NAMED = 3
"""Features that a sentence names at most."""


def findings(whole: Mapping[str, Explanation], spectral: bool) -> list[Sentence]:
    """What all inputs together rest on."""
    found = [s for e in whole.values() for s in (_leading(e), parting(e) if spectral else None)]
    return [s for s in found if s is not None]


def notes(local: Mapping[str, Explanation], whole: Mapping[str, Explanation]) -> list[Sentence]:
    """How far the figures can be relied on."""
    found = [*(_sums(e) for e in whole.values()), _gap([*local.values(), *whole.values()]), _covers(local, whole)]
    return [s for s in found if s is not None]


def _leading(e: Explanation) -> Sentence | None:
    """Which features all data rest on, and which have nothing."""
    values, errors = surfaces.in_order(e, 0)
    if errors is None or not np.isfinite(errors).all():
        return None
    names = surfaces.feature_names(e)
    if spectrum.is_spectrum(e) and len(values) <= spectrum.MOST_RINGS:
        found = spectrum.rings(e, values, errors)
        values, errors = found.values, found.errors if found.errors is not None else errors
        names = tuple(spectrum.band(found, i) for i in range(len(values)))
    clear = [i for i in np.argsort(-np.abs(values), kind="stable").tolist() if abs(values[i]) > 1.96 * errors[i] > 0]
    none = [names[i] for i in range(len(values)) if values[i] == 0 and errors[i] == 0]
    nothing = say("; exactly nothing on {names}", names=joined(Part(n) for n in none)) if none else ()
    if not clear:
        return say("Over all inputs no feature stands out from the noise of sampling{nothing}.", nothing=nothing)
    shown = len(clear) if len(clear) == NAMED + 1 else min(NAMED, len(clear))  # one more is as short as its count
    told = joined(_estimate(names[i], float(values[i]), float(errors[i])) for i in clear[:shown])
    more = len(clear) - shown
    rest = f" and, less, on {numerals.plural(more, 'other')}" if more > 0 else ""
    return say(
        "Over all inputs the true class's score rests most on {told}{rest}{nothing}.",
        told=told,
        rest=rest,
        nothing=nothing,
    )


def _estimate(name: str, value: float, error: float) -> Part:
    mean, low, high = numerals.estimate(value, value - 1.96 * error, value + 1.96 * error)
    return Part(f"{name} ({mean}, {low} to {high})")


def parting(e: Explanation) -> Sentence | None:
    """How much coarse and fine frequencies have, with errors over the inputs."""
    local = e.details.get("local") or {}
    each = local.get("values")
    if each is None or np.ndim(each) != 2 or len(each) < figures.FEWEST_ROWS:
        return None
    each = np.asarray(each, dtype=np.float64)
    count, edge = spectrum.split(spectrum.rings(e, each.mean(0), None))
    sums = np.stack([spectrum.rings(e, one, None).values for one in each])
    told = []
    for part in (sums[:, :count].sum(1), sums[:, count:].sum(1)):
        mean, low, high = numerals.estimate(*figures.paired_interval(part))
        told.append(f"{mean} ({low} to {high})")
    difference = figures.paired_interval(sums[:, :count].sum(1) - sums[:, count:].sum(1))
    luck = "" if difference[1] > 0 or difference[2] < 0 else "; the difference may be luck"
    far = f"{1 / edge:.2g}"
    return say(
        "Coarse frequencies (periods over {far} pixels) have {coarse} of it, fine ones {fine}{luck}.",
        far=far,
        coarse=told[0],
        fine=told[1],
        luck=luck,
    )


def _sums(e: Explanation) -> Sentence | None:
    """The sum rule of a global explanation."""
    rule = e.details.get("sum_rule")
    if not isinstance(rule, Mapping):
        return None
    outputs, base = float(rule["outputs"]), float(rule["base"])
    missed, error = float(rule["difference"]), float(rule.get("std_error", math.nan))
    spread = f" ± {numerals.figure(1.96 * error, 2)}" if math.isfinite(error) else ""
    if abs(missed) < 1e-9 * max(1.0, abs(outputs)) and not error > 1e-9:
        left = ", exactly"
    else:
        regressed = e.residual is not None and float(np.max(e.residual)) < abs(missed)
        told = f"{numerals.figure(missed, 2)}{spread}"
        left = (
            f"; as sampled they missed it by {told}, which was regressed out"
            if regressed
            else f"; they miss it by {told}"
        )
    return say(
        "The values over all inputs add up ([[sum rule]]) to {gained}: the score of the true class, {outputs}, less "
        "{base}, what it gets where labels and inputs are paired at random{left}.",
        gained=numerals.figure(outputs - base),
        outputs=numerals.figure(outputs),
        base=numerals.figure(base),
        left=left,
    )


def _gap(each: Sequence[Explanation]) -> Sentence | None:
    """How far what is explained is from what the model says of the input itself."""
    if all((e.details.get("space") or {}).get("exact") for e in each):
        return say("The way into these features and back is exact: nothing is lost.") if each else None
    known = [e for e in each if e.details.get("reconstruction_gap") is not None]
    if not known:
        return None
    gaps = np.concatenate([np.asarray(e.details["reconstruction_gap"], dtype=np.float64).reshape(-1) for e in known])
    worst = float(np.abs(gaps).max())
    if worst == 0:
        return say("[[Reconstruction|reconstruction gap]] changes no output here: nothing is lost on the way.")
    return say(
        "What is explained is the output at the input's [[reconstruction|reconstruction gap]], which differs from the "
        "output at the input itself by {mean} on average and {worst} at most.",
        mean=numerals.figure(float(np.abs(gaps).mean()), 2),
        worst=numerals.figure(worst, 2),
    )


def _covers(*kinds: Mapping[str, Explanation]) -> Sentence | None:
    """Which randomness the whiskers count."""
    told = []
    for each, of in zip(kinds, ("one input", "all inputs"), strict=True):
        said = sorted({str(e.details["std_error_covers"]) for e in each.values() if e.details.get("std_error_covers")})
        told += [f"{' and '.join(said)} (of {of})"] if said and not said[0].startswith("nothing") else []
    return say("Whiskers are 95 % intervals that count {what}.", what="; ".join(told)) if told else None
