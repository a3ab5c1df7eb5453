"""The attack that needs predictions only: planes, forests whose thresholds can be enumerated, neighbours, budgets."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import pellucid
from pellucid import attack

DUAL = {1: math.inf, 2: 2, math.inf: 1}


def plane(features=9, seed=0):
    rng = np.random.default_rng(seed)
    weights, x = rng.normal(size=(2, features)), rng.normal(size=(5, features))
    free = rng.random((5, 3, features)) < 0.6
    free[..., 0] = True
    margin = np.abs(x @ (weights[0] - weights[1]))
    return weights, x, free, margin


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_a_linear_model_has_the_distance_to_its_plane(norm):
    weights, x, free, margin = plane()
    difference = np.abs(weights[0] - weights[1]) * free
    wanted = margin[:, None] / np.linalg.norm(difference, DUAL[norm], axis=2)
    r = attack.minimal_radius(lambda x: x @ weights.T, x, free, method=attack.boundary(), norm=norm)
    np.testing.assert_allclose(r.radius, wanted, rtol=2e-3)
    assert bool((r.radius >= wanted).all()), "a found radius is an upper bound"
    moved = r.adversarial - x[:, None]
    assert bool((moved[~free] == 0).all())
    np.testing.assert_allclose(np.linalg.norm(moved, norm, axis=2), r.radius, rtol=1e-9)
    assert bool(((r.adversarial @ weights.T).argmax(2) != (x @ weights.T).argmax(1)[:, None]).all())


def test_labels_alone_are_enough():
    weights, x, free, margin = plane()
    wanted = margin[:, None] / np.linalg.norm((weights[0] - weights[1]) * free, axis=2)
    r = attack.minimal_radius(lambda x: np.eye(2)[(x @ weights.T).argmax(1)], x, free, method=attack.boundary(2000))
    assert bool((r.radius >= wanted).all())
    assert np.median(r.radius / wanted) < 1.06


def test_it_is_what_a_model_without_gradients_gets():
    weights, x, free, _ = plane()
    model = pellucid.wrap(lambda x: x @ weights.T, scale="logit")
    default, asked = (attack.minimal_radius(model, x, free, method=m) for m in (None, attack.boundary()))
    np.testing.assert_array_equal(default.radius, asked.radius)


def test_a_box_of_which_a_coordinate_reaches_its_end():
    def model(x):
        return np.stack([3 * x[:, 0] + 4 * x[:, 1], np.ones(len(x))], 1)

    model = pellucid.wrap(model, scale="logit", bounds=(0.0, 1.0))
    x = np.array([[1.0, 0.25]])
    r = attack.minimal_radius(model, x, np.ones((1, 2), bool))
    # Margin 3: the second coordinate can give 1, so the first must give 2 and moves by 2/3.
    assert r.radius[0] == pytest.approx(math.hypot(2 / 3, 0.25), rel=5e-3)
    alone = attack.minimal_radius(model, x, np.array([[False, True]]))
    assert not alone.found[0]
    np.testing.assert_array_equal(alone.adversarial, x)


@pytest.fixture(scope="module")
def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    x = x.astype(np.float32).astype(np.float64)  # forests compare in float32
    return RandomForestClassifier(30, random_state=0).fit(x, y), x


def nearest_threshold(forest, x, feature):
    """The exact answer for one free feature: the class can change at a threshold only, so all are tried, on both
    sides."""
    cuts = [tree.tree_.threshold[tree.tree_.feature == feature] for tree in forest.estimators_]
    cuts = np.unique(np.concatenate(cuts)).astype(np.float32)
    around = [np.nextafter(cuts, np.float32(-np.inf)), cuts, np.nextafter(cuts, np.float32(np.inf))]
    places = np.concatenate(around).astype(np.float64)
    rows = np.repeat(x[None], len(places), 0)
    rows[:, feature] = places
    share, own = forest.predict_proba(rows), forest.predict_proba(x[None]).argmax()
    changed = share[:, 1 - own] > share[:, own]  # a tie is no change
    return np.abs(places - x[feature])[changed].min(initial=math.inf)


def test_one_free_feature_of_a_forest_is_exact(cancer):
    forest, x = cancer
    share = forest.predict_proba(x)[:, 1]
    unsure = np.argsort(np.abs(share - 0.5))
    x = x[unsure[np.abs(share[unsure] - 0.5) > 0.01][:8]]
    free = np.tile(np.eye(30, dtype=bool), (8, 1, 1))
    wanted = np.array([[nearest_threshold(forest, row, feature) for feature in range(30)] for row in x])
    r = attack.minimal_radius(forest, x, free)
    finite = np.isfinite(wanted)
    assert finite.sum() > 8
    assert bool((r.found <= finite).all())
    assert (r.found & finite).sum() >= 0.95 * finite.sum()
    ratio = r.radius[r.found] / wanted[r.found]
    assert ratio.min() > 0.999
    assert np.quantile(ratio, 0.9) < 1.002


def test_all_features_of_a_forest_beat_the_best_single_one(cancer):
    forest, x = cancer
    x = x[::80]
    free = np.concatenate([np.eye(30, dtype=bool), np.ones((1, 30), bool)])
    r = attack.minimal_radius(forest, x, np.tile(free, (len(x), 1, 1)))
    assert r.found[:, -1].all()
    assert bool((r.radius[:, -1] <= 1.05 * r.radius[:, :-1].min(1)).all())
    assert np.median(r.radius[:, -1]) < 0.75, "with 1,000 predictions; 4,000 of them give 0.20"
    changed = forest.predict_proba(r.adversarial[:, -1]).argmax(1) != forest.predict_proba(x).argmax(1)
    assert changed.all()
    # Features that a forest never needed go back to their values exactly.
    assert np.median((r.adversarial[:, -1] == x).sum(1)) > 0


def test_neighbours_on_digits_within_their_box():
    digits = load_digits()
    x = digits.data / 16
    model = pellucid.wrap(KNeighborsClassifier(5).fit(x[100:], digits.target[100:]), bounds=(0.0, 1.0))
    half = np.zeros((1, 64), bool)
    half[:, 20:44] = True
    free = np.tile(np.concatenate([half, np.ones((1, 64), bool)]), (6, 1, 1))
    few, many = (attack.minimal_radius(model, x[:6], free, method=attack.boundary(b)) for b in (200, 1500))
    assert few.found[:, 1].all()
    assert bool((many.found >= few.found).all())
    assert np.median(many.radius[:, 1] / few.radius[:, 1]) < 0.85
    assert many.adversarial.min() >= 0
    assert many.adversarial.max() <= 1
    # Where the nearest training row of another class lies is a place to look that the attack does not know.
    other = [
        np.linalg.norm(x[100:][digits.target[100:] != own] - row, axis=1).min()
        for row, own in zip(x[:6], many.own, strict=True)
    ]
    assert np.median(many.radius[:, 1] / other) < 0.9


def test_a_class_to_be_reached():
    x, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=300).fit(x / 16, y)
    rows, free = x[:5] / 16, np.ones((5, 64), bool)
    own = model.predict(rows)
    r = attack.minimal_radius(model, rows, free, target=(own + 1) % 10)
    assert r.found.all()
    np.testing.assert_array_equal(model.predict(r.adversarial), (own + 1) % 10)
    assert bool((r.radius >= attack.minimal_radius(model, rows, free).radius * 0.99).all())


@pytest.mark.parametrize("budget", [50, 333])
def test_the_budget_is_kept(cancer, budget):
    forest, x = cancer
    free = np.random.default_rng(0).random((4, 5, 30)) < 0.5
    r = attack.minimal_radius(forest, x[:4], free, method=attack.boundary(budget))
    once = 4 + 4 + 4  # the target, the class, and what wrapping asks
    assert r.cost["forwards"] <= 20 * budget + once


def test_a_problem_is_the_same_alone_and_in_company():
    weights, x, free, _ = plane()
    steps = np.round(4 * weights)  # sums of whole numbers do not depend on the batch
    model, method = pellucid.wrap(lambda x: np.round(3 * x) @ steps.T, scale="logit"), attack.boundary(300)
    whole = attack.minimal_radius(model, x, free, method=method)
    small = attack.minimal_radius(model, x, free, method=method, run=pellucid.Run(batch_size=1))
    state = torch.random.get_rng_state()
    again = attack.minimal_radius(model, x, free, method=method)
    assert whole.found.all()
    np.testing.assert_array_equal(whole.radius, again.radius)
    np.testing.assert_allclose(whole.radius, small.radius, rtol=1e-9)
    assert bool((torch.random.get_rng_state() == state).all())


@pytest.mark.parametrize("budget", [0, 49, 100.0, True])
def test_bad_budgets(budget):
    with pytest.raises(pellucid.BadInput, match="budget must be"):
        attack.boundary(budget)
