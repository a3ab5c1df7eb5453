"""What can be bounded: recorded operations as affine maps, ReLU and max-pooling, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn

import torch
from torch import Tensor

from pellucid.core.errors import Unsupported

Map = Callable[..., Tensor]
Pair = tuple[int, int]
ROWS = 2
"""Rows with which a network is recorded."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation on earlier ones, batch first.

    ``shape`` is that of an entry, ``within`` those of its inputs. ``kind`` is "input", "affine", "relu" or "pool".
    ``run`` computes it. Of an affine one y = Wv + b, ``spread`` computes |W| v and ``square`` W² v (entry by entry;
    None where it has several inputs or is not known), and ``norm`` is a bound on the spectral norm of W, of each W
    where there are several, or None; ``pull`` computes rows times W where there is a faster way than to differentiate.
    ``pool`` holds kernel, stride, padding and dilation.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    within: tuple[tuple[int, ...], ...]
    run: Map
    spread: Map | None = None
    square: Map | None = None
    lipschitz: Callable[[], float] | None = None
    pull: Map | None = None
    pool: tuple[Pair, ...] | None = None

    @cached_property
    def norm(self) -> float | None:
        """See the class."""
        return None if self.lipschitz is None else self.lipschitz()

    @cached_property
    def constant(self) -> Any:
        """b of an affine node, (1, *shape)."""
        return self.run(*(torch.zeros(1, *shape).double() for shape in self.within))


@dataclass(frozen=True, eq=False)
class Call:
    """One recorded operation; ``refs`` are the tracked tensors among its arguments, in order."""

    name: str
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    refs: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Ref:
    """A tracked tensor in the arguments of a call."""

    index: int


def refuse(model: str, what: str) -> NoReturn:
    """Say what cannot be bounded, and what can be done."""
    raise Unsupported(
        f"attack.certified cannot bound {model}: it has {what}; it bounds linear and convolutional layers, BatchNorm, "
        "ReLU and its kin, average and max pooling. attack.minimum_norm() and attack.pgd() give an upper bound for any "
        "model"
    )


_SAME = {"view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "clone", "detach", "alias",
         "_to_copy", "contiguous", "lift_fresh", "flatten"}  # fmt: skip
_CHOSEN = {"permute", "transpose", "select", "slice", "narrow"}
_AVERAGES = {"mean", "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"}
_MONOTONE = {"_softmax", "_log_softmax", "sigmoid"}


