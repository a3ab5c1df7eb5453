"""The chapters of the demonstration: what each explains, and by which methods and metrics it is judged.

A chapter is a function from the settings and a progress to a ``Comparison`` (None: left out). The whole must take at
most three minutes on two cores, so each asks for the fewest steps, draws and sizes that still decide.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pellucid import attack, data, methods, metrics, players, removal
from pellucid.aggregation import aggregate
from pellucid.api import explain
from pellucid.app import tumours
from pellucid.comparing import compare
from pellucid.core.budget import Progress, Run
from pellucid.core.comparison import Comparison
from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.core.method import Method
from pellucid.core.model import Model
from pellucid.core.target import Target
from pellucid.data import Examples
from pellucid.evaluating import evaluate
from pellucid.metrics.metric import Metric
from pellucid.models import wrap

PAIR = (metrics.insertion, metrics.deletion)
ATTACKED = (metrics.robustness_irrelevant, metrics.robustness_relevant)
COARSE = (0.0, 0.05, 0.2, 0.45, 1.0)
"""Sizes of a curve on photos: the paper's area from 5 % to 45 %, and both ends."""
COARSER = (0.0, 0.1, 0.45, 1.0)
"""Sizes under a second reference, which is there to see whether methods keep their places."""
FINE = (0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0)
"""Sizes of a curve on digits and tables."""
CLOSE = (0, 1)
"""The photos that are looked at closely."""
SETS = (0.1, 0.2, 0.4)
"""Sizes of the sets of a photo that are held, or move alone, under attack: a radius takes a second."""
ATTACKED_PHOTOS = ("occlusion", "random_attribution")
SETS_OF_DIGITS = (0.1, 0.3)
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0, "uniform")
"""References under which methods are ranked, after hsieh2021."""
CONFUSED = ((4, 9), (3, 5))
"""Digits that people confuse: why the one and not the other?"""
CONTRASTS = 4
"""Digits of which this is asked: these, and some that the network gets wrong."""


@dataclass(frozen=True)
class Settings:
    """What the demonstration shows.

    ``photos``: how many real photos, of 20 (0 leaves them out); ``digits``: how many real digits, of 1,000 (0 leaves
    them out); ``tumours``: how many held-out rows of a medical table, of 200 (0 leaves them out); ``seed``: of every
    draw; ``workers``: processes that make chapters side by side (None: two where there are two processors).
    """

    photos: int = 12
    digits: int = 100
    tumours: int = 48
    seed: int = 0
    workers: int | None = None

    def __post_init__(self) -> None:
        counts = (("photos", self.photos, 20), ("digits", self.digits, 1000), ("tumours", self.tumours, 200))
        for name, count, most in counts:
            if count != 0 and not 2 <= count <= most:
                raise BadInput(f"demo: --{name} must be 0, or between 2 and {most:,} rows to compare, got {count}")
        if not any(count for _, count, _ in counts):
            raise BadInput("demo: nothing to show; ask for some photos, digits or tumours")
        if self.workers is not None and self.workers < 1:
            raise BadInput(f"demo: --workers must be at least 1, got {self.workers}")

    @property
    def command(self) -> str:
        """What to type to make the page again."""
        shown = f"--photos {self.photos} --digits {self.digits} --tumours {self.tumours}"
        return f"pellucid demo {shown} --seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Plan:
    """A chapter before it is computed: ``by_cell`` are methods on ``cells`` as players, ``together`` the labels that
    are aggregated."""

    title: str
    model: Model
    x: Any
    truth: Sequence[int]
    names: tuple[str, ...]
    source: str
    methods: Mapping[str, Method]
    metrics: Sequence[Metric]
    together: tuple[str, ...] = ()
    by_cell: Mapping[str, Method] = field(default_factory=dict)
    cells: Any = None
    target: int | None = None

    def given(self, settings: Settings, run: Run) -> dict[str, Explanation]:
        """The explanations by cell."""
        return {
            label: explain(
                self.model, self.x, method, target=self.target, players=self.cells, seed=settings.seed, run=run
            )
            for label, method in self.by_cell.items()
        }

    def compared(self, settings: Settings, run: Run, about: Mapping[str, str] | None = None) -> Comparison:
        """The comparison of a chapter, with the aggregate of some of its methods."""
        given = self.given(settings, run)
        wanted: dict[str, Method | Explanation] = {**self.methods, **given}
        if self.together:
            parts = [
                given[label]
                if label in given
                else explain(self.model, self.x, self.methods[label], target=self.target, seed=settings.seed, run=run)
                for label in self.together
            ]
            wanted["aggregate"] = aggregate(parts)
        found: Comparison = compare(
            self.model,
            self.x,
            methods={**wanted, "random_attribution": methods.random_attribution()},
            metrics=self.metrics,
            target=self.target,
            seed=settings.seed,
            run=run,
            about={"title": self.title, "data": self.source, "command": settings.command, **(about or {})},
            truth=self.truth,
        )
        return replace(found, names=self.names)


