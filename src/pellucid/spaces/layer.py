"""What a layer returns, as coordinates of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.core.budget import Run, batch_rows
from pellucid.core.errors import BadInput, Unsupported, listing
from pellucid.core.model import Model
from pellucid.core.partition import Division, Players
from pellucid.core.probe import ROUNDING
from pellucid.core.settings import checked

BY = ("unit", "channel", "position")
_MOST_TRIED = 100


@dataclass(frozen=True, eq=False)
class Layer:
    """The activations of a layer that all ways from x to the output lead through (see ``spaces.layer``).

    ``entry`` is what the model is called at while the layer returns z: one row, or as many as z has where the model
    counts the rows of its input; nothing of it reaches the output.
    """

    model: Model
    layer: str
    by: str = "unit"
    entry: Tensor | None = None
    one_row: bool = True

    @property
    def exact(self) -> bool:
        """The rest of the model, at a layer's own activations, gives what the model gives."""
        return True

    @property
    def names(self) -> None:
        """Units are named by their place."""
        return

    @property
    def groups(self) -> Division | None:
        """A player for each unit, channel or position."""
        return None if self.by == "unit" else Division(f"layer {self.by}s", self._divide)

    def bound(self, model: Model, x: Tensor) -> Layer:
        """The layer in the model that is explained, checked: from its activations on, nothing else is read of x."""
        if model.fingerprint() != self.model.fingerprint():
            raise BadInput(
                f"spaces.layer: the space is of another model ({self.model.name}) than the one explained "
                f"({model.name}); pass the same one to both"
            )
        mine = replace(self, model=model, entry=torch.zeros_like(x[:1]))
        found = mine.admitted(x)
        if found is None:
            others = (name for name in model.layers()[:_MOST_TRIED] if name != self.layer)
            fit = [name for name in others if replace(mine, layer=name).admitted(x) is not None]
            raise Unsupported(
                f"spaces.layer: the output of {model.name} does not follow from layer {self.layer!r} alone, as ways "
                "lead around it (skip connections) or it does not run; "
                + (f"layers that would do: {listing(fit)}" if fit else "use the input itself, or spaces.fourier()")
            )
        return found

    def admitted(self, x: Tensor) -> Layer | None:
        """This space if the model's outputs at x follow from its coordinates, with the cheaper entry that works."""
        x = x[:2] if len(x) > 1 else torch.cat([x, x])
        with torch.no_grad():
            try:
                z, outputs = self.encode(x), self.model.matrix(self.model(x))
            except BadInput:
                return None
            slack = ROUNDING.get(outputs.dtype, 1e-4) * max(float(outputs.abs().max()), 1e-12)
            for one_row in (True, False):
                found = replace(self, one_row=one_row)
                try:
                    again = self.model.matrix(found.through(z))
                except (BadInput, RuntimeError):
                    continue
                if again.shape == outputs.shape and float((again - outputs).abs().max()) <= slack:
                    return found
        return None

    def encode(self, x: Tensor) -> Tensor:
        """What the layer returns at x, (B, *dims)."""
        size, parts = batch_rows(x[0].numel(), Run()), []
        with torch.no_grad():
            for start in range(0, len(x), size):
                rows = x[start : start + size]
                with self.model.capture(self.layer) as tape:
                    self.model(rows)
                if self.layer not in tape.values:
                    raise BadInput(f"spaces.layer: {self.layer!r} did not run, or returned no tensor")
                parts.append(tape.values[self.layer].detach())
                if len(parts[-1]) != len(rows) or not parts[-1].is_floating_point() or parts[-1].ndim < 2:
                    raise BadInput(
                        f"spaces.layer: {self.layer!r} returns {tuple(parts[-1].shape)} of {parts[-1].dtype} for "
                        f"{len(rows)} rows; expected numbers (B, ...)"
                    )
        return torch.cat(parts)

    def decode(self, z: Tensor) -> Tensor:
        """There is no input that a layer's activations stand for."""
        raise Unsupported(
            f"spaces.layer: activations of {self.layer!r} have no input of their own, the model goes on from them; "
            "use spaces.fourier() or spaces.decoder(...) where inputs are needed"
        )

    def through(self, z: Tensor) -> Any:
        """The model's raw output where the layer returns z."""
        if self.entry is None:
            raise BadInput("spaces.layer: the space is not bound to inputs yet; pass it to explain(..., space=...)")
        rows = self.entry if self.one_row else self.entry.expand(len(z), *self.entry.shape[1:])
        return self.model.entered(self.layer, z, rows)

    def _divide(self, z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        shape = tuple(z.shape[1:])
        axes = self.model.dims(shape) if len(shape) == 2 else ("channel", *("position",) * (len(shape) - 1))
        channel = [axis for axis, dim in enumerate(axes) if dim in ("channel", "embedding")] or [0]
        if (kept := channel if self.by == "channel" else [i for i in range(len(shape)) if i not in channel]) == []:
            raise BadInput(f"spaces.layer: {self.layer!r} has no positions, its rows have shape {shape}; use by='unit'")
        sizes = [shape[axis] for axis in kept]
        place = torch.arange(int(torch.tensor(sizes).prod()))
        labels = place.reshape([shape[axis] if axis in kept else 1 for axis in range(len(shape))]).expand(shape)
        if self.by == "channel":
            return Players(labels, tuple(f"channel {i}" for i in range(len(place))))
        where = torch.stack(torch.unravel_index(place, sizes), 1).tolist()
        return Players(labels, tuple(f"position {','.join(map(str, index))}" for index in where))


@checked
def layer(model: Any, layer: str, by: str = "unit") -> Layer:
    """Which units of a layer does the output rest on?

    z is what the layer returns, (B, *dims), and f is the rest of the model, so that f(z(x)) is the model's output
    exactly and every method runs on it: integrated gradients from one layer on, Shapley values of channels.
    ``model``: the one that is explained, as for ``explain``; ``layer``: a name of its ``named_modules()``; ``by``:
    players, "unit" (every entry), "channel" or "position". Baselines and backgrounds are inputs; their activations are
    taken. A layer that runs several times counts where it runs last. One that ways lead around (inside a residual
    block) is refused, with layers that would do. Cost: a
    forward of the rest of the model, and of one row of what comes before. Source: leino2018.
    """
    from pellucid.models import wrap

    wrapped = wrap(model)
    have = wrapped.layers()
    if layer not in have:
        raise BadInput(f"spaces.layer: layer {layer!r} not found; have {listing(have)}")
    if by not in BY:
        raise BadInput(f"spaces.layer: by must be one of {listing(BY)}, got {by!r}")
    return Layer(wrapped, layer, by)
