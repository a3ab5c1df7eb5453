"""Faces in worlds of known bias: the people, the classifier, the translators, and what the audit finds through each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

import pellucid
from pellucid import Target, data, generative, methods, removal, spaces
from pellucid.auditing import Audit, Difference
from pellucid.core.errors import BadInput
from pellucid.core.explanation import Explanation
from pellucid.core.method import Method
from pellucid.core.model import Model
from pellucid.data.drawn_faces import FACE_ATTRIBUTES, SIZE
from pellucid.data.examples import Examples
from pellucid.data.face_networks import INVITED
from pellucid.experiments.semantic.bench import Array, Bench
from pellucid.generative.fit import Fitted
from pellucid.generative.quality import Flips, Reconstruction
from pellucid.spaces.attributes import UNLABELLED, Attributes

ROWS, BACKGROUND, STEPS, JUDGED, ORDERS = 240, 400, 64_000, 1000, 150
FACES = 24_000
FEWEST = 30
PROXIES = 0.7
MARGIN = 0.05
"""The smallest change of the chance of being invited that matters here; set before any value was seen."""
HIDDEN = "dark skin"
CONTROL = "mouth open"
NEVER = f"{HIDDEN} (true)"
"""The group of those who have what is painted over; no feature bears its name."""
PLAYERS = (*FACE_ATTRIBUTES, UNLABELLED)
EXACT, TRAINED, OWN = "exact translator", "trained translator", "translator trained on correlated faces"
INDEPENDENT, CORRELATED, PAINTED = "independent", "correlated", "painted"


@dataclass(frozen=True, eq=False)
class World:
    """People, and a classifier that learned from others like them. ``attributes`` (N, 13) are those that show;
    ``groups`` those that are true."""

    key: str
    title: str
    model: Model
    x: Tensor
    y: Tensor
    attributes: Tensor
    background: Tensor
    background_attributes: Tensor
    groups: dict[str, Array]
    examples: Examples
    output: str


@dataclass(frozen=True, eq=False)
class Translator:
    """A way to change attributes, and how good it is. ``reads`` are attributes of the pictures that it is given."""

    key: str
    label: str
    change: Callable[[Tensor, Tensor], Tensor]
    flips: Flips
    back: Reconstruction | None
    fitted: Fitted | None = None

    def space(self, world: World) -> Attributes:
        """The space of attributes of the world's faces, whose labels are known."""
        known = spaces.labels(
            torch.cat([world.x, world.background]), torch.cat([world.attributes, world.background_attributes])
        )
        return spaces.attributes(self.change, FACE_ATTRIBUTES, known, tolerance=float("inf"))


@dataclass(frozen=True, eq=False)
class Explained:
    """A world through a translator: values of the output for every row, and what the audit says."""

    world: World
    translator: Translator
    e: Explanation
    audit: Audit

    @property
    def true_class(self) -> Array:
        """Local values (N, 14) of the true label: of the other of two classes they are the negatives."""
        sign = np.where(self.world.y.numpy() == 1, 1.0, -1.0)
        values: Array = np.asarray(self.e.values, dtype=np.float64) * sign[:, None]
        return values

    @property
    def doubted(self) -> bool:
        """Whether the translator was trained, and did not pass."""
        return self.translator.fitted is not None and not self.translator.flips.passes

    @property
    def label(self) -> str:
        """The translator, with what must be said beside its values."""
        return self.translator.label + (" (not to be believed: it did not pass)" if self.doubted else "")


def world(bench: Bench, key: str, title: str, task: str, proxies: float, hidden: str | None) -> World:
    """Draw the people and train (or read) their classifier."""
    rows, seed = bench.examples(ROWS), bench.settings.seed
    net = data.faces_cnn(task, proxies, hidden, progress=bench.progress)
    bench.uses(net)
    people = data.faces(rows + BACKGROUND, seed=seed + 11, proxies=proxies)
    truth, unlabelled = people.truth["attributes"], people.truth["unlabelled"]
    shown, x = truth, people.x
    if hidden is not None:
        shown = truth.clone()
        shown[:, FACE_ATTRIBUTES.index(hidden)] = 0
        x = data.render_faces(shown, unlabelled)
    labels = (f"no {task}", task) if task != INVITED else people.labels
    y = people.y if task == INVITED else truth[:, FACE_ATTRIBUTES.index(task)].long()
    groups = {
        NEVER if name == hidden else name: truth[:rows, i].bool().numpy() for i, name in enumerate(FACE_ATTRIBUTES)
    }
    drawn = replace(people, x=x, truth={**people.truth, "attributes": shown})
    return World(
        key,
        title,
        pellucid.wrap(net, labels=list(labels), bounds=(0, 1)),
        x[:rows],
        y[:rows],
        shown[:rows],
        x[rows:],
        shown[rows:],
        groups,
        drawn,
        task,
    )


def judge(bench: Bench) -> Callable[[Tensor], Tensor]:
    """The reader that flips are counted with: another network than any translator was trained against."""
    reader = data.faces_reader(progress=bench.progress)
    bench.uses(reader)
    return reader


