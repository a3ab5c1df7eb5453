"""One seeded, resumable training loop for every model that is learned here."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from pellucid import __version__
from pellucid.core import rng
from pellucid.core.budget import Run
from pellucid.core.errors import BadInput
from pellucid.core.method import plain
from pellucid.generative.learner import Learner, Recipe, Step, whole
from pellucid.run.job import one_thread
from pellucid.run.store import Store

if TYPE_CHECKING:
    import pandas as pd

_KEY = "checkpoint"
HELD_OUT = "held_out"


@dataclass(frozen=True, eq=False)
class Fitted:
    """What training made.

    ``model``: the trained module, in eval mode; ``steps``: how many were done; ``kept``: after which of them the
    weights are (an earlier one where training stopped early); ``seconds``: of all runs that worked on it; ``spec``: all
    that the weights depend on, as plain JSON.
    """

    model: Any
    steps: int
    kept: int
    seconds: float
    spec: dict[str, Any]
    record: dict[str, Tensor] = field(repr=False)

    @property
    def losses(self) -> pd.DataFrame:
        """One row a step: every term of the loss, and the held-out loss where it was looked at (else NaN)."""
        import pandas as pd

        index = pd.RangeIndex(1, self.steps + 1, name="step")
        return pd.DataFrame({name: values.numpy() for name, values in self.record.items()}, index=index)


@dataclass
class _Progress:
    """How far training is: with the weights and the optimisers' state, all that a resume needs."""

    step: int = 0
    seconds: float = 0.0
    best: float = math.inf
    kept: int = 0
    stale: int = 0
    record: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def add(self, terms: list[dict[str, Tensor]], held_out: float | None) -> None:
        """Append the terms of the latest steps; a step that lacks one gets NaN there."""
        names = list(dict.fromkeys([*self.record, *(name for term in terms for name in term)]))
        for name in names:
            missing = torch.tensor(math.nan)
            new = torch.stack([term.get(name, missing).detach().double().cpu() for term in terms])
            old = self.record.get(name, torch.full((self.step,), math.nan, dtype=torch.float64))
            self.record[name] = torch.cat([old, new])
        self.step += len(terms)
        if held_out is not None:
            column = self.record.setdefault(HELD_OUT, torch.empty(0, dtype=torch.float64))
            gap = torch.full((self.step - len(column),), math.nan, dtype=torch.float64)
            self.record[HELD_OUT] = torch.cat([column, gap])
            self.record[HELD_OUT][-1] = held_out


