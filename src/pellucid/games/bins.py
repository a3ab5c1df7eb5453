"""A weighted linear model of f on a table, in bins of each column or in standard deviations (LIME for tables)."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Marginal
from pellucid.games.coalitional import Pieces, check_budget, check_players
from pellucid.games.presence import outputs_last
from pellucid.games.surrogate import MOST_PLAYERS, Surrogate, check_settings, proximity, ridge

_DRAWS = 2048
"""Samples whose random numbers are drawn in one call, and valued in one chunk."""
_POINTS = 1024
"""Points, at least, that stand for the distribution of a column."""


@dataclass(frozen=True)
class Tabular(Method):
    """Weighted ridge regression on samples of every column (see ``methods.lime_tabular``).

    Samples come from the background, not from around a row, so all rows share them and what the model says of them.
    """

    background: Marginal
    budget: int
    discretise: bool
    width: float | None
    alpha: float
    name: str = "lime_tabular"

    def __post_init__(self) -> None:
        check_settings(self.name, self.budget, self.width, self.alpha)

    def chunks(self, question: Question) -> int:
        if question.z.ndim != 2 or not question.z.is_floating_point():
            raise Unsupported(
                f"lime_tabular: needs a table of numbers (B, features), got axes {question.dims} of "
                f"{question.z.dtype}; use lime() or rise()"
            )
        if question.players is not None:
            raise Unsupported(
                "lime_tabular: columns are its players; leave players out, or use lime() or kernel_shap() with these"
            )
        features = question.z.shape[1]
        check_players(self.name, features, MOST_PLAYERS, "permutation_shapley() or shapley_sampling()")
        check_budget(self.name, self.budget, features)
        return -(-self.budget // _DRAWS)

    def block_rows(self, question: Question) -> int:
        return len(question.z)

    def columns(self, question: Question) -> Columns:
        """What the background says of each column."""
        if "columns" not in question.memo:
            rows = question.space.encode(self.background.rows(question)).double().cpu()
            if len(rows) < 2:
                raise BadInput(f"lime_tabular: background must have at least 2 rows, got {len(rows)}")
            frame = question.model.frame
            coded = tuple(frame is not None and frame.columns[i].values is not None for i in range(rows.shape[1]))
            question.memo["columns"] = _seen(rows.numpy().tobytes(), tuple(rows.shape), coded, self.discretise)
        columns: Columns = question.memo["columns"]
        return columns

    def chunk(self, question: Question, index: int) -> Pieces:
        columns, features = self.columns(question), question.z.shape[1]
        draws = min(_DRAWS, self.budget - index * _DRAWS)
        numbers = rng.uniform(question.seed, self.name, index, 0, 1, draws * features).reshape(draws, features)
        source, at = columns.sample(numbers[int(index == 0) :])  # the first place is for the row itself
        at, askers = at.to(question.z), _askers(question)

        def work(part: slice) -> Tensor:
            with torch.no_grad():
                raw, size = question.raw(at[part]), len(at[part])
                return torch.stack([question.score(raw, askers.new_full((size,), row)) for row in askers.unique()])

        parts = {"source": source.unsqueeze(0), "values": torch.cat(question.executor.map(work, len(at)), 1)}
        if index == 0:
            parts["own"] = question.here().unsqueeze(1)
        return Pieces.of({name: part.cpu() for name, part in parts.items()})

    def result(self, question: Question, state: Any) -> Result:
        columns, source, features = self.columns(question), state["source"][0], question.z.shape[1]
        width = 0.75 * features**0.5 if self.width is None else self.width
        drawn = torch.ones(self.budget, dtype=torch.float64)
        drawn[0] = 0
        askers = _askers(question).cpu()
        _, slot = askers.unique(return_inverse=True)
        fits: list[Surrogate] = []
        for row, here in enumerate(columns.locate(question.z.double().cpu())):  # one at a time, which stays in cache
            design = columns.design(here, source)
            values = torch.cat([state["own"][row], state["values"][slot[row]]]).double()
            weight = proximity((design - design[0]).norm(dim=1), width)
            fits.append(ridge(design[None], values[None], weight[None], self.alpha, drawn))
            fits[-1].warn(self.name, weight[None], width)
        details: dict[str, Any] = {"r2": torch.cat([fit.r2 for fit in fits]), "width": width, "draws": self.budget - 1}
        details["degrees_of_freedom"] = max(0, self.budget - 1 - features)
        details |= {"edges": columns.edges} if self.discretise else {"mean": columns.mean, "scale": columns.scale}
        values, errors = (torch.cat([getattr(fit, part) for fit in fits]) for part in ("values", "std_error"))
        intercepts = torch.cat([fit.intercept for fit in fits])
        found = Result(values, errors, "the samples", intercepts, None, details, frozenset({"r2"}))
        return replace(outputs_last(found, question), outputs=state["own"][:, 0])


@functools.lru_cache(maxsize=1)
def _seen(numbers: bytes, shape: tuple[int, int], coded: tuple[bool, ...], discretise: bool) -> Columns:
    """``Columns.of`` a background, kept for whoever asks row by row."""
    rows = torch.frombuffer(bytearray(numbers), dtype=torch.float64).reshape(shape)
    return Columns.of(rows, torch.tensor(coded), discretise)


def _askers(question: Question) -> Tensor:
    """For each row the first row with the same target, (B,): what is read of a sample differs between targets only."""
    index = question.target.index
    each = index if isinstance(index, tuple) else (0,) * len(question.z)
    return torch.tensor([each.index(entry) for entry in each], device=question.z.device)


@dataclass(frozen=True)
class Columns:
    """The F columns of a background, each as K equally likely points, float64.

    ``points`` (K, F) values and ``bins`` (K, F) which bin (or category) a point belongs to; ``edges`` (3, F) quartiles;
    ``categories`` the sorted codes of each column of codes, None for numbers; ``flagged`` (F,) which columns enter the
    design as "in the row's bin"; the others enter as standard normal numbers, with ``mean`` and ``scale`` (F,), where
    a constant column has scale 0.
    """

    points: Tensor
    bins: Tensor
    edges: Tensor
    categories: tuple[Tensor | None, ...]
    flagged: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, rows: Tensor, coded: Tensor, discretise: bool) -> Columns:
        """The columns of a background (R, F): by quartiles, or by mean and standard deviation; codes by frequency."""
        ordered = rows.sort(0).values
        edges = _quartiles(ordered)
        again = -(-_POINTS // len(rows))  # each background row stands for so many points
        points, bins = (each.repeat_interleave(again, 0) for each in (ordered, _bin(ordered, edges)))
        if discretise:
            points = _cut_normals(ordered, bins, edges, again)
        categories = tuple(torch.unique(rows[:, i]) if code else None for i, code in enumerate(coded.tolist()))
        for i, codes in enumerate(categories):
            if codes is not None:
                points[:, i] = ordered[:, i].repeat_interleave(again)
                bins[:, i] = torch.searchsorted(codes, points[:, i].contiguous())
        mean, scale = rows.mean(0), rows.std(0, correction=0) * (ordered[0] < ordered[-1])
        return cls(points, bins, edges, categories, coded | discretise, mean, scale)

    def sample(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (m, F) from uniform numbers: what the design is made of (bins, or standard deviations), and their
        values."""
        if bool(self.flagged.all()):
            place = (numbers * len(self.points)).long()
            return self.bins.to(torch.int16).gather(0, place), self.points.gather(0, place)
        normal = torch.special.ndtri(numbers.clamp_min(2.0**-54)) * (self.scale > 0)  # what is constant stays so
        place = (numbers * len(self.points)).long()
        source = torch.where(self.flagged, self.bins.gather(0, place).double(), normal)
        return source, torch.where(self.flagged, self.points.gather(0, place), self.mean + normal * self.scale)

    def locate(self, z: Tensor) -> Tensor:
        """The bins, categories (-1 where the background has no such) or standard deviations of rows (B, F)."""
        bins = _bin(z, self.edges).double()
        for i, codes in enumerate(self.categories):
            if codes is not None:
                known = codes == z[:, i : i + 1]
                bins[:, i] = torch.where(known.any(1), known.long().argmax(1), -1)
        return torch.where(self.flagged, bins, (z - self.mean) / torch.where(self.scale > 0, self.scale, 1.0))

    def design(self, here: Tensor, source: Tensor) -> Tensor:
        """The design (1 + m, F) of a row (F,) and of the samples (m, F), seen from that row."""
        every = torch.cat([here.to(source).unsqueeze(0), source])
        same = (every == every[0]).double()
        return same if bool(self.flagged.all()) else torch.where(self.flagged, same, every)


