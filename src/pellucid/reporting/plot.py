"""Figures of results: free functions that take plain data and return a matplotlib Figure.

No function touches pyplot, so that nothing is shown, kept alive or switched behind the caller's back; save a figure
with ``figure.savefig("maps.png")``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from pellucid.core.errors import BadInput, listing
from pellucid.core.explanation import Explanation
from pellucid.core.scores import Cell, Scores
from pellucid.core.verdict import Disagreement
from pellucid.reporting import figures, gallery, numerals, palette, ranking, surfaces
from pellucid.reporting.notebook import notebook_html
from pellucid.reporting.references import display

MOST_ROWS = 8
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
_WIDEST = 30  # characters above a picture
_INK, _SOFT, _RULE = "#1b1a18", "#5b5852", "#d9d5cc"


class Drawing(Figure):
    """A Figure that a notebook shows although pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=110)
        return file.getvalue()


def explanation(e: Explanation, row: int | None = None, overlay: bool = True) -> Figure:
    """An explanation of one row (or of the first eight) beside its input: signed maps, a strip along time, or bars.

    A map has one symmetric scale, the 99th percentile of its |values|, printed above it: blue is negative, light grey
    zero, orange-red positive. ``overlay=False`` shows it alone instead of over the greyed input.
    """
    rows = range(min(len(e), MOST_ROWS)) if row is None else (_row(e, row),)
    if surfaces.kind(e) == "bars":
        return _bars([(e, i) for i in rows], surfaces.MOST_BARS)
    return maps({str(e.method["name"]): e}, rows, overlay)


def maps(
    explanations: Mapping[str, Explanation] | Sequence[Explanation], rows: Sequence[int] = (0,), overlay: bool = True
) -> Figure:
    """Methods side by side: a line for each row, the input first, then every method's signed map on its own scale."""
    named = dict(explanations) if isinstance(explanations, Mapping) else _named(explanations)
    if not named or not rows:
        raise BadInput("plot.maps: nothing to draw; pass at least one explanation and one row")
    for label, e in named.items():
        if surfaces.kind(e) == "bars":
            raise BadInput(
                f"plot.maps: {label!r} explains named features, not positions of a picture; use plot.bars(e)"
            )
    lines = [min(_row(e, row) for e in named.values()) for row in rows]
    strip = all(surfaces.kind(e) == "series" for e in named.values())
    figure = Drawing(
        figsize=(2.1 * (1 + len(named)), (1.2 if strip else 2.35) * len(lines) + 0.5), layout="constrained"
    )
    grid = figure.subplots(len(lines), 1 + len(named), squeeze=False)
    for axes, i in zip(grid, lines, strict=True):
        first = next(iter(named.values()))
        _input(axes[0], first, i)
        for ax, (label, e) in zip(axes[1:], named.items(), strict=True):
            _map(ax, e, i, overlay)
            ax.set_title(
                f"{display(label)}\n{surfaces.scale_words(e, i, palette.limit(surfaces.flat_map(e, i)))}",
                fontsize=9,
                color=_INK,
            )
    _key(figure, grid)
    return figure


def bars(e: Explanation, row: int = 0, count: int = surfaces.MOST_BARS) -> Figure:
    """The ``count`` features of a row with the largest |value|, as bars; whiskers are 1.96 standard errors (95 %)."""
    return _bars([(e, _row(e, row))], count)


