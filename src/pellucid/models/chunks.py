"""Models that were exported for a fixed number of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def in_chunks(call: Callable[[Tensor], Any], x: Tensor, least: int, most: float = math.inf) -> Any:
    """``call`` on x in chunks of ``least`` to ``most`` rows, as one output.

    A chunk that is too short is padded with copies of its last row, whose outputs are dropped: rows do not see each
    other.
    """
    if least <= len(x) <= most:
        return call(x)
    outputs = []
    size = len(x) if most == math.inf else int(most)
    for start in range(0, len(x), size):
        part = x[start : start + size]
        short = max(0, least - len(part))
        output = call(torch.cat([part, part[-1:].expand(short, *part.shape[1:])]) if short else part)
        outputs.append(_first(output, len(part), len(part) + short))
    return outputs[0] if len(outputs) == 1 else _joined(outputs)


def _first(output: Any, rows: int, of: int) -> Any:
    """The first rows of every array in an output that has ``of`` of them."""
    if isinstance(output, (Tensor, np.ndarray)):
        return output[:rows] if output.ndim and len(output) == of else output
    if isinstance(output, Mapping):
        return {key: _first(value, rows, of) for key, value in output.items()}
    if isinstance(output, (tuple, list)):
        return tuple(_first(value, rows, of) for value in output)
    return output


def _joined(outputs: list[Any]) -> Any:
    one = outputs[0]
    if isinstance(one, Tensor):
        return torch.cat(outputs) if one.ndim else one
    if isinstance(one, np.ndarray):
        return np.concatenate(outputs) if one.ndim else one
    if isinstance(one, Mapping):
        return {key: _joined([output[key] for output in outputs]) for key in one}
    if isinstance(one, (tuple, list)):
        return tuple(_joined(list(each)) for each in zip(*outputs, strict=True))
    return one
