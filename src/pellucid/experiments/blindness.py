"""Which methods and metrics are blind to features that equal their reference: the paper's Theorems A.1 to A.4, run.

The object is a dark digit on white, read by a network that inverts its input first. Its darkest pixels are exactly 0,
the reference of many methods, and they are what the prediction rests on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pellucid
from pellucid import attack, methods, metrics
from pellucid.core import removal, rng
from pellucid.core.explanation import Explanation
from pellucid.evaluating import evaluate
from pellucid.experiments.contestants import TOP
from pellucid.experiments.digits import Digits
from pellucid.experiments.settings import Settings
from pellucid.metrics.metric import Metric
from pellucid.metrics.statistics import top
from pellucid.metrics.units import own
from pellucid.run.store import Store

Array = np.ndarray[Any, Any]

OFF = 0.25
"""How far the two references of Theorem A.2 lie from the input, to either side: their mean is the input."""
SHARE = 0.2
ROUNDING = 1e-6
"""Of outputs around 10 in float32: the same input in another batch may come out so far apart."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a method says of the dark object: its largest |value| there, and the share of its top 20 % that lies there.

    ``theorem``: which one speaks of it; ``map`` (28, 28) the values.
    """

    label: str
    reference: str
    theorem: str
    largest: float
    share: float
    map: Array

    @property
    def blind(self) -> bool:
        """Whether the object does not exist for the method, but for the rounding of float32."""
        return self.largest <= ROUNDING


@dataclass(frozen=True)
class Moved:
    """By how much a score changes, at most, when the whole object joins a set of chosen features."""

    label: str
    theorem: str
    change: float

    @property
    def blind(self) -> bool:
        """Whether the score cannot tell the two sets apart."""
        return self.change == 0


@dataclass(frozen=True, eq=False)
class Blindness:
    """The table and its picture: the input (28, 28) and the object (28, 28) bool, of ``share`` of the pixels."""

    x: Array
    object: Array
    prediction: int
    methods: tuple[Seen, ...]
    metrics: tuple[Moved, ...]

    @property
    def share(self) -> float:
        """How much of the picture the object is."""
        return float(self.object.mean())


def blindness(settings: Settings, rows: Digits, store: Store | None = None) -> Blindness:
    """Both tables, of the digit with the largest dark object; explanations that take long are kept in the store."""
    dark = 1 - rows.x
    row = int((dark == 0).flatten(1).sum(1).argmax())
    x = dark[row : row + 1]
    where = (x == 0)[0, 0]
    made = _explanations(settings, rows, x, row, store)
    plain = made["Gradient"][0]
    prediction = int(rows.dark.outputs(x).argmax(1))
    seen = [_seen(label, e, reference, theorem, where) for label, (e, reference, theorem) in made.items()]
    seen.insert(6, _averaged(plain, x, where))
    return Blindness(
        x[0, 0].numpy(), where.numpy(), prediction, tuple(seen), tuple(_moved(settings, plain, rows, where))
    )


def _explanations(
    settings: Settings, rows: Digits, x: Tensor, row: int, store: Store | None
) -> dict[str, tuple[Explanation, str, str]]:
    around = torch.cat([x - OFF, x + OFF])
    wanted = {
        "Integrated gradients": (methods.integrated_gradients(), "0", "A.1"),
        "Gradient x input": (methods.input_x_gradient(), "0", "A.1"),
        "Leaving one out": (methods.feature_ablation(), "0", "A.1"),
        "Baseline Shapley values, random orders": (methods.permutation_shapley(4 * 785), "0", "A.3"),
        "Baseline Shapley values, kernel estimate": (methods.kernel_shap(), "0", "A.3"),
        "Integrated gradients from white": (methods.integrated_gradients(baseline=1.0), "1", ""),
        "Expected gradients, mean of references = x": (methods.expected_gradients(around), "x ± ¼", "A.2"),
        "Expected gradients, training digits": (methods.expected_gradients(1 - rows.background), "data", ""),
        "Gradient": (methods.saliency(), "none", ""),
        "Greedy-AS S̄r": (methods.greedy_as("irrelevant", TOP, subsets=settings.subsets), "none", ""),
        "Greedy-AS Sr": (methods.greedy_as("relevant", TOP, subsets=settings.subsets), "none", ""),
    }
    made = {}
    for number, (label, (method, reference, theorem)) in enumerate(wanted.items()):
        path = None if store is None else store.folder / f"dark-{row:04d}-{number}.npz"
        e = None
        if path is not None and path.is_file():
            try:
                e = pellucid.load(path)
            except pellucid.BadInput:
                path.unlink(missing_ok=True)
        if e is None:
            e = pellucid.explain(rows.dark, x, method, seed=settings.seed)
            if path is not None:
                e.save(path)
        made[label] = (e, reference, theorem)
    return made


def _seen(label: str, e: Explanation, reference: str, theorem: str, where: Tensor) -> Seen:
    values = e.map()[0]
    if "greedy" in e.method["name"]:  # ranks are never 0: what is chosen is what it sees
        values = np.where(e.details["chosen"][0].reshape(values.shape), values, 0.0)
    first = top(own(e).scores.numpy(), round(SHARE * where.numel()))[0]
    share = float(first[where.flatten().numpy()].sum() / first.sum())
    return Seen(label, reference, theorem, float(np.abs(values[where.numpy()]).max()), share, values)


def _averaged(gradient: Explanation, x: Tensor, where: Tensor) -> Seen:
    """Theorem A.2 as it is stated: the mean over references of (x - x') K, with K the gradient at x, whatever x' is."""
    references = [x - OFF, x + OFF]
    mean = sum((x - reference for reference in references), torch.zeros_like(x)) / len(references)
    values = mean.numpy() * gradient.values
    e = replace(gradient, values=values)
    return _seen("Mean of (x - x') times gradient", e, "x ± ¼", "A.2", where)


def _moved(settings: Settings, like: Explanation, rows: Digits, where: Tensor) -> list[Moved]:
    """Scores of a random set S of pixels outside the object, and of S with the object: the curve at two sizes."""
    n, inside = where.numel(), where.flatten()
    count = int(inside.sum())
    shuffled = rng.uniform(settings.seed, "experiments.blindness", 0, 0, 1, n)[0]
    # The random set first, then the object, then the rest.
    size = max(1, n // 10)
    outside = torch.nonzero(~inside).reshape(-1)
    first = outside[shuffled[outside].argsort()[:size]]
    scores = shuffled * 0.1
    scores[inside] += 1
    scores[first] += 2
    order = replace(
        like, values=scores.reshape(1, 1, *where.shape).numpy(), details={**like.details, "ranking": "signed"}
    )
    sizes = (size / n, (size + count) / n)
    wanted: list[tuple[str, str, Metric]] = []
    for value, theorem in ((0.0, "A.4"), (0.5, ""), (1.0, ""), ("uniform", ""), (removal.blur(5.0), "")):
        name = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else "blurred"
        wanted.append((f"insertion, {name} reference", theorem, metrics.insertion(value, fractions=sizes)))
        wanted.append((f"deletion, {name} reference", theorem, metrics.deletion(value, fractions=sizes)))
    attacks = (attack.minimum_norm(),)
    wanted.append(("Robustness-S̄r", "", metrics.robustness_irrelevant(sizes, method=attacks)))
    wanted.append(("Robustness-Sr", "", metrics.robustness_relevant(sizes, method=attacks)))
    cells = evaluate(rows.dark, order, [metric for _, _, metric in wanted], seed=settings.seed).cells
    return [
        Moved(label, theorem, float(np.abs(np.diff(np.asarray(cell.curve)[0])).max()))
        for (label, theorem, _), cell in zip(wanted, cells, strict=True)
    ]
