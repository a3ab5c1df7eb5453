"""Which number of the model's output is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput, listing

READS = ("raw", "logit", "centred", "prob", "logprob", "margin", "loss")

Index = int | str | tuple[int | str, ...] | None


@dataclass(frozen=True)
class Target:
    """One scalar of the output for each row (or all of them).

    ``index``: a column (int), a label (str), one of these for each row (a sequence), ``"all"``, or None for the
    predicted class, which is looked up once and stored. ``read``: what is read off at that column, with z the outputs
    (B, K):

    - ``"raw"`` z_c as the model gives it;
    - ``"logit"`` z_c of a logit model, log p_c of a probability model;
    - ``"centred"`` z_c minus the mean of z over classes;
    - ``"prob"`` softmax(z)_c (the sigmoid when K = 1); the identity on a probability model;
    - ``"logprob"`` log of that; ``"loss"`` minus that;
    - ``"margin"`` z_c minus the largest other z;
    - or a callable on the *raw* output of any structure that returns one number a row; ``index`` is then not used.
    """

    index: Any = None
    read: str | Callable[[Any], Any] = "raw"

    def __post_init__(self) -> None:
        if not callable(self.read) and self.read not in READS:
            raise BadInput(f"Target: read must be a callable or one of {listing(READS)}, got {self.read!r}")
        object.__setattr__(self, "index", _plain(self.index))

    @classmethod
    def of(cls, target: Any) -> Target:
        """A Target from what a user passes as ``target=``: a Target, None, a column, a label, "all" or a sequence."""
        return target if isinstance(target, Target) else cls(target)

    @property
    def resolved(self) -> bool:
        """Whether the index no longer depends on a prediction or on label names."""
        index = self.index
        return (
            callable(self.read)
            or index == "all"
            or (isinstance(index, tuple) and all(isinstance(i, int) for i in index))
        )

    @property
    def several(self) -> bool:
        """Whether a row has more than one explained output."""
        return isinstance(self.index, str) and self.index == "all" and not callable(self.read)

    @property
    def read_name(self) -> str:
        """The read as text, for provenance."""
        return self.read if isinstance(self.read, str) else getattr(self.read, "__qualname__", type(self.read).__name__)

    def resolve(self, outputs: Tensor, labels: Sequence[str] | None) -> Target:
        """The same target with its index as one column for each row of ``outputs`` (B, K), or ``"all"``."""
        if callable(self.read) or self.several:
            return self
        rows, columns = outputs.shape
        index = self.index
        if index is None:
            if not bool(torch.isfinite(outputs).all()):
                raise BadInput(
                    "Target: the model's output has NaN or infinite entries, so no class is predicted; name the target"
                )
            return replace(self, index=tuple(outputs.argmax(1).tolist()))
        each = index if isinstance(index, tuple) else (index,) * rows
        if len(each) != rows:
            raise BadInput(f"Target: a sequence needs one entry a row; got {len(each)} entries for {rows} rows")
        return replace(self, index=tuple(_column(entry, columns, labels) for entry in each))

    def columns(self, device: torch.device | str = "cpu") -> Tensor | None:
        """The resolved column of each row, (B,) int64; None when all outputs or a callable are read."""
        if callable(self.read) or self.several:
            return None
        return torch.tensor(self.index, dtype=torch.long, device=device)

    def take(self, rows: slice) -> Target:
        """The target of some of the rows."""
        return replace(self, index=self.index[rows]) if isinstance(self.index, tuple) else self

    def score(self, raw: Any, outputs: Callable[[Any], Tensor], columns: Tensor | int | None, scale: str) -> Tensor:
        """The explained numbers (N, J) from one raw output; ``outputs`` turns it into a matrix, ``columns`` is (N,),
        one for all rows, or None."""
        if callable(self.read):
            number = self.read(raw)
            if not isinstance(number, Tensor):
                number = torch.as_tensor(np.asarray(number))
            if number.ndim != 1:
                raise BadInput(
                    "Target: the read function must return one number a row, shape (B,); it returned "
                    f"{tuple(number.shape)}"
                )
            return number.unsqueeze(1)
        z = outputs(raw)
        if columns is None:
            return torch.cat([_read(self.read, z, k, scale) for k in range(z.shape[1])], 1)
        if isinstance(columns, Tensor) and len(z) != len(columns):
            raise BadInput(
                f"the model returned {len(z)} rows for {len(columns)} inputs; row i of the output must belong to row i "
                "of the input"
            )
        return _read(self.read, z, columns, scale)


def _read(read: str, z: Tensor, columns: Tensor | int, scale: str) -> Tensor:
    if isinstance(columns, Tensor):
        columns = columns.to(z.device).unsqueeze(1)
        one = z.gather(1, columns)
    else:
        one = z[:, columns : columns + 1].clone()  # a view would keep all outputs in memory
    if read == "raw":
        return one
    if scale == "value":
        raise BadInput(
            f"Target: read={read!r} needs class scores, but this model's outputs are plain values; "
            "use read='raw', or say what they are with wrap(..., scale='logit' or 'prob')"
        )
    if read == "centred":
        return one - z.mean(1, keepdim=True)
    if read == "margin":
        if z.shape[1] == 1:  # one column: the other class is its complement
            return 2 * one - 1 if scale == "prob" else one
        if not isinstance(columns, Tensor):
            columns = torch.full((len(z), 1), columns, device=z.device)
        others = z.masked_fill(torch.zeros_like(z, dtype=torch.bool).scatter(1, columns, True), -torch.inf)
        return one - others.amax(1, keepdim=True)
    if read == "logit":
        return one.log() if scale == "prob" else one
    if scale == "prob":
        log_prob = one.log()
        prob = one
    elif z.shape[1] == 1:
        log_prob, prob = torch.nn.functional.logsigmoid(one), torch.sigmoid(one)
    else:
        log_prob = one - torch.logsumexp(z, 1, keepdim=True)
        prob = log_prob.exp()
    return {"prob": prob, "logprob": log_prob, "loss": -log_prob}[read]


def _plain(index: Any) -> Index:
    if hasattr(index, "tolist"):  # a tensor, an array, a numpy scalar, a pandas Series
        index = index.tolist()
    if isinstance(index, bool):
        raise BadInput(f"Target: index must be a column number or a label, got {index!r}")
    if index is None or isinstance(index, (int, str)):
        return index
    if isinstance(index, Sequence) and all(isinstance(i, (int, str)) and not isinstance(i, bool) for i in index):
        return tuple(index)
    raise BadInput(f"Target: index must be an int, a label, a 1-d sequence of these, 'all' or None; got {index!r}")


def _column(entry: int | str, columns: int, labels: Sequence[str] | None) -> int:
    if isinstance(entry, str):
        if labels is None:
            raise BadInput(
                f"Target: label {entry!r} was given but the model has no labels; use wrap(..., labels=[...]) "
                "or a column number"
            )
        if entry not in labels:
            raise BadInput(f"Target: label {entry!r} not found; have {listing(labels)}")
        return list(labels).index(entry)
    if not 0 <= entry < columns:
        raise BadInput(f"Target: column {entry} is out of range; the model has {columns} outputs, 0..{columns - 1}")
    return entry
