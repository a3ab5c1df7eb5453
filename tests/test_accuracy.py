"""What the gradient methods say of their own error: tolerance and standard errors."""

import numpy as np
import pytest
import torch
from scipy import stats

import pellucid
from pellucid import Unreliable, methods
from pellucid.gradients.paths import PathIntegral
from tests.reference import nets


def ramp(x):
    """A bend in each feature, at different places on the way: Σ_i c_i ReLU(x_i - 0.3 - 0.1 i)."""
    place = 0.3 + 0.1 * torch.arange(x.shape[1], dtype=x.dtype)
    return (torch.relu(x - place) * torch.arange(1, x.shape[1] + 1, dtype=x.dtype)).sum(1)


# ---------------------------------------------------------------- tolerance


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
def test_a_tolerance_is_kept_and_reported(tolerance):
    x = torch.rand(20, 3, dtype=torch.float64) + 0.7
    e = pellucid.explain(ramp, x, methods.integrated_gradients(steps=4, tolerance=tolerance), target=0)
    gap = np.abs(e.outputs - e.base_values)
    truth = torch.relu(x - torch.tensor([0.3, 0.4, 0.5])) * torch.tensor([1.0, 2.0, 3.0])
    assert (e.residual <= tolerance * gap).all()
    assert (np.abs(e.values - truth.numpy()).max(1) <= 2 * tolerance * gap).all()
    used = e.details["steps_used"]
    assert used.shape == (20,)
    assert "steps_used" in e.details["by_row"]
    # Panels double: 4 + 8 + 16 + ... evaluations.
    assert set(used.tolist()) <= {4 * (2**k - 1) for k in range(2, 12)}
    assert len(set(used.tolist())) > 1, "rows stop one by one"
    assert e.cost["backwards"] == used.sum()


def test_a_finer_tolerance_costs_more():
    x = torch.rand(20, 3, dtype=torch.float64) + 0.7
    coarse, fine = (
        pellucid.explain(ramp, x, methods.integrated_gradients(steps=4, tolerance=t), target=0) for t in (1e-2, 1e-3)
    )
    assert (fine.details["steps_used"] >= coarse.details["steps_used"]).all()
    assert fine.cost["backwards"] > 3 * coarse.cost["backwards"]


def test_smooth_rows_stop_at_once():
    net, x = nets.smooth_mlp(), torch.randn(4, 4, dtype=torch.float64)
    e = pellucid.explain(net, x, methods.integrated_gradients(steps=16, tolerance=1e-6), target=0)
    assert (e.details["steps_used"] == 48).all()
    assert e.residual_relative.max() <= 1e-6


@pytest.mark.filterwarnings("ignore:integrated_gradients. values miss their sum")
def test_a_tolerance_out_of_reach_is_warned_of():
    def cliff(x):
        return torch.sigmoid(1e7 * (x[:, 0] - 0.3))

    method = methods.integrated_gradients(steps=4, tolerance=1e-3)
    assert isinstance(method, PathIntegral)
    with pytest.warns(Unreliable, match=r"1 of 2 rows did not reach tolerance 0.001 within 4096 steps") as caught:
        e = pellucid.explain(cliff, torch.tensor([[1.0], [0.2]], dtype=torch.float64), method, target=0)
    assert e.details["steps_used"].max() == 4 * (2**11 - 1)
    assert e.residual_relative[0] > 1e-3
    assert len([w for w in caught if "did not reach" in str(w.message)]) == 1


def test_one_row_is_told_from_the_others():
    """A row that needs many steps changes neither the numbers nor the steps of one that does not."""
    hard, easy = torch.tensor([[0.9, 0.93, 0.97]]).double(), torch.tensor([[0.2, 0.2, 0.2]]).double()
    method = methods.integrated_gradients(steps=4, tolerance=1e-3)
    net = nets.smooth_mlp(features=3)
    together = pellucid.explain(lambda x: ramp(x) + 0.1 * net(x)[:, 0], torch.cat([hard, easy]), method, target=0)
    alone = pellucid.explain(lambda x: ramp(x) + 0.1 * net(x)[:, 0], easy, method, target=0)
    np.testing.assert_allclose(together.values[1:], alone.values, rtol=0, atol=1e-14)
    assert together.details["steps_used"][1] == alone.details["steps_used"][0] < together.details["steps_used"][0]


