"""Coalition methods beside captum, shap, shapiq and lime: speed, memory and error, interleaved in one process.

Prints peer time divided by ours (above 1: ours is faster) as minimum, median and maximum over repeats, and, for Shapley
values, the peer's mean squared error divided by ours at equal numbers of coalitions. A peer that is not installed is
left out.

    python benchmarks/games.py            # all of it, about ten minutes
    python benchmarks/games.py tabular    # parts: tabular, digits, rise, error, larger
"""

from __future__ import annotations

import importlib.util
import math
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import pellucid
from pellucid import games, methods, removal

REPEATS = 5


def ratios(
    title: str, peer: Callable[[], object], ours: Callable[[], object], goal: float, repeats: int = REPEATS
) -> None:
    """Peer's seconds divided by ours, in turn."""
    peer(), ours()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        peer()
        middle = time.perf_counter()
        ours()
        found.append((middle - start) / (time.perf_counter() - middle))
    print(
        f"{title:<62} {min(found):8.2f} {statistics.median(found):8.2f} {max(found):8.2f}   goal {goal:g}", flush=True
    )


def have(package: str) -> bool:
    there = importlib.util.find_spec(package) is not None
    if not there:
        print(f"({package} is not installed: left out)")
    return there


def mlp() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(30, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 2),
    ]
    return torch.nn.Sequential(*layers).eval()


