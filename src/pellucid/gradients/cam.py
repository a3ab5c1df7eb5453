"""The CAM engine: the activations of a layer summed over its channels, with one weight for each channel.

A variant is one function, from what was seen at the layer to the weights (see ``pooled_gradient``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unsupported, listing
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.space import Identity

_AXES = {1: ("layer_time",), 2: ("layer_height", "layer_width"), 3: ("layer_depth", "layer_height", "layer_width")}
_MOST_PREFIX = 8  # class, distillation and register tokens before the patches


@dataclass(frozen=True)
class Layout:
    """Where a layer's output keeps its channels, and how its positions are arranged.

    ``channel`` is the axis of the channels. Tokens become a square grid of ``side`` x ``side`` after ``prefix`` others.
    """

    channel: int = 1
    side: int | None = None
    prefix: int = 0

    def arrange(self, tensor: Tensor) -> Tensor:
        """A layer's output, or its gradient with a last axis J, as (N, C, *positions) or (N, C, *positions, J)."""
        if self.side is not None:
            tensor = tensor[:, self.prefix :].unflatten(1, (self.side, self.side))
        return tensor.movedim(self.channel, 1)


def layout(question: Question, layer: str, shape: Sequence[int]) -> Layout | None:
    """How a layer's output of this shape is arranged; None where it has no more than one position.

    The channel axis is the one as long as the layer's own weight (axis 1 if several are); a layer without a weight has
    its channels on axis 1, or last if it holds tokens. The tokens of a square picture are taken for a square grid.
    """
    if len(shape) not in (3, 4, 5) or math.prod(shape[1:]) <= 0:
        return None
    affine = question.model.affine(layer)
    channels = None if affine is None else len(affine[0])
    last = len(shape) - 1
    sides = [size for size, dim in zip(question.x.shape[1:], question.dims, strict=True) if dim in ("height", "width")]
    channels_first = channels == shape[1] != shape[last]
    found = Layout(last if channels == shape[last] != shape[1] else 1)
    if len(shape) == 3 and len(sides) == 2:
        side, prefix = _square(shape[1]) if sides[0] == sides[1] and not channels_first else (None, 0)
        return None if side is None else Layout(3, side, prefix)
    if len(shape) == 3 and question.dims == ("token", "embedding") and not channels_first:
        found = Layout(2)
    return found if math.prod(shape[1:]) > shape[found.channel] else None


def _square(tokens: int) -> tuple[int | None, int]:
    """(side, prefix) with side² + prefix tokens, the fewest before the grid; (None, 0) if there is none."""
    for prefix in range(min(_MOST_PREFIX, tokens) + 1):
        side = math.isqrt(tokens - prefix)
        if side > 1 and side * side == tokens - prefix:
            return side, prefix
    return None, 0


@dataclass(frozen=True)
class Sight:
    """One model call on the rows ``rows`` of a question: what layers returned, in the order they ran, the raw output,
    and the explained numbers ``score`` (N, J) in it."""

    question: Question
    rows: Tensor
    values: dict[str, Tensor]
    raw: Any
    score: Tensor

    def at(self, layer: str) -> Seen | None:
        """What one of the layers showed; None where it has no more than one position."""
        value = self.values[layer]
        found = layout(self.question, layer, value.shape) if len(value) == len(self.rows) else None
        return None if found is None else Seen(self, layer, value, found)


@dataclass(frozen=True)
class Seen:
    """What a model call showed at one layer."""

    sight: Sight
    layer: str
    value: Tensor
    layout: Layout

    @property
    def activations(self) -> Tensor:
        """(N, C, *positions)."""
        return self.layout.arrange(self.value.detach())

    @cached_property
    def gradients(self) -> Tensor:
        """∂score_j/∂activations, (N, C, *positions, J)."""
        where = f"layer {self.layer!r}"
        return self.layout.arrange(self.sight.question.derivatives(self.sight.score, self.value, needed=where))

    def trace(self) -> Tensor | None:
        """The gradient of a mixture of the explained outputs, (N, C, *positions); None where none depends on it."""
        question, score = self.sight.question, self.sight.score
        mixture = (score * torch.linspace(1, 2, score.shape[1]).to(score)).sum()  # uneven, so that no two cancel
        question.executor.cost.backwards += len(score)
        gradient = question.derivative(mixture, self.value, keep=True)
        return None if gradient is None else self.layout.arrange(gradient)


class Rectified(Seen):
    """What is left of a layer's activations after a ReLU; gradients are the layer's own."""

    @property
    def activations(self) -> Tensor:
        return super().activations.clamp_min(0)


