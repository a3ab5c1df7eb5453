"""Texture or shape: real surfaces, gratings of known frequency, and a real network on photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pellucid
from pellucid import data, methods, removal, spaces
from pellucid.core import rng
from pellucid.core.model import Model
from pellucid.data.examples import Examples
from pellucid.experiments.semantic import photos, spectra, tiles
from pellucid.experiments.semantic.bench import Array, Bench
from pellucid.experiments.semantic.blocks import Block, Gallery, Lines, Result, Section, Series, Strip, Table, Text
from pellucid.experiments.semantic.claims import Hypothesis, Trial, decided
from pellucid.experiments.semantic.spectra import BINS, COARSE
from pellucid.reporting import numerals

ROWS, BACKGROUND, ORDERS = 180, 300, 100
SIZE, BLOCK = 64, 16
PAIRS = 10
"""Pairs of orders for each grating: its peak is looked for in every single picture."""
FIGURE = "demijolla2020, Section 3.2 and Figure 4"
STYLES = ("plus", "trust", "accent", "minus", "unclear")


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, the pictures it is explained on, and what stands for absent frequencies."""

    name: str
    net: nn.Module
    model: Model
    rows: Examples
    background: Tensor


def run(bench: Bench) -> Result:
    """Surfaces, gratings, photos."""
    surfaces, gratings = _subjects(bench)
    bench.uses(surfaces.net, gratings.net)
    space = spectra.bands(BINS)
    radius = spectra.players(space, SIZE)[1]
    rested = _globally(bench, surfaces)
    found = _each(bench, gratings)
    kept = _behaviour(bench, surfaces)
    truth = _truth(gratings, radius)
    claims, tests = decided(_hypotheses(surfaces, rested, radius, found, truth, kept), bench.settings.seed)
    shown = photos.blocks(bench)
    return Result(
        "textures",
        "Texture or shape: which frequencies a prediction rests on",
        "De Mijolla et al. (2020) find clear peaks at high frequencies where a network reads textures. There: a "
        "ResNet-50 on 47 describable textures. Here: a small network on pieces of brick, grass and gravel; the "
        "same network on gratings whose frequency is known, so that the peak has a right place; and "
        "EfficientNet-Lite0 on photos.",
        _headline(surfaces, rested, radius, found, truth, kept),
        claims,
        (
            Section("Surfaces", _surfaces(bench, surfaces, rested, radius, kept)),
            Section("Gratings", _gratings(bench, gratings, found, radius, truth)),
            Section("Photos", shown),
            Section("Tests", (Table("tests", tests, "Every comparison behind the claims."),)),
        ),
        _facts(surfaces, gratings),
    )


def _subjects(bench: Bench) -> tuple[Subject, Subject]:
    rows, seed = bench.examples(ROWS), bench.settings.seed

    def subject(name: str, net: nn.Module, source: Callable[..., Examples]) -> Subject:
        background = source("train", BACKGROUND, 10_000 + seed).x
        found = source("test", rows, seed)
        if "frequency" in found.truth:  # of noise alone there is no peak to look for
            found = found[found.truth["frequency"].norm(dim=1) > 0]
        return Subject(name, net, pellucid.wrap(net, bounds=(0, 1)), found, background)

    return (
        subject("surfaces", data.textures_cnn(progress=bench.progress), data.textures),
        subject("gratings", data.gratings_cnn(progress=bench.progress), data.gratings),
    )


def _globally(bench: Bench, s: Subject) -> Array:
    """Values (N, rings) of the true class, row by row."""
    space = spectra.bands(BINS)
    n = len(spectra.players(space, SIZE)[2])
    method = methods.permutation_shapley(4 * n, removal=removal.marginal(s.background, draws=1))

    def make() -> Array:
        e = pellucid.explain_global(s.model, s.rows.x, s.rows.y, method, space, seed=bench.settings.seed)
        return np.asarray(e.details["local"]["values"])

    found: Array = bench.piece(f"{s.name}-global", make)
    return found


