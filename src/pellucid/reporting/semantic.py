"""Features that have a meaning: frequencies, latents, attributes; one input beside all data, and what a feature does as
it moves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.explanation import Explanation
from pellucid.reporting import figures, gallery, numerals, pictures, ranking, spectrum, surfaces
from pellucid.reporting.references import display
from pellucid.reporting.sentences import Part, Sentence, joined, say

Array = np.ndarray[Any, Any]

SHOWN = 4
"""Inputs side by side."""
MAPS = 2
"""Maps of pixels that stand beside them."""
MOST = 14
"""Features that are drawn as bars, the ones with the largest |value|."""
STOPS = 8
"""Pictures of a traversal."""
THUMB = 64
"""Pixels along the longer side of one of them."""
NAMED = 3
"""Features that a sentence names at most."""

TITLES = {
    "fourier": "Frequencies",
    "decoder": "Latent features",
    "attributes": "Attributes",
    "layer": "Units of a layer",
    "chain": "Coordinates",
}


@dataclass(frozen=True)
class Chart:
    """Values of one input, or of all: bars, or a spectrum."""

    words: str
    bars: tuple[figures.Bar, ...] = ()
    spectrum: spectrum.Spectrum | None = None
    note: str = ""


@dataclass(frozen=True)
class Subject:
    """What a column of the table is about: one input, or (no photo) all of them."""

    name: str
    prediction: gallery.Prediction | None
    photo: pictures.Picture | None
    told: str = ""


@dataclass(frozen=True)
class Line:
    """A line of the table: a method's values, maps of pixels, or parts of the input, one a column (None: empty)."""

    title: str
    method: str
    kind: str
    cells: tuple[Chart | gallery.Tile | pictures.Picture | None, ...]


@dataclass(frozen=True)
class Stop:
    """A picture on a feature's way, what the model says there in words and in percent of the way's range, and whether
    it is where the input itself stands."""

    picture: pictures.Picture | None
    value: str
    output: str
    level: float
    here: bool


@dataclass(frozen=True)
class Sweep:
    """One feature on its way."""

    name: str
    effect: str
    stops: tuple[Stop, ...]
    words: str


@dataclass(frozen=True)
class Walk:
    """Every feature of one input on its way."""

    name: str
    output: str
    sweeps: tuple[Sweep, ...]
    pictured: bool


@dataclass(frozen=True)
class Meaning:
    """One space: columns of inputs beside all of them, sentences on what they say, and walks."""

    key: str
    title: str
    spectral: bool
    names: tuple[str, ...]
    left: int
    scale: str
    subjects: tuple[Subject, ...]
    lines: tuple[Line, ...]
    findings: tuple[Sentence, ...]
    notes: tuple[Sentence, ...]
    walks: tuple[Walk, ...]


def parts(comparison: Comparison) -> tuple[Comparison, dict[str, Explanation]]:
    """The comparison without explanations in features that have a meaning, and those."""
    named = {label: e for label, e in comparison.explanations.items() if surfaces.named(e)}
    plain = {label: e for label, e in comparison.explanations.items() if label not in named}
    return (comparison if not named else replace(comparison, explanations=plain)), named


def meanings(comparison: Comparison, anchor: str) -> tuple[Meaning, ...]:
    """A part for each space that explanations of the comparison live in."""
    plain, named = parts(comparison)
    groups: dict[tuple[Any, ...], dict[str, Explanation]] = {}
    for label, e in named.items():
        if e.details.get("pertinent") is not None:
            continue  # what was chosen is told by name; ranks have no height
        groups.setdefault(home(e), {})[label] = e
    return tuple(
        _meaning(comparison, plain.explanations, group, f"{anchor}-space-{i + 1}")
        for i, group in enumerate(groups.values())
    )


def home(e: Explanation) -> tuple[Any, ...]:
    """What explanations have in common whose features are the same."""
    space = e.details.get("space") or {}
    return space.get("name"), surfaces.feature_names(e)


def _meaning(
    comparison: Comparison, plain: Mapping[str, Explanation], group: Mapping[str, Explanation], key: str
) -> Meaning:
    whole = {label: e for label, e in group.items() if surfaces.whole(e)}
    local = {label: e for label, e in group.items() if label not in whole}
    first = next(iter(group.values()))
    spectral = spectrum.is_spectrum(first)
    rows = range(min(max((len(e) for e in local.values()), default=0), SHOWN))
    every = surfaces.feature_names(first)
    names = every if spectral else _largest(group, every)
    shown = [_values(e, i) for e in local.values() for i in rows] + [_values(e, 0) for e in whole.values()]
    ends = [_ends(first, *pair, spectral) for pair in shown]
    low, high = min((a for a, _ in ends), default=0.0), max((b for _, b in ends), default=0.0)
    # one column for all inputs, where they were explained together, then one for each
    subjects = tuple(_everything(e) for e in list(whole.values())[:1])
    subjects += tuple(_subject(comparison, next(iter(local.values())), i) for i in rows)
    return Meaning(
        key,
        TITLES.get(str((first.details.get("space") or {}).get("name")), "Features"),
        spectral,
        () if spectral else names,
        len(every) - len(names),
        f"from {numerals.figure(low, 2)} to {numerals.figure(high, 2)}"
        if low < 0
        else f"up to {numerals.figure(high, 2)}",
        subjects,
        tuple(_lines(comparison, plain, local, whole, rows, names, (low, high), spectral)),
        tuple(_findings(whole, spectral)),
        tuple(_notes(local, whole)),
        tuple(_walks(comparison, local)),
    )


