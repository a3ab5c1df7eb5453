"""Local methods beside a trivial control, on held-out data.

Run from the repository with the extra "demo" installed:

    OMP_NUM_THREADS=1 python benchmarks/methods.py [--rows 20] [--only anchors]

Digits: a CNN and digits that it has not seen. Insertion and deletion of the cells of a 7 x 7 grid under two references
(nats of the logit of the true class), and what a random explanation scores on the same rows; a difference is given as
mean ± standard error over rows. Tagged digits: the share of the top pixels (or cells of a rule) that lie in the tag
that decides the class. Breast cancer: rules for a logistic regression, their precision on rows that were never used.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch

import pellucid
from pellucid import data, methods, metrics, players, removal

LOCAL = {
    "random_attribution": methods.random_attribution(),
    "integrated_gradients": methods.integrated_gradients(),
    "path_integrated_gradients, blur": methods.path_integrated_gradients("blur"),
    "path_integrated_gradients, axis order": methods.path_integrated_gradients("axis_order", 128),
    "var_grad": methods.var_grad(),
    "grad_cam": methods.grad_cam(),
    "grad_cam_plus_plus": methods.grad_cam_plus_plus(),
    "meaningful_perturbation": methods.meaningful_perturbation(),
    "meaningful_perturbation_as_released": methods.meaningful_perturbation_as_released(),
    "anchors": methods.anchors(),
}
RULES = {"anchors"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--only", choices=LOCAL)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", pellucid.Unreliable)  # rules that were not reached are counted below
    chosen = {name: m for name, m in LOCAL.items() if options.only in (None, name) or name == "random_attribution"}
    digits(chosen, options.rows)
    tagged(chosen, options.rows)
    if options.only in (None, "anchors"):
        table(options.rows)


def explained(net, x, y, chosen):
    for name, method in chosen.items():
        start = time.perf_counter()
        e = pellucid.explain(net, x, method, target=y, players=players.grid(7) if name in RULES else None)
        yield name, e, time.perf_counter() - start


def digits(chosen, rows: int) -> None:
    examples = data.digits("test", rows)
    net = data.digits_cnn()
    net_metrics = [
        kind(reference, grid=7) for reference in ("uniform", "mean") for kind in (metrics.insertion, metrics.deletion)
    ]
    found = {name: (e, seconds) for name, e, seconds in explained(net, examples.x, examples.y, chosen)}
    several = {name: e for name, (e, _) in found.items()}
    scores = pellucid.evaluate(net, several, [*net_metrics, metrics.sensitivity_n(grid=7), metrics.infidelity(grid=7)])
    print(f"{rows} held-out digits, better than random by (mean ± standard error)\n")
    heads = ["insert, noise", "delete, noise", "insert, mean", "delete, mean", "sensitivity-n", "infidelity"]
    print(f"{'method':40}" + "".join(f"{head:>16}" for head in heads) + f"{'forwards':>10}{'seconds':>9}")
    for name, (e, seconds) in found.items():
        line = f"{name:40}"
        for metric in scores.metrics:
            cell, chance = scores.cell(name, metric), scores.cell("random_attribution", metric)
            gain = cell.better * (cell.values - chance.values)
            line += f"{gain.mean():>+9.2f} ± {gain.std(ddof=1) / np.sqrt(rows):.2f}"
        print(line + f"{e.cost['forwards'] // rows:>10}{seconds:>9.1f}")
    if "anchors" in several:
        print(f"\nanchors: {rules(several['anchors'])}")


def tagged(chosen, rows: int) -> None:
    net, examples = data.tagged_digits_cnn(), data.tagged_digits("test")
    with torch.no_grad():
        right = (net(examples.x).argmax(1) == examples.y) & (examples.y == 1)
    examples = examples[torch.nonzero(right).reshape(-1)[:rows]]
    tag = examples.truth["tag"].flatten(1).numpy()
    print(f"\n{rows} held-out tagged digits, share of the 8 top pixels (of the cells of a rule) in the tag\n")
    for name, e, seconds in explained(net, examples.x, examples.y, chosen):
        values = e.map().reshape(rows, -1)
        if name in RULES:
            share = (values * tag).sum(1) / values.sum(1)
        else:
            share = np.take_along_axis(tag, np.argsort(-values, 1)[:, :8], 1).mean(1)
        print(f"{name:40}{share.mean():>8.2f} ± {share.std(ddof=1) / np.sqrt(rows):.2f}{seconds:>9.1f} s")


def rules(e) -> str:
    """What anchors found, in numbers."""
    d = e.details
    held = (e.values > 0).sum(1)
    return (
        f"{d['reached'].mean():.0%} reached, {held.mean():.1f} features, precision {d['precision'].mean():.3f} "
        f"(lower bound {d['precision_low'].mean():.3f}), coverage {d['coverage'].mean():.3f}"
    )


def table(rows: int) -> None:
    """Of the unseen rows for which a rule holds, the share decided as it says; beside it, of all unseen rows."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    loaded = load_breast_cancer(as_frame=True)
    columns = [name for name in loaded.data if name.startswith("worst")]
    x, y = loaded.data[columns], loaded.target
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[:300], y[:300])
    unseen = x[300:]
    e = pellucid.explain(fitted, unseen[:rows], methods.anchors(removal=removal.marginal(x[:300])))
    print(f"\n{rows} breast cancer rows, 10 columns, logistic regression: {rules(e)}")
    decided, kept, chance = fitted.predict(unseen), [], []
    edges = np.quantile(x[:300], (0.25, 0.5, 0.75), axis=0)
    for row in range(rows):
        bins = (edges < unseen.to_numpy()[row]).sum(0)
        held = np.flatnonzero(e.values[row])
        same = np.array([((edges < other).sum(0) == bins)[held].all() for other in unseen.to_numpy()])
        same[row] = False
        if same.any():
            kept.append((decided[same] == decided[row]).mean())
            chance.append((np.delete(decided, row) == decided[row]).mean())
    print(
        f"decided alike, of the unseen rows for which a rule holds: {np.mean(kept):.3f}; of all: {np.mean(chance):.3f}"
    )
    print(f"({len(kept)} of {rows} rules hold for another unseen row)")
    for rule in e.details["rule"][:3]:
        print("   ", rule)


if __name__ == "__main__":
    main()