def _each(bench: Bench, s: Subject) -> Array:
    """Values (N, rings) of the true class, each row well enough to look for its peak."""
    space = spectra.bands(BINS)
    n = len(spectra.players(space, SIZE)[2])
    method = methods.permutation_shapley(2 * n * PAIRS, removal=removal.marginal(s.background, draws=1))
    found = []
    for start in range(0, len(s.rows), 50):
        part = s.rows[start : start + 50]
        target = pellucid.Target(tuple(part.y.tolist()), read="prob")

        def make(part: Examples = part, target: pellucid.Target = target, start: int = start) -> Array:
            seed = bench.settings.seed
            return pellucid.explain(s.model, part.x, method, target, space, seed=seed, first_row=start).values

        found.append(bench.piece(f"{s.name}-{start}", make))
    return np.concatenate(found)


def _truth(s: Subject, radius: Array) -> Array:
    """The ring of each grating's frequency, (N,)."""
    true = s.rows.truth["frequency"].double().norm(dim=1).numpy()
    edge = spectra.CORNER / BINS
    rings = (radius / edge).astype(int)  # rings without a frequency are left out of the players
    return np.array([int(np.flatnonzero(rings == int(r / edge))[0]) for r in true])


def _behaviour(bench: Bench, s: Subject) -> dict[str, Array]:
    """Whether the network is right (N,) on pieces as they are, with only coarse or only fine frequencies, and with
    blocks of 16 x 16 pixels in a random order."""
    transform = torch.fft.fft2(s.rows.x)
    down, across = torch.meshgrid(torch.fft.fftfreq(SIZE), torch.fft.fftfreq(SIZE), indexing="ij")
    coarse = (down**2 + across**2).sqrt() < COARSE
    coarse_only = torch.fft.ifft2(transform * coarse).real
    constant = s.rows.x.mean((2, 3), keepdim=True)
    side = SIZE // BLOCK
    blocks = s.rows.x.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK).reshape(-1, side * side, BLOCK, BLOCK)
    order = rng.permutation(bench.settings.seed, "experiments.textures", 0, 0, len(blocks), side * side)
    mixed = torch.gather(blocks, 1, order[:, :, None, None].expand_as(blocks))
    mixed = mixed.reshape(-1, side, side, BLOCK, BLOCK).permute(0, 1, 3, 2, 4).reshape(s.rows.x.shape)
    shown = {
        "as they are": s.rows.x,
        "coarse frequencies only": coarse_only,
        "fine frequencies only": s.rows.x - coarse_only + constant,
        "blocks of 16 x 16 shuffled": mixed,
    }
    with torch.no_grad():
        return {name: (s.net(x).argmax(1) == s.rows.y).double().numpy() for name, x in shown.items()}


def _hypotheses(
    surfaces: Subject, rested: Array, radius: Array, found: Array, truth: Array, kept: dict[str, Array]
) -> list[Hypothesis]:
    fine = radius > COARSE
    y = surfaces.rows.y.numpy()
    rows = np.arange(len(found))
    others = found.copy()
    others[rows, truth] = -np.inf
    return [
        Hypothesis(
            "A network that tells surfaces apart rests on texture: on frequencies over 1/16 more than on those "
            "under it",
            FIGURE,
            tuple(
                Trial(f"{name}: fine - coarse", (rested[:, fine].sum(1) - rested[:, ~fine].sum(1))[y == k])
                for k, name in enumerate(surfaces.rows.labels)
            ),
        ),
        Hypothesis(
            "What frequencies are kept decides alike: without coarse ones it is right more often than without fine "
            "ones",
            "a control of the explanation, not in the paper",
            (
                Trial(
                    "right on fine only - right on coarse only",
                    kept["fine frequencies only"] - kept["coarse frequencies only"],
                ),
            ),
        ),
        Hypothesis(
            "The peak is at the known frequency of the grating",
            "known truth",
            (Trial("value of the true ring - the largest other", found[rows, truth] - others.max(1)),),
        ),
    ]


