"""EfficientNet on photos in 25 rings of frequencies. The photos remain their owners' and are not shown."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import pellucid
from pellucid import data, methods
from pellucid.core.explanation import Explanation
from pellucid.core.model import Model
from pellucid.experiments.semantic import spectra, tiles
from pellucid.experiments.semantic.bench import Bench
from pellucid.experiments.semantic.blocks import Block, Gallery, Strip, Table, Text
from pellucid.experiments.semantic.spectra import BINS, COARSE

PHOTOS, ORDERS = 4, 10


def blocks(bench: Bench) -> tuple[Block, ...]:
    """EfficientNet on photos, which are not shown: they remain their owners'."""
    count = min(PHOTOS, bench.settings.examples or PHOTOS)
    photos, model = data.photos(), data.efficientnet()
    space = spectra.bands(BINS)
    _, radius, names = spectra.players(space, 224)
    fine = radius > COARSE
    rows, strips, every = [], [], []
    for row in range(count):
        x = photos.x[row : row + 1]
        others = torch.cat([photos.x[:row], photos.x[row + 1 :]])
        says = _says(bench, row, model, x)
        pairs = min(ORDERS, bench.orders(ORDERS))
        values = spectra.repeated(bench, f"photo-{row}-{pairs}", model, x, says, others, space, pairs)
        e = _pixels(bench, row, model, x, says)
        over, under = spectra.mean(values[:, fine].sum(1)), spectra.mean(values[:, ~fine].sum(1))
        rows.append(
            {
                "photo": photos.names[row],
                "says": photos.labels[says],
                "true": photos.labels[int(photos.y[row])],
                "fine": over[0],
                "fine, error": over[1],
                "coarse": under[0],
                "coarse, error": under[1],
                "largest error of a ring": float((values.std(0, ddof=1) / len(values) ** 0.5).max()),
            }
        )
        every.append(values.mean(0))
        plane, _, _ = spectra.players(space, 224)
        strips.append(
            Strip(
                photos.labels[says],
                (
                    tiles.pixel_map(e, 0, "integrated gradients"),
                    tiles.frequencies(values.mean(0), plane, "Fourier values, 25 rings"),
                ),
            )
        )
    table = {"ring": names, "radius": radius} | {str(r["photo"]): v for r, v in zip(rows, every, strict=True)}
    return (
        Text(
            f"EfficientNet-Lite0 on {count} photos of 224 x 224, the others as background. The photos remain their "
            "owners' and are not shown. Coarse: periods over 16 pixels, a fourteenth of the side, so that what "
            "counts as fine here holds more of what is called shape than on the pieces above."
        ),
        spectra.lines(
            "Mean over photos", radius, {"photos": (np.stack(every), "accent")}, caption="Errors over photos."
        ),
        Gallery("Each photo", tuple(strips), ("pixels", "frequencies")),
        Table("photos", rows, "Values of the predicted class's probability, with standard errors."),
        Table("photo-rings", table, shown=False),
    )


def _says(bench: Bench, row: int, model: Model, x: Tensor) -> int:
    return int(bench.piece(f"photo-{row}-says", lambda: {"class": int(model.outputs(x).argmax(1))})["class"])


def _pixels(bench: Bench, row: int, model: Model, x: Tensor, says: int) -> Explanation:
    method = methods.integrated_gradients(steps=16)
    return bench.explanation(f"photo-{row}-pixels", lambda: pellucid.explain(model, x, method, says))
