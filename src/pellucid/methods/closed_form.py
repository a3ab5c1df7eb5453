"""Recipes with a closed form: Shapley values of linear models and of a maximum. Each checks that f is what it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core import removal as absence
from pellucid.core import rng
from pellucid.core.conditional import ConditionalMean
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Marginal, Removal
from pellucid.core.settings import checked
from pellucid.games.walks import Permutation

_PROBES = 16
_BACKGROUND = 64  # background rows at which linearity is checked


@checked
def linear_shap(background: Any) -> Method:
    """How much does each feature of a linear model add to the output, features varying independently of each other?

    φ_i = w_i (x_i - E x_i), φ_0 = f(E x) = b + Σ w_j E x_j: exact Shapley values for marginal removal. ``background``
    (R, ...): rows that give the mean. The weights are read off differences of predictions; f is checked at the rows,
    the background and random points between and beyond them, and refused where it is not linear. Returns values like z,
    or (B, n). Cost: one evaluation an entry and explained output, and about 100 for the check. Departure: the paper
    prints φ_0 = b, which is only right for centred features. Source: lundberg2017.

    >>> import torch, pellucid
    >>> rows = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    >>> e = pellucid.explain(lambda x: 3 * x[:, 0] - x[:, 1] + 1, torch.tensor([[2.0, 1.0]]), linear_shap(rows))
    >>> e.values.round(4).tolist(), e.base_values.round(4).tolist()
    ([[3.0, 1.0]], [2.0])
    """
    return Linear(absence.rows_of(background, "linear_shap"))


@checked
def linear_shap_correlated(background: Any, budget: int = 2048) -> Method:
    """How much does each feature of a linear model add, when knowing one feature also tells about the others?

    The Shapley values of v(S) = f(E[X | X_S = x_S]), X normal with the mean and covariance of the ``background`` plus
    1e-6 of each variance. Another game than ``linear_shap``: features that f ignores get credit for what they tell, and
    exact duplicates share equally. Refuses an f that is not linear. ``budget``: coalitions a row, all of them when 2^n
    fits, else antithetic walks with standard errors. Returns values and standard errors (B, n). Cost: budget
    evaluations a row. Departure: the ridge in place of merging duplicates. Sources: lundberg2017, aas2021.
    """
    return Correlated(budget, ConditionalMean(absence.rows_of(background, "linear_shap_correlated")))


@checked
def max_shap(baseline: Any = 0.0) -> Method:
    """How much does each entry add to the largest one?

    Shapley values of v(S) = max over entries of x_i (i in S) or r_i, with r the ``baseline``, by a closed form over the
    sorted values: in an interval (a, b) between neighbours let p entries have x > a ≥ r and m have r > a ≥ x; unless
    some entry has both above a, the p gain (b - a) m! (p - 1)! / (p + m)! each, and the m lose (b - a) (m - 1)! p! / (p
    + m)! each. Exact, ties too. f must be the maximum of its entries, which is checked at random mixtures of x and r. A
    player counts as the largest of its entries. Returns values like z, or (B, n). Cost: 18 evaluations a row, and O(n²)
    operations. Source: lundberg2017 (its formula is for r = 0 ≤ x).

    >>> import torch, pellucid  # profits 5, 4 and 0: the best one counts
    >>> pellucid.explain(lambda x: x.amax(1), torch.tensor([[5.0, 4.0, 0.0]]), max_shap()).values.round(4).tolist()
    [[3.0, 2.0, 0.0]]
    """
    return Max(absence.of(baseline))


@dataclass(frozen=True)
class Linear(Method):
    """See ``linear_shap``."""

    source: Marginal
    name: str = "linear_shap"
    promise: ClassVar[str | None] = "completeness"

    def attribute(self, question: Question) -> Result:
        plane = Affine.of(question, self.source, self.name)
        parts = plane.parts(question)
        everything = parts.flatten(1, -2).sum(1)
        values = question.gathered(parts, question.every_row())
        base = plane.level[plane.group] + everything - values.flatten(1, -2).sum(1)  # entries without a player stay
        return Result(values, base=base, details={"game": "marginal: features vary independently"})


@dataclass(frozen=True)
class Correlated(Permutation):
    """See ``linear_shap_correlated``."""

    removal: ConditionalMean
    name: str = "linear_shap_correlated"

    def prepared(self, question: Question) -> Method:
        Affine.of(question, self.removal.source, self.name)  # raises where f is not linear
        return self

    def result(self, question: Question, state: Any) -> Result:
        found = super().result(question, state)
        return replace(found, details={**found.details, "game": "conditional: absent features follow present ones"})


@dataclass(frozen=True)
class Affine:
    """A linear f around the mean of a background, once for every distinct target.

    f(z) = level + Σ slope (z - mean): ``level`` (G, J), ``slope`` (G, *dims, J), ``mean`` (*dims); ``group`` (B,) says
    which of the G targets a row asks about.
    """

    level: Tensor
    slope: Tensor
    mean: Tensor
    group: Tensor

    @classmethod
    def of(cls, question: Question, source: Marginal, who: str) -> Affine:
        """Read off f by one step along every entry, and checked."""
        z, rows = question.z, question.space.encode(source.rows(question))
        mean, spread = rows.mean(0), rows.std(0, correction=0)
        steps = torch.where(spread > 0, spread, torch.ones_like(spread)).flatten()
        columns = question.columns
        if columns is None:
            columns = torch.zeros(len(z), dtype=torch.long, device=z.device)
        kinds, group = torch.unique(columns, return_inverse=True)
        levels, slopes = [], []
        for kind in range(len(kinds)):
            row = (group == kind).nonzero()[0]

            def ask(points: Tensor, row: Tensor = row) -> Tensor:
                return question.value(points, row.expand(len(points)))

            level = ask(mean.unsqueeze(0))[0]
            slope = []
            for part in torch.arange(len(steps), device=z.device).split(question.executor.batch_size):
                move = torch.zeros(len(part), len(steps), dtype=z.dtype, device=z.device)
                move[torch.arange(len(part)), part] = steps[part]
                slope.append((ask(mean + move.reshape(-1, *mean.shape)) - level) / steps[part].unsqueeze(1))
            levels.append(level)
            slopes.append(torch.cat(slope).reshape(*mean.shape, -1))
        found = cls(torch.stack(levels), torch.stack(slopes), mean, group)
        found.check(question, rows, who)
        return found

    def parts(self, question: Question) -> Tensor:
        """Σ-able contributions of the entries of each row, (B, *dims, J)."""
        return self.slope[self.group] * (question.z - self.mean).unsqueeze(-1)

    def check(self, question: Question, rows: Tensor, who: str) -> None:
        """Refuse an f that differs from its plane at x, at background rows, or at points between and beyond them."""
        z = question.z
        some = rows[torch.linspace(0, len(rows) - 1, min(len(rows), _BACKGROUND)).long()]
        share = rng.uniform(question.seed, f"{who}.probes", 0, 0, _PROBES, z[0].numel()).to(z).reshape(-1, *z.shape[1:])
        here, there = z[torch.arange(_PROBES) % len(z)], rows[torch.arange(_PROBES) % len(rows)]
        points = torch.cat([z, some, there + (3 * share - 1) * (here - there)])
        whose = torch.cat([torch.arange(len(z)), torch.arange(len(some) + _PROBES) % len(z)]).to(z.device)
        actual = question.value(points, whose)
        flat = (points - self.mean).flatten(1)
        slope = self.slope[self.group[whose]].flatten(1, -2)
        planar = self.level[self.group[whose]] + torch.einsum("pd,pdj->pj", flat, slope)
        size = torch.einsum("pd,pdj->pj", flat.abs(), slope.abs()).amax() + self.level.abs().amax()
        miss = float((actual - planar).abs().amax())
        if miss > float(size) * torch.finfo(actual.dtype).eps ** 0.5:
            raise Unsupported(
                f"{who}: the explained output of {question.model.name} is not linear in x (off by {miss:.3g} at points "
                "around the background); use kernel_shap() or integrated_gradients()"
            )


@dataclass(frozen=True)
class Max(Method):
    """See ``max_shap``."""

    removal: Removal
    name: str = "max_shap"
    promise: ClassVar[str | None] = "completeness"

    def attribute(self, question: Question) -> Result:
        if self.removal.sampled or self.removal.draws != 1:
            raise BadInput("max_shap: baseline must be one fixed value for each entry, a number or an array")
        z = question.z
        other = self.removal.absent(question, range(1))[:, 0].expand_as(z)
        outputs = self._checked(question, z, other)
        x, r = self._players(question, z, other)
        values = max_shapley(x, r)
        if question.players is None:
            values = values.unflatten(1, z.shape[1:])
        values = values.unsqueeze(-1).expand(*values.shape, outputs)
        return Result(values, base=r.amax(1, keepdim=True).expand(-1, outputs))

    def _players(self, question: Question, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """The largest entry of each player in z and in the baseline, (B, n) float64 each."""
        here, there = z.flatten(1).double(), other.flatten(1).double()
        players = question.players
        if players is None:
            return here, there
        labels = players.labels.to(z.device)
        labels = labels.flatten(1) if players.by_row else labels.reshape(1, -1).expand(len(z), -1)
        slot = torch.where(labels < 0, players.n, labels)
        nothing = here.new_full((len(z), players.n + 1), -torch.inf)
        x, r = (nothing.scatter_reduce(1, slot, side, "amax") for side in (here, there))
        stays = x[:, -1:]  # what has no player is always present
        floor = torch.maximum(stays, torch.minimum(here, there).amin(1, keepdim=True))  # a row may lack a player
        return torch.maximum(x[:, :-1], floor), torch.maximum(r[:, :-1], floor)

    def _checked(self, question: Question, z: Tensor, other: Tensor) -> int:
        """The number of explained outputs J, once f is known to be the maximum."""
        share = rng.uniform(question.seed, "max_shap.probes", 0, question.first_row, len(z), _PROBES * z[0].numel())
        share = share.to(z).reshape(len(z), _PROBES, *z.shape[1:])
        share[:, ::2] = share[:, ::2].round()  # coalitions, and points between them
        mixed = other.unsqueeze(1) + share * (z - other).unsqueeze(1)
        points = torch.cat([z.unsqueeze(1), other.unsqueeze(1), mixed], 1)
        whose = question.every_row().repeat_interleave(points.shape[1])
        actual = question.value(points.flatten(0, 1), whose)
        largest = points.flatten(0, 1).flatten(1).amax(1, keepdim=True)
        miss = float((actual - largest).abs().amax())
        if miss > float(points.abs().amax()) * torch.finfo(actual.dtype).eps ** 0.5:
            raise Unsupported(
                f"max_shap: the explained output of {question.model.name} is not the maximum of its entries (off by "
                f"{miss:.3g}); use exact_shapley() or permutation_shapley()"
            )
        return actual.shape[1]


def max_shapley(x: Tensor, r: Tensor) -> Tensor:
    """Shapley values of v(S) = max over i of x_i (i in S) or r_i; x and r (B, n), see ``max_shap``."""
    levels = torch.cat([x, r], 1).sort(1).values
    values = torch.zeros_like(x)
    for low, high in zip(levels.T[:-1, :, None], levels.T[1:, :, None], strict=True):
        up, down = x > low, r > low
        gains, losses = up & ~down, down & ~up
        p, m = (side.sum(1, keepdim=True).double() for side in (gains, losses))
        whole = torch.lgamma(p + m + 1)
        gain = (torch.lgamma(m + 1) + torch.lgamma(p.clamp_min(1)) - whole).exp()
        loss = (torch.lgamma(m.clamp_min(1)) + torch.lgamma(p + 1) - whole).exp()
        width = (high - low) * ~(up & down).any(1, keepdim=True)
        values += width * (gains * gain - losses * loss)
    return values