def _headline(
    surfaces: Subject,
    rested: Array,
    radius: Array,
    found: Array,
    truth: Array,
    kept: dict[str, Array],
) -> tuple[str, ...]:
    fine = radius > COARSE
    y = surfaces.rows.y.numpy()
    parts = []
    for k, name in enumerate(surfaces.rows.labels):
        over, under = (spectra.mean(rested[y == k][:, part].sum(1)) for part in (fine, ~fine))
        parts.append(
            f"{name} {over[0]:.2f} ± {over[1]:.2f} from fine, {under[0]:.2f} ± {under[1]:.2f} from coarse ones"
        )
    hit = found.argmax(1) == truth
    low, high = _limits(int(hit.sum()), len(hit))
    share = found[np.arange(len(found)), truth] / found.sum(1)
    right = ", ".join(f"{numerals.percent(float(v.mean()))} {name}" for name, v in kept.items())
    said = (
        f"Above what other pieces' frequencies give, the probability of the true surface has: {'; '.join(parts)} "
        "(coarse: periods over 16 pixels)."
    )
    peaks = (
        f"Of {len(hit)} gratings the highest ring is the true one in {numerals.percent(float(hit.mean()))} "
        f"({numerals.percent(low)} to {numerals.percent(high)}); it carries a median "
        f"{numerals.percent(float(np.median(share)))} of the sum."
    )
    return said, f"The network is right on {right}.", peaks


