"""The smallest perturbation of some features: the default of minimal_radius beside the loop everyone writes.

Run from the repository:

    OMP_NUM_THREADS=1 python benchmarks/robustness.py [--digits 10] [--repeats 1]

Both run in one process, in turn, on the digits network, one thread, on the same digits and feature subsets. The naive
loop takes one subset at a time and bisects the radius 10 times, each time by 100 steps of projected gradient ascent on
the margin: once with steps of 2.5 radius / 100, stopping at the first success, once as hsieh2021 releases it, with
steps of 1 and the last of them judged. The medians of the radii are compared, and for how many subsets nothing was
found.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings

import numpy as np
import torch

GOALS = {"seconds": 14.0, "stretch": 70.0, "radius": 1.005}
BISECTIONS, STEPS = 10, 100
SHARES = (0.05, 0.1, 0.2, 0.4, 0.7, 0.95)
"""Shares of the pixels that may move."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", choices=PARTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, part in PARTS.items():
        if options.only in (None, name):
            part(options.digits, options.repeats)


# ---------------------------------------------------------------- radii


def radii(digits: int, repeats: int) -> None:
    import pellucid
    from pellucid import attack, data

    net, x = data.digits_cnn(), data.digits("test", digits).x
    model = pellucid.wrap(net, bounds=(0.0, 1.0))
    free = subsets(len(x), x.shape[1:])

    def ours() -> np.ndarray:
        return attack.minimal_radius(model, x, free).radius

    calls = {
        "ours": ours,
        "naive, 2.5 radius / steps": lambda: naive(net, x, free, None),
        "naive, released step": lambda: naive(net, x, free, 1.0),
    }
    attack.minimal_radius(model, x[:1], free[:1])  # warm
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    found = {}
    for _ in range(repeats):
        for name, call in calls.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start = time.perf_counter()
                found[name] = call()
                seconds[name].append(time.perf_counter() - start)
    count = free.shape[0] * free.shape[1]
    print(f"\nradii: {len(x)} digits x {free.shape[1]} subsets ({', '.join(f'{s:.0%}' for s in SHARES)} of the pixels)")
    print(
        f"    ours: {statistics.median(seconds['ours']):.2f} s, nothing found for {failures(found['ours'])} of {count}"
    )
    for name in list(calls)[1:]:
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds["ours"], strict=True))
        both = np.isfinite(found["ours"]) & np.isfinite(found[name])
        radius = found["ours"][both] / found[name][both]
        print(
            f"    {name}: {statistics.median(seconds[name]):.1f} s, {ratio:.0f} x ours"
            f"  goal {GOALS['seconds']:.0f}: {verdict(ratio >= GOALS['seconds'])}"
            f"  stretch {GOALS['stretch']:.0f}: {verdict(ratio >= GOALS['stretch'])}\n"
            f"        radius, ours / theirs: median {np.median(radius):.4f}"
            f"  goal {GOALS['radius']}: {verdict(np.median(radius) <= GOALS['radius'])}, max {radius.max():.3f}, "
            f"min {radius.min():.3f}; by size {by_size(found['ours'], found[name])}\n"
            f"        nothing found for {failures(found[name])} of {count}"
            f"  no more of ours: {verdict(failures(found['ours']) <= failures(found[name]))}"
        )


def subsets(rows: int, shape: torch.Size) -> torch.Tensor:
    """For each row a random subset of each size, each within the next, (rows, sizes, *shape) bool."""
    rank = torch.rand(rows, math.prod(shape), generator=torch.Generator().manual_seed(0)).argsort(1).argsort(1)
    free = torch.stack([rank < round(share * rank.shape[1]) for share in SHARES], 1)
    return free.reshape(rows, len(SHARES), *shape)


def naive(net, x: torch.Tensor, free: torch.Tensor, step: float | None) -> np.ndarray:
    """One subset at a time: the radius of the last success of a bisection between 0 and the diagonal of the box."""
    radius = np.full(free.shape[:2], math.inf)
    for row, mask in np.ndindex(*radius.shape):
        allowed = free[row, mask].unsqueeze(0)
        low, high = 0.0, float(torch.maximum(x[row], 1 - x[row])[allowed[0]].norm())
        trial = high
        for _ in range(BISECTIONS):
            if ascend(net, x[row : row + 1], allowed, trial, step):
                radius[row, mask] = high = trial
            elif not math.isfinite(radius[row, mask]):
                break  # not even anywhere in the box
            else:
                low = trial
            trial = (low + high) / 2
    return radius


def ascend(net, x: torch.Tensor, free: torch.Tensor, radius: float, step: float | None) -> bool:
    """Whether projected gradient ascent on the margin changes the class within a ball: at any of its steps, or, as
    released, at the last."""
    with torch.no_grad():
        own = int(net(x).argmax())
    stride = 2.5 * radius / STEPS if step is None else step
    moved = x.clone()
    for _ in range(STEPS):
        moved.requires_grad_()
        z = net(moved)[0]
        margin = torch.cat([z[:own], z[own + 1 :]]).max() - z[own]
        if margin > 0 and step is None:
            return True
        (slope,) = torch.autograd.grad(margin, moved)
        slope = slope * free
        moved = (moved.detach() + stride * slope / slope.norm().clamp_min(1e-12)).clamp(0, 1)
        delta = moved - x
        moved = x + delta * min(1.0, radius / max(float(delta.norm()), 1e-12))
    with torch.no_grad():
        return int(net(moved).argmax()) != own


def failures(radius: np.ndarray) -> int:
    return int((~np.isfinite(radius)).sum())


def by_size(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Medians over the rows for each size of subset, of those where both found something."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    columns = [ours[both[:, i], i] / theirs[both[:, i], i] for i in range(ours.shape[1])]
    return " ".join(f"{np.median(column):.3f}" if len(column) else "-" for column in columns)


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


# ---------------------------------------------------------------- greedy_as beside as_released: goes here

PARTS = {"radii": radii}

if __name__ == "__main__":
    main()
