"""What pellucid needs of a model, and how any output becomes a matrix of numbers."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unsupported, listing

if TYPE_CHECKING:
    from pellucid.core.frame import Frame
    from pellucid.core.inputs import Inputs

SCALES = ("logit", "prob", "value")


class Tape:
    """What layers returned during the last forward pass inside ``Model.capture``, by name, in the order they ran.

    A layer that runs more than once stands where, and with what, it ran last. One that did not run, or returned no
    tensor, is missing.
    """

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}


class Model(ABC):
    """A function of a batch; row i of the output depends on row i of the input only, and calling it changes nothing.

    ``x`` is in natural units (preprocessing belongs to the model). ``scale`` says what the outputs are: ``"logit"``,
    ``"prob"`` or ``"value"``; while it is ``assumed``, nobody has said so, and a single column will make it
    ``"value"``. ``bounds`` is the valid range of an input entry, or None. ``labels`` names the outputs, or is None.
    ``axis`` is the channel axis of the batch. ``ids`` means that whole numbers in x are ids (of tokens) and stay whole.
    ``columns`` names the features of a table the model was made for. ``reads_frames`` means that it takes DataFrames
    with text. ``kind`` and ``frame`` say what x came as (see ``receiving``). ``no_gradient`` says why there is no
    gradient and what to do, where that needs saying. ``was_training`` means that the wrapped object is in train mode.
    """

    differentiable: bool = False
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype | None = None
    bounds: tuple[float, float] | None = None
    labels: tuple[str, ...] | None = None
    scale: str = "value"
    assumed: bool = False
    axis: int = 1
    name: str = "model"
    folded: bool = False
    was_training: bool = False
    ids: bool = False
    columns: tuple[str, ...] | None = None
    reads_frames: bool = False
    kind: str = "torch"
    frame: Frame | None = None
    no_gradient: str = ""

    @cached_property
    def widths(self) -> dict[tuple[int, ...], int]:
        """The numbers of outputs K seen so far, by the shape of a row; copies of a model share it once it was asked
        for."""
        return {}

    @abstractmethod
    def __call__(self, x: Tensor) -> Any:
        """The raw output, of whatever structure the model returns."""

    def outputs(self, x: Tensor) -> Tensor:
        """The outputs as a matrix (B, K)."""
        return self.matrix(self(x))

    def matrix(self, raw: Any) -> Tensor:
        """A raw output as a matrix (B, K): a tensor, the ``logits`` or the single tensor of a dict, the first of a
        tuple."""
        return as_matrix(raw)

    def layers(self) -> tuple[str, ...]:
        """Names of the layers that can be captured, in order of registration."""
        raise Unsupported(
            f"{self.name} gives predictions only and has no layers; use feature_ablation() or random_attribution()"
        )

    def layer_kind(self, layer: str) -> str | None:
        """What a layer is, as far as it matters for finding one: "convolution", "norm", or None."""
        return None

    def affine(self, layer: str) -> tuple[Tensor, Tensor | None] | None:
        """The weight and the bias of a layer, or None where it has no weight of its own."""
        return None

    @contextmanager
    def capture(self, *layers: str) -> Iterator[Tape]:
        """While open, every call of the model records what these layers returned.

        A recorded tensor is a private copy that later in-place operations do not reach. Where gradients are enabled it
        is a node of the graph: the output can be differentiated with respect to it, also if nothing before it needs a
        gradient.
        """
        self.layers()
        yield Tape()

    def entered(self, layer: str, z: Tensor, x: Tensor) -> Any:
        """The raw output where a layer returns z whatever reaches it, called at x, which has as many rows or one."""
        self.layers()
        raise Unsupported(f"{self.name} has layers that cannot be given a value; use its inputs, spaces.fourier()")

    def batch_norms(self) -> tuple[str, ...]:
        """Names of the layers that normalise by the statistics of the batch even in eval mode."""
        return ()

    def fast(self, x: Tensor) -> Model:
        """A private copy for forward-only and path-averaged work, checked against this model on ``x``; itself if none
        is faster."""
        return self

    def fingerprint(self) -> str:
        """A hash of the weights, where there are any to hash; what a model without weights says of x stands in for
        it."""
        return ""

    def weighted(self) -> tuple[str, ...]:
        """Names of the layers that can draw their weights afresh, in order of registration."""
        raise Unsupported(f"{self.name} has no weights to randomise")

    def randomised(self, seed: int, layers: Sequence[str] | None = None) -> Model:
        """A copy with some layers (None: the last weighted one) drawn afresh from their own initialisers (adebayo2018),
        one after the other, so that the first ones do not depend on how many follow."""
        raise Unsupported(f"{self.name} has no weights to randomise")

    def receiving(self, batch: Inputs) -> Self:
        """This model for inputs like these: a function gets the kind of array the user works with, "torch", "numpy" or
        "frame"."""
        twin = copy.copy(self)
        twin.kind, twin.frame = batch.kind, batch.frame
        return twin

    def seeing(self, outputs: Tensor) -> Self:
        """This model once some outputs (N, K) are known: an assumed scale is settled, and labels are checked."""
        twin, columns = copy.copy(self), outputs.shape[1]
        if self.labels is not None and len(self.labels) != columns:
            raise BadInput(
                f"{self.name}: {len(self.labels)} labels were given for {columns} outputs: {listing(self.labels)}"
            )
        if self.assumed:
            twin.assumed = False
            twin.scale = "value" if columns == 1 else self.scale
        return twin

    def dims(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """Names of the axes of one input row of this shape."""
        return axis_names(shape, self.axis)


def as_matrix(raw: Any) -> Tensor:
    """See ``Model.matrix``."""
    value = raw
    if isinstance(value, Mapping) or hasattr(value, "logits"):
        fields = dict(value) if isinstance(value, Mapping) else {"logits": value.logits}
        if "logits" in fields:
            value = fields["logits"]
        else:
            tensors = {name: entry for name, entry in fields.items() if isinstance(entry, (Tensor, np.ndarray))}
            if len(tensors) != 1:
                raise BadInput(
                    f"the model returned a dict with {listing(fields)}; expected 'logits' or a single tensor. "
                    "Say what to read: Target(read=lambda out: out['name'][:, 0])"
                )
            value = next(iter(tensors.values()))
    elif isinstance(value, (tuple, list)) and value and isinstance(value[0], (Tensor, np.ndarray)):
        value = value[0]
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise BadInput(
                f"the model returned an array of dtype {value.dtype}; expected numbers. Return probabilities or scores"
            )
        value = torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, Tensor):
        raise BadInput(
            f"the model returned {type(raw).__name__}; expected a tensor (B,) or (B, K). Say what to read: "
            "Target(read=callable)"
        )
    if value.is_complex():
        raise BadInput(
            "the model returned complex numbers; expected real ones. Say what to read: Target(read=lambda "
            "out: out.abs()[:, 0])"
        )
    if not value.is_floating_point():
        value = value.to(torch.get_default_dtype())
    if value.ndim == 1:
        return value.unsqueeze(1)
    if value.ndim != 2:
        raise BadInput(
            f"the model returned a tensor of shape {tuple(value.shape)}; expected (B,) or (B, K). "
            "Say what to read: Target(read=lambda out: out.mean((2, 3))[:, 0])"
        )
    if value.shape[1] == 0:
        raise BadInput(f"the model returned a tensor of shape {tuple(value.shape)}, which has no output to explain")
    return value


def axis_names(shape: tuple[int, ...], axis: int = 1) -> tuple[str, ...]:
    """Names of the axes of one row: a table, a sequence, or an image with its channels first (``axis=1``) or last."""
    if len(shape) == 1:
        return ("feature",)
    if len(shape) == 2:
        return ("channel", "time") if axis == 1 else ("token", "embedding")
    if len(shape) == 3:
        last = axis in (-1, 3) or (axis == 1 and shape[0] not in (1, 3, 4) and shape[-1] in (1, 3, 4))
        return ("height", "width", "channel") if last else ("channel", "height", "width")
    return tuple(f"axis{i + 1}" for i in range(len(shape)))
