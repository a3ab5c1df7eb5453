"""scikit-learn estimators and pipelines as models."""

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Target, Unsupported, methods, removal
from tests.reference.linear import X

sklearn = pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def iris():
    from sklearn.datasets import load_iris

    data = load_iris(as_frame=True)
    return data.data, data.target_names[data.target]


def test_a_classifier_is_read_at_its_probabilities(iris):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = iris
    for estimator in (RandomForestClassifier(5, random_state=0), make_pipeline(StandardScaler(), LogisticRegression())):
        for frame in (True, False):
            fitted = estimator.fit(x if frame else x.to_numpy(), y)
            for rows in (x[::30], x[::30].to_numpy(), torch.tensor(x[::30].to_numpy())):
                e = pellucid.explain(fitted, rows, methods.feature_ablation(removal.marginal(x[:4])))
                p = fitted.predict_proba(x[::30] if frame else x[::30].to_numpy())
                np.testing.assert_allclose(e.outputs, p.max(1), rtol=1e-12)
                assert e.details["scale"] == "prob"
                assert e.output_names == ("setosa", "versicolor", "virginica")
                named = frame or (rows is not None and hasattr(rows, "columns"))
                assert e.feature_names == (tuple(x.columns) if named else ("x0", "x1", "x2", "x3"))
    e = pellucid.explain(fitted, x[:2].to_numpy(), methods.feature_ablation(), target=Target("virginica", "logit"))
    np.testing.assert_allclose(e.outputs, np.log(fitted.predict_proba(x[:2].to_numpy())[:, 2]))
    with pytest.raises(Unsupported, match="needs gradients"):
        pellucid.explain(fitted, x[:2].to_numpy(), methods.saliency())


def test_a_method_of_an_estimator_is_the_estimator(iris):
    from sklearn.linear_model import LogisticRegression

    x, y = iris
    fitted = LogisticRegression(max_iter=500).fit(x, y)
    model = pellucid.wrap(fitted.predict_proba)
    assert (model.scale, model.labels) == ("prob", ("setosa", "versicolor", "virginica"))
    assert pellucid.wrap(fitted.predict_log_proba).scale == "logit"


@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifier_without_probabilities_is_read_at_its_decisions(iris, classes):
    from sklearn.svm import LinearSVC

    x, y = iris
    kept = np.isin(y, ["versicolor", "virginica"]) if classes == 2 else y != "none"
    x, y = x[kept][::9].to_numpy(), y[kept][::9]
    fitted = LinearSVC(dual=False).fit(x, y)
    e = pellucid.explain(fitted, x, methods.feature_ablation())
    d = fitted.decision_function(x)
    both = np.stack([-d, d], 1) if classes == 2 else d
    assert e.details["scale"] == "logit"
    np.testing.assert_allclose(e.outputs, both.max(1))
    assert [fitted.classes_[i] for i in e.target["index"]] == fitted.predict(x).tolist()
    expected = x * fitted.coef_[-1]
    np.testing.assert_allclose(pellucid.explain(fitted, x, "feature_ablation", target=classes - 1).values, expected)


def test_regressors_detectors_and_densities_are_values(iris):
    from sklearn.ensemble import IsolationForest
    from sklearn.linear_model import LinearRegression
    from sklearn.neighbors import KernelDensity

    x = iris[0].to_numpy()
    one = LinearRegression().fit(x[:, :3], x[:, 3])
    e = pellucid.explain(one, x[:5, :3], methods.feature_ablation())
    assert e.details["scale"] == "value"
    np.testing.assert_allclose(e.values, x[:5, :3] * one.coef_)
    two = LinearRegression().fit(x[:, :2], x[:, 2:])
    e = pellucid.explain(two, x[:5, :2], methods.feature_ablation(), target="all")
    np.testing.assert_allclose(e.values, x[:5, :2, None] * two.coef_.T)
    for fitted, name in (
        (IsolationForest(n_estimators=5, random_state=0).fit(x), "decision_function"),
        (KernelDensity().fit(x), "score_samples"),
    ):
        e = pellucid.explain(fitted, x[:5], methods.feature_ablation())
        np.testing.assert_allclose(e.outputs, getattr(fitted, name)(x[:5]))
        assert e.details["scale"] == "value"


def test_a_pipeline_on_text_columns_is_explained(iris):
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    people = pd.DataFrame(
        {
            "age": rng.integers(20, 70, 60),
            "city": rng.choice(["Oslo", "Rome", "Bonn"], 60),
            "size": pd.Categorical(rng.choice(["S", "M", "L"], 60)),
            "member": rng.random(60) < 0.5,
        }
    )
    y = np.where((people["city"] == "Oslo") ^ people["member"], "yes", "no")
    first = make_column_transformer((OneHotEncoder(), ["city", "size", "member"]), (StandardScaler(), ["age"]))
    trees = people.assign(city=people["city"].astype("category"))
    for data, estimator in (
        (people, make_pipeline(first, LogisticRegression())),
        (trees, HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype")),
    ):
        fitted = estimator.fit(data, y)
        background = data[10:14]
        e = pellucid.explain(fitted, data[:5], methods.feature_ablation(removal.marginal(background)), target="yes")
        assert e.feature_names == ("age", "city", "size", "member")
        for i, name in enumerate(data.columns):
            mixed = [
                data[:5].assign(**{name: data[name].iloc[[k] * 5].set_axis(data.index[:5])}) for k in range(10, 14)
            ]
            expected = fitted.predict_proba(data[:5])[:, 1] - np.mean([fitted.predict_proba(m)[:, 1] for m in mixed], 0)
            np.testing.assert_allclose(e.values[:, i], expected, atol=1e-12)
        with pytest.raises(BadInput, match="codes"):
            pellucid.explain(fitted, data[:5], methods.feature_ablation(np.full(4, 0.5)))


def unfitted():
    from sklearn import cluster, decomposition, ensemble, linear_model, multioutput, pipeline, preprocessing, svm

    x = np.random.default_rng(0).normal(size=(30, 3))
    y = np.arange(30) % 4
    vote = ensemble.VotingClassifier([("a", linear_model.RidgeClassifier()), ("b", linear_model.RidgeClassifier())])
    return {
        "not fitted": (linear_model.LogisticRegression(), "LogisticRegression is not fitted"),
        "pipeline not fitted": (pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC()), "SVC is not fitted"),
        "clusters": (cluster.KMeans(2, n_init=1).fit(x), "numbers of clusters"),
        "transformer": (decomposition.PCA().fit(x), "no predictions"),
        "labels only": (vote.fit(x, y), "labels and no scores"),
        "pairs of classes": (svm.SVC(decision_function_shape="ovo").fit(x, y), "ovr"),
        "several targets": (
            multioutput.MultiOutputClassifier(linear_model.LogisticRegression()).fit(x, np.stack([y > 1, y > 2], 1)),
            "list of 2 outputs",
        ),
    }  # fmt: skip


@pytest.mark.parametrize(("estimator", "words"), unfitted().values(), ids=unfitted())
def test_estimators_without_scores_are_refused(estimator, words):
    with pytest.raises(BadInput, match=words):
        pellucid.explain(estimator, X.numpy(), methods.feature_ablation())
