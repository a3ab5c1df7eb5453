"""Gradient methods beside captum: time, peak memory, and the time to import.

Run from the repository with the extra "dev" installed:

    OMP_NUM_THREADS=1 python benchmarks/gradients.py [--photos 4] [--repeats 3]

Both libraries run in one process, in turn, on EfficientNet-Lite0 with its ImageNet weights and real photos of
3 x 224 x 224, on one thread; a figure is peer / ours, as minimum - median - maximum over the repeats, so more than 1
means that ours needs less. Memory is the high-water mark of a fresh process above what it held before the call. The two
answers are compared each time, since a fast wrong one is worth nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

GOALS = {"default": 2.0, "tuned": 1.2, "memory": 10.0, "import": 0.15}
MEAN, STD = 0.498, 0.502
STEPS, MEMORY_STEPS = 50, 200
LAYER = "_conv_head"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["time", "memory", "import"])
    parser.add_argument("--measure", choices=["ours", "captum"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(peak_bytes(options.measure)))
        return
    if options.only in (None, "import"):
        import_times(max(5, options.repeats))
    if options.only in (None, "memory"):
        memory()
    if options.only in (None, "time"):
        times(options.photos, options.repeats)


def load(photos: int):
    """(wrapped model, captum's module, photos in [0, 1], their standardised twins, predicted classes)."""
    import torch

    from pellucid import data

    torch.set_num_threads(1)
    model, net = data.efficientnet(), data.efficientnet_module()
    x = data.photos(photos).x
    scaled = (x - MEAN) / STD
    with torch.no_grad():
        target = net(scaled).argmax(1)
    return model, net, x, scaled, target


def times(photos: int, repeats: int) -> None:
    from captum.attr import IntegratedGradients, LayerGradCam, Saliency

    import pellucid
    from pellucid import methods

    model, net, x, scaled, target = load(photos)
    classes = target.tolist()

    def ours(method):
        return lambda: pellucid.explain(model, x, method, target=classes).values

    def theirs(attribute, **options):
        return lambda: attribute(scaled, target=target, **options).detach().numpy()

    # Our baseline 0 is black; captum sees standardised pixels, so its baseline is what black becomes there.
    black = -MEAN / STD
    integrated = IntegratedGradients(net).attribute
    tuned = {
        f"captum, internal_batch_size={size}": theirs(
            integrated, baselines=black, n_steps=STEPS, internal_batch_size=size
        )
        for size in (4, 8, 16)
    }
    work = {
        "integrated gradients": {
            "ours": ours(methods.integrated_gradients(steps=STEPS)),
            "captum, default": theirs(integrated, baselines=black, n_steps=STEPS),
            **tuned,
        },
        "saliency": {"ours": ours(methods.saliency()), "captum": theirs(Saliency(net).attribute, abs=False)},
        "Grad-CAM": {
            "ours": ours(methods.grad_cam(layer=LAYER)),
            "captum": theirs(
                LayerGradCam(net, net.get_submodule(LAYER)).attribute, relu_attributions=True, attr_dim_summation=True
            ),
        },
    }
    print(f"\n{photos} photos, {STEPS} steps, {repeats} repeats; peer / ours: minimum - median - maximum")
    for title, calls in work.items():
        long = title.startswith("integrated")
        seconds, answers = interleaved(calls, repeats if long else 5 * repeats, warm=not long)
        fastest = min((name for name in calls if "internal" in name), key=lambda n: min(seconds[n]), default=None)
        for name in calls:
            if name == "ours":
                print(f"{title}: ours {statistics.median(seconds[name]):.3f} s")
                continue
            ratios = sorted(peer / mine for peer, mine in zip(seconds[name], seconds["ours"], strict=True))
            middle = statistics.median(ratios)
            kind = "default" if name == "captum, default" else "tuned" if name == fastest else None
            note = "" if kind is None else f"  goal {GOALS[kind]:.1f}: {'met' if middle >= GOALS[kind] else 'MISSED'}"
            best = " (the best)" if name == fastest else ""
            print(
                f"    {name}{best}: {ratios[0]:.2f} - {middle:.2f} - {ratios[-1]:.2f}{note}"
                f"  (largest difference {difference(title, answers['ours'], answers[name]):.0e} of the largest value)"
            )


def interleaved(calls: dict[str, Callable[[], object]], repeats: int, warm: bool):
    """Seconds of each call, in turn, and its last answer; with an untimed turn first to ``warm`` up short ones."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    answers = {}
    for turn in range(not warm, repeats + 1):
        for name, call in calls.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start = time.perf_counter()
                answers[name] = call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds, answers


def difference(title: str, ours, theirs) -> float:
    if title == "saliency":
        ours = ours * STD  # the slope per unit of a pixel, as the slope per unit of a standardised one
    theirs = theirs.reshape(ours.shape)
    return float(abs(ours - theirs).max() / abs(theirs).max())


def peak_bytes(which: str) -> int:
    """Run integrated gradients on one photo; the process's high-water mark above its level before, in bytes."""
    import pellucid
    from pellucid import methods

    model, net, x, scaled, target = load(1)
    if which == "ours":
        before = high_water()
        pellucid.explain(model, x, methods.integrated_gradients(steps=MEMORY_STEPS), target=target.tolist())
    else:
        from captum.attr import IntegratedGradients

        before = high_water()
        IntegratedGradients(net).attribute(scaled, baselines=-MEAN / STD, target=target, n_steps=MEMORY_STEPS)
    return high_water() - before


def high_water() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def memory() -> None:
    here = [sys.executable, "-W", "ignore", __file__, "--measure"]
    peak = {
        which: json.loads(subprocess.run([*here, which], check=True, capture_output=True, text=True).stdout)
        for which in ("ours", "captum")
    }
    ratio = peak["captum"] / peak["ours"]
    print(
        f"\npeak memory, integrated gradients, 1 photo, {MEMORY_STEPS} steps: ours {peak['ours'] / 2**20:.0f} MB, "
        f"captum default {peak['captum'] / 2**20:.0f} MB: {ratio:.0f} times less  "
        f"goal {GOALS['memory']:.0f}: {'met' if ratio >= GOALS['memory'] else 'MISSED'}"
    )


def import_times(repeats: int) -> None:
    names = ("pellucid", "captum", "shap")
    seconds: dict[str, list[float]] = {name: [] for name in ("pass", *names)}
    for _ in range(repeats):
        for name, taken in seconds.items():
            statement = name if name == "pass" else f"import {name}"
            start = time.perf_counter()
            subprocess.run([sys.executable, "-W", "ignore", "-c", statement], check=True)
            taken.append(time.perf_counter() - start)
    bare = statistics.median(seconds["pass"])
    own = {name: statistics.median(seconds[name]) - bare for name in names}
    met = "met" if own["pellucid"] < GOALS["import"] else "MISSED"
    print(f"import pellucid: {own['pellucid']:.3f} s  goal < {GOALS['import']} s: {met}")
    print("".join(f"    {name}: {own[name]:.2f} s\n" for name in names[1:]), end="")


if __name__ == "__main__":
    main()
