"""explain, evaluate, compare, check: wrap, encode, run, label the result."""

from __future__ import annotations

import contextlib
import platform
import random
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid import methods as recipes
from pellucid.core import inputs as reading
from pellucid.core import players as dividing
from pellucid.core.budget import Executor, Run, batch_rows
from pellucid.core.errors import BadInput, Unreliable, Unsupported, listing
from pellucid.core.explanation import Explanation
from pellucid.core.method import Method, Result, arrays, plain
from pellucid.core.model import Model
from pellucid.core.players import feature_names
from pellucid.core.question import Question
from pellucid.core.space import Identity, Inner, Space
from pellucid.core.target import Target
from pellucid.models import wrap
from pellucid.run.job import answer

RESIDUAL_WARNING = 0.05
"""Relative residual above which a method that promises completeness raises ``Unreliable`` (the 5 % rule of
sundararajan2017)."""


RECONSTRUCTION_WARNING = 0.1
"""The same for the way through a space that is not exact, where the space itself says nothing."""


def explain(
    model: Any,
    x: Any,
    method: Method | str,
    target: Any = None,
    space: Space | None = None,
    players: Any = None,
    seed: int = 0,
    run: Run | None = None,
    first_row: int = 0,
) -> Explanation:
    """Why does the model give this output at each row of x?

    ``model``: an nn.Module, callable, estimator or ``pellucid.wrap(...)``. ``x``: a batch (B, ...) of tensors, arrays,
    a DataFrame or PIL images. ``method``: a recipe's value, or a recipe's name for its defaults. ``target``: a column,
    a label, one a row, "all", a ``Target``, or None for the predicted class (looked up once and stored). ``space``:
    coordinates to explain in (None: the input). ``players``: entries that act together. ``seed``: of every draw; draws
    are keyed by (seed, first_row + i), so a row can be computed alone. ``run``: how, never what.

    Returns an ``Explanation`` with values (B, *dims of z) or (B, n). The model, x and all random states are left as
    they were.
    """
    run = Run.of(run)
    chosen = pick(method)
    with untouched():
        question = ask(wrap(model), x, target, space, players, seed, run, first_row, fold=chosen.averaged)
        refuse(chosen, question.model)
        executor = question.executor
        with executor.measured(question.model.device):
            stored = question.here() if run.store is not None else None  # part of what names the job
            found = answer(chosen, question, run, {} if stored is None else spec(question, chosen, stored))
            outputs = stored if stored is not None else found.outputs if found.outputs is not None else question.here()
        return label(question, chosen, found, outputs)


def pick(method: Method | str) -> Method:
    """A method from a value or from the name of a recipe."""
    if isinstance(method, Method):
        return method
    catalogue: dict[str, Any] = {recipe.__name__: recipe for recipe in recipes.CATALOGUE}
    if isinstance(method, str):
        if method not in catalogue:
            raise BadInput(f"method {method!r} not found; have {listing(catalogue)}")
        try:
            chosen: Method = catalogue[method]()
            return chosen
        except TypeError as error:
            raise BadInput(f"method {method!r} has no defaults: {error}; call methods.{method}(...)") from None
    if callable(method) and method in recipes.CATALOGUE:
        raise BadInput(f"method: got the recipe itself; call it: methods.{getattr(method, '__name__', method)}()")
    raise BadInput(
        f"method: expected a method such as methods.integrated_gradients() or its name, got {type(method).__name__}"
    )


def ask(
    model: Model,
    x: Any,
    target: Any,
    space: Space | None,
    players: Any,
    seed: int,
    run: Run,
    first_row: int = 0,
    fold: bool = True,
) -> Question:
    """The question, checked: inputs read, coordinates encoded, the target looked up, players divided; ``fold`` allows
    the folded copy."""
    check_seed(seed)
    if isinstance(first_row, bool) or not isinstance(first_row, (int, np.integer)) or first_row < 0:
        raise BadInput(f"first_row must be a whole number of at least 0, got {first_row!r}")
    if space is not None and not isinstance(space, Space):
        raise BadInput(f"space: expected one such as spaces.fourier(), or None, got {type(space).__name__}")
    model.widths  # noqa: B018 - made here, so that the copies made from here on share it
    batch = reading.read(x, model)
    model = model.receiving(batch)
    space = Identity(names=batch.columns) if space is None else space
    rows = batch.tensor
    if isinstance(space, Inner):
        space, fold = space.bound(model, rows), False  # folding changes what layers return
    z = space.encode(rows)
    executor = Executor(batch_rows(rows[0].numel(), run))
    if fold and run.fold is not False:
        model = model.fast(rows)
    executor.cost.folded = model.folded
    wanted = Target.of(target)
    question = Question(model, space, wanted, rows, z, int(seed), executor, None, first_row, 0, len(rows))
    if not callable(wanted.read):
        question = _resolved(question, wanted)
    divided = dividing.resolve(players if players is not None else space.groups, z, question.dims, space.names)
    return replace(question, players=divided)


