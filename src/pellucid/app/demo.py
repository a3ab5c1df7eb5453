"""The demonstration: real photos and real digits, explained and judged, on one page.

Every chapter is a function from the settings to a ``Comparison``; ``CHAPTERS`` lists them. The whole must take at most
three minutes on two cores, so each chapter asks for the fewest steps, draws and sizes that still decide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pellucid import data, methods, metrics, players
from pellucid.aggregation import aggregate
from pellucid.api import explain
from pellucid.app.console import Console
from pellucid.app.outputs import Outputs
from pellucid.comparing import compare
from pellucid.core.budget import Run
from pellucid.core.comparison import Comparison
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.method import Method
from pellucid.core.model import Model
from pellucid.data import Examples
from pellucid.metrics.metric import Metric
from pellucid.models import wrap

TITLE = "Why this prediction, and which explanation to believe"
PAIR = (metrics.insertion, metrics.deletion)
COARSE = (0.0, 0.05, 0.2, 0.45, 1.0)
"""Sizes of a curve on photos: the paper's area from 5 % to 45 %, and both ends."""
FINE = (0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0)
"""Sizes of a curve on digits."""


@dataclass(frozen=True)
class Settings:
    """What the demonstration shows.

    ``photos``: how many real photos, of 20 (0 leaves them out); ``digits``: how many real digits, of 1,000 (0 leaves
    them out); ``seed``: of every draw.
    """

    photos: int = 12
    digits: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, count, most in (("photos", self.photos, 20), ("digits", self.digits, 1000)):
            if count != 0 and not 2 <= count <= most:
                raise BadInput(f"demo: --{name} must be 0, or between 2 and {most:,} rows to compare, got {count}")
        if not self.photos and not self.digits:
            raise BadInput("demo: nothing to show; ask for some photos or digits")

    @property
    def command(self) -> str:
        """What to type to make the page again."""
        return f"pellucid demo --photos {self.photos} --digits {self.digits} --seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Plan:
    """A chapter before it is computed: ``by_cell`` are methods on ``cells`` as players, ``together`` the labels that
    are aggregated."""

    title: str
    model: Model
    examples: Examples
    methods: Mapping[str, Method]
    metrics: Sequence[Metric]
    together: tuple[str, ...]
    by_cell: Mapping[str, Method] = field(default_factory=dict)
    cells: Any = None


def photos(settings: Settings, console: Console) -> Comparison | None:
    """EfficientNet-Lite0 with its real ImageNet weights on real photos."""
    if not settings.photos:
        return None
    examples = data.photos(settings.photos)
    plan = Plan(
        title=f"EfficientNet-Lite0 on {len(examples)} photos",
        model=data.efficientnet().fast(examples.x),  # folded once, here, instead of by every method again
        examples=examples,
        methods={
            "saliency": methods.saliency(),
            "input_x_gradient": methods.input_x_gradient(),
            "integrated_gradients": methods.integrated_gradients(steps=32),
            "smooth_grad": methods.smooth_grad(samples=12),
            "grad_cam": methods.grad_cam(),
        },
        by_cell={"feature_ablation, 7 x 7 cells": methods.feature_ablation("mean")},
        cells=players.grid(7),
        together=("input_x_gradient", "grad_cam", "feature_ablation, 7 x 7 cells"),
        metrics=[
            *(metric(reference, grid=7, fractions=COARSE) for reference in ("uniform", "mean") for metric in PAIR),
            metrics.completeness(),
        ],
    )
    return _compared(plan, settings, Run(progress=console.progress))


def digits(settings: Settings, console: Console) -> Comparison | None:
    """A small network, trained on the spot, on held-out real digits."""
    if not settings.digits:
        return None
    # Channels-last memory and calls small enough for the cache: together a fourfold throughput, as measured on a CPU.
    net = data.digits_cnn(progress=console.progress).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    examples = data.digits("test", settings.digits, settings.seed)
    typical = data.digits("train", 20, settings.seed).x
    plan = Plan(
        title=f"A digit reader on {len(examples)} handwritten digits",
        model=wrap(net, labels=examples.labels, bounds=(0.0, 1.0)),
        examples=examples,
        methods={
            "saliency": methods.saliency(),
            "input_x_gradient": methods.input_x_gradient(),
            "integrated_gradients": methods.integrated_gradients(steps=32),
            "expected_gradients": methods.expected_gradients(typical, samples=40),
            "smooth_grad": methods.smooth_grad(samples=20),
            "grad_cam": methods.grad_cam(),
            "counterfactual_grad_cam": methods.counterfactual_grad_cam(),
            "feature_ablation": methods.feature_ablation("mean"),
        },
        together=("integrated_gradients", "expected_gradients", "grad_cam"),
        metrics=[
            *(metric(reference, grid=7, fractions=FINE) for reference in ("uniform", 0.0) for metric in PAIR),
            *(metric("uniform", fractions=FINE) for metric in PAIR),
            metrics.completeness(),
        ],
    )
    return _compared(plan, settings, Run(progress=console.progress, batch_size=128))


CHAPTERS: tuple[Callable[[Settings, Console], Comparison | None], ...] = (photos, digits)
"""The chapters of the page, in order."""


def write(out: Path, settings: Settings, console: Console) -> dict[str, Any]:
    """Make every chapter, write ``out/index.html``, and return where it is, the verdicts and how long each part
    took."""
    from pellucid.reporting import html

    fresh = not out.exists()
    Outputs(out if fresh else out / "index.html")
    seconds: dict[str, float] = {}
    chapters: dict[str, Comparison] = {}
    for chapter in CHAPTERS:
        start = time.perf_counter()
        try:
            made = chapter(settings, console)
        except ModuleNotFoundError as error:
            raise Unsupported(str(error)) from error
        if made is None:
            continue
        name = chapter.__name__
        chapters[name], seconds[name] = made, round(time.perf_counter() - start, 1)
        console.note(f"{name}: {seconds[name]:.1f} s")
    start = time.perf_counter()
    if fresh:
        out.mkdir()
    try:
        path = html.write(out / "index.html", list(chapters.values()), title=TITLE)
    except BaseException:
        if fresh:
            out.rmdir()
        raise
    seconds["page"] = round(time.perf_counter() - start, 1)
    console.note(f"page: {seconds['page']:.1f} s")
    verdicts = {name: {v.method: v.word for v in made.decided} for name, made in chapters.items()}
    return {"report": path, "seconds": seconds, "verdicts": verdicts, "command": settings.command}


def _compared(plan: Plan, settings: Settings, run: Run) -> Comparison:
    """The comparison of a chapter, with the aggregate of some of its methods."""
    model, x, seed = plan.model, plan.examples.x, settings.seed
    given = {
        label: explain(model, x, method, players=plan.cells, seed=seed, run=run)
        for label, method in plan.by_cell.items()
    }
    parts = [
        given[label] if label in given else explain(model, x, plan.methods[label], seed=seed, run=run)
        for label in plan.together
    ]
    found = compare(
        model,
        x,
        methods={
            **plan.methods,
            **given,
            "aggregate": aggregate(parts),
            "random_attribution": methods.random_attribution(),
        },
        metrics=plan.metrics,
        seed=seed,
        run=run,
        about={"title": plan.title, "data": plan.examples.about, "command": settings.command},
        truth=plan.examples.y,
    )
    return replace(found, names=plan.examples.names)