def curves(scores: Scores, metric: str | None = None) -> Figure:
    """Every method's mean curve under a metric with its 95 % band over rows; the random control in grey with its."""
    cells = [c for c in scores.cells if c.curve is not None and c.fractions is not None]
    names = tuple(dict.fromkeys(cell.metric for cell in cells))
    if not names:
        raise BadInput(
            "plot.curves: no metric here has a curve; evaluate with metrics.insertion() or metrics.deletion()"
        )
    chosen = names[0] if metric is None else metric
    if chosen not in names:
        raise BadInput(f"plot.curves: metric {chosen!r} has no curve; have {listing(names)}")
    figure = Drawing(figsize=(6.4, 4.0), layout="constrained")
    ax = figure.subplots()
    cells = [cell for cell in cells if cell.metric == chosen]
    judged = [cell for cell in cells if not cell.control]
    for cell in (cell for cell in cells if cell.control):
        _curve(ax, cell, palette.CONTROL, "-")
    for i, cell in enumerate(judged):
        colour, dash = palette.METHODS[i % len(palette.METHODS)], _DASHES[i // 2 % len(_DASHES)]
        _curve(ax, cell, colour, dash)
    shown = ranking.column(scores, chosen)
    ax.set_xlabel(
        f"share of positions {'put back' if judged and judged[0].better > 0 else 'taken away'}, most important first"
    )
    ax.set_ylabel(cells[0].read or "explained output")
    ax.set_title(
        f"{shown.family}{', ' + shown.detail if shown.detail else ''}: {shown.better} is better",
        fontsize=10,
        loc="left",
    )
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
    quiet(ax)
    ax.legend(frameon=False, fontsize=8)
    return figure


def matrix(disagreement: Disagreement, measure: str = "correlation") -> Figure:
    """How much methods agree, pair by pair; ``measure``: "correlation" (of ranks) or "overlap" (of top positions)."""
    if measure not in ("correlation", "overlap"):
        raise BadInput(f"plot.matrix: measure must be 'correlation' or 'overlap', got {measure!r}")
    values = disagreement.correlation if measure == "correlation" else disagreement.overlap
    size = len(disagreement.methods)
    figure = Drawing(figsize=(1.8 + 0.62 * max(size, 2), 1.4 + 0.52 * max(size, 2)), layout="constrained")
    ax = figure.subplots()
    centre, reach = (
        (0.0, 1.0) if measure == "correlation" else (disagreement.chance, max(1e-9, 1 - disagreement.chance))
    )
    strength = np.clip((values - centre) / reach, -1, 1)
    ax.imshow(palette.over(palette.rgba(strength, 1.0), palette.flat(size, size), 0.7))
    titles = [display(method) for method in disagreement.methods]
    ax.set_xticks(range(size), titles, rotation=40, ha="right", fontsize=8)
    ax.set_yticks(range(size), titles, fontsize=8)
    for i in range(size):
        for j in range(size):
            text = (
                numerals.correlation(float(values[i, j]))
                if measure == "correlation"
                else numerals.percent(float(values[i, j]))
            )
            ax.text(j, i, text, ha="center", va="center", fontsize=8, color=_INK)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    chance = "" if measure == "correlation" else f" (chance {numerals.percent(disagreement.chance)})"
    ax.set_title(
        ("Rank correlation" if measure == "correlation" else "Overlap of the top positions") + chance,
        fontsize=10,
        loc="left",
    )
    return figure


def leaderboard(scores: Scores, metrics: Sequence[str] | None = None) -> Figure:
    """Every method's mean under each metric, a dot with its 95 % interval as a bar; the dashed line is the control."""
    names = scores.metrics if metrics is None else tuple(metrics)
    unknown = [name for name in names if name not in scores.metrics]
    if unknown or not names:
        raise BadInput(f"plot.leaderboard: metrics {listing(unknown)} not found; have {listing(scores.metrics)}")
    order = ranking.standing(scores, controls=True)
    figure = Drawing(figsize=(1.6 + 1.9 * len(names), 0.9 + 0.34 * len(order)), layout="constrained")
    grid = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for ax, name in zip(grid, names, strict=True):
        shown = ranking.column(scores, name)
        chance = ranking.control_cell(scores, name)
        if chance is not None:
            ax.axvline(chance.mean, color=palette.CONTROL, linestyle="--", linewidth=1)
        for place, method in enumerate(order):
            found = [c for c in scores.cells if c.metric == name and c.method == method]
            _estimate(ax, place, found[0] if found else None)
        ax.set_title(
            f"{shown.family} {'↑' if shown.better == 'higher' else '↓'}\n{shown.detail}", fontsize=8, loc="left"
        )
        quiet(ax)
    grid[0].set_yticks(range(len(order)), [display(method) for method in order], fontsize=8)
    grid[0].set_ylim(len(order) - 0.5, -0.5)
    return figure


def _estimate(ax: Axes, place: int, cell: Cell | None) -> None:
    if cell is None or not cell.measured or not np.isfinite(cell.mean):
        words = "not measured" if cell is None or cell.measured else cell.status
        ax.text(0.02, place, words, transform=ax.get_yaxis_transform(), va="center", fontsize=7, color=_SOFT)
        return
    colour = palette.CONTROL if cell.control else palette.METHODS[0]
    if np.isfinite(cell.low) and np.isfinite(cell.high):
        ax.plot([cell.low, cell.high], [place, place], color=colour, linewidth=2)
    ax.plot([cell.mean], [place], "o", color=colour, markersize=5, fillstyle="none" if cell.matched else "full")


def _curve(ax: Axes, cell: Cell, colour: str, dash: Any) -> None:
    mean, low, high = figures.mean_and_band(np.asarray(cell.curve))
    name = display(cell.method) + (" (matched)" if cell.matched else "")
    x = np.asarray(cell.fractions)
    ax.plot(x, mean, color=colour, linestyle=dash, linewidth=1.6, label=name)
    if np.isfinite(low).all():
        ax.fill_between(x, low, high, color=colour, alpha=0.25 if cell.control else 0.12, linewidth=0)


def _bars(each: Sequence[tuple[Explanation, int]], count: int) -> Figure:
    shown = [surfaces.bars(e, i, count) for e, i in each]
    figure = Drawing(figsize=(5.2, sum(0.8 + 0.27 * len(b.names) for b in shown)), layout="constrained")
    grid = figure.subplots(len(shown), 1, squeeze=False, height_ratios=[3 + len(b.names) for b in shown])[:, 0]
    for ax, (e, i), b in zip(grid, each, shown, strict=True):
        heights = np.arange(len(b.names))
        colours = [hexadecimal(palette.POSITIVE if value >= 0 else palette.NEGATIVE) for value in b.values]
        reach = None if b.errors is None else 1.96 * np.nan_to_num(b.errors)
        ax.barh(
            heights,
            np.nan_to_num(b.values),
            xerr=reach,
            color=colours,
            height=0.65,
            error_kw={"ecolor": _INK, "elinewidth": 1},
        )
        inputs = b.inputs or ("",) * len(b.names)
        ax.set_yticks(
            heights, [f"{name} = {x}" if x else name for name, x in zip(b.names, inputs, strict=True)], fontsize=8
        )
        ax.invert_yaxis()
        ax.axvline(0, color=_SOFT, linewidth=0.8)
        widest = figures.reach(b.values, b.errors) or 1.0
        ax.set_xlim(-1.05 * widest, 1.05 * widest)
        rest = f"; {len(b.names)} of {b.total} features" if b.total > len(b.names) else ""
        ax.set_title(f"{display(str(e.method['name']))}, {_target(e, i)}{rest}", fontsize=9, loc="left")
        quiet(ax)
    return figure


def _map(ax: Axes, e: Explanation, row: int, overlay: bool) -> None:
    values = surfaces.flat_map(e, row)
    layer = palette.rgba(values if values.ndim == 2 else values[None])
    flat = palette.flat(*layer.shape[:2])
    if values.ndim == 1:
        ax.imshow(palette.over(layer, flat), aspect="auto", interpolation="nearest")
    elif overlay and (photo := surfaces.photo(e, row)).shape[:2] == values.shape:
        ax.imshow(palette.over(layer, palette.ground(photo), 0.85), interpolation="nearest")
    else:
        ax.imshow(palette.over(layer, flat), interpolation="nearest")
    ax.set_axis_off()


def _key(figure: Figure, grid: Any) -> None:
    """The colours of all maps: full strength at the scale that stands above each."""
    rgb, opacity = palette.colours()
    shades = palette.over(np.concatenate([rgb, opacity[:, None]], 1)[None], palette.flat(1, len(rgb)))[0] / 255
    colours = ScalarMappable(Normalize(-1, 1), ListedColormap(shades))
    bar = figure.colorbar(colours, ax=grid, location="bottom", shrink=0.3, aspect=30, pad=0.02, ticks=[-1, 0, 1])
    bar.ax.set_xticklabels(["− scale", "0", "+ scale"], fontsize=8, color=_SOFT)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)