def look(question: Question, part: slice, layers: Sequence[str]) -> Sight:
    """One model call on some rows, with an eye on some layers."""
    rows = question.every_row()[part]
    with torch.enable_grad(), question.model.capture(*layers) as tape:
        raw = question.raw(question.z[part])
        return Sight(question, rows, tape.values, raw, question.score(raw, rows))


def weighted(activations: Tensor, weights: Tensor) -> Tensor:
    """Σ_k w_k A_k: activations (N, C, *positions) and weights (N, C, J) to (N, *positions, J)."""
    summed: Tensor = torch.einsum("nkp,nkj->npj", activations.flatten(2), weights)
    return summed.reshape(len(summed), *activations.shape[2:], -1)


def pooled_gradient(seen: Seen) -> Tensor:
    """α_k = mean over positions of ∂y/∂A_k."""
    return seen.gradients.flatten(2, -2).mean(2)


def curved_gradient(seen: Seen) -> Tensor:
    """w_k = Σ_ij α_ij ReLU(g_ij), α_ij = g_ij² / (2 g_ij² + g_ij³ Σ_ab A_ab), 0 where g_ij = 0, with g = ∂y/∂A.

    α is made of the derivatives of exp(y) to the third order, for y linear in A. Their common factor exp(y) is left
    out of w: it overflows, and ranks nothing.
    """
    gradients = seen.gradients.flatten(2, -2).clamp_min(0)
    summed = seen.activations.flatten(2).sum(2)
    return (gradients / (2 + gradients * summed[:, :, None, None])).sum(2)


def opposed_gradient(seen: Seen) -> Tensor:
    """-α_k: what speaks against y."""
    return -pooled_gradient(seen)


@dataclass(frozen=True)
class LayerMap(Method):
    """A map over the positions of one layer; subclasses say how it is made (``map``) and which layer is the default
    (``find``)."""

    name: str
    layer: str | None = None

    access: ClassVar[str] = "layers"

    def map(self, seen: Seen) -> Tensor:
        """The map of some rows, (N, *positions, J)."""
        raise TypeError(f"{type(self).__name__} does not define map")

    def find(self, question: Question) -> str:
        """The layer to use where none was named."""
        raise TypeError(f"{type(self).__name__} does not define find")

    def prepared(self, question: Question) -> LayerMap:
        if question.players is not None or not isinstance(question.space, Identity):
            raise Unsupported(
                f"{self.name}: gives a value to each position of a layer, on the model's own input; for players or "
                "another space use integrated_gradients() or feature_ablation()"
            )
        if self.layer is None:
            return replace(self, layer=self.find(question))
        have = question.model.layers()
        if self.layer not in have:
            raise BadInput(f"{self.name}: layer {self.layer!r} not found; have {listing(have)}")
        return self

    def attribute(self, question: Question) -> Result:
        chosen = self.prepared(question)

        def work(part: slice) -> tuple[Tensor, Tensor]:
            seen = chosen.see(question, part)
            return chosen.map(seen), seen.sight.score.detach()

        maps, outputs = zip(*question.executor.map(work, len(question.z)), strict=True)
        values, details = torch.cat(maps), {"layer": chosen.layer}
        return Result(values, dims=_AXES[values.ndim - 2], details=details, outputs=torch.cat(outputs))

    def see(self, question: Question, part: slice) -> Seen:
        """What the model shows at the layer on some rows."""
        layer = str(self.layer)
        sight = look(question, part, [layer])
        if layer not in sight.values:
            raise BadInput(f"{self.name}: layer {layer!r} did not run, or returns no tensor; name one that does")
        seen = sight.at(layer)
        if seen is None:
            raise BadInput(
                f"{self.name}: layer {layer!r} returns shape {tuple(sight.values[layer].shape)}, which is no map of "
                "several positions of this input; name a layer before the pooling, or one that returns a square grid "
                "of tokens"
            )
        return seen


