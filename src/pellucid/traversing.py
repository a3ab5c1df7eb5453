"""traverse: what the model says while one feature moves and the others stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.api import ask, store, untouched
from pellucid.core import removal as absence
from pellucid.core.budget import Run
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.explanation import Explanation
from pellucid.core.players import Players, each
from pellucid.core.question import Question
from pellucid.core.space import Inner, Space
from pellucid.models import wrap

Array = np.ndarray[Any, Any]

MOST_FEATURES = 100


@dataclass(frozen=True)
class Sweep:
    """One feature on its way, S steps: ``values`` (S,) of its coordinate, None where it has several; ``inputs``
    (S, ...), None inside a model; ``outputs`` (S,), or (S, J) for several; ``here`` its value at x itself, or None."""

    name: str
    values: Array | None
    here: float | None
    inputs: Array | None
    outputs: Array


@dataclass(frozen=True)
class Traversal:
    """A sweep for each feature of one row; ``output`` is the model's at the row's own coordinates."""

    sweeps: tuple[Sweep, ...]
    output: Array
    output_name: str

    def __getitem__(self, name: str) -> Sweep:
        found = next((sweep for sweep in self.sweeps if sweep.name == name), None)
        if found is None:
            raise BadInput(f"traverse: feature {name!r} not found; have {', '.join(s.name for s in self.sweeps)}")
        return found

    @property
    def effect(self) -> dict[str, float]:
        """How far each feature moves the output: largest minus smallest on its way."""
        return {sweep.name: float(np.ptp(sweep.outputs, axis=0).max()) for sweep in self.sweeps}

    def beside(self, e: Explanation, row: int = 0) -> Explanation:
        """The explanation with this traversal of one of its rows in ``details["traversals"]``, where the report finds
        it; other traversals stay."""
        if self.output.ndim:
            raise Unsupported("traverse: several outputs at once are not shown in a report; traverse one target")
        if not 0 <= row < len(e):
            raise BadInput(f"traverse: row {row} is out of range; the explanation has {len(e)} rows")
        mine = {
            "row": int(e.details.get("first_row", 0)) + row,
            "output": float(self.output),
            "output_name": self.output_name,
            "sweeps": [{f.name: getattr(sweep, f.name) for f in fields(sweep)} for sweep in self.sweeps],
        }
        return replace(e, details={**e.details, "traversals": [*e.details.get("traversals", ()), mine]})

    def plot(self) -> Any:
        """A matplotlib figure: a row of pictures for each feature, the model's output under each."""
        from matplotlib.figure import Figure

        first = self.sweeps[0].inputs
        if first is None or first.ndim < 3 or self.output.ndim:
            raise Unsupported("traverse: only pictures under one output are drawn; use sweep.outputs")
        wide = max(len(sweep.outputs) for sweep in self.sweeps)
        figure = Figure(figsize=(1.1 * wide + 1.2, 1.35 * len(self.sweeps)), layout="constrained")
        axes = figure.subplots(len(self.sweeps), wide, squeeze=False)
        for line, sweep in zip(axes, self.sweeps, strict=True):
            line[0].set_ylabel(sweep.name, rotation=0, ha="right", va="center")
            for place, axis in enumerate(line):
                axis.set(xticks=[], yticks=[], frame_on=False)
                if sweep.inputs is not None and place < len(sweep.outputs):
                    axis.imshow(_picture(sweep.inputs[place]), cmap="gray", vmin=0, vmax=1)
                    axis.set_xlabel(f"{sweep.outputs[place]:.2f}")
        return figure


def _picture(x: Array) -> Array:
    """(H, W) or (H, W, 3), in [0, 1]."""
    picture = np.moveaxis(x, 0, -1) if x.ndim == 3 and x.shape[0] in (1, 3) else x
    return np.clip(picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture, 0, 1)


def traverse(
    model: Any,
    x: Any,
    space: Space,
    background: Any,
    target: Any = None,
    players: Any = None,
    steps: int = 7,
    run: Run | None = None,
) -> Traversal:
    """What does the model say as one feature moves over the values it has in the data?

    ``x``: one row (1, ...); ``background`` (R, ...): rows, in input units, whose coordinates say where each feature may
    go. A feature of one coordinate takes ``steps`` values, equally spaced from the smallest to the largest of the
    background's (its own values, where these are no more than ``steps``); one of several coordinates (a one-hot block,
    "unlabelled", a band) takes them from ``steps`` different background rows. All others stay as in x. ``target``:
    as for ``explain``. Returns a ``Traversal``: inputs and outputs for each feature. Interactions do not show here;
    Shapley values count them. Cost: n * steps forwards. Source: demijolla2020, Figs. 5 and 9.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise BadInput(f"traverse: steps must be a whole number of at least 2, got {steps!r}")
    with untouched():
        question = ask(wrap(model), x, target, space, players, 0, Run.of(run), fold=False)
        if len(question.z) != 1:
            raise BadInput(f"traverse: x must be one row (1, ...), got {len(question.z)} rows; pass x[:1]")
        divided = question.players or each().divide(question.z, question.dims, question.space.names)
        if divided.n > MOST_FEATURES:
            raise BadInput(
                f"traverse: {divided.n} features are too many to look at, the limit is {MOST_FEATURES}; use "
                "players.groups(...) or bins"
            )
        rows = question.space.encode(absence.rows_of(background, "traverse").rows(question)).flatten(1)
        sweeps = tuple(_sweep(question, divided, rows, player, steps) for player in range(divided.n))
        several = question.target.several
        return Traversal(sweeps, _numbers(question.here(), several)[0], _output_name(question))


def _sweep(question: Question, players: Players, rows: Tensor, player: int, steps: int) -> Sweep:
    entries = (players.labels.reshape(-1) == player).nonzero()[:, 0].to(rows.device)
    part, own = rows[:, entries], question.z.reshape(-1)[entries]
    single = len(entries) == 1
    stops = torch.unique(part, dim=0)
    if len(stops) > steps:
        if single and stops.is_floating_point():
            stops = torch.linspace(0, 1, steps).to(stops)[:, None] * (stops[-1] - stops[0]) + stops[0]
        else:
            stops = stops[torch.linspace(0, len(stops) - 1, steps).round().long()]
    z = question.z.flatten(1).repeat(len(stops), 1)
    z[:, entries] = stops
    z = z.unflatten(1, question.z.shape[1:])
    outputs = question.value(z, torch.zeros(len(z), dtype=torch.long))
    with torch.no_grad():
        inputs = None if isinstance(question.space, Inner) else store(question.space.decode(z))
    return Sweep(
        players.names[player],
        store(stops[:, 0]) if single else None,
        float(own[0]) if single else None,
        inputs,
        _numbers(outputs, question.target.several),
    )


def _numbers(outputs: Tensor, several: bool) -> Array:
    return np.asarray(store(outputs if several else outputs[:, 0]))


def _output_name(question: Question) -> str:
    index: Any = question.target.index
    labels: Sequence[str] | None = question.model.labels
    if not isinstance(index, tuple):
        return question.target.read_name
    return labels[index[0]] if labels is not None else f"output {index[0]}"
