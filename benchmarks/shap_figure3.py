"""How fast do estimates of one Shapley value settle? Figure 3 of lundberg2017, with this library's estimators.

A dense decision tree that uses all 10 of its features, and a sparse one that uses 3 of 100. For each number of
evaluations, 200 replicates (seeds) of each estimator: the median and the 10th and 90th percentile of the most important
feature's value, beside the exact value. Writes shap-figure-3.csv and shap-figure-3.png into the folder given.

    python benchmarks/shap_figure3.py docs/results [replicates]
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.tree import DecisionTreeRegressor

import pellucid
from pellucid import games, methods

ESTIMATORS = ("shapley_sampling", "permutation_shapley", "kernel_shap", "regression_shapley")
COLOURS = dict(zip(ESTIMATORS, ("#8a857c", "#1f5fa8", "#d1491b", "#1a6b3c"), strict=True))


def tree_game(features: int, used: int, depth: int) -> tuple[games.FunctionGame, int, float]:
    """A tree on ``used`` of ``features`` columns at one row, absent ones at the mean; the top feature and its value."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(2000, features))
    wanted = sum(np.sin(2 * table[:, i]) * (1 + table[:, (i + 1) % used]) for i in range(used))
    tree = DecisionTreeRegressor(max_depth=depth, random_state=0).fit(table[:, :used], wanted)
    row, mean = table[3], table.mean(0)

    def value(s: torch.Tensor) -> np.ndarray:
        return tree.predict(np.where(s.numpy(), row, mean)[:, :used])

    padding = torch.zeros(1, features - used, dtype=torch.bool)
    small = games.FunctionGame(used, lambda s: value(torch.cat([s, padding.expand(len(s), -1)], 1)))
    truth = pellucid.play(small, methods.exact_shapley()).values[0]
    top = int(np.abs(truth).argmax())
    return games.FunctionGame(features, value), top, float(truth[top])


def measured(name: str, features: int, used: int, depth: int, budgets: list[int], replicates: int) -> pd.DataFrame:
    game, top, truth = tree_game(features, used, depth)
    rows = []
    for estimator in ESTIMATORS:
        for budget in budgets:
            recipe = getattr(methods, estimator)
            found = [pellucid.play(game, recipe(budget), seed=seed).values[0, top] for seed in range(replicates)]
            low, middle, high = np.percentile(found, [10, 50, 90])
            rows.append((name, estimator, budget, truth, low, middle, high, replicates))
            print(
                f"{name}: {estimator:<20} {budget:>6}: {middle:.4f} [{low:.4f}, {high:.4f}], exact {truth:.4f}",
                flush=True,
            )
    return pd.DataFrame(
        rows, columns=["tree", "estimator", "evaluations", "exact", "p10", "median", "p90", "replicates"]
    )


def draw(table: pd.DataFrame, path: Path) -> None:
    figure = Figure(figsize=(9, 4), layout="constrained")
    for ax, (tree, part) in zip(figure.subplots(1, 2), table.groupby("tree", sort=False), strict=True):
        for estimator, line in part.groupby("estimator", sort=False):
            ax.plot(line["evaluations"], line["median"], color=COLOURS[estimator], label=estimator, linewidth=1.4)
            ax.fill_between(
                line["evaluations"], line["p10"], line["p90"], color=COLOURS[estimator], alpha=0.18, linewidth=0
            )
        ax.axhline(part["exact"].iloc[0], color="black", linestyle="--", linewidth=0.8)
        ax.set_xscale("log")
        ax.set_xticks(budgets := sorted(part["evaluations"].unique()), [f"{budget:,}" for budget in budgets])
        ax.minorticks_off()
        ax.set_title(f"{tree}: median, 10th to 90th percentile", fontsize=9, loc="left")
        ax.set_xlabel("evaluations", fontsize=8)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=7)
    figure.axes[0].set_ylabel("value of the top feature", fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", pellucid.Unreliable)
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    replicates = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    result = pd.concat(
        [
            measured("dense, 10 of 10 features", 10, 10, 8, [24, 48, 96, 192, 384, 768], replicates),
            measured("sparse, 3 of 100 features", 100, 3, 6, [204, 408, 816, 1632, 3264], replicates),
        ]
    )
    folder.mkdir(parents=True, exist_ok=True)
    result.to_csv(folder / "shap-figure-3.csv", index=False, float_format="%.5g")
    draw(result, folder / "shap-figure-3.png")
