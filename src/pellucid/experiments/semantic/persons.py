"""Sections on single faces: one person's values beside pixel maps, and what translators make of a face."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

import pellucid
from pellucid import Target, methods
from pellucid.core.explanation import Explanation
from pellucid.data.drawn_faces import FACE_ATTRIBUTES
from pellucid.experiments.semantic import tiles
from pellucid.experiments.semantic.bench import Array, Bench
from pellucid.experiments.semantic.blocks import Bars, Block, Gallery, Series, Strip, Table, Text, Tile, losses
from pellucid.experiments.semantic.worlds import (
    CONTROL,
    HIDDEN,
    INDEPENDENT,
    PLAYERS,
    Explained,
    Found,
    Translator,
    World,
    many,
)
from pellucid.reporting import numerals

MOST = 10
"""Reasons that are listed."""


def locally(bench: Bench, found: Found) -> tuple[Block, ...]:
    """One person's values through each translator, pixel maps and traversals."""
    blocks: list[Block] = []
    for key in (INDEPENDENT, CONTROL):
        ways = found.ways(key)
        world = ways[0].world
        row = _chosen(world)
        here = world.x[row : row + 1]
        series = []
        for one, style in zip(ways, ("accent", "plus"), strict=False):
            e = _single(bench, one, row)
            series.append(Series(one.label, np.asarray(e.values)[0], _errors(e), style))
        has = [n for n, a in zip(FACE_ATTRIBUTES, world.attributes[row].tolist(), strict=True) if a]
        chance = float(world.model.outputs(here).softmax(1)[0, 1])
        blocks += [
            Text(
                f"{world.title.capitalize()}. Person {row}: {', '.join(has)}; the classifier gives {world.output!r} "
                f"{numerals.percent(chance)}."
            ),
            Bars(f"Values for person {row}, {world.title}", PLAYERS, tuple(series)),
            Gallery("The person and pixel maps", (Strip("pixels", _maps(bench, world, row)),)),
            *(_traversal(one, row) for one in ways),
        ]
    blocks.append(
        Text(
            "Pixel maps show where the classifier looks. That the mouth counts can be read off them; that it is a "
            "smile, and that what counts of the face is its skin, cannot."
        )
    )
    return tuple(blocks)


def _single(bench: Bench, one: Explained, row: int) -> Explanation:
    world, seed = one.world, bench.settings.seed
    make = partial(
        pellucid.explain,
        world.model,
        world.x[row : row + 1],
        many(bench, world),
        Target(1, read="prob"),
        one.translator.space(world),
        seed=seed,
        first_row=row,
    )
    return bench.explanation(f"{world.key}-{one.translator.key}-local-{row}", make)


def _traversal(one: Explained, row: int) -> Gallery:
    world = one.world
    moved = pellucid.traverse(
        world.model,
        world.x[row : row + 1],
        one.translator.space(world),
        world.background[:200],
        Target(1, read="prob"),
        steps=4,
    )
    strips = sorted(tiles.traversal(moved), key=lambda strip: -moved.effect[strip.name])[:5]
    caption = f"The chance of {world.output!r} under each; the five features that move it most."
    return Gallery(f"Traversals, {one.label}", tuple(strips), caption=caption)


def _errors(e: Explanation) -> Array | None:
    return None if e.std_error is None else np.asarray(e.std_error)[0]


def _chosen(world: World) -> int:
    """The first person who smiles and has dark skin, invited for one and held back for the other; of the control, who
    has what it looks for."""
    wanted = (CONTROL,) if world.output == CONTROL else ("smiling", HIDDEN)
    columns = [FACE_ATTRIBUTES.index(name) for name in wanted]
    found = torch.nonzero(world.attributes[:, columns].all(1)).reshape(-1)
    return int(found[0]) if len(found) else 0


def _maps(bench: Bench, world: World, row: int) -> tuple[Tile, ...]:
    here, mean = world.x[row : row + 1], world.background.mean(0, keepdim=True)
    each = {
        "integrated gradients, from the mean face": methods.integrated_gradients(steps=64, baseline=mean),
        "occlusion, 8 x 8": methods.occlusion(window=8, stride=2),
        "Grad-CAM": methods.grad_cam("relu2"),
    }
    made = [tiles.picture(here[0], f"person {row}")]
    for name, method in each.items():
        make = partial(pellucid.explain, world.model, here, method, 1, seed=bench.settings.seed)
        e = bench.explanation(f"{world.key}-pixels-{row}-{method.name}", make)
        made.append(tiles.pixel_map(e, 0, name))
    return tuple(made)


