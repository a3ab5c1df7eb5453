"""Gradients integrated along any curve from a baseline to x. The curves are public as ``pellucid.curves``.

A curve is a value: γ(α) for α in [0, 1] with γ(1) = z. Along it f changes by Σ_i ∫ ∂f/∂z_i dγ_i, which shares the
change among the entries i, and differently for each curve.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pellucid.core import removal
from pellucid.core.errors import BadInput
from pellucid.core.method import Method, Result
from pellucid.core.players import Players, each
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.core.settings import function_of
from pellucid.core.state import Sums
from pellucid.gradients.paths import along

Order = str | tuple[int, ...] | tuple[tuple[int, ...], ...] | None


class Curve(ABC):
    """A way to z. ``draws`` is the number of starting points that are averaged over."""

    @property
    def draws(self) -> int:
        """Number of curves for each row."""
        return 1

    def starts(self, question: Question, draws: range) -> Tensor:
        """Where the curves of some draws start, (B, len(draws), *dims), for curves that are told."""
        return question.z.unsqueeze(1).expand(-1, len(draws), *question.z.shape[1:])

    def nodes(self, question: Question, steps: int) -> Tensor:
        """Where to cut the curve into pieces, (steps + 1,) float64 from 0 to 1."""
        return torch.linspace(0, 1, steps + 1, dtype=torch.float64)

    @abstractmethod
    def at(self, question: Question, rows: Tensor, starts: Tensor, alpha: Tensor) -> Tensor:
        """γ(α) of some rows, (N, *dims), for starts (N, *dims) and alpha (N,)."""


@dataclass(frozen=True)
class Straight(Curve):
    """γ(α) = b + α (z - b)."""

    baseline: Removal

    @property
    def draws(self) -> int:
        return self.baseline.draws

    def starts(self, question: Question, draws: range) -> Tensor:
        return self.baseline.absent(question, draws).expand(len(question.z), len(draws), *question.z.shape[1:])

    def at(self, question: Question, rows: Tensor, starts: Tensor, alpha: Tensor) -> Tensor:
        return starts + along(alpha, starts) * (question.z[rows] - starts)


@dataclass(frozen=True)
class AxisOrder(Straight):
    """One feature after the other goes from b to z; the pieces end where features do."""

    order: Order = None

    def nodes(self, question: Question, steps: int) -> Tensor:
        """At least one piece for each feature; with fewer pieces than features, whole features move together."""
        n = _features(question).n
        if steps <= n:
            return torch.linspace(0, n, steps + 1, dtype=torch.float64).round() / n
        pieces = steps // n + (torch.arange(n) < steps % n).long()
        feature = torch.arange(n).repeat_interleave(pieces)
        within = torch.arange(steps) - (pieces.cumsum(0) - pieces)[feature]
        return torch.cat([feature + within.double() / pieces[feature], torch.tensor([float(n)]).double()]) / n

    def at(self, question: Question, rows: Tensor, starts: Tensor, alpha: Tensor) -> Tensor:
        players, z = _features(question), question.z[rows]
        place = self._order(question, players, rows, z - starts).argsort(1)
        moved = (alpha.unsqueeze(1) * players.n - place).clamp(0, 1)
        share = players.take(rows).mask(moved.to(z).unsqueeze(1))[:, 0]
        return torch.where(share == 1, z, starts + share * (z - starts))  # exactly z at the end

    def _order(self, question: Question, players: Players, rows: Tensor, change: Tensor) -> Tensor:
        """Features in the order in which they move, (N, n)."""
        n = players.n
        if self.order is None:
            return torch.arange(n, device=rows.device).expand(len(rows), n)
        if isinstance(self.order, str):
            return players.take(rows).gather(change.abs()).argsort(dim=1, descending=True, stable=True)
        given = torch.tensor(self.order, device=rows.device)
        if given.shape not in ((n,), (question.rows_in_all, n)) or bool((given.sort(-1)[0] != _counted(given)).any()):
            raise BadInput(
                f"axis_order: order must list each of the {n} features once, for all rows or for each of the "
                f"{question.rows_in_all}; got shape {tuple(given.shape)}"
            )
        return given.expand(len(rows), n) if given.ndim == 1 else given[question.offset + rows]


@dataclass(frozen=True)
class Sharpening(Curve):
    """From the blurred picture to the sharp one: γ(α) = blur(x, sigma (1 - α)²).

    The square spends the steps where sharpening changes most, near the end.
    """

    sigma: float

    def at(self, question: Question, rows: Tensor, starts: Tensor, alpha: Tensor) -> Tensor:
        x = question.x[rows]
        dims = question.model.dims(tuple(x.shape[1:]))
        axes = [i + 1 for i, dim in enumerate(dims) if dim in ("height", "width", "time")]
        if not axes:
            raise BadInput(f"blur: needs an image or a signal; the input has axes {dims}. Use straight(baseline)")
        spread = (self.sigma * (1 - alpha) ** 2).reshape(-1, 1, 1).clamp_min(1e-6)
        for axis in axes:
            place = torch.arange(x.shape[axis], dtype=torch.float64, device=x.device)
            weight = torch.exp(-((place[:, None] - place[None, :]) ** 2) / (2 * spread**2))
            weight = (weight / weight.sum(2, keepdim=True)).to(x)
            last = torch.movedim(x, axis, -1)
            x = torch.movedim((last.flatten(1, -2) @ weight.mT).reshape(last.shape), -1, axis)
        return question.space.encode(x)


@dataclass(frozen=True)
class Given(Straight):
    """A curve of the user's: function(z, baseline, alpha)."""

    function: Callable[[Tensor, Tensor, Tensor], Tensor] = field(kw_only=True)

    def at(self, question: Question, rows: Tensor, starts: Tensor, alpha: Tensor) -> Tensor:
        z = question.z[rows]
        point = self.function(z, starts, along(alpha, z))
        if not isinstance(point, Tensor) or point.shape != z.shape:
            came = tuple(point.shape) if isinstance(point, Tensor) else type(point).__name__
            raise BadInput(
                f"curve: function(z, baseline, alpha) must return a tensor like z {tuple(z.shape)}, got {came}"
            )
        return point.detach().to(z)