def photos(settings: Settings, progress: Progress | None) -> Comparison | None:
    """EfficientNet-Lite0 with its real ImageNet weights on real photos."""
    if not settings.photos:
        return None
    examples = data.photos(settings.photos)
    plan = Plan(
        title=f"EfficientNet-Lite0 on {len(examples)} photos",
        model=data.efficientnet().fast(examples.x),  # folded once, here, instead of by every method again
        **_rows(examples),
        methods={
            "saliency": methods.saliency(),
            "input_x_gradient": methods.input_x_gradient(),
            "integrated_gradients": methods.integrated_gradients(steps=40),
            "smooth_grad": methods.smooth_grad(samples=8),
            "grad_cam": methods.grad_cam(),
        },
        by_cell={"feature_ablation, 7 x 7 cells": methods.feature_ablation("mean")},
        cells=players.grid(7),
        together=("input_x_gradient", "grad_cam", "feature_ablation, 7 x 7 cells"),
        metrics=[
            *(metric("uniform", grid=7, fractions=COARSE) for metric in PAIR),
            *(metric("mean", grid=7, fractions=COARSER) for metric in PAIR),
            metrics.completeness(),
        ],
    )
    return plan.compared(settings, Run(progress=progress))


def closely(settings: Settings, progress: Progress | None) -> Comparison | None:
    """Two photos by methods that only ask for predictions: RISE, LIME and occlusion, at most 800 evaluations each.

    Two rows carry no verdict, and more would cost minutes: so there is none, and the page says why.
    """
    if not settings.photos:
        return None
    examples = data.photos(settings.photos)[list(CLOSE)]
    run = Run(progress=progress)
    plan = Plan(
        title="Two photos, by predictions alone",
        model=data.efficientnet().fast(examples.x),
        **_rows(examples),
        methods={},
        by_cell={
            "rise": methods.rise(400, removal="mean"),
            "lime": methods.lime(300, removal="mean"),
            "occlusion": methods.occlusion(32, 16, "mean"),
            "grad_cam": methods.grad_cam(),
        },
        metrics=[metric("uniform", grid=7, fractions=COARSE) for metric in PAIR],
    )
    why = (
        "Two photos show how these methods look, not how good they are; the chapters with more inputs judge. Under "
        "attack they get a reduced form of the published score."
    )
    less = "robustness: one attack of five steps on sets of three sizes among 49 cells, of two orders, on two photos"
    found = replace(plan.compared(settings, run, {"unjudged": why, "reduced": less}), decided=())
    attacked = [metric(SETS, grid=7, method=attack.minimum_norm(5)) for metric in ATTACKED]
    chosen = {label: found.explanations[label] for label in ATTACKED_PHOTOS if label in found.explanations}
    return replace(found, further=(evaluate(plan.model, chosen, attacked, settings.seed, run),))


def digits(settings: Settings, progress: Progress | None) -> Comparison | None:
    """A small network, trained on the spot, on held-out real digits."""
    if not settings.digits:
        return None
    model, examples = _reader(settings, progress)
    typical = data.digits("train", 20, settings.seed).x
    quick = attack.minimum_norm(6)
    plan = Plan(
        title=f"A digit reader on {len(examples)} handwritten digits",
        model=model,
        **_rows(examples),
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
            *(metric(SETS_OF_DIGITS, grid=7, method=quick) for metric in ATTACKED),
            metrics.completeness(),
        ],
    )
    run = Run(progress=progress, batch_size=128)
    less = "robustness: one attack of six steps on sets of two sizes, where a published score takes two attacks on nine"
    found = plan.compared(settings, run, {"reduced": less})
    ranked = [metric(level, grid=7, fractions=FINE) for level in LEVELS[1:-1] for metric in PAIR]
    return replace(found, further=(evaluate(model, found.explanations, ranked, settings.seed, run),))


def contrast(settings: Settings, progress: Progress | None) -> Comparison | None:
    """Why this digit and not that: the few squares in which a change of the answer is nearest."""
    if not settings.digits:
        return None
    model, examples = _reader(settings, progress)
    rows, others = _confused(model, examples)
    if not rows:
        return None
    examples, run = examples[rows], Run(progress=progress)
    asked, cells = Target(None, "margin"), players.grid(14)
    chosen = methods.greedy_as("relevant", fraction=0.15, subsets=200, against=others)
    found = {
        "greedy_as": explain(model, examples.x, chosen, asked, None, cells, settings.seed, run),
        "integrated_gradients": explain(model, examples.x, "integrated_gradients", asked, run=run),
    }
    why = (
        f"{len(rows)} digits show what would have to change; the chapter with {settings.digits} digits judges methods."
    )
    return shown(
        model, examples, found, {"title": "Why this digit and not that", "unjudged": why, "command": settings.command}
    )