def check_seed(seed: Any) -> None:
    """Refuse a seed that is not a whole number of at least 0."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise BadInput(f"seed must be a whole number of at least 0, got {seed!r}")


def _resolved(question: Question, wanted: Target) -> Question:
    model, executor = question.model, question.executor
    shape = tuple(question.x.shape[1:])
    rows = len(question.x) if wanted.index is None else 1  # one row shows how many outputs there are
    if wanted.index is not None and shape in model.widths:  # and once is enough
        outputs = question.x.new_zeros(1, model.widths[shape], dtype=torch.get_default_dtype())
    else:
        with torch.no_grad():
            parts = executor.map(lambda part: model.matrix(question.run(question.x[:rows][part])), rows)
        executor.cost.forwards += rows
        outputs = torch.cat(parts)
        if len(outputs) != rows:
            raise BadInput(
                f"the model returned {len(outputs)} rows for {rows} inputs; row i of the output must belong to "
                "row i of the input"
            )
        model.widths[shape] = outputs.shape[1]
    model = model.seeing(outputs)
    wanted = wanted.resolve(outputs.expand(len(question.x), -1), model.labels)
    return replace(question, model=model, target=wanted)


def refuse(method: Method, model: Model) -> None:
    """Raise ``Unsupported``, with two methods that would work, where the model lacks what the method needs."""
    missing = method.needs - abilities(model)
    if missing:
        raise Unsupported(
            f"{method.name} needs {' and '.join(sorted(missing))}, which {model.name} does not "
            f"give{model.no_gradient}; "
            "feature_ablation() and random_attribution() need predictions only"
        )


def abilities(model: Model) -> frozenset[str]:
    """What a model gives: "predictions", "gradients", "layers"."""
    have = {"predictions"}
    if model.differentiable:
        have.add("gradients")
        try:
            model.layers()
            have.add("layers")
        except Unsupported:
            pass
    return frozenset(have)


def spec(question: Question, method: Method, outputs: Tensor) -> dict[str, Any]:
    """Everything that the numbers of a job depend on, as JSON; the model by its weights and by what it says of x."""
    return {
        "method": method.describe(),
        "model": [question.model.name, question.model.fingerprint(), plain(store(outputs))],
        "x": plain(store(question.x)),
        "frame": None if question.model.frame is None else question.model.frame.digest(),
        "z": plain(store(question.z)),
        "target": [_index(question), question.target.read_name],
        "players": None if question.players is None else plain(question.players.labels.cpu()),
        "space": plain(question.space),
        "seed": question.seed,
        "first_row": question.first_row,
        "batch_size": question.executor.batch_size,
        "folded": question.model.folded,
        "versions": versions(),
    }


def label(question: Question, method: Method, found: Result, outputs: Tensor) -> Explanation:
    """The numbers of a Result with their names, residual and provenance."""
    several = question.target.several
    divided = question.players
    dims = found.dims or (question.dims if divided is None else ("player",))
    values, errors = found.values, found.std_error
    details: dict[str, Any] = {
        "ranking": method.ranking,
        "reduction": method.reduction,
        "promise": method.promise,
        "control": method.control,
        "axes": list(question.dims),
        "first_row": question.first_row,
        "model": question.model.name,
        "scale": question.model.scale,
        "labels": None if question.model.labels is None else list(question.model.labels),
        "input": {
            "kind": question.model.kind,
            "frame": None if question.model.frame is None else question.model.frame.to_dict(),
        },
        "by_row": sorted(found.by_row),
        **{name: store(value) for name, value in found.details.items()},
        "arrays": dict(arrays(method)),
    }
    if not isinstance(question.space, Identity):
        details["space"] = {"name": type(question.space).__name__.lower(), "exact": bool(question.space.exact)}
    if found.covers is not None:
        details["std_error_covers"] = found.covers
    names = question.space.names
    if dims[:1] == ("player",):
        divided = divided or dividing.each().divide(question.z, question.dims, names)
        names = divided.names
        details["players_by_row"] = divided.by_row
    elif names is None or len(names) != int(np.prod(values.shape[1 : 1 + len(dims)])):
        names = feature_names(tuple(values.shape[1:2]), None) if len(dims) == 1 else None
    residual = None
    if found.base is not None and method.promise is not None:
        residual = (values.flatten(1, -2).sum(1) - (outputs - found.base)).abs()
    if not isinstance(question.space, Identity):  # measured also where it should be rounding
        gap = question.original() - outputs
        if not question.space.exact:
            _warn_of_gap(question.space, gap, outputs if found.base is None else outputs - found.base)
        details["reconstruction_gap"] = _numbers(gap, several)
        details["by_row"] = sorted({*found.by_row, "reconstruction_gap"})
    explanation = Explanation(
        values=_numbers(values, several),
        outputs=_numbers(outputs, several),
        data=store(question.x),
        dims=tuple(dims),
        method=method.describe(),
        target={"index": _index(question), "read": question.target.read_name},
        seed=question.seed,
        feature_names=names,
        output_names=question.model.labels,
        std_error=None if errors is None else _numbers(errors, several),
        base_values=None if found.base is None else _numbers(found.base, several),
        residual=None if residual is None else _numbers(residual, several),
        players=None if divided is None or dims[:1] != ("player",) else np.asarray(divided.labels.cpu()),
        cost=question.executor.cost.to_dict(),
        versions=versions(),
        details=details,
    )
    _warn(explanation, method)
    return explanation


def _warn_of_gap(space: Space, gap: Tensor, explained: Tensor) -> None:
    """Say where what is explained, f at the reconstruction, is far from f(x)."""
    size = explained.abs()
    relative = gap.abs() / torch.maximum(size, size.mean()).clamp_min(1e-12)
    worst, tolerance = float(relative.max()), getattr(space, "tolerance", RECONSTRUCTION_WARNING)
    if worst > tolerance and float(gap.abs().max()) > 1e-6:
        warnings.warn(
            f"{type(space).__name__}: f(x) and f at the reconstruction differ by up to {float(gap.abs().max()):.2g}, "
            f"{worst:.0%} of what is explained in row {int(relative.amax(1).argmax())}: the explanation is of the "
            "reconstruction; improve the decoder, or look at details['reconstruction_gap'] and raise the tolerance",
            Unreliable,
            stacklevel=4,
        )


def _warn(explanation: Explanation, method: Method) -> None:
    relative = explanation.residual_relative
    if relative is None or method.promise != "completeness" or explanation.std_error is not None:
        return
    worst = float(np.nanmax(relative, initial=0.0))
    if worst > RESIDUAL_WARNING:
        warnings.warn(
            f"{method.name}: values miss their sum by {worst:.0%} of |outputs - base_values| in the worst row; "
            "raise steps, or set a tolerance, and look at residual_relative",
            Unreliable,
            stacklevel=4,
        )


def _index(question: Question) -> Any:
    index = question.target.index
    return list(index) if isinstance(index, tuple) else index


def _numbers(tensor: Tensor, several: bool) -> Any:
    return store(tensor if several else tensor[..., 0])


def store(value: Any) -> Any:
    """A tensor as numpy (bfloat16 and float16 as float32); anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return value.float().numpy() if value.dtype in (torch.bfloat16, torch.float16) else value.numpy()


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    from pellucid import __version__

    return {
        "pellucid": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Give back every global random state as it was, whatever the enclosed model calls did."""
    here, there = random.getstate(), np.random.get_state()  # noqa: NPY002 - the legacy state is what others may rely on
    with (
        torch.inference_mode(False),
        torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()),
    ):
        try:
            yield
        finally:
            random.setstate(here)
            np.random.set_state(there)  # noqa: NPY002
