"""What a method is: a frozen value that holds hyper-parameters only and answers a question chunk by chunk."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pellucid.core.question import Question
from pellucid.core.removal import Removal
from pellucid.core.state import Done, State


@dataclass(frozen=True)
class Result:
    """An answer for a block of rows, before it is labelled.

    ``values`` (B, *dims, J) or (B, n, J); ``std_error`` likewise or None, with ``covers`` saying which randomness it
    counts; ``base`` (B, J) is what the values add up from; ``details`` holds named extras whose first axis is rows
    where ``by_row`` names them; ``outputs`` (B, J) is f at the rows where the method has met it anyway.
    """

    values: Tensor
    std_error: Tensor | None = None
    covers: str | None = None
    base: Tensor | None = None
    dims: tuple[str, ...] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    by_row: frozenset[str] = frozenset()
    outputs: Tensor | None = None


class Method(ABC):
    """An attribution method. Subclasses are frozen dataclasses of hyper-parameters.

    Class attributes say what it is: ``needs`` of a model ("gradients", "layers", "predictions"); ``scope`` "local" or
    "global"; ``access`` "gradients", "layers" or "predictions"; ``stage`` "post-hoc" or "intrinsic"; ``ranking``
    "signed" (large positive values matter most) or "absolute"; ``reduction`` over channels "sum" or "sum of absolute
    values"; ``promise`` what its values must satisfy ("completeness", "completeness by construction" or None);
    ``averaged`` whether values come from many evaluations, so that the faster copy of the model is worth its making;
    ``control`` marks a trivial control.
    """

    name: str
    needs: ClassVar[frozenset[str]] = frozenset({"predictions"})
    scope: ClassVar[str] = "local"
    access: ClassVar[str] = "predictions"
    stage: ClassVar[str] = "post-hoc"
    ranking: ClassVar[str] = "signed"
    reduction: ClassVar[str] = "sum"
    promise: ClassVar[str | None] = None
    averaged: ClassVar[bool] = False
    control: ClassVar[bool] = False

    def prepared(self, question: Question) -> Method:
        """The method with what it finds out by default, such as a layer, settled once for all rows of the question."""
        return self

    def chunks(self, question: Question) -> int:
        """Into how many chunks the work on this block of rows is cut."""
        return 1

    def block_rows(self, question: Question) -> int:
        """How many rows are answered together: as many as a model call carries."""
        return question.executor.batch_size

    def settled(self, state: Any) -> bool:
        """Whether the work so far is enough, asked after every chunk; methods with a tolerance answer by their
        errors."""
        return False

    def chunk(self, question: Question, index: int) -> State:
        """One chunk of work: a pure function of the question and the chunk's number."""
        return Done(self.attribute(question))

    def attribute(self, question: Question) -> Tensor | Result:
        """The whole answer at once, for methods that need no chunks: values (B, *dims, J), or a Result."""
        raise TypeError(f"{type(self).__name__} defines neither attribute nor chunk")

    def result(self, question: Question, state: Any) -> Result:
        """The answer from the merged state of all chunks."""
        value = state.value
        return value if isinstance(value, Result) else Result(value)

    def describe(self) -> dict[str, Any]:
        """The method as plain JSON: its name and its hyper-parameters, arrays by hash."""
        return {"name": self.name, "fields": describe_fields(self)}


def describe_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain JSON values."""
    return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.name != "name" and f.repr}


def plain(value: Any) -> Any:
    """Any hyper-parameter as a JSON value; an array becomes its shape, dtype and hash."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (Tensor, np.ndarray)):
        array = _array(value)
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
        return {"array": digest, "shape": list(array.shape), "dtype": str(array.dtype)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        label = value.name if isinstance(value, (Method, Removal)) else type(value).__name__
        frame = getattr(value, "frame", None)  # the same codes may stand for other text
        return {"name": label, "fields": describe_fields(value) | ({} if frame is None else {"frame": frame.digest()})}
    return getattr(value, "__qualname__", type(value).__name__)


def _array(value: Tensor | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return np.asarray(value.float() if value.dtype == torch.bfloat16 else value)  # numpy has no bfloat16


def arrays(value: Any) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """(hash, array) of every array among the hyper-parameters, so that it can be stored beside the result."""
    if isinstance(value, (Tensor, np.ndarray)):
        yield plain(value)["array"], _array(value)
    elif is_dataclass(value) and not isinstance(value, type):
        for f in fields(value):
            yield from arrays(getattr(value, f.name))
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from arrays(entry)


Recipe = Callable[..., Method]
Catalogue = Sequence[Recipe]

__all__ = ["ABC", "Catalogue", "Method", "Recipe", "Result", "abstractmethod", "arrays", "describe_fields", "plain"]
