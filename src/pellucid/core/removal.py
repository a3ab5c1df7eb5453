"""What an absent feature becomes. Public as ``pellucid.removal``.

A removal fills z with one or more stand-ins; ``baseline=``, ``reference=`` and ``removal=`` all accept the same things:
a number (fills z), an array in input units (is encoded), the name of a recipe without arguments ("uniform", "mean"), a
function fill(z, present), or one of the recipes below.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core import inputs as reading
from pellucid.core import rng
from pellucid.core.absence import Custom, Independent
from pellucid.core.absence import Removal as Removal
from pellucid.core.absence import StandIns as StandIns
from pellucid.core.conditional import Gaussian, Nearest
from pellucid.core.errors import BadInput, Unreliable
from pellucid.core.frame import Frame
from pellucid.core.settings import checked, function_of

if TYPE_CHECKING:
    from pellucid.core.question import Question

MOST_BACKGROUND = 1000


@dataclass(frozen=True, eq=False)
class Baseline(Removal):
    """Absent features take a fixed value: a number fills z, an array is in input units."""

    value: float | Tensor
    name: str = field(default="baseline", repr=False)
    frame: Frame | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Baseline):
            return NotImplemented
        mine, theirs = self.value, other.value
        if self.frame != other.frame:
            return False
        if isinstance(mine, Tensor) and isinstance(theirs, Tensor):
            return mine.shape == theirs.shape and bool((mine == theirs).all())
        return not isinstance(mine, Tensor) and not isinstance(theirs, Tensor) and mine == theirs

    def __hash__(self) -> int:
        return hash(("baseline", self.value.shape if isinstance(self.value, Tensor) else self.value))

    def absent(self, question: Question, draws: range) -> Tensor:
        z = question.z
        if not isinstance(self.value, Tensor):
            frame = question.model.frame
            if frame is not None and frame.text:
                warnings.warn(
                    f"removal.baseline: in column {frame.text[0]!r} the number {self.value:g} stands for a category, "
                    "not for nothing; use removal.marginal(background), or a DataFrame of one row as the baseline",
                    Unreliable,
                    stacklevel=2,
                )
            return torch.full_like(z[:1], float(self.value)).unsqueeze(1)
        x = question.x
        value = reading.like(self.value, question.model, x, self.frame)
        if value.shape == x.shape[1:]:
            value = value.unsqueeze(0)
        if value.shape[1:] != x.shape[1:] or len(value) not in (1, question.rows_in_all):
            raise BadInput(
                f"baseline: an array must be shaped like x, {tuple(x.shape[1:])} or with a batch of 1 or "
                f"{question.rows_in_all}; got {tuple(value.shape)}"
            )
        if len(value) > 1:
            value = value[question.offset : question.offset + len(x)]
        return question.space.encode(value).unsqueeze(1)


@dataclass(frozen=True)
class Mean(Removal):
    """Absent features take the mean of their own channel over the row's positions (the mean colour of the picture)."""

    name: str = field(default="mean", repr=False)

    def absent(self, question: Question, draws: range) -> Tensor:
        x, dims = question.x, question.model.dims(tuple(question.x.shape[1:]))
        if not x.is_floating_point():
            raise BadInput(
                "removal.mean: x holds ids, which have no mean; use removal.baseline(0) or removal.marginal(background)"
            )
        axes = [i + 1 for i, dim in enumerate(dims) if dim in ("height", "width", "time", "token")]
        if not axes:
            raise BadInput(
                f"removal.mean: needs positions to average over; the input has axes {dims}. Use "
                "removal.marginal(background)"
            )
        return question.space.encode(x.mean(axes, keepdim=True).expand_as(x)).unsqueeze(1)


@dataclass(frozen=True)
class Blur(Removal):
    """Absent features take the value of the Gaussian-blurred picture, ``sigma`` in pixels; weights are renormalised at
    the border."""

    sigma: float
    name: str = field(default="blur", repr=False)

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise BadInput(f"removal.blur: sigma must be positive, got {self.sigma}")

    def absent(self, question: Question, draws: range) -> Tensor:
        x = question.x
        dims = question.model.dims(tuple(x.shape[1:]))
        axes = [i + 1 for i, dim in enumerate(dims) if dim in ("height", "width", "time")]
        if not axes:
            raise BadInput(
                f"removal.blur: needs an image or a signal; the input has axes {dims}. Use removal.marginal(background)"
            )
        for axis in axes:
            place = torch.arange(x.shape[axis], dtype=torch.float64)  # bfloat16 cannot count to 257
            weight = torch.exp(-((place[:, None] - place[None, :]) ** 2) / (2 * self.sigma**2))
            x = torch.movedim(torch.movedim(x, axis, -1) @ (weight / weight.sum(1, keepdim=True)).to(x).T, -1, axis)
        return question.space.encode(x).unsqueeze(1)


