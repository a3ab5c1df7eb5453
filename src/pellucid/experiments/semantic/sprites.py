"""Sprites and the top-half rule: the exact codec shows what is true, and a trained β-TCVAE has to find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

import pellucid
from pellucid import data, generative, methods, removal, spaces
from pellucid.core.explanation import Explanation
from pellucid.core.space import Space
from pellucid.data.examples import Examples
from pellucid.experiments.semantic import tiles
from pellucid.experiments.semantic.bench import Array, Bench
from pellucid.experiments.semantic.blocks import Bars, Gallery, Result, Section, Series, Strip, Table, Text, losses
from pellucid.experiments.semantic.claims import Hypothesis, Trial, decided
from pellucid.generative.autoencoder import VAE
from pellucid.generative.fit import Fitted
from pellucid.generative.quality import Disentanglement
from pellucid.reporting import numerals

ROWS, BACKGROUND, STEPS, ORDERS = 400, 600, 20_000, 100
FACTORS = ("shape", "scale", "pos_x", "pos_y", "orientation")
DOMINANT = ("pos_y", "scale")
SIDE, AREAS = 32, tuple(float((20 * scale / 10) ** 2) for scale in range(5, 11))
RULE = "demijolla2020, Section 3.3 and Figure 5a"


def top_half(x: Tensor) -> Tensor:
    """The paper's rule: the class is the scale whose area the white pixels of the top half come to; one-hot."""
    areas = torch.tensor(AREAS)
    lit = x[:, 0, :SIDE].sum((1, 2))
    return torch.nn.functional.one_hot(torch.bucketize(lit, (areas[1:] + areas[:-1]) / 2), len(AREAS)).double()


@dataclass(frozen=True, eq=False)
class Codec:
    """A space, the factor that each of its features counts for, and what was found in it."""

    label: str
    space: Space
    names: tuple[str, ...]
    owners: tuple[str, ...]
    overall: Explanation
    single: Explanation  # of sprites of full scale below the middle

    def by_factor(self, low: bool = False) -> dict[str, Array]:
        """Local values (N,) of every factor, summed over the features that count for it: of all sprites, or of those
        of full scale below the middle."""
        each = np.asarray(self.single.values if low else self.overall.details["local"]["values"])
        return {f: each[:, [o == f for o in self.owners]].sum(1) for f in FACTORS}


