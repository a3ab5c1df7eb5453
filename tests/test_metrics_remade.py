"""Metrics that run a method again (sensitivity, random weights), precision against marks, and ranks by reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom
from torch import nn

import pellucid
from pellucid import BadInput, Run, judging, methods, metrics, players
from pellucid.core import rng
from pellucid.core.method import Method
from pellucid.metrics.sensitivity import Sensitivity
from pellucid.metrics.statistics import rank_correlation


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).float()


def net(size=6, outputs=3):
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4 * size * size, 8),
        nn.Linear(8, outputs),
    )
    return nn.Sequential(*layers).eval()


@dataclass(frozen=True)
class Itself(Method):
    """The input as its own explanation: asks no model."""

    name: str = "itself"

    def attribute(self, question):
        return question.z.unsqueeze(-1)


@dataclass(frozen=True)
class Same(Method):
    """The same map for every input."""

    name: str = "same"

    def attribute(self, question):
        return (
            torch.arange(question.z[0].numel()).reshape(1, *question.z.shape[1:], 1).expand(*question.z.shape, 1) * 1.0
        )


@dataclass(frozen=True)
class Noise(Method):
    """A fresh random map for each seed and row."""

    name: str = "noise"
    control: ClassVar[bool] = False

    def attribute(self, question):
        numbers = rng.uniform(question.seed, "noise", 0, question.first_row, len(question.z), question.z[0].numel())
        return numbers.reshape(question.z.shape).float().unsqueeze(-1)


@pytest.fixture(autouse=True)
def no_digits(monkeypatch):
    def missing():
        raise ImportError("the digits are not installed")

    judging._tag_precision.cache_clear()
    monkeypatch.setattr(judging, "_tagged", missing)
    monkeypatch.setattr(judging, "robust_anchors", lambda evidence: dict.fromkeys(evidence.explanations, SILENT))


SILENT = judging.Check.silent("robust anchors", 0.0, "left out to save time")


def scored(asked, which, model=None, x=None, **options):
    model, x = net() if model is None else model, rows(4, 1, 6, 6) if x is None else x
    found = pellucid.compare(model, x, which, [asked], **options).scores
    return {cell.method: cell for cell in found.cells}


# ---------------------------------------------------------------- sensitivity


@pytest.mark.parametrize("norm", [2, math.inf])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_sensitivity_is_the_worst_loss_among_the_neighbours(norm, bounds):
    x, asked = rows(3, 1, 6, 6), metrics.sensitivity(0.2, 5, norm)
    model = pellucid.wrap(net(), bounds=bounds)
    found = scored(asked, [Itself()], model, x)["itself"]
    question = pellucid.api.ask(model, x, None, None, None, 0, Run())
    near = torch.stack([asked.neighbour(question, 0, draw, 0.2) for draw in range(5)]).flatten(2)
    size = torch.linalg.vector_norm(near - x.flatten(1), norm, dim=2)
    assert (size <= 0.2 + 1e-6).all()
    assert size.max() > 0.1
    assert len(torch.unique(near[:, 0, 0])) > 1
    if bounds is not None:
        assert near.min() >= 0
        assert near.max() <= 1
    top = [set(row.argsort(descending=True)[:7].tolist()) for row in x.flatten(1)]
    worst = []
    for row in range(3):
        there = [set(y[row].argsort(descending=True)[:7].tolist()) for y in near]
        worst.append(max(1 - len(top[row] & other) / 7 for other in there))
    np.testing.assert_allclose(found.values, worst)
    assert max(worst) > 0
    assert (found.floor == 0).all()


def test_what_never_changes_has_no_sensitivity_and_no_floor():
    found = scored(metrics.sensitivity(neighbours=3), [Same(), "saliency"])
    assert (found["same"].values == 0).all()
    assert (found["same"].floor == 0).all()
    assert (found["saliency"].floor == 0).all()


def test_random_draws_are_the_floor():
    """The smallest of 20 hypergeometric overlaps; .851 on a digit, where the published random row has .85."""

    def expected(n):
        top = round(0.2 * n)
        return 1 - (hypergeom(n, top, top).sf(np.arange(top)) ** 20).sum() / top

    assert expected(784) == pytest.approx(0.851, abs=2e-3)
    found = scored(metrics.sensitivity(), [Noise(), Itself()], x=rows(60, 1, 10, 10), model=net(10))
    noise = found["noise"]
    np.testing.assert_array_equal(noise.values, noise.floor)
    assert noise.mean == pytest.approx(expected(100), abs=0.015)
    assert found["itself"].mean < noise.mean
    assert found["random_attribution"].control


def test_no_radius_leaves_the_floor():
    found = scored(metrics.sensitivity(radius=0.0, neighbours=4), [Itself(), Noise()])
    assert (found["itself"].values == 0).all()
    assert (found["noise"].values > 0).all()


def test_the_class_is_held_fixed_among_neighbours():
    seen = []

    @dataclass(frozen=True)
    class Asked(Method):
        name: str = "asked"

        def attribute(self, question):
            seen.append(question.target.index)
            return question.z.unsqueeze(-1)

    scored(metrics.sensitivity(50.0, 3), [Asked()], target=[0, 1, 2, 0])
    assert set(seen[:4]) == {(0, 1, 2, 0)}
    assert len(seen) >= 5


def test_blocks_of_rows_give_the_same():
    asked = metrics.sensitivity(0.2, 3)
    which = {"slopes": "saliency", "base": methods.integrated_gradients(4, baseline=rows(4, 1, 6, 6, seed=9))}
    whole, parts = (scored(asked, which, run=Run(batch_size=size)) for size in (8, 1))
    for label in which:
        np.testing.assert_allclose(whole[label].values, parts[label].values)


# ---------------------------------------------------------------- random weights


def test_the_last_layer_is_the_correlation_with_its_draw():
    model, x = net(), rows(4, 1, 6, 6)
    found = scored(metrics.parameter_randomisation(), ["input_x_gradient", Itself()], model, x)
    assert found["itself"].mean == pytest.approx(1.0)
    number = int(rng.integers(0, "metrics.randomisation", 0, 0, 1, 1, 2**31))
    other = pellucid.wrap(model).randomised(number)
    own = model(x).argmax(1).tolist()
    before, after = (
        pellucid.explain(m, x, "input_x_gradient", target=own).map().reshape(4, -1) for m in (model, other)
    )
    np.testing.assert_allclose(found["input_x_gradient"].values, rank_correlation(before, after), atol=1e-6)
    assert found["input_x_gradient"].mean < 0.9


def test_layers_are_drawn_from_the_last_to_the_first_and_stay_drawn():
    wrapped = pellucid.wrap(net())
    names = wrapped.weighted()
    assert names == ("0", "3", "4")
    weights = lambda m: {n: m.submodule(n).weight for n in names}  # noqa: E731
    stages = metrics.parameter_randomisation("cascading").layers(names[::-1])
    assert stages == [("4",), ("4", "3"), ("4", "3", "0")]
    plain, *drawn = weights(wrapped), *(weights(wrapped.randomised(7, stage)) for stage in stages)
    for stage, found in zip(stages, drawn, strict=True):
        for name in names:
            assert torch.equal(found[name], plain[name]) == (name not in stage)
            assert torch.equal(found[name], drawn[-1][name]) == (name in stage)
    alone = metrics.parameter_randomisation("independent").layers(names[::-1])
    assert alone == [("4",), ("3",), ("0",)]
    deep = tuple(str(i) for i in range(40))
    few = metrics.parameter_randomisation("independent", stages=5).layers(deep)
    assert [layers[0] for layers in few] == ["0", "10", "19", "29", "39"]
    with pytest.raises(BadInput, match="'1' cannot draw its weights afresh; have '0', '3', '4'"):
        wrapped.randomised(0, ["1"])


@pytest.mark.parametrize("kind", ["cascading", "independent"])
def test_stages_make_a_curve_over_depth(kind):
    asked = metrics.parameter_randomisation(kind)
    found = scored(asked, ["input_x_gradient", Itself()])
    curve = found["input_x_gradient"].curve
    assert curve.shape == (4, 3)
    np.testing.assert_allclose(found["input_x_gradient"].fractions, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(found["input_x_gradient"].values, curve.mean(1))
    last = scored(metrics.parameter_randomisation(), ["input_x_gradient"])["input_x_gradient"]
    np.testing.assert_allclose(curve[:, 0], last.values)
    np.testing.assert_allclose(found["itself"].curve, 1.0)


def test_a_model_without_weights_is_no_crash():
    w = rows(36)
    found = scored(metrics.parameter_randomisation(), ["saliency"], lambda x: x.flatten(1) @ w)
    assert (
        found["saliency"].status == "function has no weights to randomise" or "no weights" in found["saliency"].status
    )
    assert math.isnan(found["saliency"].mean)


@pytest.mark.parametrize("asked", [metrics.sensitivity(), metrics.parameter_randomisation()], ids=["near", "weights"])
def test_an_explanation_alone_cannot_be_run_again(asked):
    model, x = net(), rows(3, 1, 6, 6)
    e = pellucid.explain(model, x, "saliency")
    cell = pellucid.evaluate(model, e, asked).cells[0]
    assert "needs the method" in cell.status
    assert "pellucid.compare" in cell.status
    found = scored(asked, {"made": e, "named": "input_x_gradient"}, model, x)
    assert "needs the method" in found["made"].status
    assert found["named"].measured


# ---------------------------------------------------------------- marks


def marked(scores, truth, **options):
    model, x = nn.Linear(scores.shape[1], 2).eval(), rows(*scores.shape)
    e = pellucid.explain(model, x, "random_attribution")
    e = pellucid.core.explanation.replace(e, values=scores)
    return pellucid.evaluate(model, e, metrics.precision_at_k(truth, **options)).cells[0]


def test_precision_is_the_share_of_marks_among_the_first():
    scores = np.array([[9.0, 8, 7, 6, 5, 4], [1.0, 2, 3, 4, 5, 6]])
    truth = np.array([[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]], dtype=bool)
    found = marked(scores, truth)
    np.testing.assert_allclose(found.curve, [[1, 1 / 2, 2 / 3, 2 / 4, 2 / 5], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]])
    np.testing.assert_allclose(found.values, found.curve.mean(1))
    assert marked(scores, truth, k=(2,)).values.tolist() == [0.5, 0.5]


def test_ties_count_by_chance_and_rows_without_a_mark_do_not():
    truth = np.array([[True, False, False, False], [False] * 4])
    found = marked(np.ones((2, 4)), truth, k=(1, 2))
    np.testing.assert_allclose(found.curve[0], [1 / 4, 1 / 4])
    assert np.isnan(found.values[1])
    assert found.mean == pytest.approx(1 / 4)


def test_marks_are_of_players_or_of_positions_and_go_with_their_rows():
    model, x = net(), rows(5, 1, 6, 6)
    e = pellucid.explain(model, x, "input_x_gradient", players=players.grid(2))
    truth = np.zeros((5, 4), dtype=bool)
    truth[np.arange(5), e.values.argmax(1)] = True
    for size in (1, 8):
        of_players = metrics.precision_at_k(truth, (1,))
        assert pellucid.evaluate(model, e, of_players, run=Run(batch_size=size)).cells[0].values.tolist() == [1.0] * 5
    plain = pellucid.explain(model, x, "input_x_gradient")
    pixels = plain.map().reshape(5, -1)
    best = torch.from_numpy(pixels >= np.sort(pixels, 1)[:, -3:].min(1, keepdims=True)).reshape(5, 6, 6)
    found = pellucid.evaluate(model, plain, metrics.precision_at_k(best, (3, 6))).cells[0]
    np.testing.assert_allclose(found.curve, [[1.0, 0.5]] * 5)


def test_random_orders_are_the_control_of_marks():
    truth = torch.zeros(14, 1, 6, 6, dtype=torch.bool)
    truth[:, :, :2] = True
    c = pellucid.compare(net(), rows(14, 1, 6, 6), [Itself()], [metrics.precision_at_k(truth, (9,))])
    assert c.tests()["better_by"].notna().all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: metrics.precision_at_k(np.ones((2, 3))), "truth must be bool"),
        (lambda: metrics.precision_at_k(np.ones(3, dtype=bool)), "truth must be bool"),
        (lambda: metrics.precision_at_k(np.ones((2, 3), dtype=bool), (0,)), "k must be whole numbers"),
        (lambda: metrics.sensitivity(neighbours=0), "neighbours must be"),
        (lambda: metrics.sensitivity(radius=-1.0), "radius must be"),
        (lambda: metrics.sensitivity(norm=1), "norm must be 2 or math.inf"),
        (lambda: metrics.parameter_randomisation("first"), "kind must be one of 'last', 'cascading'"),
        (lambda: metrics.parameter_randomisation(draws=0), "draws must be"),
        (lambda: marked(np.ones((2, 3)), np.ones((3, 3), dtype=bool)), "3 rows of 3 features, the explanation 2 of 3"),
        (lambda: marked(np.ones((2, 3)), np.ones((2, 4), dtype=bool)), "2 rows of 4 features, the explanation 2 of 3"),
        (lambda: marked(np.ones((2, 3)), np.ones((2, 3), dtype=bool)), "k = 5 is more than the 3 features"),
    ],
    ids=[str(i) for i in range(11)],
)
def test_wrong_settings_are_refused_in_words(make, words):
    with pytest.raises(BadInput, match=words):
        make()


def test_a_metric_without_defaults_is_not_asked_by_name():
    e = pellucid.explain(net(), rows(2, 1, 6, 6), "saliency")
    with pytest.raises(BadInput, match=r"'precision_at_k' has no defaults.*call metrics.precision_at_k\(...\)"):
        pellucid.evaluate(net(), e, "precision_at_k")


def test_marks_are_told_apart():
    one, two = np.zeros((2, 3), dtype=bool), np.ones((2, 3), dtype=bool)
    assert metrics.precision_at_k(one, (1,)) == metrics.precision_at_k(one.copy(), (1,))
    assert metrics.precision_at_k(one, (1,)) != metrics.precision_at_k(two, (1,))
    assert isinstance(metrics.sensitivity(), Sensitivity)


# ---------------------------------------------------------------- ranks by reference


def test_ranks_by_reference_are_those_of_the_means():
    model, x = net(), rows(5, 1, 6, 6)
    three = {name: pellucid.explain(model, x, name) for name in ("saliency", "input_x_gradient", "random_attribution")}
    asked = [make(v) for v in (0.0, 0.5, "uniform") for make in (metrics.insertion, metrics.deletion)]
    scores = pellucid.evaluate(model, three, [*asked, metrics.completeness()])
    table = scores.reference_ranks()
    assert set(table["reference"]) == {"0", "0.5", "uniform"}
    assert set(table["metric"]) == {"insertion", "deletion"}
    for (family, _), part in table.groupby(["metric", "reference"]):
        assert sorted(part["rank"]) == [1, 2, 3]
        best = part.loc[part["mean"].idxmax() if family == "insertion" else part["mean"].idxmin()]
        assert best["rank"] == 1
    assert pellucid.evaluate(model, three, metrics.completeness()).reference_ranks().empty
