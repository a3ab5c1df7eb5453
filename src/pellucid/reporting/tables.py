"""Figures for named features: how one prediction is made up, how features act over many rows, and how they interact."""

from __future__ import annotations

import numpy as np

from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.reporting import numerals, palette, surfaces
from pellucid.reporting.features import rank, stacked
from pellucid.reporting.plot import Drawing, hexadecimal, quiet
from pellucid.reporting.references import display

MOST_FEATURES = 12
_INK, _SOFT = "#1b1a18", "#5b5852"


def waterfall(e: Explanation, row: int = 0, count: int = MOST_FEATURES) -> Drawing:
    """How the values of one row lead from the base value to the output, the largest first, the rest as one step.

    Whiskers are 1.96 standard errors (95 %). Needs values that add up from a base value.
    """
    base, values = _base(e, row), _values(e)[row]
    names, errors = surfaces.feature_names(e), None if e.std_error is None else e.std_error[row]
    order = np.argsort(-np.abs(values), kind="stable")
    shown, rest = (
        order[: count - 1 if len(order) > count else count],
        order[count - 1 if len(order) > count else count :],
    )
    steps = [(names[i], float(values[i]), None if errors is None else float(errors[i])) for i in shown]
    if len(rest):
        steps.append((f"{len(rest)} others", float(values[rest].sum()), None))
    figure = Drawing(figsize=(6.4, 1.2 + 0.32 * len(steps)), layout="constrained")
    ax = figure.subplots()
    at = base
    for place, (_, step, error) in enumerate(steps):
        ax.barh(place, step, left=at, height=0.62, color=_colour(step))
        if error is not None and np.isfinite(error):
            ax.errorbar(at + step, place, xerr=1.96 * error, color=_INK, linewidth=1)
        ax.annotate(
            f"{'+' if step > 0 else ''}{numerals.figure(step)}",
            (max(at, at + step), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_INK,
        )
        if place + 1 < len(steps):
            ax.plot([at + step] * 2, [place - 0.31, place + 1.31], color=_SOFT, linewidth=0.6)
        at += step
    ax.axvline(base, color=_SOFT, linewidth=0.8, linestyle="--")
    ax.set_yticks(range(len(steps)), [name for name, _, _ in steps], fontsize=8)
    ax.invert_yaxis()
    ax.margins(x=0.14)
    gap = (
        f", sum {numerals.figure(at)}"
        if e.residual is not None and float(e.residual[row]) > 1e-3 * abs(at - base)
        else ""
    )
    ax.set_title(
        f"{display(str(e.method['name']))}: from {numerals.figure(base)} (base) "
        f"to {numerals.figure(float(e.outputs[row]))}{gap}",
        fontsize=9,
        loc="left",
    )
    quiet(ax)
    return figure


def beeswarm(e: Explanation, count: int = MOST_FEATURES) -> Drawing:
    """The values of every row, a line of dots for each feature: grey is a low, orange-red a high value of the feature.

    Features are ordered by their mean |value|. Dots that would overlap are stacked.
    """
    values, names = _values(e), surfaces.feature_names(e)
    order = np.argsort(-np.abs(values).mean(0), kind="stable")[:count]
    data = e.data.reshape(len(e), -1) if e.data[0].size == values.shape[1] else None
    figure = Drawing(figsize=(6.4, 1.0 + 0.36 * len(order)), layout="constrained")
    ax = figure.subplots()
    reach = float(np.abs(values[:, order]).max()) or 1.0
    for place, feature in enumerate(order):
        height = stacked(values[:, feature], reach)
        level = np.full(len(e), 0.5) if data is None else rank(data[:, feature])
        shades = [_shade(float(one)) for one in level]
        ax.scatter(values[:, feature], place - height, s=12, c=shades, linewidths=0)
    ax.axvline(0, color=_SOFT, linewidth=0.8)
    ax.set_yticks(range(len(order)), [names[i] for i in order], fontsize=8)
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_xlabel("value", fontsize=8, color=_SOFT)
    rest = f"; {len(order)} of {values.shape[1]} features" if len(order) < values.shape[1] else ""
    note = "" if data is None else "\ngrey: the feature is low, orange-red: it is high"
    ax.set_title(f"{display(str(e.method['name']))}, {len(e)} rows{rest}{note}", fontsize=9, loc="left")
    quiet(ax)
    return figure


def network(e: Explanation, row: int = 0, count: int = MOST_FEATURES) -> Drawing:
    """Players on a circle, sized by |main effect|; a line is a pair's interaction, blue negative, orange-red positive.

    Needs a matrix of values (B, n, n), as ``methods.shapley_interactions`` gives.
    """
    if e.several or e.values.ndim != 3 or e.values.shape[1] != e.values.shape[2]:
        raise BadInput(
            f"plot.network: needs interactions, values (B, n, n); got {e.values.shape}. Use "
            "methods.shapley_interactions()"
        )
    matrix = e.values[_row(e, row)]
    strength = np.abs(matrix).sum(1)
    chosen = np.sort(np.argsort(-strength, kind="stable")[:count])
    names = e.feature_names or tuple(f"x{i}" for i in range(len(matrix)))
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(chosen)) / len(chosen)
    x, y = np.cos(angle), np.sin(angle)
    figure = Drawing(figsize=(5.2, 5.2), layout="constrained")
    ax = figure.subplots()
    pairs = matrix[np.ix_(chosen, chosen)]
    largest = float(np.abs(pairs - np.diag(np.diag(pairs))).max()) or 1.0
    for i in range(len(chosen)):
        for j in range(i + 1, len(chosen)):
            weight = abs(float(pairs[i, j])) / largest
            if weight > 0.02:
                ax.plot(
                    x[[i, j]],
                    y[[i, j]],
                    color=_colour(float(pairs[i, j])),
                    linewidth=5 * weight,
                    alpha=0.25 + 0.7 * weight,
                )
    main = np.diag(pairs)
    sizes = 60 + 500 * np.abs(main) / (float(np.abs(main).max()) or 1.0)
    ax.scatter(x, y, s=sizes, c=[_colour(float(value)) for value in main], edgecolors="white", zorder=3)
    for i, feature in enumerate(chosen):
        ax.text(1.18 * x[i], 1.14 * y[i], names[feature], ha="center", va="center", fontsize=8, color=_INK)
    ax.set_xlim(-1.5, 1.5)
    ax.set_ylim(-1.35, 1.35)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title(f"{display(str(e.method['name']))}: widest line ±{numerals.figure(largest)}", fontsize=9, loc="left")
    return figure


def _values(e: Explanation) -> palette.Array:
    if e.several or e.values.ndim != 2:
        raise BadInput(f"plot: needs one value for each named feature, (B, n); got values {e.values.shape}")
    return np.asarray(e.values, dtype=np.float64)


def _base(e: Explanation, row: int) -> float:
    if e.base_values is None or e.several:
        raise BadInput("plot.waterfall: the method's values do not add up from a base value; use plot.bars(e)")
    return float(e.base_values[_row(e, row)])


def _row(e: Explanation, row: int) -> int:
    if not -len(e) <= row < len(e):
        raise BadInput(f"plot: row {row} is out of range; the explanation has {len(e)} rows")
    return row % len(e)


def _shade(level: float) -> tuple[float, float, float]:
    low, high = np.array((176, 172, 165)) / 255, np.array(palette.POSITIVE) / 255
    red, green, blue = low + level * (high - low)
    return float(red), float(green), float(blue)


def _colour(value: float) -> str:
    return hexadecimal(palette.POSITIVE if value >= 0 else palette.NEGATIVE)


__all__ = ["beeswarm", "network", "waterfall"]
