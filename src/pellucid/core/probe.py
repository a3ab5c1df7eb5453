"""What is odd about a model, from a few calls on a few rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.question import Question

ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.01}
"""Differences, relative to the largest output, that computing rows together or apart may make; faults are larger."""


class Probe:
    """A few rows of a question, and the model's outputs (b, K) there, in float64."""

    def __init__(self, question: Question) -> None:
        self.x = question.x
        with torch.no_grad():
            first = question.model.matrix(question.run(self.x))
        self.question = replace(question, model=question.model.seeing(first))
        self.dtype, self.outputs = first.dtype, first.detach().cpu().double()
        if len(first) != len(self.x):
            raise BadInput(
                f"the model returned {len(first)} rows for {len(self.x)} inputs; row i of the output must belong to "
                "row i of the input"
            )

    @property
    def finite(self) -> bool:
        """Whether every output is a number."""
        return bool(torch.isfinite(self.outputs).all())

    @property
    def slack(self) -> float:
        """The largest difference that is rounding."""
        return ROUNDING.get(self.dtype, 1e-4) * max(float(self.outputs.abs().max()), 1e-12)

    def read(self, x: Tensor) -> Tensor:
        """The outputs at other inputs."""
        with torch.no_grad():
            return self.question.model.matrix(self.question.run(x)).detach().cpu().double()


def problems(probe: Probe, x: Tensor) -> list[str]:
    """What should be put right before an explanation is believed, a sentence each; ``x`` are all inputs."""
    found = [*_mode(probe), *_range(probe, x), *_precision(probe)]
    if not probe.finite:
        bad = int((~torch.isfinite(probe.outputs)).any(1).nonzero()[0])
        found.append(
            f"the outputs are NaN or infinite, first in row {bad}; nothing can be explained there: check the model and "
            "the scale of its inputs"
        )
        return found
    found += [*_scale(probe), *_norms(probe)]
    moves = float((probe.read(probe.x) - probe.outputs).abs().max())
    if not moves <= probe.slack:
        found.append(
            f"two calls on the same rows differ by up to {moves:.2g}: the model is not deterministic (dropout or noise "
            "that eval mode does not switch off?), and no explanation of it can be repeated; fix its random state"
        )
        return found  # what follows compares calls
    rows = list(_rows(probe))
    return [*found, *(rows or _ignores(probe))]


def _mode(probe: Probe) -> Iterator[str]:
    if probe.question.model.was_training:
        yield "the model is in train mode and is computed as in eval mode, on a private copy; call .eval() to say so"


def _range(probe: Probe, x: Tensor) -> Iterator[str]:
    bounds = probe.question.model.bounds
    if bounds is not None and x.is_floating_point():
        low, high = bounds
        rounding = 1e-6 * (high - low)
        outside = float(((x < low - rounding) | (x > high + rounding)).double().mean())
        if outside:
            yield (
                f"{max(outside, 0.001):.1%} of the entries of x lie outside the bounds ({low:g}, {high:g}), from "
                f"{float(x.min()):.4g} to {float(x.max()):.4g}; pass x in natural units, and what the net expects as "
                "wrap(..., mean=, std=)"
            )


def _precision(probe: Probe) -> Iterator[str]:
    digits = {torch.bfloat16: "2 to 3", torch.float16: "3 to 4"}.get(probe.dtype)
    if digits is not None:
        yield (
            f"the model computes in {str(probe.dtype).removeprefix('torch.')}, which keeps {digits} digits: residuals "
            "and small values drown in rounding; explain model.float()"
        )


def _scale(probe: Probe) -> Iterator[str]:
    out, scale = probe.outputs, probe.question.model.scale
    unit = bool(((out >= -1e-6) & (out <= 1 + 1e-6)).all())
    sums = out.sum(1)
    if scale == "logit" and out.shape[1] > 1 and unit and bool(((sums - 1).abs() < 1e-2).all()):
        yield (
            "the outputs are taken for logits, but every row lies in [0, 1] and sums to 1: they are probabilities; say "
            "so with wrap(..., scale='prob'), or return the logits, whose gradients do not vanish"
        )
    if scale == "prob" and not unit:
        yield (
            f"the outputs are taken for probabilities, but they go from {float(out.min()):.3g} to "
            f"{float(out.max()):.3g}; say what they are with wrap(..., scale='logit') or 'value'"
        )


def _norms(probe: Probe) -> Iterator[str]:
    for layer in probe.question.model.batch_norms():
        yield (
            f"layer {layer!r} is a batch norm without running statistics: it normalises by the batch it gets, so rows "
            "change one another; use track_running_stats=True"
        )


def _rows(probe: Probe) -> Iterator[str]:
    """Whether a row's outputs depend on the rows it comes with."""
    x, together = probe.x, probe.outputs
    if len(x) == 1:
        x = torch.cat([x, x.roll(1, -1)])
        try:
            together = probe.read(x)
        except BadInput:
            return  # a rolled row is none of this model's
    makes = "so make row i of the output depend on row i of the input only"
    try:
        alone = torch.cat([probe.read(row.unsqueeze(0)) for row in x])
    except BadInput as error:
        yield f"a row cannot be computed alone ({error}), {makes}"
        return
    gap = (alone - together).abs().amax(1)
    if not float(gap.max()) <= probe.slack:
        yield (
            f"the outputs of row {int(gap.argmax())} change by {float(gap.max()):.2g} with the rows it comes with; "
            f"every method asks for many inputs in one call, {makes}"
        )


def _ignores(probe: Probe) -> Iterator[str]:
    """Whether anything in x makes a difference."""
    frame = probe.question.model.frame
    others = [] if frame is not None and frame.text else [probe.x.roll(1, -1), torch.zeros_like(probe.x)]
    variants = [probe.x]
    outputs = [probe.outputs]
    for other in others:
        try:
            outputs.append(probe.read(other))
            variants.append(other)
        except BadInput:
            continue
    if len(torch.unique(torch.cat(variants), dim=0)) < 2:
        return
    every = torch.cat(outputs)
    if float((every.amax(0) - every.amin(0)).max()) <= 1e-9 * max(1e-12, float(every.abs().max())):
        yield "the outputs are the same for all inputs that were tried: the model does not look at x"
