"""Digits in frequencies: is a network that was trained against attacks less sensitive to the high ones?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pellucid
from pellucid import attack, data, methods, removal, spaces
from pellucid.core import rng
from pellucid.core.model import Model
from pellucid.data.hardened import EPSILON, perturbed, robust_digits_cnn
from pellucid.experiments.semantic import spectra, tiles
from pellucid.experiments.semantic.bench import Array, Bench
from pellucid.experiments.semantic.blocks import Gallery, Lines, Result, Section, Strip, Table, Text
from pellucid.experiments.semantic.claims import Hypothesis, Trial, decided
from pellucid.reporting import numerals

ROWS, BACKGROUND, ORDERS, RADII, ROWS_AT_ONCE = 200, 500, 40, 30, 50
HIGH = 0.25
"""Cycles a pixel from which a frequency counts as high: periods under 4 pixels."""
RINGS = 14
SIZE = 28
FIGURE = "demijolla2020, Section 3.1 and Figure 3"
NETS = ("standard", "robust")
STYLES = {"standard": "plus", "robust": "accent"}


@dataclass(frozen=True, eq=False)
class Setup:
    """Both networks, the digits, each network's own adversarial versions of them, and the class these aim at."""

    nets: dict[str, nn.Module]
    models: dict[str, Model]
    x: Tensor
    y: Tensor
    towards: Tensor
    attacked: dict[str, Tensor]
    background: Tensor


def run(bench: Bench) -> Result:
    """Explain both networks, on digits as they are and as they are attacked."""
    here = _setup(bench)
    values = {
        (net, what): _values(bench, here, net, what) for net in NETS for what in ("clean", "aimed, clean", "aimed")
    }
    labels, radius, names = spectra.players(spaces.fourier(), SIZE)
    high = radius > HIGH
    power = _strength(bench, here)
    claims, tests = decided(_hypotheses(values, high, power), bench.settings.seed)
    chosen = _chosen(here)
    return Result(
        "frequencies",
        "Which frequencies two readers of digits rest on",
        "De Mijolla et al. (2020) find that a network trained against attacks is less sensitive to high "
        "frequencies, and that the mistakes of the other on attacked pictures come from these. There: CIFAR-10, "
        "two ResNet-50. Here: 28 x 28 MNIST digits and a small convolutional network, trained once plainly and "
        "once on its own worst cases.",
        _headline(values, high, power),
        claims,
        (
            Section("Globally", _globally(values, labels, radius, names)),
            Section("On attacked digits", _attacked(values, labels, radius, here, power)),
            Section("One digit", _locally(bench, here, chosen, labels, radius)),
            Section("Tests", (Table("tests", tests, "Every comparison behind the claims."),)),
        ),
        _facts(bench, here, len(names)),
    )


def _setup(bench: Bench) -> Setup:
    rows, seed = bench.examples(ROWS), bench.settings.seed
    test, background = data.digits("test", rows, seed), data.digits("train", BACKGROUND, seed)
    nets: dict[str, nn.Module] = {
        "standard": data.digits_cnn(progress=bench.progress),
        "robust": robust_digits_cnn(progress=bench.progress),
    }
    other = rng.permutation(seed, "experiments.frequencies", 0, 0, rows, 9)[:, 0] + 1
    towards = (test.y + other) % 10
    bench.uses(*nets.values())
    attacked = bench.piece(
        "attacked",
        lambda: {name: perturbed(net, test.x, towards, EPSILON, 100, towards=True) for name, net in nets.items()},
    )
    models = {name: pellucid.wrap(net, bounds=(0, 1)) for name, net in nets.items()}
    return Setup(nets, models, test.x, test.y, towards, attacked, background.x)


def _values(bench: Bench, here: Setup, net: str, what: str) -> Array:
    """Local values (N, modes) of every digit: of its true class, or of the class that the attack aims at."""
    x = here.attacked[net] if what == "aimed" else here.x
    y = here.y if what == "clean" else here.towards
    n = SIZE * SIZE // 2 + 2
    method = methods.permutation_shapley(4 * n, removal=removal.marginal(here.background, draws=1))

    found = []
    for start in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        target = pellucid.Target(tuple(y[rows].tolist()), read="prob")
        make = partial(
            pellucid.explain,
            here.models[net],
            x[rows],
            method,
            target,
            spaces.fourier(),
            seed=bench.settings.seed,
            first_row=start,
        )
        found.append(bench.piece(f"{net}-{what.replace(', ', '-')}-{start}", lambda make=make: make().values))  # type: ignore[misc]
    return np.concatenate(found).astype(np.float64)


