"""Inputs by methods: every map on its own symmetric scale, with the prediction it explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.explanation import Explanation
from pellucid.reporting import descriptions, figures, numerals, palette, pictures, surfaces
from pellucid.reporting.references import display

SHOWN = 12
"""Inputs in a gallery at most; of a hundred digits the first dozen are seen, and the page says so."""
SHOWN_BARS = 6
"""Of a table: a row of bars for each method takes more reading than a row of pictures."""
TOP = 5


@dataclass(frozen=True)
class Guess:
    """A class and its probability."""

    name: str
    text: str
    width: float
    true: bool


@dataclass(frozen=True)
class Prediction:
    """What the model says of one input (or, if not ``known``, what is explained of it), and what is true;
    ``elsewhere``: another class than the predicted one is explained."""

    says: str
    chance: str
    truth: str | None
    wrong: bool
    explained: str
    guesses: tuple[Guess, ...]
    known: bool = True
    elsewhere: bool = False


@dataclass(frozen=True)
class Tile:
    """One method on one input: a signed picture or bars, its scale, and what it shows in words."""

    method: str
    title: str
    words: str
    scale: str
    picture: pictures.Picture | None = None
    bars: tuple[figures.Bar, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One input with its prediction and its tiles."""

    key: str
    number: int
    name: str
    prediction: Prediction
    photo: pictures.Picture | None
    wave: str
    features: tuple[tuple[str, str], ...]
    more: int
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Gallery:
    """The rows that are shown, and of how many; ``picked``: whether some method chooses a set."""

    kind: str
    methods: tuple[str, ...]
    rows: tuple[Row, ...]
    total: int
    picked: bool = False


def gallery(comparison: Comparison, anchor: str) -> Gallery | None:
    """The gallery of a comparison; None where there is no explanation to show."""
    explanations = comparison.explanations
    if not explanations:
        return None
    total = max(len(e) for e in explanations.values())
    kinds = {surfaces.kind(e) for e in explanations.values()}
    most = SHOWN_BARS if kinds == {"bars"} else SHOWN
    rows = tuple(row(comparison, i, f"{anchor}-input-{i + 1}") for i in range(min(total, most)))
    picked = any(e.details.get("pertinent") is not None for e in explanations.values())
    return Gallery("image" if "image" in kinds else min(kinds), tuple(explanations), rows, total, picked)


def row(comparison: Comparison, index: int, key: str, methods: tuple[str, ...] | None = None) -> Row:
    """One input under some of the methods (None: all)."""
    chosen = {m: e for m, e in comparison.explanations.items() if methods is None or m in methods}
    first = next(iter(chosen.values()))
    pictured = next((e for e in chosen.values() if surfaces.kind(e) == "image"), None)
    series = next((e for e in chosen.values() if surfaces.kind(e) == "series"), None)
    common = _common(chosen, index)
    listed = (
        None
        if not common
        else surfaces.bars(next(e for e in chosen.values() if surfaces.kind(e) == "bars"), index, names=common)
    )
    prediction = predict(comparison, first, index)
    name = input_name(comparison, index)
    return Row(
        key,
        index + 1,
        name,
        prediction,
        None if pictured is None else pictures.photograph(surfaces.photo(pictured, index)),
        "" if series is None else figures.wave(_signal(series, index)),
        () if listed is None else tuple(zip(listed.names, listed.inputs or ("",) * len(listed.names), strict=True)),
        0 if listed is None else listed.total - len(listed.names),
        tuple(tile(m, e, index, common, f"{name}, {prediction.says}") for m, e in chosen.items()),
    )


def tile(method: str, e: Explanation, index: int, features: tuple[str, ...], subject: str) -> Tile:
    """One method on one input."""
    title = display(method)
    kind = surfaces.kind(e)
    if kind == "bars":
        return _bar_tile(method, e, index, features, subject)
    values = surfaces.flat_map(e, index)
    scale = palette.limit(values)
    picked = e.details.get("pertinent") is not None
    tell = descriptions.chosen if picked else descriptions.signs if kind == "image" else descriptions.along
    said = tell(values)
    note = "" if np.isfinite(values).all() else "some values are not finite and are left blank"
    if scale == 0:
        note = note or "zero everywhere"
    picture = pictures.signed(values if kind == "image" else values[None], scale)
    shown = surfaces.scale_words(e, index, scale)
    return Tile(method, title, f"{title} for {subject}: {said}.", shown, picture, note=note)


