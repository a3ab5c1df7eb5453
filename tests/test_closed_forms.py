"""Closed forms: linear models, maxima and trees, and that each refuses what it is not made for."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeRegressor

import pellucid
from pellucid import BadInput, Unsupported, methods, removal
from tests.reference import games as reference

WEIGHT = np.array([2.0, -1.0, 0.5, 0.0])


def rows(count, n=4, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, n)) + np.arange(n))


def linear(z):
    return z @ torch.from_numpy(WEIGHT) + 3


# ---------------------------------------------------------------- linear models


def test_a_linear_model():
    background, x = rows(50), rows(3, seed=1)
    e = pellucid.explain(linear, x, methods.linear_shap(background), target=0)
    assert np.abs(e.values - WEIGHT * (x - background.mean(0)).numpy()).max() < 1e-12
    assert np.allclose(e.base_values, linear(background).mean(), atol=1e-12)  # b + Σ w E x, not b
    assert e.residual.max() < 1e-12
    assert "independently" in e.details["game"]
    truth = pellucid.explain(linear, x, methods.exact_shapley(removal.marginal(background)), target=0)
    assert np.abs(e.values - truth.values).max() < 1e-12


def test_every_class_of_a_linear_classifier():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3).double().eval()
    background, x = rows(30), rows(5, seed=1)
    away = (x - background.mean(0)).numpy()
    weight = net.weight.detach().numpy()
    every = pellucid.explain(net, x, methods.linear_shap(background), target="all")
    assert np.abs(every.values - away[:, :, None] * weight.T).max() < 1e-12
    target = [0, 2, 1, 2, 0]
    each = pellucid.explain(net, x, methods.linear_shap(background), target=target)
    assert np.abs(each.values - away * weight[target]).max() < 1e-12


def test_players_and_entries_that_stay():
    background, x = rows(50), rows(3, seed=1)
    e = pellucid.explain(linear, x, methods.linear_shap(background), target=0, players={"a": [0, 2], "b": [1]})
    parts = WEIGHT * (x - background.mean(0)).numpy()
    assert np.abs(e.values - np.stack([parts[:, 0] + parts[:, 2], parts[:, 1]], 1)).max() < 1e-12
    assert e.residual.max() < 1e-12


def test_scikit_learn_and_frames():
    frame = pd.DataFrame(rows(60).numpy(), columns=list("abcd"))
    model = LogisticRegression().fit(frame, frame["a"] > 0)
    shuffled = frame[["c", "a", "d", "b"]]
    e = pellucid.explain(model.decision_function, frame[:4], methods.linear_shap(shuffled), target=1)
    away = (frame[:4] - frame.mean()).to_numpy()
    assert np.abs(e.values - model.coef_[0] * away).max() < 1e-9
    assert e.feature_names == tuple("abcd")


@pytest.mark.parametrize(
    "model",
    [
        lambda z: linear(z) + 1e-3 * z[:, 0] * z[:, 1],
        lambda z: linear(z) + 1e-3 * z[:, 2] ** 2,
        lambda z: linear(z).clamp_min(0),
        lambda z: torch.sigmoid(linear(z)),
        lambda z: linear(z) + (z[:, 3] > 20),
    ],
)
@pytest.mark.parametrize("recipe", ["linear_shap", "linear_shap_correlated"])
def test_what_is_not_linear_is_refused(model, recipe):
    x = torch.cat([rows(3, seed=1), torch.full((1, 4), 21.0).double()])
    with pytest.raises(Unsupported, match=rf"{recipe}: .* not linear .* kernel_shap\(\) or integrated_gradients\(\)"):
        pellucid.explain(model, x, getattr(methods, recipe)(rows(50)), target=0)


def test_mixtures_are_looked_at_too():
    """Linear at x and in the background, but not where a game goes: between them."""
    background, x = torch.tensor([[0.0, 0.0], [2.0, 2.0]]).double(), torch.tensor([[2.0, 2.0]]).double()

    def model(z):
        return z.sum(1) + ((z[:, 0] > 1.2) & (z[:, 1] < 0.8))

    with pytest.raises(Unsupported, match="not linear"):
        pellucid.explain(model, x, methods.linear_shap(background), target=0)
    with pytest.raises(Unsupported, match="not the maximum"):  # right at x, r and all coalitions
        pellucid.explain(lambda z: z.amax(1) + torch.sin(3.1415926535897932 * z[:, 0]), x, methods.max_shap(), target=0)


def test_the_correlated_game_by_its_definition():
    from tests.test_conditional import correlated, expected

    background = correlated(n=4)
    x = background[:2] + 1
    e = pellucid.explain(linear, x, methods.linear_shap_correlated(background), target=0)
    for row in range(2):
        v = {s: float(WEIGHT @ expected(background, x[row].numpy(), s)) for s in reference.subsets(range(4))}
        assert np.abs(e.values[row] - reference.shapley(4, v)).max() < 1e-9
    assert "conditional" in e.details["game"]
    assert np.abs(e.values[:, 3]).min() > 1e-3  # f does not read it, but it tells about the others
    plain = pellucid.explain(linear, x, methods.linear_shap(background), target=0)
    assert np.abs(plain.values[:, 3]).max() < 1e-12
    assert np.allclose(plain.base_values, e.base_values)


def test_without_correlation_both_games_are_one():
    numbers = rows(2000).numpy()
    centred = numbers - numbers.mean(0)
    background = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    x = rows(3, seed=1)
    one = pellucid.explain(linear, x, methods.linear_shap(background), target=0)
    two = pellucid.explain(linear, x, methods.linear_shap_correlated(background), target=0)
    assert np.abs(one.values - two.values).max() < 1e-4


def test_exact_duplicates_share_equally():
    column = rows(100, 2)
    background = torch.cat([column, column[:, :1]], 1)
    e = pellucid.explain(
        lambda z: 5 * z[:, 0] + z[:, 1] - z[:, 2], background[:4], methods.linear_shap_correlated(background), target=0
    )
    assert np.abs(e.values[:, 0] - e.values[:, 2]).max() < 1e-4


def test_many_correlated_features_are_sampled_with_errors():
    background = rows(200, 14) @ rows(14, 14, seed=3)
    weight = torch.linspace(-1, 1, 14).double()
    e = pellucid.explain(
        lambda z: z @ weight, background[:2], methods.linear_shap_correlated(background, 600), target=0
    )
    truth = pellucid.explain(
        lambda z: z @ weight, background[:2], methods.linear_shap_correlated(background, 2**14), target=0
    )
    assert (np.abs(e.values - truth.values) < 5 * e.std_error).all()
    assert (truth.std_error == 0).all()


# ---------------------------------------------------------------- the largest


def largest(z):
    return z.flatten(1).amax(1)


@pytest.mark.parametrize("seed", range(30))
def test_a_maximum_with_ties(seed):
    numbers = np.random.default_rng(seed)
    n = 1 + seed % 6
    x, r = (torch.from_numpy(numbers.integers(-3, 4, (3, n)).astype(float)) for _ in range(2))
    e = pellucid.explain(largest, x, methods.max_shap(r), target=0)
    for row in range(3):
        v = {s: max(float(x[row, i] if i in s else r[row, i]) for i in range(n)) for s in reference.subsets(range(n))}
        assert np.abs(e.values[row] - reference.shapley(n, v)).max() < 1e-12
        assert e.base_values[row] == v[frozenset()]
    assert e.residual.max() < 1e-12


def test_the_published_maximum_and_a_picture():
    e = pellucid.explain(largest, torch.tensor([[5.0, 4.0, 0.0]]), methods.max_shap(), target=0)
    assert np.allclose(e.values, [[3, 2, 0]], atol=1e-12)
    picture = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    e = pellucid.explain(largest, picture, methods.max_shap(baseline=0.5), target=0)
    assert e.values.shape == (2, 3, 8, 8)
    assert e.map().shape == (2, 8, 8)
    assert np.allclose(e.values.sum((1, 2, 3)), e.outputs - 0.5, atol=1e-12)


@pytest.mark.parametrize("players", [[[0, 1], [3]], [[0, 4], [1, 2, 3]], np.array([[0, 1, 2, 1, 0], [0, 0, 1, 1, -1]])])
def test_a_maximum_over_players(players):
    x, r = rows(2, 5, seed=1), rows(2, 5, seed=2)
    e = pellucid.explain(largest, x, methods.max_shap(r), target=0, players=players)
    truth = pellucid.explain(largest, x, methods.exact_shapley(r), target=0, players=players)
    assert np.abs(e.values - truth.values).max() < 1e-12
    assert np.abs(e.base_values - truth.base_values).max() < 1e-12


@pytest.mark.parametrize(
    "model",
    [lambda z: z.sum(1), lambda z: z.amin(1), lambda z: 2 * z.amax(1), lambda z: z[:, 0], lambda z: z.amax(1) + 1e-4],
)
def test_what_is_no_maximum_is_refused(model):
    with pytest.raises(
        Unsupported, match=r"max_shap: .* not the maximum .* exact_shapley\(\) or permutation_shapley\(\)"
    ):
        pellucid.explain(model, rows(3), methods.max_shap(), target=0)


def test_a_maximum_has_one_baseline():
    for rule in (removal.marginal(rows(3)), "uniform"):
        with pytest.raises(BadInput, match="max_shap: baseline must be one fixed value"):
            pellucid.explain(pellucid.wrap(largest, bounds=(-9, 9)), rows(2), methods.max_shap(rule), target=0)


# ---------------------------------------------------------------- trees


def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return X[:, :6], y


FORESTS = {
    "tree": (lambda: DecisionTreeRegressor(max_depth=4, random_state=0), "predict"),
    "forest": (lambda: RandomForestClassifier(10, max_depth=4, random_state=0), "predict_proba"),
    "extra": (lambda: ExtraTreesRegressor(8, max_depth=4, random_state=0), "predict"),
    "boosting": (lambda: GradientBoostingClassifier(n_estimators=10, random_state=0), "decision_function"),
}


@pytest.mark.parametrize("kind", FORESTS)
def test_trees_with_a_background_equal_the_enumeration(kind):
    X, y = cancer()
    make, read = FORESTS[kind]
    model = getattr(make().fit(X, y), read)
    e = pellucid.explain(model, X[100:104], methods.tree_shap(X[:30]))
    truth = pellucid.explain(model, X[100:104], methods.exact_shapley(removal.marginal(X[:30])))
    assert np.abs(e.values - truth.values).max() < 1e-6 * np.abs(truth.values).max()
    assert np.abs(e.base_values - truth.base_values).max() < 1e-6
    assert e.details["game"].startswith("interventional")


def test_trees_without_a_background_play_another_game():
    """A literal path-dependent value of one tree: absent features go both ways, by the shares of training rows."""
    X, y = cancer()
    model = DecisionTreeRegressor(max_depth=3, random_state=0).fit(X, y)
    tree = model.tree_

    def expected(node, x, present):
        if tree.children_left[node] < 0:
            return tree.value[node, 0, 0]
        left, right = tree.children_left[node], tree.children_right[node]
        if tree.feature[node] in present:
            return expected(left if np.float32(x[tree.feature[node]]) <= tree.threshold[node] else right, x, present)
        weight = tree.weighted_n_node_samples
        return (weight[left] * expected(left, x, present) + weight[right] * expected(right, x, present)) / weight[node]

    e = pellucid.explain(model, X[:3], methods.tree_shap())
    for row in range(3):
        v = {s: expected(0, X[row], s) for s in reference.subsets(range(6))}
        assert np.abs(e.values[row] - reference.shapley(6, v)).max() < 1e-9
    assert e.details["game"].startswith("path-dependent")
    assert np.abs(e.values - pellucid.explain(model, X[:3], methods.tree_shap(X[:30])).values).max() > 0.01


def test_trees_of_all_classes_and_both_sides_of_a_score():
    X, y = cancer()
    forest = RandomForestClassifier(5, max_depth=3, random_state=0).fit(X, y + (X[:, 0] > 15))
    every = pellucid.explain(forest, X[:3], methods.tree_shap(), target="all")
    assert every.values.shape == (3, 6, 3)
    assert np.abs(every.values.sum(2)).max() < 1e-9  # probabilities add to one
    boosting = GradientBoostingClassifier(n_estimators=5, random_state=0).fit(X, y)
    no, yes = (pellucid.explain(boosting.decision_function, X[:3], methods.tree_shap(), target=t) for t in (0, 1))
    assert np.abs(no.values + yes.values).max() < 1e-12


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: LogisticRegression(max_iter=9999), {}, "shap cannot explain a LogisticRegression"),
        (lambda: GradientBoostingClassifier(n_estimators=3), {}, "wrap\\(model.decision_function\\)"),
        (lambda: RandomForestClassifier(3), {"target": pellucid.Target(None, read="margin")}, "read='margin'"),
        (lambda: IsolationForest(n_estimators=3, random_state=0), {}, "not the explained output"),
        (lambda: RandomForestClassifier(3), {"players": [[0, 1], [2], [3, 4, 5]]}, "single columns"),
        (lambda: RandomForestClassifier(3), {"players": [[0], [1]]}, "single columns"),
    ],
)
def test_what_trees_cannot_do_is_refused_with_what_can(make, options, words):
    X, y = cancer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make().fit(X, y)
    with pytest.raises(Unsupported, match=f"tree_shap: .*{words}.*kernel_shap|tree_shap: .*kernel_shap.*{words}"):
        pellucid.explain(model, X[:2], methods.tree_shap(), **options)


def test_trees_take_players_of_one_column_in_any_order():
    X, y = cancer()
    model = RandomForestClassifier(5, max_depth=3, random_state=0).fit(X, y)
    plain = pellucid.explain(model, X[:2], methods.tree_shap())
    turned = pellucid.explain(model, X[:2], methods.tree_shap(), players=[[5], [4], [3], [2], [1], [0]])
    assert np.array_equal(turned.values, plain.values[:, ::-1])


def test_other_models_and_a_missing_package_are_named(monkeypatch):
    X, y = cancer()
    with pytest.raises(Unsupported, match=r"not a tree ensemble .*kernel_shap\(\) or permutation_shapley\(\)"):
        pellucid.explain(lambda z: z.sum(1), X[:2], methods.tree_shap(), target=0)
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(Unsupported, match=r"pip install 'pellucid\[shap\]'"):
        pellucid.explain(RandomForestClassifier(3).fit(X, y), X[:2], methods.tree_shap())


def test_boosting_by_histograms_is_checked_too():
    """shap 0.51 rounds the background of these; where its sum is off, nothing is returned."""
    X, y = cancer()
    model = HistGradientBoostingRegressor(max_iter=5, random_state=0).fit(X, y)
    e = pellucid.explain(model, X[:2], methods.tree_shap())
    assert e.residual.max() < 1e-9