def _limits(hits: int, rows: int) -> tuple[float, float]:
    """Exact 95 % limits of a share (clopper1934)."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, hits, rows - hits + 1)) if hits else 0.0
    return low, float(beta.ppf(0.975, hits + 1, rows - hits)) if hits < rows else 1.0


def _surfaces(bench: Bench, s: Subject, rested: Array, radius: Array, kept: dict[str, Array]) -> tuple[Block, ...]:
    y = s.rows.y.numpy()
    each = {name: (rested[y == k], STYLES[k]) for k, name in enumerate(s.rows.labels)}
    strips, singles = [], {}
    for k, name in enumerate(s.rows.labels):
        row = int(np.flatnonzero(y == k)[0])
        x = s.rows.x[row : row + 1]
        pixels = pellucid.explain(s.model, x, methods.integrated_gradients(baseline=0.5), k)
        values = spectra.repeated(
            bench, f"surface-{k}", s.model, x, k, s.background, spectra.bands(BINS), bench.orders(ORDERS)
        )
        singles[name] = (values, STYLES[k])
        labels = spectra.players(spectra.bands(BINS), SIZE)[0]
        strips.append(
            Strip(
                name,
                (
                    tiles.picture(x[0], f"says {s.rows.labels[int(s.net(x).argmax(1))]}"),
                    tiles.pixel_map(pixels, 0, "integrated gradients"),
                    tiles.frequencies(values.mean(0), labels, "Fourier values, 25 rings"),
                ),
            )
        )
    table: dict[str, Any] = {"ring": spectra.players(spectra.bands(BINS), SIZE)[2], "radius": radius}
    for k, name in enumerate(s.rows.labels):
        part = rested[y == k]
        table[name], table[f"{name}, error"] = part.mean(0), part.std(0, ddof=1) / len(part) ** 0.5
    right = [{"pieces": name, "right": float(v.mean())} for name, v in kept.items()]
    marks = ((COARSE, "16 pixels"),)
    return (
        Text(
            "Pieces of 64 x 64 pixels, at equal brightness and contrast, from halves of the photos that the "
            "network has not seen. Values of 25 rings of frequencies for the probability of the true surface."
        ),
        spectra.lines("Globally, by surface", radius, each, marks=marks),
        Gallery(
            "One piece of each",
            tuple(strips),
            ("input", "pixels", "frequencies"),
            "Pixel maps of a texture are speckled all over: they say where, and where is not the question.",
        ),
        spectra.lines("The same three pieces", radius, singles, marks=marks),
        Table("behaviour", right, f"How often the network is right; 1/3 is chance. {len(y)} pieces."),
        Table("surfaces", table, shown=False),
    )


def _gratings(bench: Bench, s: Subject, found: Array, radius: Array, truth: Array) -> tuple[Block, ...]:
    y = s.rows.y.numpy()
    rows, strips, series = [], [], []
    labels, _, _ = spectra.players(spaces.fourier(), SIZE)
    for k, name in enumerate(s.rows.labels[:-1]):
        here = y == k
        ring = int(truth[here][0])
        hit = found[here].argmax(1) == truth[here]
        low, high = _limits(int(hit.sum()), len(hit))
        share = found[here, ring] / found[here].sum(1)
        rows.append(
            {
                "cycles a picture": name,
                "radius, cycles a pixel": float(s.rows.truth["frequency"][y == k][0].norm()),
                "peak at the true ring": float(hit.mean()),
                "low": low,
                "high": high,
                "median share of the true ring": float(np.median(share)),
                "gratings": int(here.sum()),
            }
        )
        mean = found[here]
        series.append(Series(f"{name} a picture", mean.mean(0), mean.std(0, ddof=1) / len(mean) ** 0.5, STYLES[k]))
        row = int(np.flatnonzero(here)[0])
        x = s.rows.x[row : row + 1]
        pixels = pellucid.explain(s.model, x, methods.integrated_gradients(baseline=0.5), k)
        slopes = pellucid.explain(
            s.model, x, methods.integrated_gradients(baseline=s.background.mean(0)), k, space=spaces.fourier()
        )
        strips.append(
            Strip(
                name,
                (
                    tiles.picture(x[0], "the grating"),
                    tiles.pixel_map(pixels, 0, "integrated gradients"),
                    tiles.frequencies(slopes.values[0], labels, "the same method, in frequencies"),
                ),
            )
        )
    marks = tuple((float(radius[int(truth[y == k][0])]), "") for k in range(len(s.rows.labels) - 1))
    curves = Lines(
        "Values by class, 25 rings",
        radius,
        tuple(series),
        "frequency, cycles a pixel",
        "value of a ring",
        "Dotted: the true rings.",
        marks,
    )
    return (
        Text(
            "Waves of a known frequency in noise. The network can use nothing else, so each picture's peak has to "
            "be at its own frequency; other rings get what is due to them too: that they hold no other class's "
            "wave."
        ),
        curves,
        Gallery(
            "One grating of each class",
            tuple(strips),
            ("input", "pixels", "frequencies"),
            "The same integrated gradients in pixels and, without any code of its own, in the Fourier space; each "
            "map on its own scale.",
        ),
        Table(
            "gratings",
            rows,
            "Share of gratings whose highest ring is the true one, with exact 95 % limits.",
        ),
    )


def _facts(surfaces: Subject, gratings: Subject) -> tuple[tuple[str, str], ...]:
    said: dict[str, str] = {}
    said["Surfaces"] = (
        f"{surfaces.rows.about} {len(surfaces.rows)} pieces explained, {BACKGROUND} of the other half as "
        "background. Pieces overlap, so that intervals are about these three photos, not about brick, grass and "
        "gravel in general."
    )
    said["Gratings"] = (
        f"{gratings.rows.about} {len(gratings.rows)} explained, {PAIRS} pairs of orders each; {BACKGROUND} others as "
        "background."
    )
    said["Noise"] = (
        "One class is noise alone. A first network without such a class knew one frequency by the absence of the "
        "others, and its spectrum said so: the peaks of that class were at the others' frequencies."
    )
    said["Coarse"] = "Periods over 16 pixels; set before any result was seen. The paper compares curves by eye."
    said["Networks"] = (
        "pellucid.data.textures_cnn, gratings_cnn and efficientnet; the predicted or true class's probability."
    )
    return tuple(said.items())