def _quartiles(ordered: Tensor) -> Tensor:
    """The quartiles (3, F) of sorted columns (R, F), interpolated linearly."""
    place = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64) * (len(ordered) - 1)
    low = place.long()
    below, above = ordered[low], ordered[low + (low < place)]
    return below + (above - below) * (place - low).unsqueeze(1)


def _bin(rows: Tensor, edges: Tensor) -> Tensor:
    """The bin 0..3 of each entry (..., F): how many edges lie below it."""
    below: Tensor = (rows > edges[0]).long() + (rows > edges[1]) + (rows > edges[2])
    return below


def _cut_normals(ordered: Tensor, bins: Tensor, edges: Tensor, again: int) -> Tensor:
    """Points (K, F) in order: of every bin the quantiles of a normal distribution with the mean and standard deviation
    of its entries, cut to the bin."""
    member = (bins[::again] == torch.arange(4).reshape(4, 1, 1)).double()
    count = member.sum(1)
    some = count.clamp_min(1)
    centre = (member * ordered).sum(1) / some
    spread = ((member * (ordered - centre.unsqueeze(1)) ** 2).sum(1) / some).sqrt()
    ends = torch.cat([ordered[:1], edges, ordered[-1:]])
    wide = torch.where(spread > 0, spread, 1.0)
    low, high = (torch.special.ndtr((end - centre) / wide) for end in (ends[:-1], ends[1:]))
    first, step = (count.cumsum(0) - count) * again, (high - low) / (some * again)  # where a bin begins
    part = low + (0.5 - first) * step
    part, step, centre, spread, start, stop = (
        each.gather(0, bins) for each in (part, step, centre, spread, ends[:-1], ends[1:])
    )
    share = part + torch.arange(len(bins)).unsqueeze(1) * step
    points: Tensor = (centre + spread * torch.special.ndtri(share)).clamp(start, stop)
    return points