def exact(world: World, flips: Flips) -> Translator:
    """Faces drawn again: without error."""
    return Translator("exact", EXACT, data.face_translator(world.examples), flips, None)


def learned(bench: Bench, read: Callable[[Tensor], Tensor], proxies: float = 0.0) -> Translator:
    """A translator trained on faces and their labels alone, of independent attributes or with proxies, checkpointed.
    Its flips are counted on faces of independent attributes in both cases."""
    steps = bench.steps(STEPS)
    count = min(FACES, 16 * steps)
    train, held = data.faces(count, seed=1, proxies=proxies), data.faces(256, seed=2, proxies=proxies)
    recipe = generative.translator(FACE_ATTRIBUTES, size=SIZE, filters=12, critic_steps=2)
    fitted = bench.fitted(
        replace(recipe, rate=2e-3, batch=16),
        train.x,
        train.truth["attributes"],
        steps=steps,
        every=min(500, steps),
        held_out=(held.x, held.truth["attributes"]),
    )
    bench.uses(fitted.model)
    fresh = data.faces(JUDGED, seed=3)
    return Translator(
        "own" if proxies else "trained",
        OWN if proxies else TRAINED,
        fitted.model,
        generative.flips(fitted.model, read, fresh.x, FACE_ATTRIBUTES),
        generative.reconstruction(fitted.model, fresh.x),
        fitted,
    )


def shifted(read: Callable[[Tensor], Tensor]) -> Translator:
    """The trivial control: each attribute adds the same picture to every face, found by least squares."""
    train, fresh = data.faces(3000, seed=1), data.faces(JUDGED, seed=3)
    table = torch.cat([train.truth["attributes"], torch.ones(len(train), 1)], 1)
    added = torch.linalg.lstsq(table, train.x.flatten(1)).solution[:-1]

    def change(x: Tensor, difference: Tensor) -> Tensor:
        moved: Tensor = (x + (difference @ added).reshape(x.shape)).clamp(0, 1)
        return moved

    flips = generative.flips(change, read, fresh.x, FACE_ATTRIBUTES)
    return Translator("shift", "one picture added", change, flips, None)


def explained(bench: Bench, world: World, translator: Translator) -> Explained:
    """Every row's values of the output, and the audit."""
    space = translator.space(world)
    e = bench.explanation(
        f"{world.key}-{translator.key}",
        lambda: pellucid.explain(
            world.model, world.x, few(world), Target(1, read="prob"), space, seed=bench.settings.seed
        ),
    )
    return Explained(world, translator, e, pellucid.audit(e, world.groups, margin=MARGIN))


def few(world: World) -> Method:
    """Two pairs of orders a row, each with a background row of its own."""
    return methods.permutation_shapley(4 * len(PLAYERS), removal=removal.marginal(world.background, draws=1))


def many(bench: Bench, world: World) -> Method:
    """For a single row."""
    budget = 2 * len(PLAYERS) * bench.orders(ORDERS)
    return methods.permutation_shapley(budget, removal=removal.marginal(world.background, draws=1))


@dataclass(frozen=True, eq=False)
class Found:
    """All that was computed: worlds by key, their explanations by world and translator, the translators' quality."""

    worlds: dict[str, World]
    explained: dict[tuple[str, str], Explained]
    exact: Translator
    shift: Translator
    trained: Translator
    own: Translator

    def __getitem__(self, key: tuple[str, str]) -> Explained:
        return self.explained[key]

    def ways(self, key: str) -> list[Explained]:
        """A world through each of its translators."""
        return [e for (world, _), e in self.explained.items() if world == key]


def found(bench: Bench) -> Found:
    """Everything, made or read."""
    rows = bench.examples(ROWS)
    if rows < FEWEST:
        raise BadInput(f"--examples must be at least {FEWEST} for faces, so that every group has people; got {rows}")
    read = judge(bench)
    trained, own = learned(bench, read), learned(bench, read, PROXIES)
    made = {
        INDEPENDENT: world(bench, INDEPENDENT, "independent attributes", INVITED, 0.0, None),
        CORRELATED: world(bench, CORRELATED, "correlated attributes", INVITED, PROXIES, None),
        PAINTED: world(bench, PAINTED, f"correlated, {HIDDEN} painted over", INVITED, PROXIES, HIDDEN),
        CONTROL: world(bench, "control", f"control: a classifier of {CONTROL!r}", CONTROL, 0.0, None),
    }
    fresh = data.faces(JUDGED, seed=3)
    flips = generative.flips(data.face_translator(fresh), read, fresh.x, FACE_ATTRIBUTES)
    ways: dict[tuple[str, str], Explained] = {}
    for key, people in made.items():
        ways[key, "exact"] = explained(bench, people, exact(people, flips))
        ways[key, "trained"] = explained(bench, people, trained)
    ways[CORRELATED, "own"] = explained(bench, made[CORRELATED], own)
    return Found(made, ways, ways[INDEPENDENT, "exact"].translator, shifted(read), trained, own)


def told(d: Difference) -> str:
    """A difference with its limits."""
    return f"{figure(d.value)} ({figure(d.low)} to {figure(d.high)})"


def figure(value: float) -> str:
    """A signed difference."""
    return f"{value:+.3f}".replace("-", "−")