def _largest(group: Mapping[str, Explanation], every: tuple[str, ...]) -> tuple[str, ...]:
    """The features with the largest share of each explanation's scale, in the order of the space."""
    share = np.zeros(len(every))
    for e in group.values():
        size = np.abs(np.nan_to_num(np.stack([surfaces.bars_in_order(e, i) for i in range(len(e))]))).mean(0)
        share += size / (size.max(initial=0.0) or 1.0)
    kept = sorted(np.argsort(-share, kind="stable")[:MOST].tolist())
    return tuple(every[i] for i in kept)


def _values(e: Explanation, row: int) -> tuple[Array, Array | None]:
    return surfaces.bars_in_order(e, row), surfaces.errors_in_order(e, row)


def _ends(e: Explanation, values: Array, errors: Array | None, spectral: bool) -> tuple[float, float]:
    """What must be drawn of a row: from the lowest to the highest value of bands; as far to both sides for bars."""
    if spectral:
        return spectrum.reach(spectrum.rings(e, values, errors))
    size = figures.reach(values, errors)
    return -size, size


def _everything(e: Explanation) -> Subject:
    count = int(e.details.get("rows", len(e)))
    return Subject(f"all {numerals.plural(count, 'input')}", None, None, "for the true class, on average")


def _subject(comparison: Comparison, e: Explanation, row: int) -> Subject:
    photo = pictures.photograph(surfaces.photo(e, row)) if _pictured(e) else None
    return Subject(gallery.input_name(comparison, row), gallery.predict(comparison, e, row), photo)


def _pictured(e: Explanation) -> bool:
    """Whether the inputs are pictures."""
    shape = e.data.shape[1:]
    colours = len(shape) == 3 and (shape[0] in (1, 3) or shape[-1] in (1, 3))
    return (colours or len(shape) == 2) and min(shape[-2:] if len(shape) == 2 else sorted(shape)[1:]) >= 8


def _lines(
    comparison: Comparison,
    plain: Mapping[str, Explanation],
    local: Mapping[str, Explanation],
    whole: Mapping[str, Explanation],
    rows: range,
    names: tuple[str, ...],
    ends: tuple[float, float],
    spectral: bool,
) -> list[Line]:
    """The lines of a space's table: parts of the input, values of its features, and maps of pixels."""
    first = next(iter((local or whole).values()))
    lead: tuple[None, ...] = (None,) * bool(whole)
    lines = []
    for title in dict.fromkeys(
        [*(str(e.method["name"]) for e in local.values()), *(e.method["name"] for e in whole.values())]
    ):
        here = next((e for e in local.values() if e.method["name"] == title), None)
        everywhere = next((e for e in whole.values() if e.method["name"] == title), None)
        label = next((label for label, e in local.items() if e is here), str(title))
        charts: list[Chart | None] = (
            [] if not whole else [None if everywhere is None else _chart(everywhere, 0, names, ends)]
        )
        charts += [None if here is None or i >= len(here) else _chart(here, i, names, ends) for i in rows]
        lines.append(Line(*_called(label, str(title)), "spectrum" if spectral else "bars", tuple(charts)))
    if spectral and rows and _pictured(first):
        _, edge = spectrum.split(spectrum.rings(first, *_values(first, 0)))
        parted = [spectrum.parted(first, i, edge) for i in rows]
        far = f"{1 / edge:.2g} pixels"
        for title, place in ((f"coarse part: periods over {far}", 0), (f"fine part: periods under {far}", 1)):
            drawn = tuple(pictures.photograph(surfaces.photo(pair[place], 0)) for pair in parted)
            lines.append(Line(title, "", "picture", (*lead, *drawn)))
    for label in _beside(comparison, plain):
        e = plain[label]
        tiles = tuple(
            gallery.tile(label, e, i, (), gallery.input_name(comparison, i)) if i < len(e) else None for i in rows
        )
        lines.append(Line(*_called(label, str(e.method["name"])), "map", (*lead, *tiles)))
    return lines


def _called(label: str, method: str) -> tuple[str, str]:
    """How a line is headed: by its label, and by the method where the label does not say it."""
    title, known = display(label), display(method)
    return title, "" if title.startswith(known) else known