def quality(found: Found) -> tuple[Block, ...]:
    """Flips of the trained translators beside a trivial control, and how far their values are from the exact ones."""
    import pandas as pd

    each = {
        "trained": found.trained,
        "trained on correlated faces": found.own,
        "control: one picture added": found.shift,
        "exact": found.exact,
    }
    rows, matrices = [], []
    for name, t in each.items():
        off = t.flips.matrix.clone().fill_diagonal_(0)
        rows.append(
            {
                "translator": name,
                "wanted changes, least": float(t.flips.matrix.diagonal().min()),
                "mean": float(t.flips.matrix.diagonal().mean()),
                "unwanted, most": float(off.max()),
                "unwanted, mean": float(off.sum()) / (off.numel() - len(off)),
                "nothing asked, most": float(t.flips.control.max()),
                "entries out of bounds": len(t.flips.reasons),
                "passes": t.flips.passes,
                "variance that comes back": None if t.back is None else t.back.explained,
            }
        )
        matrix = t.flips.table.reset_index(names="asked to change")
        matrix.insert(0, "translator", name)
        matrices.append(matrix)
    blocks: list[Block] = [
        Text(
            "A translator is believed only if each attribute changes when asked to (80 % or more) and no other does "
            "(10 % or less), also at the worse end of exact 95 % limits, as a reader sees it that no translator was "
            f"trained against. {found.exact.flips.rows:,} faces; the trivial control adds the same picture to every "
            "face, found by least squares. The exact translator shows that the reader itself does not err."
        ),
        Table("quality", pd.DataFrame(rows), "Translators by their flips."),
        *(
            Text(f"The {t.label}: {'; '.join(t.flips.reasons[:MOST])}.")
            for t in (found.trained, found.own)
            if t.flips.reasons
        ),
        Table("flips", pd.concat(matrices, ignore_index=True), shown=False),
        Gallery(
            "What the translators make of a face",
            tuple(_changed(found.worlds[INDEPENDENT], t, name) for name, t in each.items()),
            ("as it is", *FACE_ATTRIBUTES),
            "One attribute changed at a time.",
        ),
    ]
    frame = pd.DataFrame(
        [_apart(one, found[key, "exact"]) for (key, way), one in found.explained.items() if way != "exact"]
    )
    blocks.append(Table("apart", frame, "Values through trained translators beside those through the exact one."))
    if found.trained.fitted is not None:
        blocks.append(losses(found.trained.fitted))
    return tuple(blocks)


def _changed(world: World, translator: Translator, name: str) -> Strip:
    """A face with nothing changed and with each attribute changed."""
    row, count = _chosen(world), len(FACE_ATTRIBUTES)
    difference = torch.cat([torch.zeros(1, count), torch.diag(1 - 2 * world.attributes[row])])
    with torch.no_grad():
        made = translator.change(world.x[row].expand(count + 1, -1, -1, -1).contiguous(), difference)
    return Strip(
        name,
        tuple(tiles.picture(x, "", f"{name}: {what}") for x, what in zip(made, ("", *FACE_ATTRIBUTES), strict=True)),
    )


def _apart(one: Explained, other: Explained) -> dict[str, object]:
    """How far local and global values through two translators lie apart, on the same draws."""
    a, b = (np.asarray(x.e.values, dtype=np.float64) for x in (one, other))
    return {
        "world": one.world.title,
        "translator": one.translator.label,
        "passes": one.translator.flips.passes,
        "local values, correlation": float(np.corrcoef(a.ravel(), b.ravel())[0, 1]),
        "local values, root mean square difference": float(np.sqrt(((a - b) ** 2).mean())),
        "of the exact ones, root mean square": float(np.sqrt((b**2).mean())),
        "global values, largest difference": float(np.abs(one.true_class.mean(0) - other.true_class.mean(0)).max()),
        "output at reconstructions, mean |gap|": float(np.abs(np.asarray(one.e.details["reconstruction_gap"])).mean()),
    }