def tabular() -> None:
    """A small net on 30 columns: what counts is the overhead around it.

    Captum and lime are asked row by row, and captum once more with all rows in one call, which it takes too; here all
    rows of a table share one call.
    """
    net, x = mlp(), torch.randn(200, 30, generator=torch.Generator().manual_seed(1))
    background = torch.randn(50, 30, generator=torch.Generator().manual_seed(2))
    if have("captum"):
        from captum.attr import FeatureAblation, ShapleyValueSampling

        ablation, sampling = FeatureAblation(net), ShapleyValueSampling(net)
        budget = 25 * 29 + 2
        how = {"default": {}, "tuned": {"perturbations_per_eval": 32}}
        for count in (1, 50, 200):
            for (name, options), goal in zip(how.items(), (100, 30), strict=True):
                rows = x[:count]
                ratios(
                    f"ablation, MLP, {count} rows: captum {name}, a row at a time",
                    lambda rows=rows, options=options: [
                        ablation.attribute(row[None], target=0, **options) for row in rows
                    ],
                    lambda rows=rows: pellucid.explain(net, rows, methods.feature_ablation(), target=0),
                    goal,
                )
        for count in (1, 10, 50):
            for (name, options), goal in zip(how.items(), (100, 30), strict=True):
                rows = x[:count]
                ratios(
                    f"Shapley sampling, MLP, 25 orders, {count} rows: captum {name}",
                    lambda rows=rows, options=options: [
                        sampling.attribute(row[None], target=0, n_samples=25, **options) for row in rows
                    ],
                    lambda rows=rows: pellucid.explain(net, rows, methods.shapley_sampling(budget), target=0),
                    goal,
                )
        calls = (
            ("ablation", ablation, {}, methods.feature_ablation()),
            ("Shapley sampling, 25 orders", sampling, {"n_samples": 25}, methods.shapley_sampling(budget)),
        )
        for title, peer, fixed, method in calls:
            for name, options in how.items():
                ratios(
                    f"{title}, MLP, 200 rows: captum {name}, all rows in one call",
                    lambda peer=peer, options=fixed | options: peer.attribute(x, target=0, **options),
                    lambda method=method: pellucid.explain(net, x, method, target=0),
                    1,
                )
    if have("shap"):
        import shap

        def predict(rows: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return net(torch.from_numpy(rows).float()).numpy()[:, 0]

        kernel = shap.KernelExplainer(predict, background.numpy())
        few = x[:5]
        ratios(
            "kernel SHAP, MLP, 2,048 coalitions x 50 stand-ins: shap",
            lambda: kernel.shap_values(few.numpy(), nsamples=2048, l1_reg=False, silent=True),
            lambda: pellucid.explain(
                net, few, methods.kernel_shap(2048, removal=removal.marginal(background)), target=0
            ),
            2,
        )
    if have("lime") and hasattr(methods, "lime_tabular"):
        from lime.lime_tabular import LimeTabularExplainer

        train = torch.randn(500, 30, generator=torch.Generator().manual_seed(3))

        def probabilities(rows: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return net(torch.from_numpy(rows).float()).softmax(1).numpy()

        explainer = LimeTabularExplainer(train.numpy(), mode="classification", random_state=0)
        method, read = methods.lime_tabular(train), pellucid.Target(0, "prob")
        for count in (1, 5, 20):
            rows = x[:count]
            ratios(
                f"LIME, MLP, 5,000 samples a row, {count} rows: lime",
                lambda rows=rows: [
                    explainer.explain_instance(row.numpy(), probabilities, labels=(0,), num_samples=5000)
                    for row in rows
                ],
                lambda rows=rows: pellucid.explain(net, rows, method, target=read),
                10,
            )


def digits() -> None:
    """A convolutional net on 28 x 28 digits, a player for every pixel."""
    from pellucid import data

    if not have("captum"):
        return
    from captum.attr import FeatureAblation

    net, x = data.digits_cnn(), data.digits("test", count=8).x
    ablation = FeatureAblation(net)

    def ours() -> object:
        return pellucid.explain(net, x, methods.feature_ablation(), target=0)

    ratios(
        "ablation, digits CNN, 784 pixels, 8 digits: captum default", lambda: ablation.attribute(x, target=0), ours, 2.7
    )
    tuned = [(_seconds(lambda p=p: ablation.attribute(x, target=0, perturbations_per_eval=p)), p) for p in (8, 32, 128)]
    best = min(tuned)[1]
    ratios(
        f"the same: captum tuned, perturbations_per_eval={best}",
        lambda: ablation.attribute(x, target=0, perturbations_per_eval=best),
        ours,
        1.15,
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def published_rise(net: torch.nn.Module, x: torch.Tensor, masks: int) -> torch.Tensor:
    """RISE as published: all masks are made and held, the model runs 100 at a time, the map is one product."""
    cells, keep, size = 7, 0.5, x.shape[-1]
    cell = math.ceil(size / cells)
    generator = np.random.default_rng(0)
    grid = torch.from_numpy((generator.random((masks, 1, cells, cells)) < keep).astype(np.float32))
    held = torch.empty(masks, 1, size, size)
    for i in range(masks):
        large = torch.nn.functional.interpolate(grid[i : i + 1], size=(cells + 1) * cell, mode="bilinear")
        down, across = generator.integers(0, cell, 2)
        held[i] = large[0, :, down : down + size, across : across + size]
    with torch.no_grad():
        stack = held * x
        scores = torch.cat([net(part).softmax(1) for part in stack.split(100)])
    return (scores.T @ held.reshape(masks, -1)) / masks / keep


def rise() -> None:
    """EfficientNet-Lite0 on a photo: time in one process, memory each in a process of its own."""
    if not hasattr(methods, "rise"):
        return
    masks = 4000
    peaks = {}
    seconds = {}
    here = str(Path(__file__).parent)
    for who in ("published", "pellucid"):
        code = f"import sys; sys.path.insert(0, {here!r}); import games; games.rise_alone({who!r}, {masks})"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        seconds[who], peaks[who] = float(found[-2]), float(found[-1])
    faster, leaner = (kept["published"] / kept["pellucid"] for kept in (seconds, peaks))
    print(f"{'RISE, 4,000 masks, EfficientNet 224 x 224: seconds':<62} {'':8} {faster:8.2f} {'':8}   goal 1.5")
    print(f"{'the same: extra peak memory':<62} {'':8} {leaner:8.2f} {'':8}   goal 8")


def rise_alone(who: str, masks: int) -> None:
    """One run in a fresh process: prints seconds and extra peak bytes."""
    from pellucid import data

    torch.set_num_threads(1)
    model, x = data.efficientnet(), data.photos(count=1).x
    net = data.efficientnet_module()
    scaled = (x - 0.498) / 0.502
    with torch.no_grad():
        net(scaled)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    if who == "published":
        published_rise(net, scaled, masks)
    else:
        pellucid.explain(model, x, methods.rise(masks), target=pellucid.Target(243, "prob"))
    spent = time.perf_counter() - start
    print(spent, max(1.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before))


def table_games() -> list[tuple[str, int, np.ndarray]]:
    """Eight games with all 2^n values: six models on real tables, two procedural."""
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
    from sklearn.neural_network import MLPClassifier

    def scaled(table: np.ndarray) -> np.ndarray:
        return (table - table.mean(0)) / table.std(0)

    def values(predict: Callable[[np.ndarray], np.ndarray], row: np.ndarray, background: np.ndarray) -> np.ndarray:
        present = everybody(len(row))
        return np.mean([predict(np.where(present, row, b)) for b in background], axis=0)

    cancer, wine, diabetes = load_breast_cancer(), load_wine(), load_diabetes()
    c12, c14, w = scaled(cancer.data[:, :12]), scaled(cancer.data[:, :14]), scaled(wine.data)
    d = scaled(np.c_[diabetes.data, diabetes.data[:, :2] * diabetes.data[:, 2:4]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forest = RandomForestClassifier(50, random_state=0, max_depth=6).fit(c12, cancer.target)
        net = MLPClassifier((32, 32), random_state=0, max_iter=400).fit(c14, cancer.target)
        boosted = GradientBoostingClassifier(random_state=0).fit(c14, cancer.target)
        wines = RandomForestClassifier(50, random_state=0).fit(w, wine.target)
        wine_net = MLPClassifier((32,), random_state=0, max_iter=500).fit(w, wine.target)
        progress = RandomForestRegressor(50, random_state=0).fit(d, diabetes.target)
    generator = np.random.default_rng(0)
    mixing, reading = generator.normal(size=(12, 16)), generator.normal(size=16)
    unanimity = np.zeros(2**13)
    for _ in range(40):
        members = generator.choice(13, generator.integers(1, 5), replace=False)
        unanimity += generator.normal() * everybody(13)[:, members].all(1)
    return [
        ("forest, cancer", 12, values(lambda z: forest.predict_proba(z)[:, 1], c12[3], c12[::100])),
        ("net, cancer", 14, values(lambda z: net.predict_proba(z)[:, 1], c14[5], c14[::120])),
        ("boosted trees, cancer", 14, values(boosted.decision_function, c14[7], c14[::120])),
        ("forest, wine", 13, values(lambda z: wines.predict_proba(z)[:, 0], w[3], w[::40])),
        ("net, wine", 13, values(lambda z: wine_net.predict_proba(z)[:, 1], w[80], w[::40])),
        ("forest, diabetes", 12, values(progress.predict, d[1], d[::90])),
        ("tanh net", 12, np.tanh(everybody(12) @ mixing * 0.6) @ reading),
        ("40 unanimity games", 13, unanimity),
    ]


def everybody(n: int) -> np.ndarray:
    return (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 1


def error() -> None:
    """Mean squared error over players and seeds, relative to the mean squared value; geometric mean over eight
    games."""
    boards = table_games()
    ours = ["regression_shapley", "kernel_shap", "permutation_shapley"]
    peers = [name for name, package in (("shap kernel", "shap"), ("shapiq kADD 2", "shapiq")) if have(package)]
    print(
        f"{'budget':>7}"
        + "".join(f"{name:>22}" for name in [*ours, *peers])
        + "   ratios of peers to regression_shapley"
    )
    for budget in (128, 256, 512, 1024, 2048):
        row = {name: [] for name in [*ours, *peers]}
        for _, n, worth in boards:
            code = 2 ** np.arange(n)

            def looked_up(s: np.ndarray, worth=worth, code=code) -> np.ndarray:
                return worth[np.round(s).astype(np.int64) @ code]

            def value(s: torch.Tensor, looked_up=looked_up) -> np.ndarray:
                return looked_up(s.numpy())

            truth = pellucid.play(games.FunctionGame(n, value), methods.exact_shapley()).values[0]
            seeds = range(10)
            for name in ours:
                found = [
                    pellucid.play(games.FunctionGame(n, value), getattr(methods, name)(budget), seed=seed).values[0]
                    for seed in seeds
                ]
                row[name].append(_relative(found, truth))
            if "shap kernel" in peers:
                row["shap kernel"].append(_relative([_shap(looked_up, n, budget, seed) for seed in seeds], truth))
            if "shapiq kADD 2" in peers:
                row["shapiq kADD 2"].append(_relative([_kadd(looked_up, n, budget, seed) for seed in seeds], truth))
        means = {name: math.exp(np.mean(np.log(np.maximum(values, 1e-30)))) for name, values in row.items()}
        against = ", ".join(f"{name} {means[name] / means['regression_shapley']:.2f}" for name in peers)
        print(
            f"{budget:>7}" + "".join(f"{means[name]:>22.2e}" for name in [*ours, *peers]) + f"   {against}", flush=True
        )


def larger() -> None:
    """16, 20 and 30 players: too many to enumerate for peers, with Shapley values known in closed form."""
    names = [name for name in ("regression_shapley", "kernel_shap", "permutation_shapley") if hasattr(methods, name)]
    peers = [name for package, name in (("shap", "shap kernel"), ("shapiq", "shapiq kADD 2")) if have(package)]
    print(f"{'n':>3} {'budget':>7}" + "".join(f"{name:>22}" for name in [*names, *peers]) + "   ratios of peers")
    for n in (16, 20, 30):
        boards = [
            games.known.unanimity(n, seed=0),
            games.known.airport([1.0 + (i % 7) for i in range(n)]),
            games.known.glove(n // 2 - 1, n - n // 2 + 1),
            games.known.voting([1 + i % 5 for i in range(n)], quota=sum(1 + i % 5 for i in range(n)) // 2 + 1),
        ]
        for budget in (n + 2, 128, 512, 2048):
            row: dict[str, list[float]] = {name: [] for name in [*names, *peers]}
            for board in boards:
                truth = np.asarray(board.values, dtype=np.float64)

                def value(s: np.ndarray, game=board.game) -> np.ndarray:
                    return game(torch.from_numpy(np.round(s)).double()[None])[0, :, 0].numpy()

                for name in names:
                    method = getattr(methods, name)(budget)
                    found = [pellucid.play(board.game, method, seed=seed).values[0] for seed in range(5)]
                    row[name].append(_relative(found, truth))
                if budget < 2 * n:  # the peers do not run with so few
                    continue
                if "shap kernel" in peers:
                    row["shap kernel"].append(_relative([_shap(value, n, budget, seed) for seed in range(5)], truth))
                if "shapiq kADD 2" in peers:
                    row["shapiq kADD 2"].append(_relative([_kadd(value, n, budget, seed) for seed in range(5)], truth))
            means = {k: math.exp(np.mean(np.log(np.maximum(v, 1e-30)))) if v else math.nan for k, v in row.items()}
            against = ", ".join(f"{name} {means[name] / means['regression_shapley']:.2f}" for name in peers)
            worst = max(row["regression_shapley"])
            print(
                f"{n:>3} {budget:>7}"
                + "".join(f"{means[name]:>22.2e}" for name in [*names, *peers])
                + f"   {against}; worst of ours {worst:.2f}",
                flush=True,
            )


def _relative(found: list[np.ndarray], truth: np.ndarray) -> float:
    return float(np.mean((np.stack(found) - truth) ** 2) / np.mean(truth**2))


def _shap(value: Callable[[np.ndarray], np.ndarray], n: int, budget: int, seed: int) -> np.ndarray:
    import shap

    np.random.seed(seed)  # noqa: NPY002 - what shap draws from
    kernel = shap.KernelExplainer(value, np.zeros((1, n)))
    return kernel.shap_values(np.ones((1, n)), nsamples=budget - 2, l1_reg=False, silent=True)[0]


def _kadd(value: Callable[[np.ndarray], np.ndarray], n: int, budget: int, seed: int) -> np.ndarray:
    from shapiq.approximator import kADDSHAP

    found = kADDSHAP(n, max_order=2, random_state=seed).approximate(budget, lambda s: value(s.astype(np.float64)))
    return np.array([found[(i,)] for i in range(n)])


PARTS = {"tabular": tabular, "digits": digits, "rise": rise, "error": error, "larger": larger}

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for part in sys.argv[1:] or PARTS:
        print(f"-- {part}: peer / pellucid, minimum, median, maximum")
        PARTS[part]()
