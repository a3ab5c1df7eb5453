"""What semantic explanations cost: draws of a 10-latent model to a standard error, a photo in 25
Fourier bands.

    python benchmarks/semantic.py            # all, about twenty minutes
    python benchmarks/semantic.py latents    # parts: latents, photos
    python benchmarks/semantic.py photos 3   # some photos only

What they find is in ``pellucid benchmark semantic``.

demijolla2020 draws 10,000 samples for each feature. Here a sample of a feature is one of its marginal contributions, at
one background row, as there; all classes come from the same forwards.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
import torch

import pellucid
from pellucid import Run, Target, data, methods, removal, spaces

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


def photos(count: int = 20, budget: int = 4000) -> None:
    """EfficientNet-Lite0 on 224 x 224 in 25 bands, its own class, the others as background (goal: 60 s a photo)."""
    model, examples = data.efficientnet(), data.photos()
    space, workers = spaces.fourier(bins=25), 2

    def ask(row: int, coalitions: int) -> pellucid.Explanation:
        others = torch.cat([examples.x[:row], examples.x[row + 1 :]])
        method = methods.permutation_shapley(coalitions, removal=removal.marginal(others, draws=1))
        here, target = examples.x[row : row + 1], Target(None, read="prob")
        return pellucid.explain(model, here, method, target, space, run=Run(workers=workers), first_row=row)

    ask(0, 100)
    for row in range(count):
        start = time.perf_counter()
        e = ask(row, budget)
        took = time.perf_counter() - start
        print(
            f"{examples.names[row]:<26} {budget} coalitions, {took:5.1f} s, p {e.outputs[0]:.3f}, standard error: "
            f"median {np.median(e.std_error):.4f}, largest {e.std_error.max():.4f} (goals .010, .015)",
            flush=True,
        )


PARTS = {"latents": latents, "photos": photos}

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parts = [part for part in sys.argv[1:] if part in PARTS] or list(PARTS)
    numbers = [int(part) for part in sys.argv[1:] if part.isdigit()]
    for part in parts:
        print(f"-- {part}")
        PARTS[part](*(numbers if part != "latents" else []))