def straight(baseline: Any = 0.0) -> Curve:
    """The straight way from a baseline (a number, an array, or a removal): integrated gradients."""
    return Straight(removal.of(baseline))


def axis_order(order: Any = None, baseline: Any = 0.0) -> Curve:
    """One feature after the other goes from the baseline to x, and is credited with what it adds then.

    ``order``: None as they come, "largest" those with the largest change first, or numbers of features, (n,) or (B, n);
    features are players where players are given, else entries of z. Values depend on the order: of x1 x2, the one that
    moves last gets everything. Source: friedman2004.
    """
    if isinstance(order, str) and order != "largest":
        raise BadInput(f"axis_order: order must be None, 'largest' or numbers of features, got {order!r}")
    if order is not None and not isinstance(order, str):
        array = np.asarray(order.detach().cpu() if isinstance(order, Tensor) else order)
        if array.dtype.kind not in "iu" or array.ndim not in (1, 2):
            raise BadInput(f"axis_order: order must be whole numbers, (n,) or (B, n); got {array.dtype} {array.shape}")
        rows = array.tolist()
        order = tuple(rows) if array.ndim == 1 else tuple(map(tuple, rows))
    return AxisOrder(removal.of(baseline), order)


def blur(sigma: float = 10.0) -> Curve:
    """From the picture blurred with a Gaussian of ``sigma`` pixels to the sharp one, which needs no colour for what is
    absent. Source: xu2020."""
    if not sigma > 0:
        raise BadInput(f"blur: sigma must be positive, got {sigma!r}")
    return Sharpening(float(sigma))


def curve(function: Callable[[Tensor, Tensor, Tensor], Tensor], baseline: Any = 0.0) -> Curve:
    """A curve of your own: ``function(z, baseline, alpha)`` gets z and the baseline (N, *dims) and alpha (N, 1, ..),
    and returns points like z, z itself at alpha = 1."""
    function_of(function, "curve", "z", "baseline", "alpha")
    return Given(removal.of(baseline), function=function)