class Builder:
    """Turns recorded calls into nodes; ``at`` says which node a call became."""

    def __init__(self, model: str, shape: torch.Size) -> None:
        self.model = model
        self.monotone: str | None = None
        self.nodes = [Node("input", "input", (), tuple(shape), (), lambda: torch.empty(0))]
        self.at = {0: 0}

    def add(self, index: int, call: Call) -> None:
        """Add what a call does."""
        if self.monotone is not None and call.name not in _SAME:
            self._no(call, f"{self.monotone} before the last operation")
        self._refuse_mixing(call)
        if call.name in _SAME:
            shape = call.shape[1:]
            self._linear(call, lambda v: v.reshape(len(v), *shape), 1.0)
        elif call.name in _CHOSEN:
            self._linear(call, lambda v: call.func(v, *call.args[1:]), 1.0)
        elif call.name == "constant_pad_nd":
            self._linear(call, lambda v: call.func(v, *call.args[1:]), 1.0, lambda v: call.func(v, call.args[1], 0))
        elif call.name in _AVERAGES:
            kwargs = {k: v for k, v in call.kwargs.items() if k != "dtype"}
            self._linear(call, lambda v: call.func(v, *call.args[1:], **kwargs), None, square=False)
        elif call.name in _MONOTONE and len(call.shape) == 2 and (call.name == "sigmoid" or call.args[1] in (1, -1)):
            self.monotone, self.at[index] = call.name, self.at[call.refs[0]]
            return
        elif call.name in _BUILDERS:
            _BUILDERS[call.name](self, call)
        else:
            self._no(call, call.name)
        self.at[index] = len(self.nodes) - 1

    def _refuse_mixing(self, call: Call) -> None:
        """Rows of a batch must stay rows of a batch, for each is a problem of its own."""
        axes: Any = ()
        if call.name in ("permute", "transpose", "select", "narrow", "mean", "sum", "slice"):
            axes = call.args[1] if len(call.args) > 1 else 0
            axes = [axes] if isinstance(axes, int) else axes
        if call.name == "transpose":
            axes = call.args[1:3]
        axes = range(len(call.shape) + 1) if axes is None else axes
        count = len(self.nodes[self.at[call.refs[0]]].shape) + 1
        if call.name == "permute":
            mixed = axes[0] % count != 0
        elif call.name == "slice":
            mixed = axes[0] % count == 0 and self.nodes[self.at[call.refs[0]]].shape != call.shape[1:]
        else:
            mixed = any(axis % count == 0 for axis in axes)
        if mixed or not call.shape or call.shape[0] != ROWS:
            self._no(call, f"{call.name}, which mixes the rows of a batch")

    def _no(self, call: Call, what: str) -> NoReturn:
        refuse(self.model, f"the operation {what} (at shape {call.shape[1:]})")

    def _put(self, call: Call, kind: str, run: Map, **more: Any) -> int:
        inputs = more.pop("inputs", tuple(self.at[ref] for ref in call.refs))
        within = tuple(self.nodes[i].shape for i in inputs)
        self.nodes.append(Node(call.name, kind, inputs, call.shape[1:], within, run, **more))
        return len(self.nodes) - 1

    def _linear(self, call: Call, run: Map, norm: float | None, spread: Map | None = None, square: bool = True) -> None:
        """A selection or an average: no weight is negative, and of a selection W² = W."""
        spread = run if spread is None else spread
        inside = self.nodes[self.at[call.refs[0]]].shape
        pull = (lambda rows: rows.reshape(len(rows), *inside)) if call.name in _SAME else None
        length = None if norm is None else lambda: norm
        self._put(call, "affine", run, spread=spread, square=spread if square else None, lipschitz=length, pull=pull)

    def _weight(self, call: Call, value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            self._no(call, f"{call.name} of two things that depend on the input")
        return value.detach().double()

    def _constant(self, call: Call, value: Any) -> Tensor:
        """A number or a tensor for all rows, (1, ...) or fewer axes."""
        constant = value.detach().double() if isinstance(value, Tensor) else torch.tensor(float(value)).double()
        if constant.ndim == len(call.shape) and len(constant) == ROWS:
            if not torch.equal(constant[0], constant[1]):
                self._no(call, f"{call.name} with other numbers for each row")
            return constant[:1]
        return constant

    # ---------------------------------------------------------------- weights

    def _convolution(self, call: Call) -> None:
        weight, bias, more = self._weight(call, call.args[1]), call.args[2], call.args[3:]
        if not isinstance(call.args[0], Ref) or isinstance(bias, Ref):
            self._no(call, "convolution with a kernel that depends on the input")
        bias = None if bias is None else bias.detach().double()
        transposed, groups = bool(more[3]), int(more[5])
        inside = self.nodes[self.at[call.refs[0]]].shape
        size = inside[1:]

        def convolved(kernel: Tensor, shift: Tensor | None = None) -> Map:
            return lambda v: call.func(v, kernel, shift, *more)

        self._put(
            call,
            "affine",
            convolved(weight, bias),
            spread=convolved(weight.abs()),
            square=convolved(weight.square()),
            lipschitz=None if transposed else lambda: _circulant_norm(weight, size, more[2], groups),
            pull=lambda rows: torch.ops.aten.convolution_backward(
                rows, rows.new_zeros(1).expand(len(rows), *inside), weight, None, *more, [True, False, False]
            )[0],
        )

    def _addmm(self, call: Call) -> None:
        if not isinstance(call.args[1], Ref) or isinstance(call.args[0], Ref):
            self._no(call, "addmm of two things that depend on the input")
        beta, alpha = call.kwargs.get("beta", 1), call.kwargs.get("alpha", 1)
        self._matrix(call, self._weight(call, call.args[2]) * alpha, call.args[0].detach().double() * beta)

    def _mm(self, call: Call) -> None:
        if not isinstance(call.args[0], Ref):
            self._no(call, f"{call.name} that mixes the rows of a batch")
        self._matrix(call, self._weight(call, call.args[1]), None)

    def _matrix(self, call: Call, weight: Tensor, bias: Tensor | None) -> None:
        shift = 0 if bias is None else bias
        self._put(
            call,
            "affine",
            lambda v: v @ weight + shift,
            spread=lambda v: v @ weight.abs(),
            square=lambda v: v @ weight.square(),
            lipschitz=lambda: float(torch.linalg.matrix_norm(weight if weight.ndim == 2 else weight[:, None], 2)),
            pull=(lambda rows: rows @ weight.T) if weight.ndim == 2 else None,
        )

    def _batch_norm(self, call: Call) -> None:
        legit = call.name == "_native_batch_norm_legit_no_training"
        if (not legit and call.args[5]) or call.args[3] is None or call.args[4] is None:
            self._no(call, "batch normalisation by the statistics of the batch")
        weight, bias = (None if a is None else a.detach().double() for a in call.args[1:3])
        mean, var = (self._weight(call, a) for a in call.args[3:5])
        scale = (var + float(call.args[6 if legit else 7])).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = (0 if bias is None else bias) - mean * scale
        axes = (1, -1, *[1] * (len(call.shape) - 2))
        self._scaled(call, scale.reshape(axes), shift.reshape(axes))

    def _scaled(self, call: Call, scale: Tensor, shift: Tensor | float = 0.0) -> None:
        same = self.nodes[self.at[call.refs[0]]].shape == call.shape[1:]
        self._put(
            call,
            "affine",
            lambda v: v * scale + shift,
            spread=lambda v: v * scale.abs(),
            square=lambda v: v * scale.square(),
            lipschitz=(lambda: float(scale.abs().max())) if same else None,
            pull=(lambda rows: rows * scale) if same else None,
        )

    def _mul(self, call: Call) -> None:
        a, b = call.args[:2]
        if isinstance(a, Ref) and isinstance(b, Ref):
            self._no(call, "mul of two things that depend on the input")
        self._scaled(call, self._constant(call, b if isinstance(a, Ref) else a))

    def _div(self, call: Call) -> None:
        if len(call.refs) != 1 or not isinstance(call.args[0], Ref) or call.kwargs.get("rounding_mode"):
            self._no(call, "div by something that depends on the input")
        self._scaled(call, 1 / self._constant(call, call.args[1]))

    def _neg(self, call: Call) -> None:
        self._scaled(call, torch.tensor(-1.0).double())

    def _add(self, call: Call, first: float = 1.0, second: float = 1.0) -> None:
        a, b = call.args[:2]
        second *= float(call.kwargs.get("alpha", 1))
        if len(call.refs) == 1:
            scale, shift, other = (first, second, b) if isinstance(a, Ref) else (second, first, a)
            constant = self._constant(call, other) * shift
            full = torch.tensor(scale).double().expand((1, *call.shape[1:]))
            self._scaled(call, full, constant)
            return
        shapes = {self.nodes[self.at[ref]].shape for ref in call.refs}
        self._put(
            call,
            "affine",
            lambda v, w: first * v + second * w,
            spread=lambda v, w: abs(first) * v + abs(second) * w,
            lipschitz=(lambda: max(abs(first), abs(second))) if len(shapes) == 1 else None,
        )

    def _sub(self, call: Call) -> None:
        self._add(call, 1.0, -1.0)

    def _rsub(self, call: Call) -> None:
        self._add(call, -1.0, 1.0)

    def _cat(self, call: Call) -> None:
        parts = call.args[0]
        dim = call.args[1] if len(call.args) > 1 else 0
        if len(call.refs) != len(parts):
            self._no(call, "cat with a constant")
        if dim % len(call.shape) == 0:
            self._no(call, "cat of rows")
        self._put(
            call, "affine", lambda *v: torch.cat(v, dim), spread=lambda *v: torch.cat(v, dim), lipschitz=lambda: 1.0
        )

    # ---------------------------------------------------------------- bends

    def _relu(self, call: Call) -> None:
        self._put(call, "relu", torch.relu)

    def _bent(self, call: Call, knots: Sequence[float], slopes: Sequence[float], start: float) -> None:
        """A piecewise linear function: slope ``slopes[0]`` before the first knot, where it has the value ``start``."""
        source, shape = self.at[call.refs[0]], call.shape[1:]
        total: int | None = None
        scaled = replace(call, refs=call.refs[:1])
        if slopes[0] != 0:
            self._scaled(scaled, torch.full((1, *shape), float(slopes[0])).double(), start - slopes[0] * knots[0])
            total = len(self.nodes) - 1
        for i, knot in enumerate(knots):
            turn = slopes[i + 1] - slopes[i]
            one = torch.ones((1, *shape)).double()
            at = self._put(call, "affine", lambda v, k=knot: v - k, spread=lambda v: v, square=lambda v: v,
                           lipschitz=lambda: 1.0, inputs=(source,))  # fmt: skip
            at = self._put(call, "relu", torch.relu, inputs=(at,))
            if total is None:
                total = self._put(call, "affine", lambda v, t=turn, o=one: v * (t * o) + start, inputs=(at,),
                                  spread=lambda v, t=turn: v * abs(t), square=lambda v, t=turn: v * t * t,
                                  lipschitz=lambda t=turn: abs(t))  # fmt: skip
            else:
                total = self._put(call, "affine", lambda v, w, t=turn: v + t * w, inputs=(total, at),
                                  spread=lambda v, w, t=turn: v + abs(t) * w)  # fmt: skip

    def _leaky_relu(self, call: Call) -> None:
        slope = float(call.args[1]) if len(call.args) > 1 else 0.01
        self._bent(call, (0.0,), (slope, 1.0), 0.0)

    def _hardtanh(self, call: Call) -> None:
        low, high = (float(a) for a in call.args[1:3]) if len(call.args) > 2 else (-1.0, 1.0)
        self._bent(call, (low, high), (0.0, 1.0, 0.0), low)

    def _clamp(self, call: Call) -> None:
        low = call.args[1] if len(call.args) > 1 else call.kwargs.get("min")
        high = call.args[2] if len(call.args) > 2 else call.kwargs.get("max")
        if isinstance(low, (Tensor, Ref)) or isinstance(high, (Tensor, Ref)):
            self._no(call, "clamp to other tensors")
        if low is not None and high is not None:
            self._bent(call, (float(low), float(high)), (0.0, 1.0, 0.0), float(low))
        elif low is not None:
            self._bent(call, (float(low),), (0.0, 1.0), float(low))
        elif high is not None:
            self._bent(call, (float(high),), (1.0, 0.0), float(high))

    def _max_pool(self, call: Call) -> None:
        given, ceil = call.args[1:5], len(call.args) > 5 and call.args[5]
        kernel, stride, padding, dilation = (
            given[i] if len(given) > i and given[i] else given[0] if i < 2 else [i - 2] for i in range(4)
        )
        pool = tuple((sides[0], sides[-1]) for sides in (kernel, stride, padding, dilation))
        if ceil:
            self._no(call, "max pooling with ceil_mode")

        def run(v: Tensor) -> Tensor:
            pooled: Tensor = torch.nn.functional.max_pool2d(v, pool[0], pool[1], pool[2], pool[3])
            return pooled

        # Windows that do not overlap: a maximum moves no farther than its window.
        apart = all(s >= k for s, k in zip(pool[1], pool[0], strict=True)) and pool[3] == (1, 1)
        self._put(call, "pool", run, pool=pool, lipschitz=(lambda: 1.0) if apart else None)


def _circulant_norm(weight: Tensor, size: Sequence[int], dilation: Sequence[int], groups: int) -> float:
    """A bound on the spectral norm of a convolution, zero padding and stride included: it is a part of the circulant
    one on a larger torus, whose norm is that of its largest frequency."""
    kernel = weight.shape[2:]
    if math.prod(dilation) != 1:
        full = weight.new_zeros(*weight.shape[:2], *(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)))
        full[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = weight
        weight, kernel = full, full.shape[2:]
    torus = [n + k - 1 for n, k in zip(size, kernel, strict=True)]
    axes = tuple(range(2, weight.ndim))
    worst = 0.0
    for part in weight.chunk(groups):
        waves = torch.fft.rfftn(part, torus, axes).flatten(2).permute(2, 0, 1)
        worst = max(worst, float(torch.linalg.matrix_norm(waves, 2).max()))
    return worst * (1 + 1e-9)


_BUILDERS: dict[str, Callable[[Builder, Call], None]] = {
    "convolution": Builder._convolution,
    "addmm": Builder._addmm,
    "mm": Builder._mm,
    "mv": Builder._mm,
    "native_batch_norm": Builder._batch_norm,
    "_native_batch_norm_legit_no_training": Builder._batch_norm,
    "cudnn_batch_norm": Builder._batch_norm,
    "mul": Builder._mul,
    "div": Builder._div,
    "neg": Builder._neg,
    "add": Builder._add,
    "sub": Builder._sub,
    "rsub": Builder._rsub,
    "cat": Builder._cat,
    "relu": Builder._relu,
    "leaky_relu": Builder._leaky_relu,
    "hardtanh": Builder._hardtanh,
    "clamp": Builder._clamp,
    "clamp_min": Builder._clamp,
    "max_pool2d_with_indices": Builder._max_pool,
}
