"""Methods for tables beside a random explanation, on held-out rows.

Run from the repository with the extra "demo" installed (and shap, for tree_shap):

    OMP_NUM_THREADS=1 python benchmarks/tables.py [--rows 40]

Each method explains a model that it is made for: lines, a forest and a maximum on breast cancer (ten columns, in
standard deviations), a regression on diabetes. They are judged with stand-ins that none of them uses, the five nearest
training rows: insertion and deletion, in units of the output, and the correlation of sums of values with drops of the
output (sensitivity-n). Printed is the mean gain over a random explanation of the same rows ± its standard error.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import pellucid
from pellucid import methods, metrics, players, removal

TRAIN = 300
BACKGROUND = 100
CONTROL = "random_attribution"
HEADS = ("insertion", "deletion", "sensitivity-n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=40)
    rows = parser.parse_args().rows
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", pellucid.Unreliable)
    print(f"{'model and method':56}" + "".join(f"{head:>18}" for head in HEADS) + f"{'seconds':>9}")
    cancer(rows)
    diabetes(rows)


def cancer(rows: int) -> None:
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    loaded = load_breast_cancer(as_frame=True)
    x = loaded.data[[name for name in loaded.data if name.startswith("worst")]]
    x, y = (x - x[:TRAIN].mean()) / x[:TRAIN].std(), loaded.target[:TRAIN]
    train, background, unseen = x[:TRAIN], x[:BACKGROUND], x[TRAIN : TRAIN + rows]
    line = LogisticRegression().fit(train, y)
    forest = RandomForestClassifier(100, max_depth=6, random_state=0).fit(train, y)
    linear = {
        "linear_shap": methods.linear_shap(background),
        "linear_shap_correlated": methods.linear_shap_correlated(background),
    }
    report("logistic regression", line.decision_function, unseen, linear, train)
    of_trees = {
        "unary_qii": methods.unary_qii(background),
        "qii": methods.qii(background, 200, 20),
        "low_order_shap": methods.low_order_shap(removal=removal.marginal(background)),
    }
    if importlib.util.find_spec("shap") is not None:
        of_trees |= {
            "tree_shap, interventional": methods.tree_shap(background),
            "tree_shap, path-dependent": methods.tree_shap(),
        }
    report("random forest", forest, unseen, of_trees, train, target=1)
    sets = {
        "size": ["worst radius", "worst perimeter", "worst area"],
        "outline": ["worst compactness", "worst concavity", "worst concave points"],
        "surface": ["worst texture", "worst smoothness"],
        "other": ["worst symmetry", "worst fractal dimension"],
    }
    report("random forest, four sets", forest, unseen, {"set_qii": methods.set_qii(background)}, train, 1, sets)
    highest = {"max_shap": methods.max_shap(background.mean().to_numpy())}
    report("the largest deviation", lambda z: np.asarray(z).max(1), unseen, highest, train)


def diabetes(rows: int) -> None:
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LinearRegression

    x, y = load_diabetes(return_X_y=True, as_frame=True)
    train, unseen = x[:TRAIN], x[TRAIN : TRAIN + rows]
    model = LinearRegression().fit(train, y[:TRAIN])
    found = {"shapley_regression_values": methods.shapley_regression_values(LinearRegression(), train, y[:TRAIN])}
    report("linear regression, diabetes", model, unseen, found, train)


def report(
    about: str,
    model: Any,
    unseen: Any,
    chosen: Mapping[str, pellucid.Method],
    train: Any,
    target: int | None = None,
    sets: dict[str, list[str]] | None = None,
) -> None:
    """A line for each method."""
    nearest = removal.nearest(train, 5)
    criteria = [metrics.insertion(nearest), metrics.deletion(nearest), metrics.sensitivity_n(removal=nearest)]
    grouped = None if sets is None else players.groups(sets)
    found, seconds = {}, {}
    for name, method in {**chosen, CONTROL: methods.random_attribution()}.items():
        start = time.perf_counter()
        found[name] = pellucid.explain(model, unseen, method, target=target, players=grouped)
        seconds[name] = time.perf_counter() - start
    scores = pellucid.evaluate(model, found, criteria)
    for name in chosen:
        line = f"{about + ': ' + name:56}"
        for metric in scores.metrics:
            cell, chance = scores.cell(name, metric), scores.cell(CONTROL, metric)
            gain = cell.better * (cell.values - chance.values)
            gain = gain[np.isfinite(gain)]
            line += f"{gain.mean():>+11.3f} ± {gain.std(ddof=1) / len(gain) ** 0.5:.3f}"
        print(line + f"{seconds[name]:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
