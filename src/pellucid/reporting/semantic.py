"""Features that have a meaning: frequencies, latents, attributes; one input beside all data, and what a feature does as
it moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.explanation import Explanation
from pellucid.reporting import figures, gallery, numerals, pictures, ranking, spectrum, surfaces, telling, walks
from pellucid.reporting.references import display
from pellucid.reporting.sentences import Sentence

Array = np.ndarray[Any, Any]

SHOWN = 4
"""Inputs side by side."""
MAPS = 2
"""Maps of pixels that stand beside them."""
MOST = 14
"""Features that are drawn as bars, the ones with the largest |value|."""

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
    walks: tuple[walks.Walk, ...]


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
    shown = [surfaces.in_order(e, i) for e in local.values() for i in rows] + [
        surfaces.in_order(e, 0) for e in whole.values()
    ]
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
        tuple(telling.findings(whole, spectral)),
        tuple(telling.notes(local, whole)),
        tuple(walks.walks(comparison, local)),
    )


def _largest(group: Mapping[str, Explanation], every: tuple[str, ...]) -> tuple[str, ...]:
    """The features with the largest share of each explanation's scale, in the order of the space."""
    share = np.zeros(len(every))
    for e in group.values():
        size = np.abs(np.nan_to_num(np.stack([surfaces.bars_in_order(e, i) for i in range(len(e))]))).mean(0)
        share += size / (size.max(initial=0.0) or 1.0)
    kept = sorted(np.argsort(-share, kind="stable")[:MOST].tolist())
    return tuple(every[i] for i in kept)


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
    photo = pictures.photograph(surfaces.photo(e, row)) if surfaces.pictured(e) else None
    return Subject(gallery.input_name(comparison, row), gallery.predict(comparison, e, row), photo)


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
    if spectral and rows and surfaces.pictured(first):
        _, edge = spectrum.split(spectrum.rings(first, *surfaces.in_order(first, 0)))
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
    values, errors = surfaces.in_order(e, row)
    title = display(str(e.method["name"]))
    note = "" if np.isfinite(values).all() else "some values are not finite"
    if spectrum.is_spectrum(e):
        found = spectrum.drawn(spectrum.rings(e, np.nan_to_num(values), errors), *ends, title)
        return Chart(found.words, spectrum=found, note=note)
    shown = surfaces.bars(e, row, names=names)
    told = ", ".join(f"{n} {numerals.figure(float(v), 2)}" for n, v in zip(shown.names, shown.values, strict=True))
    return Chart(f"{title}: {told}.", figures.bars(shown.values, shown.errors, ends[1]), note=note)