def run(bench: Bench) -> Result:
    """Train, explain, compare."""
    rows, steps = bench.examples(ROWS), bench.steps(STEPS)
    count = min(20_000, 32 * steps)
    everything = data.sprites(count + rows + BACKGROUND, seed=1)
    train, test = everything.x[:count], everything[count:]
    # minutes on one core: half the channels and minibatches of 32, at twice the rate
    recipe = replace(generative.beta_tcvae(anneal=max(1, steps // 3)), rate=1e-3, batch=32, filters=(16,))
    fitted = bench.fitted(recipe, train, steps=steps, held_out=test.x[:256], every=250)
    vae: VAE = fitted.model
    bench.uses(vae)
    told = generative.disentanglement(vae, test.x, _factors(test), FACTORS)
    owners = tuple(FACTORS[k] for k in told.information.argmax(1).tolist())
    names = tuple(f"z{i} ({o} {float(told.information[i].max()):.2f})" for i, o in enumerate(owners))
    white = spaces.decoder(vae.encode, lambda z: (vae.decode(z) > 0.5).to(z), names, tolerance=float("inf"))
    exact = spaces.decoder(data.sprite_latents, data.render_sprites, data.SPRITE_LATENTS)
    x, background = test.x[:rows], test.x[rows:]
    y = top_half(x).argmax(1)
    chosen = _chosen(test[:rows], y)
    codecs = (
        _explained(bench, "exact codec", exact, data.SPRITE_LATENTS, data.SPRITE_LATENTS, x, background, chosen),
        _explained(bench, "β-TCVAE", white, names, owners, x, background, chosen),
    )
    claims, tests = decided(_hypotheses(codecs), bench.settings.seed)
    return Result(
        "sprites",
        "What the top-half rule rests on",
        "The rule of De Mijolla et al. (2020): a sprite's class is the scale whose area the white pixels of its "
        "top half come to. It cannot see position-x, and shape and orientation act only where the edge of the half "
        "cuts a sprite. So the truth is known; the exact codec shows it, and a trained model has to find it.",
        _headline(codecs),
        claims,
        (
            Section("Globally", _globally(codecs)),
            Section("One sprite", _locally(bench, codecs, x[chosen[:1]], background)),
            Section("How good the trained model is", _quality(bench, fitted, vae, told, test, train, codecs)),
            Section("Tests", (Table("tests", tests, "Every comparison behind the claims."),)),
        ),
        _facts(rows, fitted.steps),
    )


def _facts(rows: int, steps: int) -> tuple[tuple[str, str], ...]:
    said: dict[str, str] = {}
    said["Rows"] = (
        f"{rows} sprites, {BACKGROUND} others as background; global Shapley values of the true label (Eq. 3) from "
        "permutations with antithetic pairs, two for each sprite; standard errors over rows, coalitions and "
        "background. Local values: a hundred pairs for each. No setting was changed after a result was seen, but for "
        "these: at first local claims were tested on two pairs, too few for values of single sprites; and a first "
        "β-TCVAE of 3,000 steps had no latent for the shape, with the same findings."
    )
    said["Smaller than published"] = (
        f"16 channels in place of 32, minibatches of 32, rate 1e-3, {steps:,} steps ({32 * steps:,} pictures in place "
        "of 30 passes over 0.7 million), γ annealed over a third of them; β = 6.4 and all else as "
        "generative.beta_tcvae(). Sprites of one scale have equal areas, as the paper implies; dSprites' have not. "
        "Decoded pictures are cut at .5 before the rule counts pixels."
    )
    return tuple(said.items())


def _factors(test: Examples) -> Tensor:
    latents = test.truth["latents"]
    return torch.cat([latents[:, [0, 1, 3, 4]], latents[:, 2].cos()[:, None]], 1)


def _chosen(test: Examples, y: Tensor) -> Tensor:
    """The paper's local example, as often as it is there: full scale, and no white pixels in the top half."""
    found = torch.nonzero((y == 0) & (test.truth["latents"][:, 1] > 0.95)).reshape(-1)
    return found if len(found) else torch.tensor([0])


def _explained(
    bench: Bench,
    label: str,
    space: Space,
    names: Sequence[str],
    owners: Sequence[str],
    x: Tensor,
    background: Tensor,
    chosen: Tensor,
) -> Codec:
    rule = pellucid.wrap(top_half, scale="prob")
    y, n, seed = top_half(x).argmax(1), len(names), bench.settings.seed
    absent = removal.marginal(background, draws=1)
    few = methods.permutation_shapley(4 * n, removal=absent)
    many = methods.permutation_shapley(2 * n * bench.orders(ORDERS), removal=absent)
    key = "exact" if label.startswith("exact") else "trained"
    overall = bench.explanation(f"{key}-global", lambda: pellucid.explain_global(rule, x, y, few, space, seed=seed))
    here, target = x[chosen], pellucid.Target(tuple(y[chosen].tolist()), read="prob")
    single = bench.explanation(
        f"{key}-local", lambda: pellucid.explain(rule, here, many, target, space, seed=seed, first_row=int(chosen[0]))
    )
    return Codec(label, space, tuple(names), tuple(owners), overall, single)


def _hypotheses(codecs: Sequence[Codec]) -> list[Hypothesis]:
    made = []
    for codec in codecs:
        values, low = codec.by_factor(), codec.by_factor(low=True)
        made.append(
            Hypothesis(
                f"Position-y and scale dominate shape, orientation and position-x ({codec.label})",
                RULE,
                tuple(
                    Trial(f"{big} - {small}", values[big] - values[small])
                    for big in DOMINANT
                    for small in FACTORS
                    if small not in DOMINANT
                ),
            )
        )
        made.append(
            Hypothesis(
                "Of a sprite of full scale below the middle, position-y is the main driver, and the scale speaks "
                f"against its class ({codec.label})",
                RULE,
                (
                    Trial("position-y - the next", low["pos_y"] - _next(low)),
                    Trial("the scale, with its sign turned", -low["scale"]),
                ),
            )
        )
    return made


def _next(values: dict[str, Array]) -> Array:
    """The factor that is largest on average, position-y aside."""
    return max((v for f, v in values.items() if f != "pos_y"), key=lambda v: float(v.mean()))


def _headline(codecs: Sequence[Codec]) -> tuple[str, ...]:
    said = []
    for codec in codecs:
        values = codec.by_factor()
        order = sorted(FACTORS, key=lambda f: -float(values[f].mean()))
        parts = []
        for f in order:
            v = values[f]
            zero = not v.any()
            error = float(v.std(ddof=1)) / len(v) ** 0.5
            parts.append(f"{f} {'exactly 0' if zero else f'{v.mean():.3f} ± {error:.3f}'}")
        e = codec.overall
        said.append(
            f"Through the {codec.label}: {', '.join(parts)}; the rule's true class has {float(e.outputs[0]):.3f} at "
            f"reconstructions and {float(e.base_values[0]):.3f} at random."  # type: ignore[index]
        )
    return tuple(said)


def _globally(codecs: Sequence[Codec]) -> tuple[Text | Bars | Table, ...]:
    exact = codecs[0]
    sums = {c.label: {f: float(v.mean()) for f, v in c.by_factor().items()} for c in codecs}
    errors = {c.label: {f: float(v.std(ddof=1)) / len(v) ** 0.5 for f, v in c.by_factor().items()} for c in codecs}
    frame = [
        {
            "factor": f,
            **{c.label: sums[c.label][f] for c in codecs},
            **{f"{c.label}, error": errors[c.label][f] for c in codecs},
        }
        for f in FACTORS
    ]
    each = [
        {"codec": c.label, "feature": name, "counts for": owner, "value": float(value), "std_error": float(error)}
        for c in codecs
        for name, owner, value, error in zip(
            c.names,
            c.owners,
            np.asarray(c.overall.values)[0],
            np.asarray(c.overall.std_error)[0],
            strict=True,
        )
    ]
    bars = [
        Bars(
            f"Values, {codec.label}",
            codec.names,
            (
                Series("global", np.asarray(codec.overall.values)[0], np.asarray(codec.overall.std_error)[0]),
                Series(
                    "one sprite below the middle, of full scale",
                    np.asarray(codec.single.values)[0],
                    np.asarray(codec.single.std_error)[0],
                    "plus",
                ),
            ),
        )
        for codec in codecs
    ]
    gap = float(np.mean(codecs[1].overall.details["reconstruction_gap"]))
    return (
        Text(
            "Position-x has exactly nothing to do with the rule. A latent counts for the factor that it tells most "
            f"about. The trained codec loses {gap:.3f} of the rule's output on the way ({exact.label}: 0)."
        ),
        *bars,
        Table("factors", frame, "Values by factor: sums over the features that count for it."),
        Table("values", each, shown=False),
    )


def _locally(bench: Bench, codecs: Sequence[Codec], here: Tensor, background: Tensor) -> tuple[Text | Gallery, ...]:
    rule = pellucid.wrap(top_half, scale="prob")
    y = int(top_half(here).argmax(1))
    occluded = bench.explanation(
        "pixels",
        lambda: pellucid.explain(rule, here, methods.occlusion(window=8, stride=4), y, seed=bench.settings.seed),
    )
    ablated = bench.explanation(
        "patches",
        lambda: pellucid.explain(
            rule,
            here,
            methods.permutation_shapley(2000, removal=removal.marginal(background, draws=1)),
            y,
            players=pellucid.players.grid(8),
            seed=bench.settings.seed,
        ),
    )
    maps = Strip(
        f"class {y}",
        (
            tiles.picture(here[0], "the sprite"),
            tiles.pixel_map(occluded, 0, "occlusion, 8 x 8"),
            tiles.pixel_map(ablated, 0, "Shapley values, 8 x 8 patches"),
        ),
    )
    found = []
    for codec in codecs:
        moved = pellucid.traverse(rule, here, codec.space, background[:200], y, steps=7)
        strips = sorted(tiles.traversal(moved), key=lambda s: -moved.effect[s.name])[:5]
        found.append(
            Gallery(
                f"Traversals, {codec.label}",
                tuple(strips),
                caption="One feature moves over the values that it has in the data; under each picture, the output of "
                "the class above. The five features that move it most.",
            )
        )
    return (
        Text(
            "Pixel maps of the same sprite: they show where white pixels lie or would count, and cannot tell position "
            "from scale."
        ),
        Gallery("Pixel maps", (maps,)),
        *found,
    )


def _quality(
    bench: Bench,
    fitted: Fitted,
    vae: VAE,
    told: Disentanglement,
    test: Examples,
    train: Tensor,
    codecs: Sequence[Codec],
) -> tuple[Text | Table, ...]:
    back = generative.reconstruction(vae, test.x, train)
    forests = bench.separate(vae, test.x, _factors(test), FACTORS)
    frame = [
        {
            "measure": "squared error of a pixel",
            "β-TCVAE": back.error,
            "control": back.control,
            "which": "mean picture",
        },
        {
            "measure": "mutual information gap",
            "β-TCVAE": told.mig,
            "control": told.control,
            "which": "ten principal components",
        },
        {"measure": "the same", "β-TCVAE": told.mig, "control": told.chance, "which": "rows shuffled"},
        *(
            {"measure": f"of that: {name}", "β-TCVAE": gap, "control": None, "which": ""}
            for name, gap in told.gaps.items()
        ),
        {
            "measure": "DCI disentanglement",
            "β-TCVAE": forests[0],
            "control": forests[1],
            "which": "ten principal components",
        },
        {
            "measure": "gap of the rule at reconstructions",
            "β-TCVAE": float(np.mean(codecs[1].overall.details["reconstruction_gap"])),
            "control": 0.0,
            "which": "exact codec",
        },
    ]
    shares = told.information.tolist()
    information = [{"latent": f"z{i}"} | dict(zip(FACTORS, row, strict=True)) for i, row in enumerate(shares)]
    return (
        Text(
            f"{numerals.percent(back.explained)} of the pictures' variance comes back, after {fitted.steps:,} steps; "
            f"{len(test):,} held-out sprites."
        ),
        Table("quality", frame, "The trained model beside trivial controls."),
        Table("information", information, "What each latent tells of each factor, as a share of the factor's entropy."),
        losses(fitted),
    )