@dataclass(frozen=True)
class Uniform(Removal):
    """Absent entries are drawn uniformly from the model's bounds, afresh for each row and draw."""

    samples: int = 1
    sampled: bool = field(default=True, repr=False)
    name: str = field(default="uniform", repr=False)

    @property
    def draws(self) -> int:
        return self.samples

    def absent(self, question: Question, draws: range) -> Tensor:
        x = question.x
        low, high = question.bounds("removal.uniform")
        blocks = [
            rng.uniform(question.seed, "removal.uniform", draw, question.first_row, len(x), x[0].numel())
            .reshape(x.shape)
            .to(x)
            for draw in draws
        ]
        return torch.stack([question.space.encode(low + (high - low) * block) for block in blocks], 1)


@dataclass(frozen=True, eq=False)
class Marginal(Removal):
    """Absent features take their values from background rows, all of them, or ``samples`` of them in a balanced
    draw."""

    background: Tensor
    samples: int | None = None
    name: str = field(default="marginal", repr=False)
    frame: Frame | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Marginal):
            return NotImplemented
        same = self.background.shape == other.background.shape and bool((self.background == other.background).all())
        return same and self.samples == other.samples and self.frame == other.frame

    def __hash__(self) -> int:
        return hash(("marginal", self.background.shape, self.samples))

    @property
    def sampled(self) -> bool:  # type: ignore[override]
        """Whether only some of the background is used."""
        return self.samples is not None and self.samples % len(self.background) != 0

    @property
    def draws(self) -> int:
        return len(self.background) if self.samples is None else self.samples

    def absent(self, question: Question, draws: range) -> Tensor:
        background = question.space.encode(self.rows(question))
        if self.samples is None:
            return background[draws.start : draws.stop].unsqueeze(0)
        size = len(background)
        passes = range(draws.start // size, (draws.stop - 1) // size + 1)
        order = torch.cat(
            [
                rng.permutation(question.seed, "removal.marginal", turn, question.first_row, len(question.z), size)
                for turn in passes
            ],
            1,
        )
        chosen = order[:, draws.start - passes.start * size : draws.stop - passes.start * size]
        return background[chosen.to(background.device)]

    def stand_ins(self, question: Question) -> StandIns:
        """Background rows by index, so that nothing of the size rows x draws x pixels is held."""
        background = question.space.encode(self.rows(question))
        size, per_turn = len(background), self.draws
        orders: dict[int, Tensor] = {}

        def order(turn: int) -> Tensor:
            if turn not in orders:
                orders[turn] = rng.permutation(
                    question.seed, "removal.marginal", turn, question.first_row, len(question.z), size
                )
            return orders[turn]

        def pick(turns: Tensor, rows: Tensor, draws: range, present: Tensor) -> Tensor:
            if self.samples is None:
                return background[draws.start : draws.stop].unsqueeze(0)
            place = turns.unsqueeze(1) * per_turn + torch.arange(draws.start, draws.stop)
            passes, row = place // size, rows.cpu().unsqueeze(1).expand_as(place)
            chosen = torch.empty_like(place)
            for number in torch.unique(passes).tolist():
                here = passes == number
                chosen[here] = order(number)[row[here], place[here] % size]
            return background[chosen.to(background.device)]

        return pick

    def rows(self, question: Question) -> Tensor:
        """The background in the model's dtype and device, checked against x."""
        background = reading.like(self.background, question.model, question.x, self.frame)
        if background.shape[1:] != question.x.shape[1:]:
            raise BadInput(
                f"background: rows must be shaped like x, {tuple(question.x.shape[1:])}; got "
                f"{tuple(background.shape[1:])}"
            )
        return background


def baseline(value: Any = 0.0) -> Baseline:
    """Absent features take a fixed value.

    A number fills z; an array is in input units, shaped like one row of x or like the batch, and is encoded. A
    DataFrame is matched by column names.
    """
    if isinstance(value, (bool, str)) or value is None:
        raise BadInput(f"baseline: expected a number or an array shaped like x, got {value!r}")
    if isinstance(value, (int, float, np.number)):
        if not np.isfinite(value):
            raise BadInput(f"baseline: expected a finite number, got {value!r}")
        return Baseline(float(value))
    number, frame = _in_input_units(value, "baseline")
    return Baseline(number, frame=frame)


def mean() -> Mean:
    """Absent features take the mean of their own channel over the row's positions (its mean colour)."""
    return Mean()


@checked
def blur(sigma: float = 10.0) -> Blur:
    """Absent features take their value in the picture blurred with a Gaussian of ``sigma`` pixels."""
    return Blur(float(sigma))


def uniform() -> Uniform:
    """Absent entries are drawn uniformly from the model's bounds, one draw for each row, keyed by seed and row."""
    return Uniform()


@checked
def marginal(background: Any, draws: int | None = None) -> Marginal:
    """Absent features take their values jointly from background rows, independently of the present ones.

    ``background`` (R, ...) is in input units (a DataFrame is matched by column names). v(S) averages over all R rows;
    more than 1,000 are refused: pass ``draws=k`` for a balanced sample of k rows (each full pass uses every row once),
    whose variance enters the standard error.
    """
    if draws is not None and draws < 1:
        raise BadInput(f"marginal: draws must be at least 1, got {draws}")
    found = replace(rows_of(background, "marginal"), samples=draws)
    if draws is None and found.draws > MOST_BACKGROUND:
        raise BadInput(
            f"marginal: averaging over all {found.draws} background rows is refused (the limit is {MOST_BACKGROUND}); "
            "use marginal(background, draws=k) for a balanced sample"
        )
    return found


@checked
def independent(background: Any, draws: int | None = None) -> Independent:
    """Absent features take their values from background rows, each feature from a row of its own.

    So absent features are independent of each other too (the intervention of datta2016). v(S) averages over ``draws``
    combinations (as many as there are rows by default) in which every feature goes through the rows in an order of its
    own; their variance enters the standard error.
    """
    found = marginal(background, draws)
    return Independent(found, found.draws)


@checked
def gaussian(background: Any, draws: int = 100) -> Gaussian:
    """Absent features are drawn from a normal distribution given the present ones.

    The distribution has the mean and covariance of the background rows (R, ...), plus 1e-6 of each variance; given the
    present entries S, absent ones are N(μ_A + Σ_AS Σ_SS⁻¹ (z_S - μ_S), Σ_AA - Σ_AS Σ_SS⁻¹ Σ_SA). v(S) averages over
    ``draws`` of them (an even number: they come in pairs mirrored at the mean, so that of a linear f the average is
    exact); their variance enters the standard error. At most 1,000 entries. Source: aas2021.
    """
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 2 or draws % 2:
        raise BadInput(f"removal.gaussian: draws must be an even number of at least 2, got {draws!r}")
    return Gaussian(rows_of(background, "removal.gaussian"), draws)


@checked
def nearest(background: Any, k: int = 10) -> Nearest:
    """Absent features take their values from the k background rows that are nearest in the present ones.

    Distance is Euclidean over the present entries, each divided by its standard deviation in the background (a text
    column counts 1 where it differs). Equally near rows, all of them when nothing is present, are taken in a random
    order that goes on from turn to turn; that variance enters the standard error. Source: aas2021.
    """
    found = rows_of(background, "removal.nearest")
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= len(found.background):
        raise BadInput(
            f"removal.nearest: k must be 1..{len(found.background)}, the number of background rows, got {k!r}"
        )
    return Nearest(found, k)


def conditional(background: Any) -> Gaussian:
    """Absent features follow their distribution given the present ones: ``gaussian(background)``, the usual choice for
    numbers; use ``nearest(background)`` for columns that are far from normal."""
    return gaussian(background)


def custom(fill: Callable[[Any, Any], Any]) -> Custom:
    """Absent features become what a function of yours says.

    ``fill(z, present)`` gets rows z (P, *dims) and a mask of the same shape, True where an entry is kept; it returns
    filled rows like z (what it writes over present entries is ignored). It gets tensors if x is one, else numpy, and
    must be deterministic.
    """
    function_of(fill, "removal.custom", "z", "present")
    return Custom(fill)


def rows_of(background: Any, who: str) -> Marginal:
    """All rows of a background, however many."""
    rows, frame = _in_input_units(background, f"{who}: background")
    if rows.ndim < 2 or len(rows) == 0:
        raise BadInput(f"{who}: background must be a batch of rows (R, ...), got shape {tuple(rows.shape)}")
    return Marginal(rows, frame=frame)


NAMED = {"mean": mean, "uniform": uniform, "blur": blur}


def of(value: Any) -> Removal:
    """A removal from what a user passes as ``baseline=``, ``reference=`` or ``removal=``."""
    if isinstance(value, Removal):
        return value
    if isinstance(value, str):
        if value not in NAMED:
            raise BadInput(
                f"removal: {value!r} is not known; use a number, an array, a removal or one of "
                f"{', '.join(map(repr, NAMED))}"
            )
        return NAMED[value]()
    if callable(value):
        return custom(value)
    return baseline(value)


def _in_input_units(value: Any, where: str) -> tuple[Tensor, Frame | None]:
    """An array as it came (uint8 will be scaled as x is), and what the columns of a DataFrame are."""
    if hasattr(value, "columns") and hasattr(value, "to_numpy"):
        frame = Frame.of(value)
        return as_tensor(frame.encode(value), where), frame
    if getattr(value, "dtype", None) in (torch.uint8, np.dtype(np.uint8)):
        return torch.as_tensor(value).detach().clone(), None
    return as_tensor(value, where), None


def as_tensor(value: Any, where: str) -> Tensor:
    """An array in input units as a private, finite, floating tensor."""
    if isinstance(value, Tensor):
        tensor = value.detach().clone()
    else:
        try:
            array = np.array(value)
            if array.dtype.kind not in "fiub":
                raise TypeError
            tensor = torch.from_numpy(array)
        except (TypeError, ValueError):
            raise BadInput(f"{where}: expected an array of numbers, got {type(value).__name__}") from None
    if tensor.is_complex():
        raise BadInput(f"{where}: expected real numbers, got {tensor.dtype}")
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.get_default_dtype())
    if not bool(torch.isfinite(tensor).all()):
        raise BadInput(f"{where}: the array has NaN or infinite entries; remove or impute them")
    return tensor
