"""The question of the attack package: how small a change of some features changes the prediction?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.attack.boundary import Boundary
from pellucid.attack.decision import Decision
from pellucid.attack.geometry import check_norm
from pellucid.attack.minimum import MinimumNorm
from pellucid.attack.problem import Attack, Bracket, Problem
from pellucid.core.budget import Run
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.model import Model
from pellucid.core.question import Question

POOL = 4
"""Problems that are solved together, in model calls: a pool of several keeps calls full while problems leave it."""


@dataclass(frozen=True, eq=False)
class Radius:
    """Smallest perturbations of some features, in numpy.

    ``radius`` (B,) or (B, M): the size of the smallest perturbation found that changes the prediction, an upper bound;
    inf where ``found`` (same shape) is False. ``lower`` (same shape): no perturbation smaller than this changes it (0
    unless an attack that proves bounds was asked). ``adversarial`` (B, *dims) or (B, M, *dims): x with the
    perturbation, x itself where none was found. ``own`` (B,): the predicted class; ``cost``: what it took.
    """

    radius: np.ndarray[Any, Any]
    lower: np.ndarray[Any, Any]
    found: np.ndarray[Any, Any]
    adversarial: np.ndarray[Any, Any]
    own: np.ndarray[Any, Any]
    cost: dict[str, Any]


def minimal_radius(
    model: Any,
    x: Any,
    free: Any,
    target: Any = None,
    method: Attack | Sequence[Attack] | None = None,
    norm: float = 2,
    seed: int = 0,
    run: Run | None = None,
) -> Radius:
    """How small a change of the free features, the others fixed, changes the prediction?

    min ||δ||_p subject to: the class of x + δ is not the class of x (or is ``target``), δ = 0 where not ``free``, and x
    + δ within the model's ``bounds`` (no box where it has none). ``free``: (B, *dims) or (B, M, *dims) bool, for M
    questions a row; a mask of one row's shape stands for all rows. ``target``: None, or the class to be reached, one
    for all or one a row. ``method``: an attack, or several, of which each tightens what the ones before it left: an
    upper bound from ``minimum_norm()`` (None: that one, or ``boundary()`` for a model without gradients), ``pgd()`` or
    ``boundary()``, a lower one from ``certified()``. ``norm``: 1, 2 or math.inf.

    Returns a ``Radius``. A found radius is that of a perturbation that was seen to change the prediction, so it is at
    least the true one; radii are bisected to 1e-3. A tie of two classes is no change. The predicted class is what is
    changed, right or wrong. Cost: see the attacks. Source: hsieh2021.

    >>> import torch, pellucid
    >>> from pellucid import attack
    >>> x, w = torch.tensor([[2.0, 1.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    >>> model = pellucid.wrap(lambda x: x @ w.T, scale="logit")
    >>> r = attack.minimal_radius(model, x, torch.tensor([[[True, True], [True, False]]]))
    >>> r.radius.round(2).tolist()  # 10 / 5 for both, 10 / 3 for the first alone
    [[2.0, 3.33]]
    """
    from pellucid.api import ask, untouched
    from pellucid.models.wrap import wrap

    with untouched():
        # Not the folded copy: what is found must change the prediction of the model itself, to the last bit.
        question = ask(wrap(model), x, "all", None, None, seed, Run.of(run), fold=False)
        attacks = pick(method, question.model.differentiable)
        check_needs(attacks, question.model)
        check_bounds(question)
        masks, single = _masks(free, question)
        with question.executor.measured(question.model.device):
            decision = Decision.of(question, target)
            count = masks.shape[1]
            parts = solve(decision, count, lambda row, mask: masks[row, mask], attacks, norm, run)
            bracket = Bracket.joined(parts)
    row = torch.arange(len(bracket.delta)) // count
    moved = decision.at(bracket.delta, row).unflatten(0, (-1, count))

    def numbers(tensor: Tensor) -> np.ndarray[Any, Any]:
        tensor = tensor[:, 0] if single else tensor
        array: np.ndarray[Any, Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
        return array

    radius = bracket.radius.unflatten(0, (-1, count))
    return Radius(
        numbers(radius),
        numbers(bracket.lower.unflatten(0, (-1, count))),
        numbers(radius.isfinite()),
        numbers(moved),
        decision.own.cpu().numpy(),
        question.executor.cost.to_dict(),
    )


def pick(method: Attack | Sequence[Attack] | None, differentiable: bool) -> tuple[Attack, ...]:
    """The attacks to run, in order; by default the one that the model allows."""
    if method is None:
        return (MinimumNorm(40) if differentiable else Boundary(1000),)
    attacks: tuple[Any, ...] = tuple(method) if isinstance(method, Iterable) else (method,)
    wrong = [attack for attack in attacks if not isinstance(attack, Attack)]
    if wrong or not attacks:
        raise BadInput(
            "method: expected an attack such as attack.minimum_norm(), or several; got "
            f"{wrong[0] if wrong else 'an empty list'!r}"
        )
    return attacks


def solve(
    decision: Decision,
    count: int,
    free: Callable[[Tensor, Tensor], Tensor],
    attacks: Sequence[Attack],
    norm: float = 2,
    run: Run | None = None,
) -> Iterator[Bracket]:
    """Brackets of ``count`` problems for each row, a pool at a time, in order of rows.

    ``free``: for problem ``mask`` (N,) of row ``row`` (N,), which entries may move, (N, d) bool.
    """
    check_norm(norm)
    question, bounds = decision.question, decision.bounds
    z, total = question.z.flatten(1), len(question.z) * count
    pool = POOL * question.executor.batch_size
    for start in range(0, total, pool):
        pair = torch.arange(start, min(start + pool, total))
        row, mask = pair // count, pair % count
        may = free(row, mask)
        low = z.new_full((), -math.inf) if bounds is None else bounds[0] - z[row]
        high = z.new_full((), math.inf) if bounds is None else bounds[1] - z[row]
        fixed = z.new_zeros(())
        yield _bracket(
            Problem(decision, row, torch.where(may, low, fixed), torch.where(may, high, fixed), norm, mask), attacks
        )
        if run is not None and run.progress is not None:
            run.progress("attacks", min(start + pool, total), total)


def _bracket(problem: Problem, attacks: Sequence[Attack]) -> Bracket:
    bracket = Bracket.unknown(problem)
    free = torch.nonzero(problem.free.any(1)).reshape(-1)
    if len(free):
        part, known = problem.take(free), bracket.take(free)
        for attack in attacks:
            known = attack.improve(part, known)
        # A perturbation that was found is a fact, whatever the model's rounding made of a proof.
        known = replace(known, lower=torch.minimum(known.lower, known.radius))
        bracket = bracket.put(free, known)
    nothing = torch.ones(len(problem), dtype=torch.bool).index_fill(0, free, False)
    # What cannot move cannot change the prediction: proven, not merely not found.
    return Bracket(bracket.delta, bracket.radius, torch.where(nothing, torch.inf, bracket.lower))


def check_needs(attacks: Sequence[Attack], model: Model) -> None:
    """Refuse an attack that needs gradients where there are none."""
    for attack in attacks:
        if "gradients" in attack.needs and not model.differentiable:
            raise Unsupported(
                f"attack.{attack.name} needs gradients, which {model.name} does not give{model.no_gradient}; "
                "attack.boundary() needs predictions only"
            )


def check_bounds(question: Question) -> None:
    """Refuse a model whose bounds its own inputs leave."""
    bounds = question.model.bounds
    if bounds is None:
        return
    low, high = float(question.x.min()), float(question.x.max())
    if low < bounds[0] or high > bounds[1]:
        raise BadInput(
            f"x has entries from {low:g} to {high:g}, outside the model's bounds {bounds}; wrap the model with the "
            "bounds of its inputs: wrap(..., bounds=(low, high))"
        )


def _masks(free: Any, question: Question) -> tuple[Tensor, bool]:
    """Masks (B, M, d) bool on the CPU, and whether one a row was given."""
    shape = tuple(question.z.shape)
    given = free.detach().cpu() if isinstance(free, Tensor) else np.array(free)
    if given.dtype not in (torch.bool, np.dtype(bool)):
        raise BadInput(f"free must be bool, True where an entry may move; got {given.dtype}")
    mask = torch.as_tensor(given)
    if tuple(mask.shape) == shape[1:]:
        mask = mask.expand(shape)
    single = tuple(mask.shape) == shape
    if single:
        mask = mask.unsqueeze(1)
    if mask.ndim != len(shape) + 1 or (mask.shape[0], *mask.shape[2:]) != shape or mask.shape[1] == 0:
        raise BadInput(
            f"free must have the shape of x, {shape}, or {(shape[0], 'M', *shape[1:])} for M masks a row; got "
            f"{tuple(mask.shape)}"
        )
    return mask.flatten(2), single