def fit(
    model: Recipe,
    x: Any,
    y: Any = None,
    steps: int = 10_000,
    held_out: Any = None,
    patience: int | None = None,
    every: int = 500,
    seed: int = 0,
    device: str | torch.device | None = None,
    run: Run | None = None,
) -> Fitted:
    """Train a generative model: the same weights for the same seed, also after a kill.

    Adam on minibatches that are slices of a seeded order of the rows, a new one for each pass over the data. All that
    is random is keyed by (seed, step); the global random states are left alone.

    - ``model``: a recipe such as ``generative.beta_tcvae()``; it says the size of minibatches and the rate;
    - ``x``: (N, ...) pictures in 0..1, or uint8; ``y``: (N, A) labels, for models that learn from them (NaN: unknown);
    - ``steps``: minibatches; over the last of them the rate falls to 0 in a line, where the recipe has a ``decay``;
      ``every``: so many steps apart come a checkpoint, a call of ``run.progress`` and a look at the held-out rows;
    - ``held_out``: x, or (x, y), of rows to test on; with ``patience`` training stops once so many looks in a row found
      nothing better, and the best weights are returned, else the last;
    - ``device``: where to compute (None: where ``x`` is); the data stays where it is and is moved by minibatches;
    - ``run``: ``Run(store=folder)`` keeps checkpoints there, written whole or not at all and read without pickle; the
      same call goes on from the last one, and a finished one is read. With a store one thread is used on the CPU, so
      that every machine thread count gives the same bits. GPUs promise the same to rounding only.

    Returns ``Fitted``: ``model`` in eval mode, ``losses``, ``steps``, ``seconds``, ``spec``. Cost: a forward and a
    backward of a minibatch a step. Source: kingma2015.
    """
    run = run or Run()
    whole("generative.fit", "steps", steps)
    whole("generative.fit", "every", every)
    whole("generative.fit", "seed", seed, 0)
    if patience is not None:
        whole("generative.fit", "patience", patience)
        if held_out is None:
            raise BadInput("generative.fit: patience stops by held-out rows; give them as held_out=x or (x, y)")
    x, y = _rows(x, y, "x")
    test = None
    if held_out is not None:
        rows, labels = held_out if isinstance(held_out, tuple) else (held_out, None)
        test = _rows(rows, labels, "held_out")
        if test[0].shape[1:] != x.shape[1:] or _width(test[1]) != _width(y):
            raise BadInput(
                f"generative.fit: held_out has rows of shape {tuple(test[0].shape[1:])} and {_width(test[1])} labels, "
                f"x of {tuple(x.shape[1:])} and {_width(y)}; give both alike"
            )
    place = torch.device(device) if device is not None else x.device
    spec = {
        "model": plain(model),
        "data": plain([x, y, test]),
        "fit": {"steps": steps, "every": every, "patience": patience, "seed": seed, "device": place.type},
        "versions": {"pellucid": __version__, "torch": torch.__version__},
    }
    with _training(run), Store.opened(run.store, spec, temporary=False, resume=run.resume) as store:
        learner = model.build(seed)
        for rows, labels in [(x, y)] if test is None else [(x, y), test]:
            learner.check(rows, labels)
        learner.prepare(x, y)
        learner.to(place)
        if x.ndim == 4:
            learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster
        loop = _Loop(model, learner, (x, y), test, steps, seed, store)
        loop.load()
        progress = loop.progress
        while progress.step < steps and (patience is None or progress.stale < patience):
            loop.block(min(every, steps - progress.step), choose=patience is not None)
            if run.progress is not None:
                run.progress(f"training {model.name}", progress.step, steps)
        if patience is not None:
            learner.load_state_dict(progress.weights)
        learner.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    kept = progress.step if patience is None else progress.kept
    return Fitted(learner.eval(), progress.step, kept, progress.seconds, spec, progress.record)


