"""When a prediction has changed: the margin of a row's perturbed output over the class it had."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unreliable, Unsupported
from pellucid.core.question import Question
from pellucid.core.space import Identity
from pellucid.core.target import Target

RIVALS = 9
"""Classes whose boundaries are looked at from the input: the strongest ones, all of ten."""
LOSSES = ("margin", "logit", "ce")


@dataclass(frozen=True, eq=False)
class Decision:
    """The class that each row of a question has, and what counts as having lost it.

    ``own`` (B,) is the predicted class; ``goal`` (B,) the class to be reached, or None where any other will do. With
    class scores z, the margin is max_{j ≠ own} z_j - z_own, or z_goal - max_{j ≠ goal} z_j: positive once the
    prediction has changed. A tie is no change. One column stands for two classes (``binary``), at 0 (logit) or ½
    (probability).
    """

    question: Question
    own: Tensor
    goal: Tensor | None
    binary: bool = False
    memo: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, question: Question, against: Any = None) -> Decision:
        """The decisions of a question's rows; ``against``: a class, a label, or one for each row."""
        model = question.model
        plain = replace(question, target=Target("all", "raw"))
        outputs = plain.value(question.z, question.every_row())
        scores, binary = class_scores(outputs, model.scale, model.name), outputs.shape[1] == 1
        own = scores.argmax(1)
        if against is None:
            return cls(question, own, None, binary)
        labels = model.labels
        if labels is not None and len(labels) == 1 and scores.shape[1] == 2:
            labels = (f"not {labels[0]}", labels[0])
        goals = Target(against).index
        if isinstance(goals, tuple) and len(goals) == question.rows_in_all:  # of all rows, these
            goals = goals[question.offset : question.offset + len(question.z)]
        goal = Target(goals).resolve(scores, labels).columns(scores.device)
        if goal is None:
            raise BadInput(f"the class to be reached must be a column or a label, one for each row; got {against!r}")
        same = torch.nonzero(goal == own).reshape(-1)
        if len(same):
            row = int(same[0])
            raise BadInput(
                f"row {row} is already predicted as class {int(own[row])}, so nothing has to change; name another class"
            )
        return cls(question, own, goal, binary)

    def say_own(self, who: str) -> None:
        """Say so where the class that was asked about is not the one that was predicted, whose loss is looked at."""
        columns = self.question.columns
        if columns is None or self.binary:
            return
        other = torch.nonzero(columns != self.own).reshape(-1)
        if len(other):
            row, asked = int(other[0]), int(columns[other[0]])
            warnings.warn(
                f"{who}: row {row + self.question.offset} is predicted as class {int(self.own[row])}, not {asked}; "
                f"what the prediction rests on is explained. For 'why not {asked}' name it as against=",
                Unreliable,
                stacklevel=2,
            )

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The box of an entry: the model's, where the coordinates are the input itself."""
        return self.question.model.bounds if isinstance(self.question.space, Identity) else None

    def at(self, delta: Tensor, rows: Tensor) -> Tensor:
        """Coordinates z + δ, (N, *dims), of perturbations (N, d) of some rows; rounding leaves no bound."""
        z = self.question.z
        moved = z.flatten(1)[rows] + delta
        moved = moved if self.bounds is None else moved.clamp(*self.bounds)
        inputs: Tensor = moved.unflatten(1, z.shape[1:])
        return inputs

    def margin(self, scores: Tensor, rows: Tensor) -> Tensor:
        """The margin (N,) of class scores (N, K) of some rows: positive where the prediction has changed."""
        if self.goal is None:
            own = self.own[rows].unsqueeze(1)
            return _rival(scores, own) - scores.gather(1, own)[:, 0]
        goal = self.goal[rows].unsqueeze(1)
        return scores.gather(1, goal)[:, 0] - _rival(scores, goal)

    def loss(self, scores: Tensor, rows: Tensor, kind: str) -> Tensor:
        """What an attack ascends, (N,): the margin, the one logit (as hsieh2021 releases it), or the cross-entropy."""
        if kind == "margin":
            return self.margin(scores, rows)
        sign, column = (-1, self.own) if self.goal is None else (1, self.goal)
        read = scores if kind == "logit" else scores.log_softmax(1)
        return sign * read.gather(1, column[rows].unsqueeze(1))[:, 0]

    def margins(self, z: Tensor, rows: Tensor) -> Tensor:
        """Margins at coordinates z (N, *dims) without a gradient, (N,) float32 or float64, on the CPU."""
        return self.margin(self._scores(z, rows), rows).cpu()

    def slopes(self, z: Tensor, rows: Tensor, kind: str = "margin") -> tuple[Tensor, Tensor]:
        """Margins (N,) and the gradients (N, *dims) of the loss at coordinates z."""
        question = self.question

        def work(part: slice) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                at = z[part].detach().clone().requires_grad_()
                scores = self._read(question.raw(at))
                loss = self.loss(scores, rows[part], kind).sum()
                grad = question.derivative(loss, at, keep=False)
                question.executor.cost.backwards += len(at)
            if grad is None:
                raise Unsupported(
                    f"no gradient flows from the input of {question.model.name} to its class scores; use "
                    "attack.boundary(), which needs predictions only"
                )
            return self.margin(scores.detach(), rows[part]), grad.detach()

        margins, slopes = zip(*question.executor.map(work, len(z)), strict=True)
        return torch.cat(margins), torch.cat(slopes)

    def rivals(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Gaps (N, R) by which rows lead their R strongest rivals at z itself, and the slopes (N, R, d) at which each
        rival gains; of a row with a goal, the goal alone. Asked once a row."""
        missing = [row for row in rows.unique().tolist() if row not in self.memo]
        if missing:
            at = torch.tensor(missing)
            for row, gaps, slopes in zip(missing, *self._rivals(at), strict=True):
                self.memo[row] = (gaps, slopes)
        each = [self.memo[row] for row in rows.tolist()]
        return torch.stack([gaps for gaps, _ in each]), torch.stack([slopes for _, slopes in each])

    def _rivals(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        question = self.question

        def work(part: slice) -> tuple[Tensor, Tensor]:
            here, own = rows[part], self.own[rows[part]].unsqueeze(1)
            with torch.enable_grad():
                at = question.z[here].detach().clone().requires_grad_()
                scores = self._read(question.raw(at))
                if self.goal is None:
                    hidden = torch.zeros_like(scores, dtype=torch.bool).scatter(1, own, True)
                    ranked = scores.detach().masked_fill(hidden, -torch.inf)
                    columns = ranked.topk(min(RIVALS, scores.shape[1] - 1), 1).indices
                else:
                    columns = self.goal[here].unsqueeze(1)
                leads = scores.gather(1, own) - scores.gather(1, columns)
                slopes = question.derivatives(-leads, at, needed="the input")
            return leads.detach(), slopes.flatten(1, -2).mT

        gaps, slopes = zip(*question.executor.map(work, len(rows)), strict=True)
        return torch.cat(gaps), torch.cat(slopes)

    def _scores(self, z: Tensor, rows: Tensor) -> Tensor:
        def work(part: slice) -> Tensor:
            with torch.no_grad():
                return self._read(self.question.raw(z[part]))

        return torch.cat(self.question.executor.map(work, len(z)))

    def _read(self, raw: Any) -> Tensor:
        model = self.question.model
        scores = class_scores(model.matrix(raw), model.scale, model.name)
        if not bool(torch.isfinite(scores).all()):
            raise BadInput(f"{model.name} returned NaN or infinity at a perturbed input; check the model there")
        return scores


def class_scores(outputs: Tensor, scale: str, name: str) -> Tensor:
    """A score for each class, (N, K) with K >= 2, the largest of which is the prediction."""
    if scale == "value":
        raise Unsupported(
            f"{name} gives values, not classes, so there is no prediction to change; if they are class scores say so: "
            "wrap(..., scale='logit' or 'prob')"
        )
    if outputs.shape[1] == 1:
        other = 1 - outputs if scale == "prob" else torch.zeros_like(outputs)
        outputs = torch.cat([other, outputs], 1)
    # On probabilities a margin is flat far from the boundary; its logarithm is not, and it has the same sign.
    return outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log() if scale == "prob" else outputs


def _rival(scores: Tensor, column: Tensor) -> Tensor:
    hidden = torch.zeros_like(scores, dtype=torch.bool).scatter(1, column, True)
    best: Tensor = scores.masked_fill(hidden, -torch.inf).amax(1)
    return best