def _beside(comparison: Comparison, plain: Mapping[str, Explanation]) -> list[str]:
    """Maps that stand beside: those of the best standing, the controls left out."""
    order = [m for m in ranking.standing(comparison.scores) if m in plain]
    order += [m for m in plain if m not in order]
    seen = [m for m in order if surfaces.kind(plain[m]) == "image" and not plain[m].details.get("control")]
    return seen[:MAPS]


def _chart(e: Explanation, row: int, names: tuple[str, ...], ends: tuple[float, float]) -> Chart:
    values, errors = _values(e, row)
    title = display(str(e.method["name"]))
    note = "" if np.isfinite(values).all() else "some values are not finite"
    if spectrum.is_spectrum(e):
        found = spectrum.drawn(spectrum.rings(e, np.nan_to_num(values), errors), *ends, title)
        return Chart(found.words, spectrum=found, note=note)
    shown = surfaces.bars(e, row, names=names)
    told = ", ".join(f"{n} {numerals.figure(float(v), 2)}" for n, v in zip(shown.names, shown.values, strict=True))
    return Chart(f"{title}: {told}.", figures.bars(shown.values, shown.errors, ends[1]), note=note)


# ---------------------------------------------------------------- sentences


def _findings(whole: Mapping[str, Explanation], spectral: bool) -> list[Sentence]:
    """What all inputs together rest on."""
    found = [s for e in whole.values() for s in (_leading(e), _parting(e) if spectral else None)]
    return [s for s in found if s is not None]


def _notes(local: Mapping[str, Explanation], whole: Mapping[str, Explanation]) -> list[Sentence]:
    """How far the figures can be relied on."""
    found = [*(_sums(e) for e in whole.values()), _gap([*local.values(), *whole.values()]), _covers(local, whole)]
    return [s for s in found if s is not None]


def _leading(e: Explanation) -> Sentence | None:
    """Which features all data rest on, and which have nothing."""
    values, errors = _values(e, 0)
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


def _parting(e: Explanation) -> Sentence | None:
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


# ---------------------------------------------------------------- traversals


def _walks(comparison: Comparison, local: Mapping[str, Explanation]) -> list[Walk]:
    walks = []
    for e in local.values():
        first = int(e.details.get("first_row", 0))
        for walk in e.details.get("traversals", ()):
            row = int(walk["row"]) - first
            if 0 <= row < len(e):
                walks.append(_walk(comparison, e, walk, row))
    return walks


def _walk(comparison: Comparison, e: Explanation, walk: Mapping[str, Any], row: int) -> Walk:
    every = np.concatenate([np.asarray(sweep["outputs"], dtype=np.float64) for sweep in walk["sweeps"]])
    axis = figures.Axis(min(0.0, float(every.min())), max(float(every.max()), 1e-12))
    sweeps = tuple(_sweep(e, sweep, axis) for sweep in walk["sweeps"])
    pictured = any(stop.picture is not None for sweep in sweeps for stop in sweep.stops)
    output = f"{_number(float(walk['output']))} for {walk['output_name']}"
    return Walk(gallery.input_name(comparison, row), output, sweeps, pictured)


def _sweep(e: Explanation, sweep: Mapping[str, Any], axis: figures.Axis) -> Sweep:
    outputs = np.asarray(sweep["outputs"], dtype=np.float64)
    values, inputs, here = sweep.get("values"), sweep.get("inputs"), sweep.get("here")
    kept = np.unique(np.linspace(0, len(outputs) - 1, min(STOPS, len(outputs))).round().astype(int))
    near = -1 if values is None or here is None else int(kept[np.argmin(np.abs(np.asarray(values)[kept] - here))])
    stops = tuple(
        Stop(
            None if inputs is None or not _pictured(e) else _thumb(e, np.asarray(inputs)[i]),
            "" if values is None else _number(float(np.asarray(values)[i])),
            _number(float(outputs[i])),
            axis.at(float(outputs[i])),
            i == near,
        )
        for i in kept.tolist()
    )
    name, effect = str(sweep["name"]), _number(float(np.ptp(outputs)))
    told = ", ".join(stop.output for stop in stops)
    return Sweep(name, effect, stops, f"{name} on its way: the output is {told}")


def _number(value: float) -> str:
    """Two figures; whole numbers as they are.

    >>> _number(2.0), _number(0.456)
    ('2', '0.46')
    """
    return numerals.count(value) if value == round(value) and abs(value) < 1e5 else numerals.figure(value, 2)


def _thumb(e: Explanation, picture: Array) -> pictures.Picture:
    shown = replace(e, data=np.asarray(picture)[None], values=e.values[:1], outputs=e.outputs[:1])
    return pictures.photograph(surfaces.photo(shown, 0), THUMB)