@dataclass
class _Loop:
    """A learner, its optimisers and its data."""

    recipe: Recipe
    learner: Learner
    train: tuple[Tensor, Tensor | None]
    test: tuple[Tensor, Tensor | None] | None
    last: int
    seed: int
    store: Store | None
    progress: _Progress = field(default_factory=_Progress)
    optimisers: dict[str, torch.optim.Adam] = field(init=False)
    order: tuple[int, Tensor] | None = None

    def __post_init__(self) -> None:
        rate, betas = self.recipe.rate, self.recipe.betas
        self.optimisers = {
            part: torch.optim.Adam(parameters, lr=rate, betas=betas)
            for part, parameters in self.learner.parts().items()
        }

    def block(self, count: int, choose: bool) -> None:
        """Some steps, then a look at the held-out rows, then a checkpoint."""
        progress, start, terms = self.progress, time.perf_counter(), []
        self.learner.train()
        for index in range(progress.step, progress.step + count):
            terms.append(self._descend(index))
        found = None if self.test is None else self._score()
        first = progress.step
        progress.add(terms, found)
        for name, values in progress.record.items():
            made = torch.tensor([name in t for t in terms])
            if name == HELD_OUT:
                made[-1] = True
            wrong = made & ~values[first:].isfinite()
            if bool(wrong.any()):
                step = first + int(wrong.int().argmax())
                raise BadInput(
                    f"generative.fit: {name!r} of {self.recipe.name} became {float(values[step]):g} at step "
                    f"{step + 1}; use a smaller rate than {self.recipe.rate:g}"
                )
        if choose and found is not None:
            progress.stale += 1
            if found < progress.best:
                progress.best, progress.kept, progress.stale = found, progress.step, 0
                progress.weights = {key: part.detach().clone() for key, part in self.learner.state_dict().items()}
        progress.seconds += time.perf_counter() - start
        self.save()

    def _descend(self, index: int) -> dict[str, Tensor]:
        part = self.learner.turn(index)
        optimiser = self.optimisers[part]
        for group in optimiser.param_groups:
            group["lr"] = self._rate(index)
        x, y = self._minibatch(index)
        terms = self.learner.losses(part, x, y, Step(index, len(self.train[0]), self.seed))
        self.learner.zero_grad()  # also what other parts were left with
        terms["loss"].backward()
        optimiser.step()
        return {name: value.detach() for name, value in terms.items()}

    def _rate(self, index: int) -> float:
        """The recipe's rate, and over the last steps a line from it towards 0."""
        falling = self.recipe.decay * self.last
        return self.recipe.rate * (1.0 if falling == 0 else min(1.0, (self.last - index) / falling))

    def _minibatch(self, index: int) -> tuple[Tensor, Tensor | None]:
        x, y = self.train
        size = min(self.recipe.batch, len(x))
        epoch, place = divmod(index, len(x) // size)  # what is left of an epoch when no full minibatch is left, is left
        if self.order is None or self.order[0] != epoch:
            self.order = epoch, rng.permutation(self.seed, "generative.fit/order", epoch, 0, 1, len(x))[0]
        rows = self.order[1][place * size : (place + 1) * size].to(x.device)
        return self._moved(x[rows]), None if y is None else self._moved(y[rows.to(y.device)])

    def _score(self) -> float:
        """The mean held-out score, with the weights that terms of the loss have at the last step."""
        x, y = cast("tuple[Tensor, Tensor | None]", self.test)
        parts = max(1, len(x) // self.recipe.batch)
        edges = [len(x) * part // parts for part in range(parts + 1)]
        self.learner.eval()
        total = 0.0
        with torch.no_grad():
            for draw, (start, stop) in enumerate(itertools.pairwise(edges)):
                step = Step(self.last, len(x), self.seed, "generative.fit/held_out", draw)
                labels = None if y is None else self._moved(y[start:stop])
                total += float(self.learner.score(self._moved(x[start:stop]), labels, step)) * (stop - start)
        return total / len(x)

    def _moved(self, rows: Tensor) -> Tensor:
        rows = rows.to(next(self.learner.parameters()).device)
        if rows.dtype == torch.uint8:
            return rows.float() / 255
        return rows.float()

    def save(self) -> None:
        """Write what a resume needs."""
        if self.store is None:
            return
        state = {
            "progress": replace(self.progress, weights=_cpu(self.progress.weights)),
            "learner": _cpu(self.learner.state_dict()),
            "optimisers": {
                part: {str(key): _cpu(moments) for key, moments in optimiser.state_dict()["state"].items()}
                for part, optimiser in self.optimisers.items()
            },
        }
        passes = self.progress.step * min(self.recipe.batch, len(self.train[0]))
        self.store.save(_KEY, state, {"forwards": passes, "backwards": passes})

    def load(self) -> None:
        """Go on from the checkpoint, if there is one that can be read."""
        stored = None if self.store is None else self.store.load(_KEY)
        if stored is None:
            return
        state = stored[0]
        self.progress = state["progress"]
        self.learner.load_state_dict(state["learner"])
        for part, optimiser in self.optimisers.items():
            moments = {int(key): entry for key, entry in state["optimisers"][part].items()}
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def _cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in state.items()}


def _rows(x: Any, y: Any, name: str) -> tuple[Tensor, Tensor | None]:
    """Pictures and labels as tensors."""
    x = torch.as_tensor(x).detach()
    if x.ndim < 2 or len(x) < 2:
        raise BadInput(f"generative.fit: {name} must be (N, ...) with at least two rows, got shape {tuple(x.shape)}")
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise BadInput(f"generative.fit: {name} has NaN or infinite entries")
    if y is None:
        return x, None
    y = torch.as_tensor(y).detach()
    if y.ndim != 2 or len(y) != len(x):
        raise BadInput(f"generative.fit: labels of {name} must be (N, A) = ({len(x)}, A), got {tuple(y.shape)}")
    return x, y.float()


def _width(y: Tensor | None) -> int:
    return 0 if y is None else y.shape[1]


@contextlib.contextmanager
def _training(run: Run) -> Iterator[None]:
    """Gradients on, whatever the caller has set, and one thread where the result is stored."""
    threads = one_thread() if run.store is not None else contextlib.nullcontext()
    with threads, torch.inference_mode(False), torch.enable_grad():
        yield