# ---------------------------------------------------------------- standard errors


def covered(values, errors, truth, freedom):
    """How many of the nominal 95 % intervals hold the truth, and of how many."""
    hit = np.abs(values - truth) <= stats.t.ppf(0.975, freedom) * errors
    return int(hit.sum()), hit.size


def check_coverage(hits, trials, p=0.95, alternative="two-sided"):
    assert stats.binomtest(hits, trials, p, alternative).pvalue > 1e-3, f"{hits} of {trials} = {hits / trials:.3f}"


def quadratic(features=6):
    a = torch.randn(features, features, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return a + a.T


def smooth_grad_coverage(repeats, samples, seed=0):
    """The slope of a quadratic under Gaussian noise is Gaussian, so t-intervals are exact; rows are the repeats."""
    a = quadratic()
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).expand(repeats, 6)
    e = pellucid.explain(lambda x: ((x @ a) * x).sum(1) / 2, x, methods.smooth_grad(samples, 0.3), target=0, seed=seed)
    return covered(e.values, e.std_error, (x @ a).numpy(), samples - 1)


def expected_gradients_coverage(repeats, samples, seed=0):
    """By strata: the error is that of alpha; the truth is the closed form for a quadratic."""
    a = quadratic()
    background = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).expand(repeats, 6)
    method = methods.expected_gradients(background, samples)
    e = pellucid.explain(lambda x: ((x @ a) * x).sum(1) / 2, x, method, target=0, seed=seed)
    truth = sum((x[0] - b) * (a @ (x[0] + b) / 2) for b in background) / 5
    return covered(e.values, e.std_error, truth.numpy(), samples - 5)


def drawn_background_coverage(repeats, samples, seed=0):
    """Few draws from many background rows, f linear: the error is that of the background."""
    background = torch.randn(3000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).expand(repeats, 6)
    weight = torch.arange(1, 7, dtype=torch.float64)
    e = pellucid.explain(lambda x: x @ weight, x, methods.expected_gradients(background, samples), target=0, seed=seed)
    return covered(e.values, e.std_error, (weight * (x[0] - background.mean(0))).numpy(), samples - 1)


@pytest.mark.parametrize("samples", [3, 20])
def test_standard_errors_of_smooth_grad_are_calibrated(samples):
    check_coverage(*smooth_grad_coverage(400, samples))


def test_standard_errors_of_expected_gradients_are_calibrated():
    check_coverage(*expected_gradients_coverage(300, 60))


def test_standard_errors_count_a_background_that_is_drawn():
    check_coverage(*drawn_background_coverage(300, 20))


def test_an_error_that_is_too_small_would_be_seen():
    """The check itself: intervals a tenth too short are told from right ones."""
    a, truth = np.random.default_rng(0).normal(size=(2400, 20)), 0.0
    errors = a.std(1, ddof=1) / 20**0.5
    check_coverage(*covered(a.mean(1), errors, truth, 19))
    with pytest.raises(AssertionError):
        check_coverage(*covered(a.mean(1), 0.9 * errors, truth, 19))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_standard_errors_are_calibrated_at_length(seed):
    """5 seeds x 4 cells of 6,000 intervals or more; 1e-3 is Holm's first step at 2 % for 20 cells.

    Background rows differ in how much they vary, so that with few draws of each (the fast test has 12) t-intervals of
    expected gradients hold a little less; here are 120.
    """
    check_coverage(*smooth_grad_coverage(4000, 3, seed))
    check_coverage(*smooth_grad_coverage(2000, 50, seed))
    check_coverage(*expected_gradients_coverage(1000, 600, seed))
    check_coverage(*drawn_background_coverage(2000, 20, seed))


def test_fewer_than_two_draws_have_no_error():
    for method in (methods.smooth_grad(samples=1), methods.expected_gradients(torch.zeros(2, 3), samples=1)):
        with pytest.warns(Unreliable, match=rf"{method.name}: one draw has no standard error \(NaN\); raise samples"):
            e = pellucid.explain(ramp, torch.rand(2, 3), method, target=0)
        assert np.isnan(e.std_error).all()
        assert np.isfinite(e.values).all()
