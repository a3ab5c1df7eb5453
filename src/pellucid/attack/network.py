"""A model as the operations it is made of, read off one call: affine ones, ReLU and max-pooling, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid.attack.operations import ROWS, Builder, Call, Node, Ref, refuse
from pellucid.core.question import Question

_REPLAYED = 1e-3
"""How far a replay may be from the model itself, as a share of its largest output."""


@dataclass(frozen=True, eq=False)
class Network:
    """Operations in the order they ran, the input first; the last is the matrix of outputs, (N, K)."""

    nodes: tuple[Node, ...]
    monotone: str | None

    def __call__(self, z: Tensor) -> Tensor:
        """The outputs (N, K) at coordinates z, computed again in float64."""
        values: list[Tensor] = [z.double()]
        for node in self.nodes[1:]:
            values.append(node.run(*(values[i] for i in node.inputs)))
        return values[-1]


def read(question: Question) -> Network:
    """The network behind a question, from its coordinates to its outputs, preprocessing included.

    A last softmax, log-softmax or sigmoid is left out, which changes no decision (its name is kept in ``monotone``).
    Raises ``Unsupported`` naming the first operation that cannot be bounded.
    """
    z = question.z[:1].expand(ROWS, *question.z.shape[1:]).clone()
    recorder = _Recorder(z, question.model.name)
    with torch.no_grad(), recorder:
        outputs = question.model.matrix(question.raw(z))
    last = recorder.known.get(id(outputs))
    if last is None:
        refuse(recorder.model, "something outside torch on the way from its input to its outputs")
    needed = {last}
    for index in range(last, 0, -1):
        if index in needed:
            needed |= set(recorder.calls[index].refs)
    builder = Builder(recorder.model, z.shape[1:])
    for index in sorted(needed - {0}):
        builder.add(index, recorder.calls[index])
    network = Network(tuple(builder.nodes), builder.monotone)
    _replayed(network, question)
    return network


def _replayed(network: Network, question: Question) -> None:
    """Refuse a model that does not do elsewhere what it did when it was read, such as one that branches."""
    z = question.z[:1]
    wave = torch.sin(torch.arange(1.0, z.numel() + 1).to(z).reshape(z.shape) * 7)
    low, high = (z - z.abs().mean() - 1, z + z.abs().mean() + 1)
    if question.model.bounds is not None:
        low, high = (torch.full_like(z, bound) for bound in question.model.bounds)
    points = [
        z,
        z + (high - z) * wave.clamp(min=0) - (z - low) * (-wave).clamp(min=0),
        (low + high) / 2 + wave * (high - low) / 2,
    ]
    again = network(torch.cat(points))  # together, and the model one by one: rows must not mix
    with torch.no_grad():
        outputs = torch.cat([question.model.matrix(question.raw(point)) for point in points]).double()
    if network.monotone is not None:
        again = again.sigmoid() if network.monotone == "sigmoid" else again.softmax(1)
        outputs = outputs.exp() if network.monotone == "_log_softmax" else outputs
    if not bool(((again - outputs).abs() <= _REPLAYED * (1 + outputs.abs().max())).all()):
        refuse(question.model.name, "a way of computing that depends on the input itself (a branch, or other tools)")


class _Recorder(TorchDispatchMode):
    """Notes every operation that the input reaches."""

    def __init__(self, z: Tensor, model: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.known = {id(z): 0}
        self.kept: list[Any] = [z]  # an id stays that of one tensor while it is held
        self.calls = [Call("input", None, (), {}, (), tuple(z.shape))]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch loads its compiler at the first call, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        refs: list[int] = []
        noted = self._noted((args, kwargs), refs)  # before the call, which may write to its arguments
        out = func(*args, **kwargs)
        if not refs:
            return out
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "item", "is_nonzero", "equal"):
            refuse(self.model, f"a number read off its input ({name})")
        several = list(out) if isinstance(out, (tuple, list)) else [out]
        for i, one in enumerate(several):
            if isinstance(one, Tensor):
                # Only the first result of an operation is understood; the others are known as not being constants.
                label = name if i == 0 else f"{name} (another of its results)"
                label = label.removesuffix("_") if args and one is args[0] else label
                self.known[id(one)] = len(self.calls)
                self.calls.append(Call(label, func, noted[0], noted[1], tuple(refs), tuple(one.shape)))
        self.kept.append((out, args))
        return out

    def _noted(self, value: Any, refs: list[int]) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in self.known:
                return value.detach().clone() if value.numel() <= 1 else value
            refs.append(self.known[id(value)])
            return Ref(refs[-1])
        if isinstance(value, (tuple, list)):
            return type(value)(self._noted(entry, refs) for entry in value)
        return {k: self._noted(v, refs) for k, v in value.items()} if isinstance(value, dict) else value
