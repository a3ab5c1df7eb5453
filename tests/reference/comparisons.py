"""Comparisons made by hand, so that the report tells what no model had to compute, and pages as machines read them."""

import html.parser
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import nn

import pellucid
from pellucid import methods
from pellucid.core.comparison import Comparison
from pellucid.core.scores import Cell, Scores
from pellucid.core.verdict import Check, Disagreement, Verdict
from pellucid.reporting import html as reports
from pellucid.reporting import (
    page,
    ranking,
)

EVIL = "<script>alert(1)</script>"
FRACTIONS = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0])


# ---------------------------------------------------------------- fixtures


def photos(rows, size=48):
    """Real photos of scikit-image, (rows, 3, size, size) in [0, 1]."""
    from skimage import data

    sources = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    cut = []
    for i in range(rows):
        image = Image.fromarray(sources[i % 4])
        side, shift = min(image.size), 20 * (i // 4)
        left = (image.width - side) // 2 + shift
        cut.append(np.asarray(image.crop((left, 0, left + side, side)).resize((size, size))) / 255)
    return torch.tensor(np.stack(cut)).permute(0, 3, 1, 2).float()


def small_net(channels, classes=7):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, 2), nn.Softplus(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, classes)
    ).eval()


def layer_map(like, size=6):
    """A map at the size of a layer, as Grad-CAM gives."""
    rng = np.random.default_rng(0)
    values = np.clip(rng.normal(size=(len(like), size, size)), 0, None).astype(np.float32)
    details = {**like.details, "promise": None, "ranking": "signed", "reduction": "sum"}
    return replace(
        like,
        values=values,
        dims=("layer_height", "layer_width"),
        method={"name": "grad_cam", "fields": {"layer": "0", "relu": True}},
        residual=None,
        base_values=None,
        details=details,
    )


def cell(method, metric, family, better, rng, rows, **options):
    """A cell filled by hand; ``better`` is how far the method stands above chance."""
    sign = 1 if family == "insertion" else -1
    ends = FRACTIONS if sign > 0 else 1 - FRACTIONS
    curve = 5 * ends + sign * (better + rng.normal(0, 0.4, (rows, 1))) * np.sin(np.pi * FRACTIONS)
    values = curve.mean(1)
    low, high = (np.nan, np.nan) if rows < 2 else values.mean() + np.array([-2, 2]) * values.std(ddof=1) / rows**0.5
    return Cell(
        method,
        metric,
        family,
        "higher" if sign > 0 else "lower",
        values,
        float(values.mean()),
        float(low),
        float(high),
        fractions=FRACTIONS,
        curve=curve,
        points=40 * values,
        **options,
    )


def scores_by_hand(labels, rows, control="random_attribution"):
    rng = np.random.default_rng(1)
    cells = []
    for place, label in enumerate(labels):
        is_control = label == control
        strength = 0.0 if is_control else 2.0 - 0.5 * place
        for family in ("insertion", "deletion"):
            for reference in ("uniform", "0"):
                for granularity in ("7 x 7 patches", "features"):
                    cells.append(
                        cell(
                            label,
                            f"{family}, {reference} reference, {granularity}",
                            family,
                            strength,
                            rng,
                            rows,
                            reference=reference,
                            granularity=granularity,
                            matched=label == "integrated_gradients" and reference == "0",
                            control=is_control,
                        )
                    )
        nothing = np.full(rows, np.nan)
        status = {"integrated_gradients": "measured", "rule": "exact by construction"}.get(label, "promises nothing")
        mean = 0.02 if status == "measured" else np.nan
        cells.append(
            Cell(
                label,
                "completeness",
                "completeness",
                "lower",
                nothing if status != "measured" else np.full(rows, 0.02),
                mean,
                mean,
                mean,
                status=status,
                control=is_control,
            )
        )
    return Scores(
        tuple(cells),
        0,
        {"forwards": 12000, "seconds": 34.5, "peak_bytes": 3.2e8},
        {"pellucid": "0.1.0", "torch": "2.13.0"},
    )


def differences_by_hand(scores, rows):
    return tuple(
        {
            "method": c.method,
            "metric": c.metric,
            "better_by": c.better * (c.mean - ranking.control_cell(scores, c.metric).mean),
            "low": c.better * (c.mean - ranking.control_cell(scores, c.metric).mean) - 0.2,
            "high": c.better * (c.mean - ranking.control_cell(scores, c.metric).mean) + 0.2,
            "p_wilcoxon": 0.0001 if rows >= 12 else None,
            "p_wilcoxon_holm": 0.0009 if rows >= 12 else None,
        }
        for c in scores.cells
        if c.measured and not c.control and c.family != "completeness"
    )


def verdicts_by_hand(labels, control="random_attribution"):
    nan = float("nan")
    decided = []
    for place, label in enumerate(labels):
        good = place < 2
        checks = (
            Check(
                "beats random order",
                1.9 if good else 0.1,
                1.5 if good else -0.2,
                2.3 if good else 0.4,
                0.0,
                good or None,
                "by hand",
            ),
            Check(
                "depends on the weights",
                0.2 if good else 0.93,
                0.1 if good else 0.9,
                0.3 if good else 0.95,
                0.7,
                good,
                f"{label} {EVIL}",
            ),
            Check("survives a change of reference", 0.9, 0.9, 0.9, 0.8, True, "place 1 of 4, then 1"),
            Check("finds a planted tag", nan, nan, nan, 0.5, None, "could not run on the tagged digits", applies=False),
        )
        word = "control" if label == control else "trust" if good else "unclear" if place == 2 else "do not trust"
        decided.append(Verdict(label, word, checks, checks[1].reason))
    return tuple(decided)