@dataclass(frozen=True)
class GradientMap(LayerMap):
    """ReLU(Σ_k w_k A_k) over the channels k of a layer, with weights (N, C, J) from ``weigh``."""

    weigh: Callable[[Seen], Tensor] = field(default=pooled_gradient, repr=False)

    needs: ClassVar[frozenset[str]] = frozenset({"gradients", "layers"})

    def map(self, seen: Seen) -> Tensor:
        return weighted(seen.activations, self.weigh(seen)).clamp_min(0)

    def find(self, question: Question) -> str:
        """The last convolution with a map that f depends on; where tokens of a picture come after it, the last norm
        layer through whose patch tokens f depends on the picture."""
        model = question.model
        kinds = {layer: model.layer_kind(layer) for layer in model.layers()}
        sight = look(question, slice(0, 1), [layer for layer, kind in kinds.items() if kind is not None])
        candidates = [seen for layer in sight.values if kinds[layer] == "convolution" and (seen := sight.at(layer))]
        ran = list(sight.values)
        after = ran[ran.index(candidates[-1].layer) + 1 :] if candidates else ran
        picture = {"height", "width"} <= set(question.dims)
        tokens = [layer for layer in after if picture and kinds[layer] == "norm" and sight.values[layer].ndim == 3]
        if tokens:
            candidates = [seen for layer in tokens if (seen := sight.at(layer))]
        for seen in reversed(candidates):
            gradient = seen.trace()
            # A head that reads the class token leaves exactly zero on the patches after the last attention.
            if gradient is not None and (not tokens or bool(gradient.any())):
                return seen.layer
        raise Unsupported(
            f"{self.name}: found no {'square grid of tokens' if tokens else 'convolution with a map of positions'} in "
            f"{model.name} that the explained output depends on; name a layer, {self.name}(layer=...), or use "
            "integrated_gradients() or feature_ablation()"
        )


@dataclass(frozen=True)
class RectifiedMap(GradientMap):
    """A map of the positive activations alone, as after the ReLU that closes the layers of chattopadhay2018.

    With the signs of a convolution before its ReLU the denominator of its weights would pass through zero, and weights
    that are never negative would leave no map (on a digits CNN, 99.9 % of it is then 0).
    """

    def map(self, seen: Seen) -> Tensor:
        return super().map(Rectified(seen.sight, seen.layer, seen.value, seen.layout))


@dataclass(frozen=True)
class HeadMap(LayerMap):
    """Σ_k w_k A_k with the weights of the one linear layer that follows a mean over positions; checked on every row."""

    needs: ClassVar[frozenset[str]] = frozenset({"layers"})

    def map(self, seen: Seen) -> Tensor:
        found = linear_head(seen)
        if found is None:
            raise self._refusal(seen.sight.question)
        weight, activations = found
        columns, rows = seen.sight.question.columns, seen.sight.rows
        weights = weight.T.expand(len(rows), -1, -1) if columns is None else weight[columns[rows]].unsqueeze(2)
        return weighted(activations, weights)

    def prepared(self, question: Question) -> LayerMap:
        read = question.target.read
        if read != "raw" and not (read == "logit" and question.model.scale == "logit"):
            raise BadInput(
                f"{self.name}: maps the outputs of the last layer themselves, not read={question.target.read_name!r}; "
                "use read='raw', or grad_cam()"
            )
        return super().prepared(question)

    def find(self, question: Question) -> str:
        """The last layer whose mean over positions, through a linear layer, is the output."""
        sight = look(question, slice(0, 1), question.model.layers())
        for layer in reversed(sight.values):
            seen = sight.at(layer)
            if seen is not None and linear_head(seen) is not None:
                return layer
        raise self._refusal(question)

    def _refusal(self, question: Question) -> Unsupported:
        layer = "a layer's output" if self.layer is None else f"the output of layer {self.layer!r}"
        return Unsupported(
            f"{self.name}: the outputs of {question.model.name} are not a linear layer on the mean over positions of "
            f"{layer}; use grad_cam() or integrated_gradients()"
        )


def linear_head(seen: Seen) -> tuple[Tensor, Tensor] | None:
    """The weight (K, C) of the linear layer that makes the outputs from the mean activations, and these activations.

    Activations count as the layer returns them or after a ReLU, which many nets apply on the way to the mean. None
    where outputs = mean(A) Wᵀ + b holds for no linear layer of the model, to the square root of the precision.
    """
    model = seen.sight.question.model
    outputs = model.matrix(seen.sight.raw).detach()
    slack = torch.finfo(outputs.dtype).eps ** 0.5 * outputs.abs().max()
    for layer in reversed(model.layers()):
        weight, bias = model.affine(layer) or (None, None)
        shape = (outputs.shape[1], seen.activations.shape[1])
        if weight is None or tuple(weight.shape[:2]) != shape or weight.numel() != math.prod(shape):
            continue
        weight = weight.detach().reshape(shape)
        for activations in (seen.activations, seen.activations.clamp_min(0)):
            predicted = activations.flatten(2).mean(2) @ weight.T + (0 if bias is None else bias.detach())
            if bool(((predicted - outputs).abs() <= slack).all()):
                return weight, activations
    return None
