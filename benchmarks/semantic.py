"""What semantic explanations cost, and what they find: draws of a 10-latent model to a standard error, a photo in 25
Fourier bands, a rule about sprites through an exact codec and a trained one.

    python benchmarks/semantic.py            # all, about fifteen minutes
    python benchmarks/semantic.py latents    # parts: latents, photos, sprites
    python benchmarks/semantic.py photos 3   # some photos only
    python benchmarks/semantic.py sprites 3000   # so many steps of training

demijolla2020 draws 10,000 samples for each feature. Here a sample of a feature is one of its marginal contributions, at
one background row, as there; all classes come from the same forwards.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

import pellucid
from pellucid import Run, Target, data, generative, methods, removal, spaces
from pellucid.data.weights import cache_folder

THEIRS = 10_000
ALL = Target("all", read="prob")


def components(x: torch.Tensor, count: int) -> spaces.decoder:
    """The first principal components, one standard deviation each, as a codec."""
    flat = x.flatten(1)
    mean = flat.mean(0)
    _, s, v = torch.linalg.svd(flat - mean, full_matrices=False)
    basis = v[:count].T * s[:count] / len(flat) ** 0.5
    back = torch.linalg.pinv(basis)
    return spaces.decoder(
        lambda x: (x.flatten(1) - mean) @ back.T,
        lambda z: (z @ basis.T + mean).reshape(-1, *x.shape[1:]),
        tolerance=float("inf"),
    )


def latents() -> None:
    """Digits behind ten principal components, all ten classes, to a standard error of .01 of every probability."""
    train, test = data.digits("train"), data.digits("test", 12)
    model = pellucid.wrap(data.digits_cnn(), bounds=(0, 1))
    background = removal.marginal(train.x[:500], draws=1)
    method = methods.permutation_shapley(100_000, tolerance=0.01, removal=background)
    samples, forwards, start = [], 0, time.perf_counter()
    for row in range(len(test)):
        e = pellucid.explain(model, test.x[row : row + 1], method, ALL, components(train.x, 10), first_row=row)
        assert e.std_error.max() <= 0.01
        samples.append(2 * e.details["draws"])
        forwards += e.cost["forwards"]
    seconds = time.perf_counter() - start
    median, most = np.median(samples), max(samples)
    print(
        f"10 latents, 10 classes, every standard error <= .01: samples a feature median {median:.0f}, most {most} over "
        f"{len(samples)} digits; {THEIRS / median:.1f} and {THEIRS / most:.1f} times fewer than {THEIRS}; "
        f"{forwards / len(samples):.0f} forwards and {seconds / len(samples):.2f} s a digit"
    )


def photos(count: int = 20, seconds: float = 60.0) -> None:
    """EfficientNet-Lite0 on 224 x 224 in 25 bands, its own class, the other photos as background, in 60 s a photo."""
    model, examples = data.efficientnet(), data.photos()
    space, workers = spaces.fourier(bins=25), 2

    def ask(row: int, budget: int) -> pellucid.Explanation:
        others = torch.cat([examples.x[:row], examples.x[row + 1 :]])
        method = methods.permutation_shapley(budget, removal=removal.marginal(others, draws=1))
        here, target = examples.x[row : row + 1], Target(None, read="prob")
        return pellucid.explain(model, here, method, target, space, run=Run(workers=workers), first_row=row)

    start = time.perf_counter()
    ask(0, 500)
    budget = int(0.9 * 500 * seconds / (time.perf_counter() - start))
    for row in range(count):
        start = time.perf_counter()
        e = ask(row, budget)
        took = time.perf_counter() - start
        print(
            f"{examples.names[row]:<26} {budget} coalitions, {took:5.1f} s, p {e.outputs[0]:.3f}, standard error: "
            f"median {np.median(e.std_error):.4f}, largest {e.std_error.max():.4f} (goals .010, .015)",
            flush=True,
        )


def top_half(x: torch.Tensor) -> torch.Tensor:
    """The paper's rule: the class is the scale whose area the white pixels of the top half come to; one-hot."""
    areas = torch.tensor([float((20 * scale / 10) ** 2) for scale in range(5, 11)])
    lit = x[:, 0, :32].sum((1, 2))
    return torch.nn.functional.one_hot(torch.bucketize(lit, (areas[1:] + areas[:-1]) / 2), 6).double()