def _input(ax: Axes, e: Explanation, row: int) -> None:
    if surfaces.kind(e) == "image":
        ax.imshow(surfaces.photo(e, row), interpolation="nearest")
    else:
        ax.plot(np.asarray(e.data[row]).reshape(e.data.shape[1], -1).mean(1), color=_SOFT, linewidth=1)
    ax.set_title(_target(e, row), fontsize=9, color=_INK)
    ax.set_axis_off()


def _target(e: Explanation, row: int) -> str:
    """What is explained in a row."""
    said = gallery.explained(e, row)
    return said if len(said) <= _WIDEST else f"{said[: _WIDEST - 1]}…"


def quiet(ax: Axes) -> None:
    """Axes without what does not inform."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(_RULE)
    ax.tick_params(labelsize=8, color=_RULE, labelcolor=_SOFT)


def hexadecimal(colour: tuple[int, int, int]) -> str:
    """A colour as matplotlib takes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _row(e: Explanation, row: int) -> int:
    if not -len(e) <= row < len(e):
        raise BadInput(f"plot: row {row} is out of range; the explanation has {len(e)} rows")
    return row % len(e)


def _named(explanations: Sequence[Explanation]) -> dict[str, Explanation]:
    named: dict[str, Explanation] = {}
    for e in explanations:
        name = str(e.method["name"])
        named[name if name not in named else f"{name} {sum(key.startswith(name) for key in named) + 1}"] = e
    return named


__all__ = ["Drawing", "bars", "curves", "explanation", "leaderboard", "maps", "matrix", "notebook_html"]
