"""What may happen to a row while some of its players are held fixed, and whether the decision stays the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.core.players import Players, each, feature_names
from pellucid.core.question import Question
from pellucid.core.removal import Marginal, Removal

_QUARTILES = (0.25, 0.5, 0.75)
_COIN = 0.5


@dataclass(frozen=True)
class Bins:
    """The quartile of a background in which each entry of a row lies (its value, where there are few of them).

    ``low`` < value <= ``high``, or value == x where ``exact``; ``pool`` (R, d) lists the background values inside,
    ``size`` (d,) says how many.
    """

    x: Tensor
    low: Tensor
    high: Tensor
    exact: Tensor
    pool: Tensor
    size: Tensor

    @classmethod
    def of(cls, x: Tensor, background: Tensor, codes: Tensor) -> Bins:
        """Bins of a row x (d,) among rows (R, d); ``codes`` (d,) bool marks entries that are categories."""
        edges = torch.quantile(background.double(), torch.tensor(_QUARTILES, dtype=torch.float64), dim=0)
        distinct = torch.tensor([len(torch.unique(column)) for column in background.T])
        infinity = torch.full_like(edges[:1], math.inf)
        low = torch.cat([-infinity, torch.where(edges < x, edges, -math.inf)]).amax(0)
        high = torch.cat([infinity, torch.where(edges >= x, edges, math.inf)]).amin(0)
        found = cls(x, low, high, codes | (distinct <= len(_QUARTILES) + 1), background, torch.zeros(len(x)))
        inside = found.hold(background)
        first = inside.int().argsort(dim=0, descending=True, stable=True)
        pool = background.gather(0, first)
        pool[0] = torch.where(inside.any(0), pool[0], x)  # nobody in the background is like x: x itself
        return replace(found, pool=pool, size=inside.sum(0).clamp_min(1))

    def hold(self, z: Tensor) -> Tensor:
        """Whether entries of rows (..., d) lie in the bins."""
        return torch.where(self.exact, z == self.x, (z > self.low) & (z <= self.high))

    def moved(self, z: Tensor, uniform: Tensor) -> Tensor:
        """Rows (P, d) with every entry in its bin: its own value if it lies there, else that of a background row."""
        chosen = self.pool.gather(0, (uniform * self.size).long())
        return torch.where(self.hold(z), z, chosen)

    def words(self, entry: int, name: str) -> str:
        """What is held of an entry."""
        low, high = float(self.low[entry]), float(self.high[entry])
        if math.isinf(low) and math.isinf(high):
            return f"any {name}"
        upper = name if math.isinf(high) else f"{name} ≤ {high:.4g}"
        return upper if math.isinf(low) else f"{low:.4g} < {upper}" if not math.isinf(high) else f"{name} > {low:.4g}"


@dataclass
class Neighbourhood:
    """One row, and what can happen to the players that are not held.

    A table with a background: every entry takes the value of one random background row, held ones a value in their own
    quartile. Else what is held stays as it is, and the others take a random stand-in where the removal has several;
    where it has one, each is taken away with probability 1/2.
    """

    question: Question
    removal: Removal

    def __post_init__(self) -> None:
        question, removal = self.question, self.removal
        players = question.players or each().divide(question.z, question.dims, question.space.names)
        self.division: Players = players.take(torch.zeros(1, dtype=torch.long)) if players.by_row else players
        sizes = self.division.gather(torch.ones_like(question.z, dtype=torch.float64))[0]
        self.players: tuple[int, ...] = tuple(torch.nonzero(sizes > 0).flatten().tolist())
        single = replace(removal, samples=1) if isinstance(removal, Marginal) else removal
        self._one = single.draws if not single.sampled else 1
        self._sampled = single.sampled
        self._stand_ins = single.stand_ins(question)
        self.keep = 0.0 if single.sampled or single.draws > 1 else _COIN
        self._background: Tensor | None = None
        self.bins: Bins | None = None
        if isinstance(removal, Marginal) and question.z.ndim == 2:
            self._background = question.space.encode(removal.rows(question)).cpu()
            self.bins = Bins.of(question.z[0].cpu(), self._background, self._codes())

    def _codes(self) -> Tensor:
        d, frame = self.question.z.shape[1], self.question.model.frame
        if frame is None or len(frame.columns) != d:
            return torch.full((d,), not self.question.z.is_floating_point())
        return torch.tensor([column.values is not None for column in frame.columns])

    # ------------------------------------------------------------ the decision

    @cached_property
    def _column(self) -> int:
        columns = self.question.columns
        return 0 if columns is None else int(columns[0])

    @cached_property
    def decided(self) -> bool:
        """Whether the model decides for the explained class at the row itself."""
        return bool(self._decisions(self.question.z)[0])

    def _decisions(self, z: Tensor) -> Tensor:
        """Whether the model decides for the explained class, (N,) bool."""
        question = self.question
        with torch.no_grad():
            outputs = question.model.matrix(question.raw(z)).cpu()
        if len(outputs) != len(z):
            raise BadInput(
                f"the model returned {len(outputs)} rows for {len(z)} inputs; it must return one row for each"
            )
        if not bool(torch.isfinite(outputs).all()):
            raise BadInput("anchors: the model's output is NaN or infinite at some inputs; check the model there")
        if outputs.shape[1] == 1:
            return outputs[:, 0] > (0.5 if question.model.scale == "prob" else 0.0)
        return outputs.argmax(1) == self._column

    # ------------------------------------------------------------ what happens

    def fixed(self, members: Sequence[int]) -> bool:
        """Whether nothing can happen any more when these are held."""
        return self.bins is None and set(members) == set(self.players)

    def hits(self, candidates: Sequence[Sequence[int]], batches: Sequence[int], count: int) -> list[int]:
        """For each candidate in how many of ``count`` draws the decision stays; draws are keyed by (seed, row, batch).

        Candidates share the draws of a batch, which makes their comparison sharper.
        """
        n, question = self.division.n, self.question
        held = torch.zeros(len(candidates), n, dtype=torch.bool)
        for arm, members in enumerate(candidates):
            held[arm, list(members)] = True
        distinct = sorted(set(batches))
        entries = question.z[0].numel() if self.bins is not None else n
        uniform = torch.stack(
            [
                rng.uniform(question.seed, "anchors", batch, question.first_row, 1, count * entries).reshape(count, -1)
                for batch in distinct
            ]
        )
        number = torch.tensor(batches)
        place = torch.tensor([distinct.index(batch) for batch in batches])

        def work(part: slice) -> Tensor:
            item = torch.arange(part.start, part.stop)
            arm, draw = item // count, item % count
            happened = self._happen(held[arm], number[arm] * count + draw, uniform[place[arm], draw])
            return self._decisions(happened.to(question.z)) == self.decided

        stayed = torch.cat(question.executor.map(work, len(candidates) * count))
        found: list[int] = stayed.reshape(len(candidates), count).sum(1).tolist()
        return found

    def _happen(self, held: Tensor, turns: Tensor, uniform: Tensor) -> Tensor:
        """Inputs (P, *dims) where players ``held`` (P, n) are held, drawn by ``turns`` (P,) and numbers ``uniform``."""
        z, device = self.question.z, self.question.z.device
        present = held if self.bins is not None else held | (uniform < self.keep)
        kept = self.division.mask(present.to(z.device, torch.float32).unsqueeze(0))[0] > 0
        absent = self._stand_in(turns, kept.to(z))
        if self.bins is None:
            return torch.where(kept, z, absent)
        absent = absent.cpu().expand(len(turns), -1)
        return torch.where(kept.cpu(), self.bins.moved(absent, uniform), absent).to(device)

    def _stand_in(self, turns: Tensor, present: Tensor) -> Tensor:
        rows = torch.zeros(len(turns), dtype=torch.long, device=present.device)
        if self._sampled or self._one == 1:
            return self._stand_ins(turns if self._sampled else torch.zeros_like(turns), rows, range(1), present)[:, 0]
        chosen, draws = torch.empty_like(present), turns % self._one
        for draw in torch.unique(draws).tolist():
            here = (draws == draw).to(present.device)
            first = torch.zeros(int(here.sum()), dtype=torch.long)
            chosen[here] = self._stand_ins(first, rows[here], range(draw, draw + 1), present[here])[:, 0].to(chosen)
        return chosen

    # ------------------------------------------------------------ how often it applies, and how it reads

    def coverage(self, members: Sequence[int]) -> tuple[float, int]:
        """How often a rule applies, and among how many background rows that was counted.

        In a table, the share of the background for which it is true; else (0 rows) the share of coalitions drawn by
        tossing a coin for each player that hold it.
        """
        if self.bins is None or self._background is None:
            return _COIN ** len(members), 0
        true = self.bins.hold(self._background)
        labels = self.division.labels.reshape(-1)
        wanted = (labels.unsqueeze(0).cpu() == torch.tensor(list(members) or [-2]).unsqueeze(1)).any(0)
        return float((true | ~wanted).all(1).double().mean()), len(true)

    def words(self, members: Sequence[int]) -> str:
        """The rule: what is held, and what then follows."""
        return f"{' and '.join(self._held(i) for i in sorted(members)) or 'always'} → {self._class()}"

    def _class(self) -> str:
        labels, single = self.question.model.labels, self._single
        name = labels[self._column] if labels is not None else "positive" if single else f"class {self._column}"
        return name if self.decided else f"not {name}"

    @cached_property
    def _single(self) -> bool:
        with torch.no_grad():
            return self.question.model.matrix(self.question.raw(self.question.z)).shape[1] == 1

    def _held(self, player: int) -> str:
        z, title = self.question.z, self.division.names[player]
        if z.ndim != 2:
            return title
        names = feature_names((z.shape[1],), self.question.space.names)
        entries = torch.nonzero(self.division.labels.reshape(-1) == player).flatten().tolist()
        return " and ".join(self._entry(entry, names[entry]) for entry in entries)

    def _entry(self, entry: int, name: str) -> str:
        value, frame = self.question.z[0, entry].item(), self.question.model.frame
        if self.bins is not None and not bool(self.bins.exact[entry]):
            return self.bins.words(entry, name)
        values = frame.columns[entry].values if frame is not None and len(frame.columns) > entry else None
        return f"{name} = {values[int(value)] if values is not None else f'{value:.4g}'}"