NAMED: dict[str, Callable[[], Curve]] = {"straight": straight, "axis_order": axis_order, "blur": blur}


def of(path: Any) -> Curve:
    """A curve from what a user passes as ``path=``: a curve, the name of one with its defaults, or a function."""
    if isinstance(path, Curve):
        return path
    if isinstance(path, str) and path in NAMED:
        return NAMED[path]()
    if callable(path):
        return curve(path)
    raise BadInput(f"path: expected a curve, a function or one of {', '.join(map(repr, NAMED))}, got {path!r}")


@dataclass(frozen=True)
class CurveIntegral(Method):
    """The gradient integrated along a curve (see ``methods.path_integrated_gradients``)."""

    path: Curve
    steps: int
    name: str = "path_integrated_gradients"

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    access: ClassVar[str] = "gradients"
    promise: ClassVar[str | None] = "completeness"
    averaged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise BadInput(f"{self.name}: steps must be a whole number of at least 1, got {self.steps!r}")

    def prepared(self, question: Question) -> Method:
        first = question.block(slice(0, 1))
        end = self._ends(first, 0, 1.0)
        if not bool(torch.isclose(end, first.z, rtol=1e-4, atol=1e-6).all()):
            raise BadInput(
                f"{self.name}: the path must end at x, and at alpha = 1 it is up to "
                f"{float((end - first.z).abs().max()):.2g} away from it"
            )
        return self

    def chunks(self, question: Question) -> int:
        return -(-self.steps * self.path.draws // self._share(question))

    def _share(self, question: Question) -> int:
        """Pieces of one chunk: about one model call for the rows of the block."""
        return max(1, question.executor.batch_size // len(question.z))

    def chunk(self, question: Question, index: int) -> Sums:
        path, z, steps, share = self.path, question.z, self.steps, self._share(question)
        pieces = range(index * share, min((index + 1) * share, steps * path.draws))
        draws = range(pieces.start // steps, (pieces.stop - 1) // steps + 1)
        starts, nodes = path.starts(question, draws), path.nodes(question, steps).to(z.device)
        rows = len(z)

        def work(part: slice) -> tuple[Tensor, Tensor]:
            item = torch.arange(part.start, part.stop, device=z.device)
            row, piece = item % rows, item // rows + pieces.start
            start, step = starts[row, piece // steps - draws.start], piece % steps
            here, there = (path.at(question, row, start, nodes[step + side]) for side in (0, 1))
            # The middle of the chord, which is exact where f is quadratic.
            grads = question.gradient((here + there) / 2, row)[1]
            return row, question.gathered(grads * ((there - here) / path.draws).unsqueeze(-1), row)

        total: Tensor | None = None
        for row, parts in question.executor.map(work, rows * len(pieces)):
            total = parts.new_zeros(rows, *parts.shape[1:]) if total is None else total
            total.index_add_(0, row, parts)
        return Sums({} if total is None else {"values": total})

    def result(self, question: Question, state: Any) -> Result:
        rows = question.every_row()
        base = sum(question.value(self._ends(question, draw, 0.0), rows) for draw in range(self.path.draws))
        return Result(state["values"], base=torch.as_tensor(base) / self.path.draws)

    def _ends(self, question: Question, draw: int, alpha: float) -> Tensor:
        """γ(alpha) of one draw for every row."""
        starts = self.path.starts(question, range(draw, draw + 1))[:, 0]
        alphas = torch.full((len(starts),), alpha, dtype=torch.float64, device=starts.device)
        return self.path.at(question, question.every_row(), starts, alphas)


def _features(question: Question) -> Players:
    """The players of the question, else every entry of z."""
    if question.players is not None:
        return question.players
    if "features" not in question.memo:
        question.memo["features"] = each().divide(question.z, question.dims, None)
    found: Players = question.memo["features"]
    return found


def _counted(order: Tensor) -> Tensor:
    return torch.arange(order.shape[-1], device=order.device)


__all__ = ["Curve", "axis_order", "blur", "curve", "straight"]
