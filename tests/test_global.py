"""explain_global: Eqs. 3 and 4 of demijolla2020, against enumeration and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

import pellucid
from pellucid import BadInput, Run, Unreliable, Unsupported, methods, players, removal, spaces

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(40, 4, generator=GENERATOR, dtype=torch.float64)
BACKGROUND = torch.randn(12, 4, generator=GENERATOR, dtype=torch.float64)
Y = torch.randint(0, 3, (40,), generator=GENERATOR)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)]
    net = torch.nn.Sequential(*layers).double().eval()
    with torch.no_grad():
        net[0].weight[:, 3] = 0  # the last column does nothing
        net[2].weight *= 4
    return net


def literal(net):
    """Eq. 3 by its definition: every row, coalition and background row, one at a time."""
    n, total = 4, np.zeros(4)
    with torch.no_grad():

        def f(x, y):
            return float(net(x[None]).softmax(1)[0, y])

        for x, y in zip(X[:6], Y[:6], strict=True):
            for i in range(n):
                for size in range(n):
                    for members in itertools.combinations([j for j in range(n) if j != i], size):
                        weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                        for other in BACKGROUND:
                            without = other.clone()
                            without[list(members)] = x[list(members)]
                            with_i = without.clone()
                            with_i[i] = x[i]
                            total[i] += weight * (f(with_i, y) - f(without, y)) / len(BACKGROUND)
    return total / 6


def test_values_are_the_mean_local_values_of_the_true_label(net):
    g = pellucid.explain_global(net, X[:6], Y[:6], methods.exact_shapley(removal.marginal(BACKGROUND)))
    assert np.allclose(g.values[0], literal(net), atol=1e-12)
    assert g.values.shape == g.std_error.shape == (1, 4)
    assert g.details["scope"] == "global"
    assert g.details["std_error_covers"] == "the rows"


def test_the_base_is_over_all_pairs_of_a_label_and_a_background_row(net):
    g = pellucid.explain_global(net, X, Y, methods.exact_shapley(removal.marginal(BACKGROUND)))
    with torch.no_grad():
        outputs = net(X).softmax(1)[torch.arange(40), Y].mean()
        base = torch.stack([net(BACKGROUND).softmax(1)[:, y] for y in Y]).mean()
    assert g.outputs[0] == pytest.approx(float(outputs), abs=1e-14)
    assert g.base_values[0] == pytest.approx(float(base), abs=1e-14)
    assert g.residual[0] < 1e-12
    rule = g.details["sum_rule"]
    assert rule["sum"] == pytest.approx(rule["outputs"] - rule["base"], abs=1e-12)


@pytest.mark.parametrize(
    ("budget", "draws"), [(5, 1), (14, 1), (14, 3)], ids=["one order a row", "one pair a row", "three backgrounds"]
)
def test_sampled_values_are_within_their_errors_and_sum_exactly(net, budget, draws):
    exact = pellucid.explain_global(net, X, Y, methods.exact_shapley(removal.marginal(BACKGROUND)))
    method = methods.permutation_shapley(budget, removal=removal.marginal(BACKGROUND, draws=draws))
    every = [pellucid.explain_global(net, X, Y, method, seed=seed) for seed in range(8)]
    errors = np.stack([(g.values - exact.values)[0, :3] / g.std_error[0, :3] for g in every])
    assert np.abs(errors).max() < 3.5
    assert np.abs(np.stack([g.values[0, 3] for g in every])).max() < 1e-15  # a column that does nothing
    assert max(g.residual[0] for g in every) < 1e-12
    assert every[0].base_values[0] == pytest.approx(exact.base_values[0], abs=1e-14)
    rule = np.stack([g.details["sum_rule"]["difference"] / g.details["sum_rule"]["std_error"] for g in every])
    assert 0 < np.abs(rule).max() < 3.5  # before what is left over was regressed out
    assert every[0].details["std_error_covers"] == "the rows, the coalitions and the background"


def test_local_values_are_kept_beside_the_global_ones(net):
    method = methods.permutation_shapley(14, removal=removal.marginal(BACKGROUND))
    g = pellucid.explain_global(net, X, Y, method, seed=3)
    local = pellucid.explain(net, X, method, pellucid.Target(Y, read="prob"), seed=3)
    kept = g.details["local"]
    assert np.array_equal(kept["values"], local.values)
    assert np.array_equal(kept["std_error"], local.std_error)
    assert np.array_equal(kept["y"], Y.numpy())
    assert np.array_equal(kept["coordinates"], X.numpy())
    assert np.allclose(g.values[0], local.values.mean(0), atol=1e-15)  # nothing of the background is sampled
    assert np.allclose(g.std_error[0], local.values.std(0, ddof=1) / 40**0.5)


def test_it_comes_back_from_a_file_and_works_as_any_explanation(net, tmp_path):
    g = pellucid.explain_global(net, X, Y, methods.permutation_shapley(14, removal=removal.marginal(BACKGROUND, 2)))
    g.save(tmp_path / "g.npz")
    assert pellucid.load(tmp_path / "g.npz") == g
    assert len(g) == 1
    assert g[0] == g
    assert g.map().shape == (1, 4)
    assert list(g.top(2)["feature"]) == [f"x{i}" for i in np.argsort(-np.abs(g.values[0]))[:2]]


@pytest.mark.parametrize("method", ["feature_ablation", "saliency", "integrated_gradients", "grad_cam"])
def test_any_local_method_can_be_averaged(method):
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2)]
    net = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(8, 3)).double().eval()
    x, y = torch.rand(5, 1, 6, 6, dtype=torch.float64), [0, 1, 2, 0, 1]
    g = pellucid.explain_global(net, x, y, method)
    local = pellucid.explain(net, x, method, pellucid.Target(y, read="prob"))
    assert np.allclose(g.values, local.values.mean(0, keepdims=True))
    assert g.dims == local.dims
    assert (g.residual is None) == (local.residual is None)


def test_labels_may_be_names_and_x_a_table(net):
    wrapped = pellucid.wrap(net, labels=["a", "b", "c"])
    method = methods.exact_shapley(removal.marginal(BACKGROUND))
    frame = pd.DataFrame(X.numpy(), columns=list("wxyz"))
    g = pellucid.explain_global(wrapped, frame, pd.Series(["abc"[y] for y in Y]), method)
    assert np.allclose(g.values, pellucid.explain_global(net, X, Y, method).values)
    assert g.feature_names == ("w", "x", "y", "z")


def test_one_hot_rules_are_read_as_accuracy_above_the_class_balance():
    rule = pellucid.wrap(lambda x: torch.nn.functional.one_hot((x[:, 0] > 0).long(), 2).double(), scale="prob")
    x = torch.tensor([[1.0, 5.0], [-1.0, 5.0], [2.0, 0.0], [3.0, 1.0]]).double()
    g = pellucid.explain_global(rule, x, [1, 0, 1, 0], methods.exact_shapley(removal.marginal(x)))
    assert g.outputs[0] == 0.75  # the rule is right on three of four rows
    assert g.base_values[0] == 0.5 * 0.75 + 0.5 * 0.25
    assert np.allclose(g.values, [[0.25, 0.0]])


def test_rows_are_taken_until_the_errors_are_under_a_tolerance(net):
    x = torch.randn(400, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = net(x).argmax(1).sort().indices  # any labels: sorted data must not matter
    method = methods.permutation_shapley(14, removal=removal.marginal(BACKGROUND, draws=1))
    g = pellucid.explain_global(net, x, y % 3, method, tolerance=0.03)
    rows = g.details["local"]["rows"]
    assert 50 <= g.details["rows"] == len(rows) < 400
    assert g.std_error.max() <= 0.032  # by regression the errors move a little
    assert len(set(rows.tolist())) == len(rows)
    assert not np.array_equal(rows, np.sort(rows))
    assert np.array_equal(g.details["local"]["coordinates"], x[rows].numpy())
    with pytest.warns(Unreliable, match="tolerance"):
        pellucid.explain_global(net, x[:60], y[:60] % 3, method, tolerance=1e-4)


def test_in_a_space_both_sides_are_read_at_the_reconstructions(net):
    codec = spaces.decoder(lambda x: x[:, :3], lambda z: torch.cat([z, z[:, :1]], 1), names=["a", "b", "c"])
    g = pellucid.explain_global(net, X, Y, methods.exact_shapley(removal.marginal(BACKGROUND)), space=codec)
    with torch.no_grad():
        back = torch.cat([X[:, :3], X[:, :1]], 1)
        at, there = (net(rows).softmax(1)[torch.arange(40), Y].mean() for rows in (X, back))
    assert g.feature_names == ("a", "b", "c")
    assert g.outputs[0] == pytest.approx(float(there))
    assert g.details["reconstruction_gap"][0] == pytest.approx(float(at - there), abs=1e-12)
    assert g.residual[0] < 1e-12


def test_a_job_is_stored_and_gives_the_same_numbers(net, tmp_path):
    method = methods.permutation_shapley(14, removal=removal.marginal(BACKGROUND, draws=1))
    plain = pellucid.explain_global(net, X, Y, method)
    for _ in range(2):
        stored = pellucid.explain_global(net, X, Y, method, run=Run(store=tmp_path))
        assert np.array_equal(stored.values, plain.values)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y[:-1], "one class for each of the 40 rows"),
        (Y[:, None], "one class for each of the 40 rows"),
        (Y + 1, "column 3 is out of range"),
        (["a"] * 40, "no labels"),
        (Y + 0.5, "whole numbers or labels"),
        (Y > 1, "whole numbers or labels"),
    ],
    ids=["short", "a column", "out of range", "a name", "fractions", "bools"],
)
def test_labels_that_do_not_fit_are_named(net, y, words):
    with pytest.raises(BadInput, match=words):
        pellucid.explain_global(net, X, y, methods.feature_ablation())


def test_what_has_no_mean_over_rows_is_refused(net):
    by_row = players.Players(torch.arange(2).repeat(40, 2), ("a", "b"), by_row=True)
    with pytest.raises(Unsupported, match="no mean over rows"):
        pellucid.explain_global(net, X, Y, methods.feature_ablation(), players=by_row.labels)
    one = pellucid.wrap(lambda x: x[:, :1].sigmoid(), scale="prob")
    with pytest.raises(BadInput, match="one column for two classes"):
        pellucid.explain_global(one, X, Y % 2, methods.feature_ablation())
    with pytest.raises(BadInput, match="tolerance"):
        pellucid.explain_global(net, X, Y, methods.feature_ablation(), tolerance=0.0)


def test_one_row_has_no_error(net):
    with pytest.warns(Unreliable, match="one row"):
        g = pellucid.explain_global(net, X[:1], Y[:1], methods.feature_ablation())
    assert np.isnan(g.std_error).all()


def test_a_global_explanation_is_not_scored_as_one_of_a_row(net):
    e = pellucid.explain_global(net, X, Y, methods.exact_shapley(removal.marginal(BACKGROUND)))
    with pytest.raises(BadInput, match="is global, an average over rows"):
        pellucid.evaluate(net, e, ["insertion"])
