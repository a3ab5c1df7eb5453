"""Influence of inputs drawn anew, and of features that an estimator is fitted again without."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LinearRegression
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

import pellucid
from pellucid import BadInput, Unsupported, games, methods
from tests.reference import games as reference

WEIGHT = np.array([2.0, -1.0, 0.5, 0.0])


def rows(count, n=4, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, n)) + np.arange(n))


def linear(z):
    return z @ torch.from_numpy(WEIGHT) + 3


def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return X[:, :6], y


# ---------------------------------------------------------------- influence of inputs drawn anew


def test_influences_of_a_linear_model():
    background, x = rows(50), rows(3, seed=1)
    truth = WEIGHT * (x - background.mean(0)).numpy()
    one = pellucid.explain(linear, x, methods.unary_qii(background), target=0)
    assert np.abs(one.values - truth).max() < 1e-12
    assert one.residual is None
    many = pellucid.explain(linear, x, methods.qii(background, budget=40), target=0)
    assert np.abs(many.values - truth).max() < 1e-9
    sets = pellucid.explain(linear, x, methods.set_qii(background), target=0, players={"a": [0, 2], "b": [1, 3]})
    assert np.abs(sets.values - np.stack([truth[:, 0] + truth[:, 2], truth[:, 1] + truth[:, 3]], 1)).max() < 1e-9


@pytest.mark.parametrize("name", ["unary_qii", "set_qii", "qii"])
def test_an_ignored_twin_has_no_influence(name):
    """x3 repeats x0, f reads x0 alone: 0 exactly, not nearly."""
    background = rows(40)
    background[:, 3] = background[:, 0]
    players = {"set_qii": {str(i): [i] for i in range(4)}}.get(name)
    method = getattr(methods, name)(background, **({"budget": 40} if name == "qii" else {}))
    e = pellucid.explain(
        lambda z: torch.exp(z[:, 0]) * z[:, 1] + z[:, 2], background[:3], method, target=0, players=players
    )
    assert (e.values[:, 3] == 0).all()
    assert np.abs(e.values[:, 0]).min() > 0
    if e.std_error is not None:
        assert (e.std_error[:, 3] == 0).all()


def test_influences_by_their_definitions():
    """A product of two columns: alone each changes little where the other is small, together they change it."""
    background = rows(25, 2)
    x = torch.tensor([[3.0, 0.5]], dtype=torch.float64)
    values = background.numpy()

    def model(z):
        return z[:, 0] * z[:, 1]

    one = pellucid.explain(model, x, methods.unary_qii(background), target=0)
    assert np.allclose(one.values, [[1.5 - (values[:, 0] * 0.5).mean(), 1.5 - (3 * values[:, 1]).mean()]], atol=1e-12)
    apart = values[:, 0].mean() * values[:, 1].mean()  # independent, so the mean of the product is that of the means
    both = pellucid.explain(model, x, methods.set_qii(background, draws=2500), target=0, players={"both": [0, 1]})
    assert abs(both.values[0, 0] - (1.5 - apart)) < 5 * both.std_error[0, 0]
    assert abs((values[:, 0] * values[:, 1]).mean() - apart) > 20 * both.std_error[0, 0]
    v = {frozenset(): apart, frozenset({0}): 3 * values[:, 1].mean(), frozenset({1}): 0.5 * values[:, 0].mean()}
    v[frozenset({0, 1})] = 1.5
    shared = pellucid.explain(model, x, methods.qii(background, budget=900), target=0)
    assert (np.abs(shared.values[0] - reference.shapley(2, v)) < 5 * shared.std_error[0]).all()


def test_sets_must_be_said():
    with pytest.raises(BadInput, match=r"set_qii: say the sets, as players=.*unary_qii\(\)"):
        pellucid.explain(linear, rows(2), methods.set_qii(rows(9)), target=0)


# ---------------------------------------------------------------- fitted again without a feature


def orthogonal(count=60, n=3):
    """Centred columns at right angles, and y with noise."""
    numbers = np.random.default_rng(0)
    q = np.linalg.qr(np.concatenate([np.ones((count, 1)), numbers.normal(size=(count, n))], 1))[0][:, 1:]
    return 3 * q, 3 * q @ [1.0, 2.0, -1.0] + 0.3 * numbers.normal(size=count)


def test_least_squares_on_orthogonal_columns():
    X, y = orthogonal()
    model = LinearRegression().fit(X, y)
    e = pellucid.explain(model, X[:4], methods.shapley_regression_values(LinearRegression(), X, y))
    assert np.abs(e.values - model.coef_ * X[:4]).max() < 1e-12
    assert np.allclose(e.base_values, y.mean())
    assert e.residual.max() < 1e-12
    assert (e.std_error == 0).all()


def test_shares_of_the_explained_variance():
    X, y = orthogonal()
    game = games.RetrainingGame(LinearRegression(), pd.DataFrame(X, columns=["a", "b", "c"]), y)
    e = pellucid.play(game, methods.exact_shapley())
    assert np.abs(e.values[0] - [np.corrcoef(column, y)[0, 1] ** 2 for column in X.T]).max() < 1e-12
    assert e.feature_names == ("a", "b", "c")
    assert game.calls == 8
    pellucid.play(game, methods.kernel_shap(8))
    assert game.calls == 8  # every fit is kept


def test_refitting_by_its_definition():
    X, y = load_breast_cancer(return_X_y=True)
    X = X[:, :3]
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    e = pellucid.explain(
        tree.fit(X, y), X[:3], methods.shapley_regression_values(DecisionTreeClassifier(max_depth=3), X, y), target=1
    )
    for row in range(3):
        v = {frozenset(): y.mean()}
        for s in list(reference.subsets(range(3)))[1:]:
            columns = sorted(s)
            fitted = DecisionTreeClassifier(max_depth=3, random_state=0).fit(X[:, columns], y)
            v[s] = fitted.predict_proba(X[row : row + 1, columns])[0, 1]
        assert np.abs(e.values[row] - reference.shapley(3, v)).max() < 1e-12


def test_scores_on_data_held_out_groups_and_other_worths():
    X, y = orthogonal()
    game = games.RetrainingGame(
        LinearRegression(), X[:40], y[:40], test=(X[40:], y[40:]), groups=((0, 2), (1,)), names=("two", "one")
    )
    e = pellucid.play(game, methods.exact_shapley())
    score = LinearRegression().fit(X[:40], y[:40]).score(X[40:], y[40:])
    assert np.allclose(e.outputs, score)
    assert e.feature_names == ("two", "one")
    counted = games.RetrainingGame(LinearRegression(), X, y, worth=lambda fitted, columns: len(columns))
    assert pellucid.play(counted, methods.exact_shapley()).values.round(12).tolist() == [[1, 1, 1]]


def test_refits_draw_from_the_seed():
    X, y = cancer()
    for seed in (0, 1):
        made = [
            games.RetrainingGame(DecisionTreeClassifier(max_depth=3, max_features=1), X[:, :4], y, seed=seed)
            for _ in "ab"
        ]
        one = pellucid.play(made[0], methods.exact_shapley()).values
        np.random.random()  # noqa: NPY002 - scikit-learn's own source where nothing else is said
        assert np.array_equal(one, pellucid.play(made[1], methods.exact_shapley()).values)


def test_refits_that_cannot_be():
    X, y = orthogonal()
    with pytest.raises(BadInput, match="X has 60 rows and y has 59"):
        games.RetrainingGame(LinearRegression(), X, y[:-1])
    with pytest.raises(BadInput, match="expected a scikit-learn estimator"):
        games.RetrainingGame(linear, X, y)
    with pytest.raises(BadInput, match="table of numbers"):
        games.RetrainingGame(LinearRegression(), [["a", "b"], ["c", "d"]], [0, 1])
    with pytest.raises(BadInput, match="NaN or infinite"):
        pellucid.play(
            games.RetrainingGame(LinearRegression(), X, y, worth=lambda f, c: np.nan), methods.exact_shapley()
        )
    svc = LinearSVC().fit(X, y > 0)
    with pytest.raises(Unsupported, match=r"predict_proba or a regressor, or use kernel_shap\(\) or"):
        pellucid.explain(svc, X[:1], methods.shapley_regression_values(LinearSVC(), X, y > 0), target=1, players=None)
    with pytest.raises(Unsupported, match="explains the columns of a table"):
        pellucid.explain(
            lambda z: z.flatten(1).sum(1),
            torch.ones(2, 1, 3, 3),
            methods.shapley_regression_values(LinearRegression(), np.ones((4, 1, 3, 3)), np.ones(4)),
            target=0,
        )