def _strength(bench: Bench, here: Setup) -> dict[str, dict[str, Array]]:
    """How each network stands: right on digits, right under its own attack, made to say the class that is aimed at,
    and the smallest change in any pixel that alters its prediction (of the first digits)."""

    def make() -> dict[str, dict[str, Array]]:
        found = {}
        for name, net in here.nets.items():
            worst = perturbed(net, here.x, here.y, EPSILON, 100)
            few = here.x[:RADII]
            radius = attack.minimal_radius(
                here.models[name], few, torch.ones_like(few, dtype=torch.bool), norm=math.inf, seed=bench.settings.seed
            ).radius
            found[name] = {
                "right": _says(net, here.x, here.y),
                "right under attack": _says(net, worst, here.y),
                "right when aimed at another class": _says(net, here.attacked[name], here.y),
                "says the class aimed at": _says(net, here.attacked[name], here.towards),
                "radius": np.asarray(radius, dtype=np.float64).reshape(-1),
            }
        return found

    found: dict[str, dict[str, Array]] = bench.piece("strength", make)
    return found


def _says(net: nn.Module, x: Tensor, y: Tensor) -> Array:
    with torch.no_grad():
        found: Array = (net(x).argmax(1) == y).double().numpy()
    return found


def _hypotheses(
    values: dict[tuple[str, str], Array], high: Array, power: dict[str, dict[str, Array]]
) -> list[Hypothesis]:
    above = {key: v[:, high].sum(1) for key, v in values.items()}
    total = {net: float(values[net, "clean"].sum(1).mean()) for net in NETS}
    rise = {net: values[net, "aimed"] - values[net, "aimed, clean"] for net in NETS}
    up = {net: rise[net][:, high].sum(1) for net in NETS}
    return [
        Hypothesis(
            "The prediction of the robust network rests less on high frequencies",
            f"{FIGURE}, second row",
            (
                Trial(
                    f"value of frequencies over {HIGH}, standard - robust",
                    above["standard", "clean"] - above["robust", "clean"],
                ),
                Trial(
                    "the same as a share of each network's sum",
                    above["standard", "clean"] / total["standard"] - above["robust", "clean"] / total["robust"],
                ),
            ),
        ),
        Hypothesis(
            "Under attack, high frequencies raise the wrong class more in the standard network",
            f"{FIGURE}, last column",
            (
                Trial(
                    f"rise of the class aimed at by frequencies over {HIGH}, standard - robust",
                    up["standard"] - up["robust"],
                ),
            ),
        ),
        Hypothesis(
            "The standard network's mistake under attack is due to high frequencies",
            f"{FIGURE}, last column",
            (
                Trial(
                    f"rise of the class aimed at by frequencies over {HIGH} - by those under it",
                    up["standard"] - rise["standard"][:, ~high].sum(1),
                ),
            ),
        ),
        Hypothesis(
            "Under attack the robust network keeps its prediction where the standard one does not",
            f"{FIGURE}, last column",
            (
                Trial(
                    "right when aimed at another class, robust - standard",
                    power["robust"]["right when aimed at another class"]
                    - power["standard"]["right when aimed at another class"],
                ),
            ),
        ),
    ]


def _headline(values: dict[tuple[str, str], Array], high: Array, power: dict[str, dict[str, Array]]) -> tuple[str, ...]:
    shares, rises = [], []
    for net in NETS:
        v = values[net, "clean"]
        mean, error = spectra.mean(v[:, high].sum(1))
        share = mean / float(v.sum(1).mean())
        shares.append(f"{net} {mean:.3f} ± {error:.3f}, {numerals.percent(max(share, 0.0))} of its sum")
        rise = values[net, "aimed"] - values[net, "aimed, clean"]
        over, under = spectra.mean(rise[:, high].sum(1)), spectra.mean(rise[:, ~high].sum(1))
        rises.append(
            f"{net} {over[0]:.3f} ± {over[1]:.3f} by those over {HIGH} and {under[0]:.3f} ± {under[1]:.3f} by the rest"
        )
    right = ", ".join(
        f"{net} {numerals.percent(float(power[net]['right'].mean()))} of digits, "
        f"{numerals.percent(float(power[net]['right under attack'].mean()))} under attack at {EPSILON}"
        for net in NETS
    )
    return (
        f"Of the true class's probability, frequencies over {HIGH} cycles a pixel carry: {'; '.join(shares)}.",
        f"Under attack the class aimed at rises: {'; '.join(rises)}.",
        f"Right: {right}.",
    )


def _spectrum(
    title: str, each: dict[str, Array], radius: Array, up: str = "value of a ring", caption: str = ""
) -> Lines:
    """Curves of values (N, modes) by network, summed by ring."""
    middle = spectra.rings(each["standard"], radius, RINGS)[0]
    sums = {net: (spectra.rings(values, radius, RINGS)[1], STYLES[net]) for net, values in each.items()}
    return spectra.lines(title, middle, sums, up, caption, ((HIGH, f"high: over {HIGH}"),))


