"""A set of labelled inputs, with what is known to be true about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pellucid.core.errors import BadInput


@dataclass(frozen=True, eq=False, repr=False)
class Examples:
    """Inputs, their classes and, where it is known, the truth about them: one row per example.

    - ``x``: (N, ...) float32 in natural units, [0, 1] for images;
    - ``y``: (N,) int64, the class of each row; ``labels[y]`` is its name;
    - ``labels``: the names of the classes;
    - ``names``: N identifiers, like file names;
    - ``about``: source, licence, and whether the data is real or synthetic;
    - ``truth``: ground truth by name, each (N, ...): masks of the deciding pixels, generating factors.

    A slice, an integer, a mask or a list of integers gives the chosen rows, again as Examples (an integer keeps N = 1).

    >>> e = Examples(torch.zeros(3, 2), torch.tensor([0, 1, 0]), ("no", "yes"), ("a", "b", "c"), "synthetic")
    >>> e[e.y == 0].names
    ('a', 'c')
    """

    x: Tensor
    y: Tensor
    labels: tuple[str, ...]
    names: tuple[str, ...]
    about: str
    truth: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.x.dtype != torch.float32 or self.y.dtype != torch.int64:
            raise BadInput(f"Examples: expected x float32 and y int64, got {self.x.dtype} and {self.y.dtype}")
        sizes = {"y": len(self.y), "names": len(self.names)} | {k: len(v) for k, v in self.truth.items()}
        for name, size in sizes.items():
            if size != len(self.x):
                raise BadInput(f"Examples: x has {len(self.x)} rows but {name} has {size}")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Examples:
        if isinstance(rows, slice):
            index = torch.tensor(range(len(self))[rows], dtype=torch.int64)
        elif isinstance(rows, int):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"row {rows} of {len(self)} examples")
            index = torch.tensor([rows % len(self)])
        else:
            index = torch.as_tensor(rows)
            index = torch.arange(len(self))[index if index.numel() else index.long()]
        names = tuple(self.names[i] for i in index.tolist())
        truth = {name: values[index] for name, values in self.truth.items()}
        return Examples(self.x[index], self.y[index], self.labels, names, self.about, truth)

    def __repr__(self) -> str:
        size = " x ".join(str(n) for n in self.x.shape)
        truth = f", truth: {', '.join(self.truth)}" if self.truth else ""
        return f"<Examples {size}, {len(self.labels)} classes{truth}. {self.about}>"


def first(count: int | None, available: int, source: str) -> int:
    """The number of rows asked for, or all; more than there are is the caller's mistake."""
    if count is None:
        return available
    if not 1 <= count <= available:
        raise BadInput(f"{source}: count must be between 1 and {available}, got {count}")
    return count