def _bar_tile(method: str, e: Explanation, index: int, features: tuple[str, ...], subject: str) -> Tile:
    shown = surfaces.bars(e, index, names=features)
    scale = figures.reach(shown.values, shown.errors)
    said = descriptions.features(shown.names, shown.values)
    note = "" if np.isfinite(shown.values).all() else "some values are not finite"
    title = display(method)
    return Tile(
        method,
        title,
        f"{title} for {subject}: {said}.",
        f"±{numerals.figure(scale)}",
        bars=figures.bars(shown.values, shown.errors, scale),
        note=note or ("zero everywhere" if scale == 0 else ""),
    )


def _common(explanations: dict[str, Explanation], index: int) -> tuple[str, ...]:
    """Features for the bars of all methods in a row: those with the largest share of each method's scale, added up."""
    share: dict[str, float] = {}
    for e in explanations.values():
        if surfaces.kind(e) == "bars":
            values = np.abs(np.nan_to_num(surfaces.bars_in_order(e, index)))
            for name, value in zip(surfaces.feature_names(e), values / (values.max(initial=0.0) or 1.0), strict=True):
                share[name] = share.get(name, 0.0) + float(value)
    return tuple(sorted(share, key=lambda name: -share[name])[: surfaces.MOST_BARS])


def _signal(e: Explanation, index: int) -> palette.Array:
    axes = tuple(e.details.get("axes", e.dims))
    along = next(i for i, axis in enumerate(axes) if axis in ("time", "token"))
    return np.asarray(np.moveaxis(e.data[index], along, 0).reshape(e.data.shape[1 + along], -1).mean(1))


def input_name(comparison: Comparison, index: int) -> str:
    """What an input is called: its name, or its number."""
    return (
        str(comparison.names[index])
        if comparison.names is not None and index < len(comparison.names)
        else f"input {index + 1}"
    )


def predict(comparison: Comparison, e: Explanation, index: int) -> Prediction:
    """The prediction for one input: probabilities if the comparison has them, else the explained output."""
    column, number = _column(e, index), _number(e, index)
    true = None if comparison.truth is None else int(comparison.truth[index])
    chances = comparison.probabilities
    if chances is None or chances.shape[1] < 2:
        # The classes that were not explained are unknown, so only a model of one output is known to say this.
        known = chances is not None or e.details.get("scale") == "value"
        chance = "" if chances is None else numerals.percent(float(chances[index, 0]))
        return Prediction(
            explained(e, index), chance, None if true is None else class_name(e, true), False, number, (), known
        )
    order = np.argsort(-chances[index], kind="stable")[:TOP]
    best = int(order[0])
    guesses = tuple(
        Guess(
            class_name(e, int(k)),
            numerals.percent(float(chances[index, k])),
            round(100 * float(chances[index, k]), 1),
            k == true,
        )
        for k in order
    )
    told = number if column is None or column == best else f"{number} for {class_name(e, column)}"
    truth = None if true is None else class_name(e, true)
    other = column is not None and column != best
    wrong = true is not None and true != best
    return Prediction(guesses[0].name, guesses[0].text, truth, wrong, told, guesses, elsewhere=other)


def explained(e: Explanation, index: int) -> str:
    """The explained output of a row in words, such as "espresso: 8.31 logit"."""
    column = _column(e, index)
    unnamed = e.output_names is None and e.details.get("scale") == "value"
    return _number(e, index) if column is None or unnamed else f"{class_name(e, column)}: {_number(e, index)}"


def _number(e: Explanation, index: int) -> str:
    """The explained output of a row with its unit."""
    output = float(e.outputs[index].max() if e.several else e.outputs[index])
    read = str(e.target.get("read", "raw"))
    unit = str(e.details.get("scale", "value")) if read == "raw" else read
    unit = {"prob": "probability", "value": ""}.get(unit, unit)
    return f"{numerals.figure(output)} {unit}".rstrip()


def _column(e: Explanation, index: int) -> int | None:
    chosen = e.target.get("index")
    if isinstance(chosen, (list, tuple)):
        return int(chosen[index])
    return surfaces.shown_output(e, index)


def class_name(e: Explanation, column: int) -> str:
    """The name of a class, or its number."""
    names = e.output_names or e.details.get("labels")
    return str(names[column]) if names is not None and 0 <= column < len(names) else f"class {column}"