def _globally(
    values: dict[tuple[str, str], Array], labels: Array, radius: Array, names: Sequence[str]
) -> tuple[Text | Lines | Gallery | Table, ...]:
    each = {net: values[net, "clean"] for net in NETS}
    table: dict[str, Any] = {"frequency": names, "radius": radius}
    for (net, what), v in values.items():
        table[f"{net}, {what}"] = v.mean(0)
        table[f"{net}, {what}, error"] = v.std(0, ddof=1) / len(v) ** 0.5
    return (
        Text(
            "Shapley values of every conjugate pair of frequencies for the probability of the true class, averaged "
            "over digits (Eq. 3) and summed by ring. Their sum is the mean probability of the true class above "
            "what other digits' frequencies give it."
        ),
        _spectrum("By ring", each, radius, caption="Errors over digits, coalitions and background."),
        spectra.planes("Global values", each, labels),
        Table("modes", table, shown=False),
    )


def _attacked(
    values: dict[tuple[str, str], Array],
    labels: Array,
    radius: Array,
    here: Setup,
    power: dict[str, dict[str, Array]],
) -> tuple[Text | Lines | Gallery | Table, ...]:
    rise = {net: values[net, "aimed"] - values[net, "aimed, clean"] for net in NETS}
    frame = [
        {"network": net}
        | {name: float(v.mean()) for name, v in power[net].items() if name != "radius"}
        | {"smallest change in any pixel, median": float(np.median(power[net]["radius"]))}
        for net in NETS
    ]
    return (
        Text(
            f"Each digit is moved towards a random wrong class by projected gradient (at most {EPSILON} in each "
            "pixel, 100 steps), for each network by its own gradient. Shown is how much more each ring speaks for "
            "that class than it did before."
        ),
        _spectrum("What raises the wrong class", rise, radius, "rise of a ring's value"),
        spectra.planes("Rise of the wrong class", rise, labels),
        Table(
            "networks", frame, f"How the networks stand: shares of {len(here.x)} digits; radius of the first {RADII}."
        ),
    )


def _chosen(here: Setup) -> int:
    """The first digit that both read rightly, and that is moved to the class aimed at in the standard network only."""
    says = {net: here.nets[net](here.attacked[net]).argmax(1).detach() for net in NETS}
    clean = [(here.nets[net](here.x).argmax(1) == here.y) for net in NETS]
    fits = clean[0] & clean[1] & (says["standard"] == here.towards) & (says["robust"] == here.y)
    return int(torch.nonzero(fits)[0]) if bool(fits.any()) else 0


def _locally(bench: Bench, here: Setup, row: int, labels: Array, radius: Array) -> tuple[Text | Lines | Gallery, ...]:
    true, aim = int(here.y[row]), int(here.towards[row])
    strips, lines = [], []
    for what, title in (("as it is", f"the true class, {true}"), ("attacked", "the class that the network says")):
        found, cells = {}, []
        for net in NETS:
            x = (here.x if what == "as it is" else here.attacked[net])[row : row + 1]
            says = true if what == "as it is" else int(here.nets[net](x).argmax(1))
            found[net] = spectra.repeated(
                bench,
                f"single-{net}-{what.split(' ')[0]}-{row}",
                here.models[net],
                x,
                says,
                here.background,
                spaces.fourier(),
                bench.orders(ORDERS),
            )
            pixels = pellucid.explain(here.models[net], x, methods.integrated_gradients(), says)
            cells += [
                tiles.picture(x[0], f"{net}: says {int(here.nets[net](x).argmax(1))}"),
                tiles.pixel_map(pixels, 0, f"pixels, class {says}"),
                tiles.frequencies(found[net].mean(0), labels, f"frequencies, class {says}"),
            ]
        strips.append(Strip(what, tuple(cells)))
        lines.append(
            _spectrum(f"The digit {what}: {title}", found, radius, caption="Errors over orders and background.")
        )
    heads = tuple(f"{net}: {head}" for net in NETS for head in ("input", "integrated gradients", "Fourier values"))
    return (
        Text(
            f"A {true} that both networks read, moved towards {aim}. Pixel maps say where; the plane of frequencies "
            "says how coarse or fine."
        ),
        Gallery("Inputs and maps", tuple(strips), heads, "Each map on its own scale."),
        *lines,
    )


def _facts(bench: Bench, here: Setup, n: int) -> tuple[tuple[str, str], ...]:
    said: dict[str, str] = {}
    said["Rows"] = (
        f"{len(here.x)} held-out MNIST digits, {BACKGROUND} training digits as background; {n} players, one for "
        "each conjugate pair of frequencies; for each digit two pairs of orders (Eq. 3, Eq. 5), each at a "
        "background digit of its own. Rows are the unit of all errors and tests."
    )
    said["Networks"] = (
        "pellucid.data.digits_cnn and the same network trained at the worst inputs that 5 steps of projected gradient "
        f"find within {EPSILON} in each pixel (madry2018). The paper: ResNet-50 on CIFAR-10, 8/255."
    )
    said["High"] = (
        f"Over {HIGH} cycles a pixel, half of the highest frequency along an axis; set before any result was seen. The "
        "paper compares curves by eye."
    )
    said["One digit"] = (
        f"{spectra.REPEATS} estimates of {max(1, bench.orders(ORDERS) // spectra.REPEATS)} pairs of orders each."
    )
    return tuple(said.items())
