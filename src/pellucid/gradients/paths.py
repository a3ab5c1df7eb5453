"""The path engine: gradients averaged over a straight path or a cloud of points, combined with a displacement."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unreliable
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.core.state import Sums
from pellucid.gradients.quadrature import nodes

_GRADIENTS = frozenset({"gradients"})


def along(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor (N,) shaped to multiply one of shape (N, ...)."""
    return tensor.to(like).reshape(-1, *(1,) * (like.ndim - 1))


@dataclass(frozen=True)
class Gradient(Method):
    """The gradient at x itself, or its product with x."""

    name: str
    times_input: bool = False

    needs: ClassVar[frozenset[str]] = _GRADIENTS
    access: ClassVar[str] = "gradients"

    @property
    def ranking(self) -> str:  # type: ignore[override]
        """A gradient's sign says which way, not whether; its product with x is a contribution."""
        return "signed" if self.times_input else "absolute"

    @property
    def reduction(self) -> str:  # type: ignore[override]
        """How channels join into one score for a position."""
        return "sum" if self.times_input else "sum of absolute values"

    def attribute(self, question: Question) -> Result:
        z, every = question.z, question.every_row()

        def work(part: slice) -> tuple[Tensor, Tensor]:
            score, grads = question.gradient(z[part], every[part])
            scores = grads * z[part].unsqueeze(-1) if self.times_input else grads
            return question.gathered(scores, every[part]), score

        values, outputs = zip(*question.executor.map(work, len(z)), strict=True)
        return Result(torch.cat(values), outputs=torch.cat(outputs))

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "fields": {}}


@dataclass(frozen=True)
class PathIntegral(Method):
    """Integrated gradients by quadrature, from one or more baselines (see ``methods.integrated_gradients``)."""

    steps: int
    baseline: Removal
    rule: str
    tolerance: float | None
    most_steps: int = 4096
    name: str = "integrated_gradients"

    needs: ClassVar[frozenset[str]] = _GRADIENTS
    access: ClassVar[str] = "gradients"
    promise: ClassVar[str | None] = "completeness"
    averaged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1:
            raise BadInput(f"integrated_gradients: steps must be a whole number of at least 1, got {self.steps!r}")
        if self.tolerance is not None and not self.tolerance > 0:
            raise BadInput(f"integrated_gradients: tolerance must be positive, got {self.tolerance!r}")
        nodes(self.rule, max(self.steps, 2) if self.rule != "trapezoid" else self.steps)

    def chunks(self, question: Question) -> int:
        return 1 if self.tolerance is not None else -(-self._points(question) // self._share(question))

    def chunk(self, question: Question, index: int) -> Any:
        if self.tolerance is not None:
            return super().chunk(question, index)
        share, points = self._share(question), self._points(question)
        alpha, weight = nodes(self.rule, self.steps)
        part = range(index * share, min((index + 1) * share, points))
        draws = range(part.start // self.steps, (part.stop - 1) // self.steps + 1)
        starts = self._starts(question, draws)
        return Sums({"values": self._integral(question, starts, draws.start, alpha, weight, part)})

    def result(self, question: Question, state: Any) -> Result:
        if self.tolerance is not None:
            return super().result(question, state)
        return Result(state["values"], base=self._base(question))

    def _points(self, question: Question) -> int:
        return self.steps * self.baseline.draws

    def _share(self, question: Question) -> int:
        """Path points of one chunk: about one model call for the rows of the block."""
        return max(1, question.executor.batch_size // len(question.z))

    def _starts(self, question: Question, draws: range) -> Tensor:
        """The baselines of some draws, (B, len(draws), *dims)."""
        return self.baseline.absent(question, draws).expand(len(question.z), len(draws), *question.z.shape[1:])

    def _integral(
        self, question: Question, starts: Tensor, first: int, alpha: Tensor, weight: Tensor, points: range
    ) -> Tensor:
        """What some (baseline, node) points contribute to the integral, (B, *dims, J); ``starts`` holds baselines from
        draw ``first`` on."""
        z, steps, draws = question.z, len(alpha), self.baseline.draws
        rows, count = len(z), len(points)
        total: Tensor | None = None

        def work(part: slice) -> tuple[Tensor, Tensor]:
            item = torch.arange(part.start, part.stop, device=z.device)
            row, point = item % rows, item // rows + points.start
            start = starts[row, point // steps - first]
            step = point % steps
            at = start + along(alpha.to(z.device)[step], start) * (z[row] - start)
            grads = question.gradient(at, row)[1]
            share = along(weight.to(z.device)[step] / draws, grads)
            return row, question.gathered(grads * share * (z[row] - start).unsqueeze(-1), row)

        for row, parts in question.executor.map(work, rows * count):
            if total is None:
                total = parts.new_zeros(rows, *parts.shape[1:])
            total.index_add_(0, row, parts)
        if total is None:
            raise BadInput("integrated_gradients: no path points")
        return total

    def _base(self, question: Question) -> Tensor:
        """f at the baselines, averaged over them, (B, J)."""
        draws = self.baseline.draws
        total = sum(
            question.value(self._starts(question, range(d, d + 1))[:, 0], question.every_row()) for d in range(draws)
        )
        return torch.as_tensor(total) / draws

    def attribute(self, question: Question) -> Result:
        """Bisect the path, doubling the panels of the rule, for every row whose residual or values still move by more
        than the tolerance."""
        tolerance = self.tolerance or math.inf
        base, here = self._base(question), question.here()
        gap = (here - base).abs()
        starts = self._starts(question, range(self.baseline.draws))
        most = max(1, self.most_steps // self.steps)
        values, used = None, torch.zeros(len(question.z), dtype=torch.long)
        active = torch.arange(len(question.z))
        panels = 1
        while True:
            asked = question.rows(active)
            alpha, weight = nodes(self.rule, self.steps, panels)
            fresh = self._integral(asked, starts[active], 0, alpha, weight, range(len(alpha) * self.baseline.draws))
            used[active] += len(alpha) * self.baseline.draws
            if values is None:
                values, settled = fresh, torch.zeros(len(active), dtype=torch.bool)
            else:
                scale = gap[active].clamp_min(torch.finfo(gap.dtype).tiny)
                moved = (fresh - values[active]).abs().flatten(1, -2).amax(1) / scale
                residual = (fresh.flatten(1, -2).sum(1) - (here[active] - base[active])).abs() / scale
                values[active] = fresh
                settled = ((moved <= tolerance) & (residual <= tolerance)).all(-1).cpu()
            active = active[~settled]
            if len(active) == 0 or 2 * panels > most:
                break
            panels *= 2
        if len(active):
            warnings.warn(
                f"integrated_gradients: {len(active)} of {len(question.z)} rows did not reach tolerance "
                f"{tolerance:g} within "
                f"{self.most_steps} steps; look at residual_relative, or raise the tolerance",
                Unreliable,
                stacklevel=2,
            )
        return Result(values, base=base, details={"steps_used": used}, by_row=frozenset({"steps_used"}))