def shown(
    model: Model,
    examples: Examples,
    found: Mapping[str, Explanation],
    about: Mapping[str, str],
) -> Comparison:
    """Explanations that are shown and not judged, with what the model says and what is true."""
    from pellucid.reporting import html

    with torch.no_grad():
        outputs = model.outputs(examples.x)
    return replace(
        html.unjudged(found),
        about={"data": examples.about, **about},
        probabilities=(outputs if model.scale == "prob" else outputs.softmax(1)).numpy(),
        truth=tuple(examples.y.tolist()),
        names=examples.names,
    )


def _confused(model: Model, examples: Examples) -> tuple[list[int], list[int]]:
    """Rows to ask about, and the class that each is not."""
    with torch.no_grad():
        said = model.outputs(examples.x).argmax(1).tolist()
    truth = examples.y.tolist()
    pairs = [(row, other) for one, other in CONFUSED for row in _first(said, truth, one)]
    pairs += [(row, true) for row, true in enumerate(truth) if said[row] != true][: CONTRASTS - len(pairs)]
    return [row for row, _ in pairs], [other for _, other in pairs]


def _first(said: Sequence[int], truth: Sequence[int], digit: int) -> list[int]:
    """The first row that is this digit and read as it."""
    return [row for row, (a, b) in enumerate(zip(said, truth, strict=True)) if a == b == digit][:1]


def _reader(settings: Settings, progress: Progress | None) -> tuple[Model, Examples]:
    """The small network and its held-out digits."""
    # Channels-last memory and calls small enough for the cache: together a fourfold throughput, as measured on a CPU.
    net = data.digits_cnn(progress=progress).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    examples = data.digits("test", settings.digits, settings.seed)
    return wrap(net, labels=examples.labels, bounds=(0.0, 1.0)), examples


def forest(settings: Settings, progress: Progress | None) -> Comparison | None:
    """A random forest on a table of tumours: nothing but predictions, and exact values of its trees beside them."""
    if not settings.tumours:
        return None
    table = tumours.table(settings.tumours, settings.seed)
    wanted = _from_predictions(table)
    if importlib.util.find_spec("shap") is not None:
        wanted = {"tree_shap": methods.tree_shap(table.background), **wanted}
    return _tabular(table, "A random forest", wrap(table.forest(), labels=tumours.LABELS), wanted, settings, progress)


def network(settings: Settings, progress: Progress | None) -> Comparison | None:
    """A small network on the same tumours: now there are gradients too."""
    if not settings.tumours:
        return None
    table = tumours.table(settings.tumours, settings.seed)
    wanted = {
        "expected_gradients": methods.expected_gradients(table.background, samples=200),
        **_from_predictions(table),
    }
    return _tabular(table, "A neural network", table.network(), wanted, settings, progress)


def _rows(examples: Examples) -> dict[str, Any]:
    return {"x": examples.x, "truth": examples.y, "names": examples.names, "source": examples.about}


def _from_predictions(table: tumours.Table) -> dict[str, Method]:
    """Methods of tables that only ask for predictions."""
    typical = removal.marginal(table.background)
    return {
        "kernel_shap": methods.kernel_shap(400, removal=typical),
        "permutation_shapley": methods.permutation_shapley(400, removal=typical),
        "lime_tabular": methods.lime_tabular(table.train, 2000),
        "feature_ablation": methods.feature_ablation(removal.independent(table.background)),
    }


def _tabular(
    table: tumours.Table,
    who: str,
    model: Model,
    wanted: Mapping[str, Method],
    settings: Settings,
    progress: Progress | None,
) -> Comparison:
    """A model of the table, judged under stand-ins that no method uses (the nearest tumours) and those that most
    use."""
    typical, near = removal.marginal(table.background), removal.nearest(table.train, 5)
    plan = Plan(
        title=f"{who} on {len(table.x)} tumours",
        model=model,
        x=table.x,
        truth=table.y,
        names=table.names,
        source=tumours.ABOUT,
        methods=wanted,
        target=tumours.LABELS.index("malignant"),
        metrics=[
            *(metric(reference, fractions=FINE) for reference in (near, typical) for metric in PAIR),
            *(metrics.value_error(64, reference) for reference in (near, typical)),
            metrics.completeness(),
        ],
    )
    return plan.compared(settings, Run(progress=progress))