def judged(explanations, rows, **options):
    """A whole comparison around real explanations, its judgement filled by hand."""
    labels = tuple(explanations)
    size = len(labels)
    rng = np.random.default_rng(2)
    correlation = np.eye(size)
    correlation[np.triu_indices(size, 1)] = np.linspace(0.71, -0.3, size * (size - 1) // 2)
    correlation = (
        np.maximum(correlation, correlation.T) if size < 2 else np.triu(correlation) + np.triu(correlation, 1).T
    )
    scores = scores_by_hand(labels, rows)
    probabilities = rng.dirichlet(np.full(7, 0.3), rows)
    return Comparison(
        explanations,
        scores,
        differences_by_hand(scores, rows),
        Disagreement(labels, correlation, np.abs(correlation), 0.1),
        verdicts_by_hand(labels),
        **{
            "probabilities": probabilities,
            "truth": tuple(int(k) for k in rng.integers(0, 7, rows)),
            "warnings": (f"integrated_gradients: values miss their sum {EVIL}",),
            "refused": {"kernel_shap": f"needs predictions {EVIL}; feature_ablation() would work"},
            "about": {
                "title": "Photos",
                "model": "a small net",
                "data": f"{rows} photos",
                "command": "pellucid demo --seed 0",
            },
        }
        | options,
    )


@cache
def photo_comparison(rows=4):
    x = photos(rows)
    model = pellucid.wrap(small_net(3), labels=["espresso", "cat", EVIL, "rocket", "suit", "cup", "dog"])
    chosen = {
        "integrated_gradients": methods.integrated_gradients(steps=8),
        "input_x_gradient": methods.input_x_gradient(),
        "smooth_grad": methods.smooth_grad(samples=3),
        "saliency": methods.saliency(),
    }
    found = {name: pellucid.explain(model, x, method) for name, method in chosen.items()}
    found["grad_cam"] = layer_map(found["saliency"])
    found["random_attribution"] = pellucid.explain(model, x, methods.random_attribution())
    return judged(found, rows, names=tuple(f"photo {EVIL} {i}.jpg" for i in range(rows)))


@cache
def digit_comparison(rows=12):
    from sklearn.datasets import load_digits

    x = torch.tensor(load_digits().images[:rows] / 16).float().unsqueeze(1)
    x = nn.functional.interpolate(x, size=28, mode="nearest")
    net = small_net(1)
    found = {
        name: pellucid.explain(net, x, name) for name in ("integrated_gradients", "saliency", "random_attribution")
    }
    return judged(found, rows, about={"title": "Digits"})


@cache
def table_comparison(rows=5):
    from sklearn.datasets import load_diabetes

    x, names = load_diabetes(return_X_y=False).data[:rows], load_diabetes().feature_names
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1)).double().eval()
    found = {
        "integrated_gradients": pellucid.explain(net, x, methods.integrated_gradients(steps=8)),
        "smooth_grad": pellucid.explain(net, x, methods.smooth_grad(samples=8)),
        "random_attribution": pellucid.explain(net, x, methods.random_attribution()),
    }
    found = {label: replace(e, feature_names=tuple(names)) for label, e in found.items()}
    return judged(found, rows, probabilities=None, truth=None, about={"title": "Table"})


class Reader(html.parser.HTMLParser):
    """Collects elements, and fails where tags do not close in order."""

    VOID = frozenset({"meta", "img", "br", "input", "link", "hr"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"an attribute of <{tag}> comes twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.words).split())


@cache
def whole_page():
    return page.page([photo_comparison(), digit_comparison(), table_comparison()])


@cache
def whole():
    return Reader(whole_page())


CASES = {
    "photos": lambda: [photo_comparison()],
    "one row": lambda: [photo_comparison(1)],
    "three chapters": lambda: [photo_comparison(), digit_comparison(), table_comparison()],
    "explanations only": lambda: reports.loose(list(photo_comparison().explanations.values())),
    "one explanation": lambda: reports.loose(photo_comparison().explanations["saliency"]),
    "scores only": lambda: reports.loose((), photo_comparison().scores),
    "nothing finite": lambda: [broken()],
}


def broken():
    """Maps of zeros and NaN, cells and checks without figures, no verdict that trusts."""
    c = photo_comparison()
    zero = {label: replace(e, values=np.zeros_like(e.values)) for label, e in c.explanations.items()}
    zero["saliency"] = replace(zero["saliency"], values=np.full_like(zero["saliency"].values, np.nan))
    nan = float("nan")
    cells = tuple(
        replace(x, values=x.values * nan, mean=nan, low=nan, high=nan, curve=None if x.curve is None else x.curve * nan)
        for x in c.scores.cells
    )
    size = len(zero)
    return replace(
        c,
        explanations=zero,
        scores=replace(c.scores, cells=cells),
        test_rows=(),
        agreement=Disagreement(tuple(zero), np.full((size, size), nan), np.full((size, size), nan), 0.1),
        decided=tuple(Verdict(label, "do not trust", (), "nothing could be measured") for label in zero),
    )
