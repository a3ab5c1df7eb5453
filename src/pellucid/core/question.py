"""One scalar function of one tensor: f = target after model after decode, taken at z = encode(x)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pellucid.core.budget import Executor, out_of_memory
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.model import Model
from pellucid.core.players import Players
from pellucid.core.space import Identity, Space
from pellucid.core.target import Target


@dataclass(frozen=True)
class Question:
    """What is asked: the function, the rows at which it is asked, the seed, and the executor that pays for the answer.

    ``memo`` keeps what chunks of work share and could make again, such as the values at both ends of a game.
    ``first_row`` is the key of the first row's random draws; ``offset`` its place in the user's batch of
    ``rows_in_all`` rows.
    """

    model: Model
    space: Space
    target: Target
    x: Tensor
    z: Tensor
    seed: int
    executor: Executor
    players: Players | None = None
    first_row: int = 0
    offset: int = 0
    rows_in_all: int = 1
    memo: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def columns(self) -> Tensor | None:
        """The explained column of each row, or None where all outputs or a callable are read."""
        return self.target.columns(self.z.device)

    @cached_property
    def column(self) -> int | None:
        """The explained column where it is the same for all rows."""
        each = self.target.index if self.columns is not None else ()
        return each[0] if isinstance(each, tuple) and len(set(each)) == 1 else None

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of one row of z."""
        shape = tuple(self.z.shape[1:])
        if isinstance(self.space, Identity) or self.z.shape == self.x.shape:
            return self.model.dims(shape)
        return ("feature",) if len(shape) == 1 else tuple(f"axis{i + 1}" for i in range(len(shape)))

    def bounds(self, who: str) -> tuple[float, float]:
        """The valid range of an input entry: the model's, else [0, 1] where x lies in it."""
        if self.model.bounds is not None:
            return self.model.bounds
        if bool((self.x >= 0).all()) and bool((self.x <= 1).all()):
            return (0.0, 1.0)
        raise BadInput(
            f"{who}: needs the range of an input entry and x leaves [0, 1]; say it with wrap(..., bounds=(low, high))"
        )

    def block(self, rows: slice) -> Question:
        """The same question about some of the rows."""
        return replace(
            self,
            x=self.x[rows],
            z=self.z[rows],
            target=self.target.take(rows),
            players=None if self.players is None else self.players.rows(rows),
            first_row=self.first_row + rows.start,
            offset=self.offset + rows.start,
            memo={},
        )

    def rows(self, rows: Tensor) -> Question:
        """The same question about scattered rows; only for work that draws no random numbers, which are keyed by
        consecutive rows."""
        target = self.target
        if isinstance(target.index, tuple):
            target = replace(target, index=tuple(target.index[row] for row in rows.tolist()))
        players = None if self.players is None else self.players.take(rows)
        return replace(self, x=self.x[rows], z=self.z[rows], target=target, players=players, memo={})

    def every_row(self) -> Tensor:
        """0..B-1, to read f once at each row."""
        return torch.arange(len(self.z), device=self.z.device)

    def gathered(self, values: Tensor, rows: Tensor) -> Tensor:
        """Contributions (N, *dims, J) of entries as contributions (N, n, J) of players; as they are where no players
        were given."""
        return values if self.players is None else self.players.take(rows).gather(values)

    def raw(self, z: Tensor) -> Any:
        """The model's raw output at coordinates z."""
        self.executor.cost.forwards += len(z)
        through: Callable[[Tensor], Any] | None = getattr(self.space, "through", None)  # of a space inside the model
        return self.run(self.space.decode(z)) if through is None else self._called(through, z)

    def run(self, x: Tensor) -> Any:
        """The model's raw output at inputs x; what the user's code raises comes back with what it was called with."""
        return self._called(self.model, x)

    def _called(self, function: Callable[[Tensor], Any], x: Tensor) -> Any:
        try:
            return function(x)
        except (BadInput, Unsupported):
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise BadInput(
                f"the model raised {type(error).__name__}: {error}; it was called with x of shape {tuple(x.shape)}, "
                f"{x.dtype}, on {x.device}. Pass x as the model takes it, one row of the batch for each input"
            ) from error

    def score(self, raw: Any, rows: Tensor) -> Tensor:
        """The explained numbers (N, J) in a raw output whose entry i belongs to row ``rows[i]`` of the question."""
        columns: Tensor | int | None = self.column
        if columns is None and self.columns is not None:
            columns = self.columns.index_select(0, rows)
        score = self.target.score(raw, self.model.matrix, columns, self.model.scale)
        if len(score) != len(rows):
            raise BadInput(
                f"the model returned {len(score)} rows for {len(rows)} inputs; row i of the output must "
                "belong to row i of the input"
            )
        # A finite sum has finite terms, and is told sooner; one of finite terms may still overflow.
        if not (bool(torch.isfinite(score.sum())) or bool(torch.isfinite(score).all())):
            raise BadInput(
                f"the explained output (read={self.target.read_name!r}) is NaN or infinite at some inputs; "
                "check the model there, or read a finite number: read='prob' instead of a log of zero"
            )
        return score

    def value(self, z: Tensor, rows: Tensor) -> Tensor:
        """f at coordinates z (N, *dims), entry i read for row ``rows[i]``: (N, J), without a gradient."""

        def work(part: slice) -> Tensor:
            with torch.no_grad():
                return self.score(self.raw(z[part]), rows[part]).detach()

        return torch.cat(self.executor.map(work, len(z)))

    def here(self) -> Tensor:
        """f at the question's own rows, (B, J)."""
        return self.value(self.z, self.every_row())

    def original(self) -> Tensor:
        """f at x itself, (B, J), without the way through the space."""
        rows = self.every_row()

        def work(part: slice) -> Tensor:
            with torch.no_grad():
                self.executor.cost.forwards += part.stop - part.start
                return self.score(self.run(self.x[part]), rows[part]).detach()

        return torch.cat(self.executor.map(work, len(self.x)))

    def gradient(self, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """f and its gradient at z (N, *dims): (N, J) and (N, *dims, J)."""
        with torch.enable_grad():
            z = z.detach().clone().requires_grad_()
            score = self.score(self.raw(z), rows)
            grads = self.derivatives(score, z, needed="the input")
        return score.detach(), grads

    def derivatives(self, score: Tensor, at: Tensor, needed: str | None = None) -> Tensor:
        """Gradients of each explained output with respect to a tensor of the graph: (*at.shape, J).

        Where no path leads from the tensor to an output they are zero, or, where ``needed`` says what the tensor is,
        the question is refused.
        """
        count = score.shape[1]
        self.executor.cost.backwards += len(score) * count
        each = []
        for j in range(count):
            grad = self.derivative(score[:, j].sum(), at, keep=j + 1 < count)
            if grad is None and (needed is not None or not score.requires_grad):
                raise Unsupported(
                    f"no gradient flows from {needed or 'the input'} of {self.model.name} to the explained output: "
                    "something on the way detaches it "
                    "or leaves torch; feature_ablation() and random_attribution() need predictions only"
                )
            each.append(torch.zeros_like(at) if grad is None else grad)
        return torch.stack(each, -1).detach()

    def derivative(self, number: Tensor, at: Tensor, keep: bool) -> Tensor | None:
        """The gradient of one number with respect to a tensor of its graph, None where no path leads from it;
        ``keep`` keeps the graph for another one."""
        if not (number.requires_grad and at.requires_grad):
            return None
        try:
            (grad,) = torch.autograd.grad(number, at, retain_graph=keep, allow_unused=True)
        except (RuntimeError, NotImplementedError) as error:
            if out_of_memory(error):
                raise
            raise Unsupported(
                f"{self.model.name} computes its output but not its gradient: {type(error).__name__}: {error}; "
                "feature_ablation() and random_attribution() need predictions only"
            ) from error
        return grad