def said(what: str, done: int, total: int) -> None:
    """Progress, a line each."""
    print(what, done, total, flush=True)


def sprites(steps: int = 3000, rows: int = 400) -> None:
    """What the top-half rule rests on, through the exact codec and through a β-TCVAE trained here."""
    everything = data.sprites(21_000, seed=1)
    train, test = everything.x[:20_000], everything[20_000:]
    recipe = replace(generative.beta_tcvae(anneal=steps // 3), rate=1e-3, batch=32, filters=(16,))  # minutes, 1 core
    run = Run(store=cache_folder() / "generative", progress=said)
    fitted = generative.fit(recipe, train, steps=steps, held_out=test.x[:256], every=250, run=run)
    vae = fitted.model
    print(fitted.losses.iloc[[0, -1]].T.round(2).to_string())
    back = generative.reconstruction(vae, test.x, train)
    print(
        f"{fitted.steps} steps, {fitted.seconds:.0f} s; squared error {back.error:.4f} (± {back.std_error:.4f}), "
        f"mean picture {back.control:.4f}: {back.explained:.0%} of the variance comes back"
    )
    turn = test.truth["latents"][:, 2]
    factors = torch.cat([test.truth["latents"][:, [0, 1, 3, 4]], turn.cos()[:, None]], 1)
    names = ["shape", "scale", "pos_x", "pos_y", "orientation"]
    told = generative.disentanglement(vae, test.x, factors, names)
    print(
        f"mig {told.mig:.3f}, principal components {told.control:.3f}, shuffled rows {told.chance:.3f}; "
        + ", ".join(f"{name} {gap:.3f}" for name, gap in told.gaps.items())
    )
    print(pd.DataFrame(told.information.numpy().round(2), [f"z{i}" for i in range(len(told.information))], names))
    best = told.information.argmax(1).tolist()
    labels = [f"z{i} ({names[k]} {told.information[i, k]:.2f})" for i, k in enumerate(best)]
    x, background = test.x[:rows], test.x[rows:]
    y = top_half(x).argmax(1)
    white = spaces.decoder(vae.encode, lambda z: (vae.decode(z) > 0.5).to(z), labels, tolerance=float("inf"))
    exact = spaces.decoder(data.sprite_latents, data.render_sprites, data.SPRITE_LATENTS)
    rule = pellucid.wrap(top_half, scale="prob")
    shares = {}
    for title, space, n in (("exact codec", exact, 5), ("beta_tcvae", white, 10)):
        method = methods.permutation_shapley(4 * n, removal=removal.marginal(background, draws=1))
        e = pellucid.explain_global(rule, x, y, method, space)
        gap = float(np.mean(e.details["reconstruction_gap"]))
        means = f"{float(e.outputs[0]):.3f} at reconstructions, {float(e.base_values[0]):.3f} at random"
        print(f"{title}: E f_y(x) is {means}; gap {gap:.3f}")
        for name, value, error in zip(e.feature_names, e.values[0], e.std_error[0], strict=True):
            print(f"  {name:<22} {value:+.4f} ± {error:.4f}")
        owners = list(data.SPRITE_LATENTS) if n == 5 else [names[k] for k in best]
        shares[title] = {f: sum(v for o, v in zip(owners, e.values[0], strict=True) if o == f) for f in names}
    print(pd.DataFrame(shares).round(3))


PARTS = {"latents": latents, "photos": photos, "sprites": sprites}

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parts = [part for part in sys.argv[1:] if part in PARTS] or list(PARTS)
    numbers = [int(part) for part in sys.argv[1:] if part.isdigit()]
    for part in parts:
        print(f"-- {part}")
        PARTS[part](*(numbers if part != "latents" else []))
