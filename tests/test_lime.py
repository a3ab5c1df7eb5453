"""lime and lime_tabular: closed forms, slow twins, standard errors, and what they refuse."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import truncnorm
from torch import nn

import pellucid
from pellucid import BadInput, Run, Unreliable, Unsupported, games, methods, players, removal
from pellucid.games.bins import Columns
from tests.reference import surrogates


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def normal(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def net(inputs, outputs=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs)).double().eval()


def calibrated(e, truth, low=0.93, high=0.97):
    from scipy.stats import t

    reach = t.ppf(0.975, e.details["degrees_of_freedom"]) * e.std_error
    covered = (np.abs(e.values - truth) <= reach).mean()
    return low < covered < high


# ---------------------------------------------------------------- lime


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize(("n", "budget", "alpha"), [(12, 60, 1.0), (18, 530, 0.3)])
def test_it_is_the_authors_regression_on_the_same_coalitions(n, budget, alpha, distance):
    model, x, width = net(n), rows(3, n), {"cosine": 0.25, "euclidean": 2.0}[distance]
    method = methods.lime(budget, width, alpha, distance, removal=0.5)
    e = pellucid.explain(model, x, method, target="all", seed=7, first_row=2)
    for row in range(3):
        s = surrogates.coalitions(n, budget, seed=7, row=2 + row)
        far = {"cosine": surrogates.cosine_distance, "euclidean": surrogates.euclidean_distance}[distance]
        weight = surrogates.kernel(np.array([far(each) for each in s]), width)
        scores = model(torch.where(torch.from_numpy(s), x[row], 0.5)).detach().numpy()
        for k in range(3):
            slopes, intercept, r2 = surrogates.fit(s, scores[:, k], weight, alpha)
            assert np.abs(e.values[row, :, k] - slopes).max() < 1e-11
            assert e.base_values[row, k] == pytest.approx(intercept, abs=1e-11)
            assert e.details["r2"][row, k] == pytest.approx(r2, abs=1e-11)
        if budget < 100:
            errors = surrogates.jackknife(s, scores[:, 1], weight, alpha, fixed=(0,))
            assert np.abs(e.std_error[row, :, 1] - errors).max() < 1e-10


@pytest.mark.parametrize("budget", [40, 2**10])
def test_an_additive_model_is_recovered_without_penalty(budget):
    weight, x = rows(10, seed=3) - 0.5, rows(2, 10)
    e = pellucid.explain(lambda z: z @ weight, x, methods.lime(budget, alpha=0, removal=0.2))
    assert np.abs(e.values - (weight * (x - 0.2)).numpy()).max() < 1e-12
    assert np.abs(e.base_values - 0.2 * float(weight.sum())).max() < 1e-12
    assert np.abs(e.details["r2"] - 1).max() < 1e-12
    assert e.std_error.max() < 1e-12


def test_the_penalty_matters_less_the_more_is_drawn():
    weight, x = rows(12, seed=3) - 0.5, rows(1, 12)
    gaps = []
    for budget in (100, 1000, 4000):
        e = pellucid.explain(lambda z: z @ weight, x, methods.lime(budget))
        gaps.append(np.abs(e.values - (weight * x).numpy()).max())
    assert gaps[0] > 5 * gaps[1] > 10 * gaps[2] > 0


def test_enumeration_is_the_weighted_fit_to_all_coalitions():
    model, x, budget, alpha = net(6), rows(2, 6), 640, 2.0
    e = pellucid.explain(model, x, methods.lime(budget, alpha=alpha), target=0)
    every = np.array(list(itertools.product([False, True], repeat=6)))
    weight = surrogates.kernel(np.array([surrogates.cosine_distance(s) for s in every]), 0.25) * budget / 64
    for row in range(2):
        scores = model(torch.from_numpy(every) * x[row])[:, 0].detach().numpy()
        slopes, intercept, r2 = surrogates.fit(every, scores, weight, alpha)
        assert np.abs(e.values[row] - slopes).max() < 1e-12
        assert e.base_values[row] == pytest.approx(intercept, abs=1e-12)
        assert e.details["r2"][row] == pytest.approx(r2, abs=1e-12)
    assert (e.std_error == 0).all()
    assert e.details["exact"]
    assert e.residual is None


def test_errors_are_calibrated_against_the_enumeration():
    """Rows that are alike have draws of their own, so 300 rows are 300 replicates."""
    model, x = net(8, 1, seed=1), rows(1, 8)
    truth = pellucid.explain(model, 3 * x, methods.lime(256, alpha=0)).values
    e = pellucid.explain(model, 3 * x.expand(300, -1), methods.lime(150, alpha=0), seed=3)
    assert calibrated(e, truth)


def test_a_random_background_enters_the_error():
    x, background = torch.ones(200, 6, dtype=torch.float64), rows(40, 6) * 4
    model = lambda z: z.sum(1)  # noqa: E731
    whole = pellucid.explain(model, x[:1], methods.lime(64, alpha=0, removal=removal.marginal(background)))
    drawn = pellucid.explain(model, x, methods.lime(200, alpha=0, removal=removal.marginal(background, draws=1)))
    assert drawn.details["std_error_covers"] == "the coalitions and the background"
    assert calibrated(drawn, whole.values)


def test_superpixels_of_a_picture():
    x = torch.zeros(2, 3, 24, 24)
    x[0, 0, 4:12, 5:17], x[1, :, 10:20, 2:9] = 1.0, 0.6
    model = lambda z: z.double().flatten(1).sum(1)  # noqa: E731
    chosen = methods.lime(400, alpha=0)
    by = pellucid.explain(model, x, chosen, players=players.segments(20))
    own = players.segments(20).divide(x, ("channel", "height", "width"), None)
    assert by.values.shape == (2, own.n)
    assert np.abs(by.values - own.gather(x.double()).numpy()).max() < 1e-10
    spread = pellucid.explain(model, x, chosen)
    assert spread.values.shape == x.shape
    assert np.abs(spread.map().sum((1, 2)) - x.double().sum((1, 2, 3)).numpy()).max() < 1e-9
    assert spread.details["segments"].shape == x.shape
    for row in range(2):
        for segment in np.unique(spread.details["segments"][row]):
            here = spread.details["segments"][row] == segment
            assert np.abs(spread.values[row][here] - x[row].double().numpy()[here].mean()).max() < 1e-10


@pytest.mark.parametrize("by", [None, players.segments(30)], ids=["its own superpixels", "given ones"])
def test_a_picture_alone_is_what_it_was_among_others(by):
    x = rows(3, 3, 20, 20).float()
    x[1, :, 5:15, 5:15] += 2
    model = lambda z: z.square().mean((1, 2, 3))  # noqa: E731
    together = pellucid.explain(model, x, methods.lime(200), players=by)
    for row in (0, 1, 2):
        alone = pellucid.explain(model, x[row : row + 1], methods.lime(200), players=by, first_row=row)
        n = alone.values.shape[1]
        assert np.allclose(together.values[row : row + 1, :n], alone.values, atol=1e-9)
        assert (together.values[row, n:] == 0).all()
        assert (together.std_error[row, n:] == 0).all()
        assert np.allclose(together.details["r2"][row], alone.details["r2"], atol=1e-6)


def test_words_by_the_id_of_a_mask_token():
    table = torch.tensor([0.0, 1.0, -2.0, 3.0, 0.5, 0.25])
    words = nn.Sequential(nn.Embedding.from_pretrained(table[:, None].double()), nn.Flatten())
    model = nn.Sequential(words, nn.Linear(7, 1, bias=False)).double().eval()
    model[1].weight.data.fill_(1.0)
    ids = torch.tensor([[1, 2, 3, 4, 4, 2, 1]])
    e = pellucid.explain(model, ids, methods.lime(100, alpha=0, removal=5), players=players.tokens())
    assert np.abs(e.values - (table[ids] - 0.25).numpy()).max() < 1e-12
    assert e.feature_names[2] == "token 2"


def test_sequences_and_signals_go_by_position():
    x, weight = rows(2, 3, 9), rows(3, 9, seed=4)
    e = pellucid.explain(lambda z: (z * weight).sum((1, 2)), x, methods.lime(512, alpha=0))
    assert e.values.shape == x.shape
    assert np.abs(e.map() - (x * weight).sum(1).numpy()).max() < 1e-11


def test_it_plays_any_game():
    game = games.FunctionGame(3, lambda s: s.double() @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 4)
    e = pellucid.play(game, methods.lime(alpha=0))
    assert np.allclose(e.values, [[1.0, -2.0, 0.5]])
    assert np.allclose(e.base_values, 4)
    assert np.allclose(e.details["r2"], 1)
    assert isinstance(e.details["r2"], np.ndarray)


def test_a_constant_has_no_slope_and_a_perfect_fit():
    e = pellucid.explain(lambda z: torch.full((len(z),), 0.1, dtype=z.dtype), rows(1, 15), methods.lime())
    assert np.abs(e.values).max() < 1e-15
    assert e.base_values[0] == pytest.approx(0.1, abs=1e-15)
    assert e.details["r2"][0] == 1.0


@pytest.mark.parametrize("batch_size", [1, 17])
def test_neither_the_batch_nor_the_other_rows_matter(batch_size):
    model, x = net(14), rows(5, 14)
    e = pellucid.explain(model, x, methods.lime(700), target=0, seed=3)
    again = pellucid.explain(model, x, methods.lime(700), target=0, seed=3, run=Run(batch_size=batch_size))
    assert np.abs(e.values - again.values).max() < 1e-12
    alone = pellucid.explain(model, x[3:4], methods.lime(700), target=0, seed=3, first_row=3)
    for name in ("values", "std_error", "base_values"):
        assert np.abs(getattr(e, name)[3:4] - getattr(alone, name)).max() < 1e-12
    same, other = (pellucid.explain(model, x, methods.lime(700), target=0, seed=s) for s in (3, 4))
    assert (same.values == e.values).all()
    assert (other.values != e.values).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0}, "lime: width must be positive"),
        ({"width": float("inf")}, "width must be positive"),
        ({"alpha": -1}, "alpha must be at least 0"),
        ({"distance": "manhattan"}, "'cosine' or 'euclidean', got 'manhattan'"),
        ({"budget": 6}, r"budget must be at least n \+ 1 = 7 coalitions for 6 players, got 6"),
        ({"budget": 0}, r"budget must be a whole number of at least n \+ 1 samples, got 0"),
        ({"budget": 99.5}, "budget must be a whole number"),
        ({"removal": "grey"}, "'grey' is not known"),
    ],
)
def test_settings_that_fit_nothing(options, says):
    with pytest.raises(BadInput, match=says):
        pellucid.explain(net(6), rows(1, 6), methods.lime(**options), target=0)


def test_too_many_players_are_refused_with_what_would_work():
    with pytest.raises(Unsupported, match=r"lime: 1200 players are too many.*players.segments\(50\).*rise\(\)"):
        pellucid.explain(lambda z: z.sum(1), rows(1, 1200), methods.lime(5000))


def test_a_narrow_kernel_says_that_nothing_is_left():
    with pytest.warns(Unreliable, match=r"with width=0.01 only about 1 samples of 300 carry weight, for 14"):
        pellucid.explain(net(14), rows(1, 14), methods.lime(300, width=0.01), target=0)


def test_too_few_draws_have_no_error():
    with pytest.warns(Unreliable) as said:
        e = pellucid.explain(net(14), rows(1, 14), methods.lime(15), target=0)
    assert np.isnan(e.std_error).all()
    assert np.isfinite(e.values).all()
    assert any("too few for a standard error" in str(each.message) for each in said)


# ---------------------------------------------------------------- lime_tabular

BACKGROUND = normal(203, 5, seed=8) * torch.tensor([1.0, 3.0, 0.2, 1.0, 1.0]) + torch.tensor([0.0, 5.0, 1.0, 0.0, 0.0])
BACKGROUND[:, 3] = (BACKGROUND[:, 3] > 0.4).double()  # one-hot: most quartiles coincide
BACKGROUND[:, 4] = BACKGROUND[:, 4].round()


def explained(x, discretise, budget=3000, model=None, **options):
    listening = surrogates.Listening(net(5, 3) if model is None else model)
    call = lambda z: listening(z).detach()  # noqa: E731
    method = methods.lime_tabular(BACKGROUND, budget, discretise, **options)
    e = pellucid.explain(call, x, method, target=[0, 2, 2, 1][: len(x)])
    return e, listening.samples(budget, len(x)), listening.function


@pytest.mark.parametrize("options", [{}, {"width": 0.9, "alpha": 0.0}])
@pytest.mark.parametrize("discretise", [True, False])
def test_it_is_the_authors_regression_on_the_same_samples(discretise, options):
    x = BACKGROUND[[3, 50, 100, 7]] + 0.01
    e, samples, model = explained(x, discretise, **options)
    background = BACKGROUND.numpy()
    width, alpha = options.get("width", 0.75 * math.sqrt(5)), options.get("alpha", 1.0)
    for row, target in enumerate([0, 2, 2, 1]):
        data = np.concatenate([x[row : row + 1].numpy(), samples])
        if discretise:
            bins = surrogates.quartile_bins(data, background)
            design = (bins == bins[0]).astype(float)
        else:
            design = (data - background.mean(0)) / background.std(0)
        weight = surrogates.kernel(np.linalg.norm(design - design[0], axis=1), width)
        scores = model(torch.from_numpy(data))[:, target].detach().numpy()
        slopes, intercept, r2 = surrogates.fit(design, scores, weight, alpha)
        assert np.abs(e.values[row] - slopes).max() < 1e-9
        assert e.base_values[row] == pytest.approx(intercept, abs=1e-9)
        assert e.details["r2"][row] == pytest.approx(r2, abs=1e-9)
    assert e.cost["forwards"] <= 3000 + 3 * 4


@pytest.mark.parametrize("discretise", [True, False])
def test_its_errors_are_those_of_leaving_samples_out(discretise):
    x = BACKGROUND[[3]]
    e, samples, model = explained(x, discretise, budget=80)
    data, background = np.concatenate([x.numpy(), samples]), BACKGROUND.numpy()
    bins = surrogates.quartile_bins(data, background)
    design = (bins == bins[0]) * 1.0 if discretise else (data - background.mean(0)) / background.std(0)
    weight = surrogates.kernel(np.linalg.norm(design - design[0], axis=1), 0.75 * math.sqrt(5))
    errors = surrogates.jackknife(design, model(torch.from_numpy(data))[:, 0].detach().numpy(), weight, 1.0, (0,))
    assert np.abs(e.std_error[0] - errors).max() < 1e-9


def test_samples_have_the_bins_of_the_background_and_normals_cut_to_them():
    """Each column by the authors' statistics: frequencies of bins, and in a bin the normal with its moments, cut."""
    columns = Columns.of(BACKGROUND, torch.zeros(5, dtype=torch.bool), discretise=True)
    background, points = BACKGROUND.numpy(), columns.points.numpy()
    assert len(points) >= 1024
    bins = surrogates.quartile_bins(background, background)
    assert (surrogates.quartile_bins(points, background) == _squeezed(columns.bins.numpy())).mean() > 0.999
    for column in range(5):
        edges = np.unique(np.percentile(background[:, column], [25, 50, 75]))
        ends = np.concatenate([[background[:, column].min()], edges, [background[:, column].max()]])
        mine = _squeezed(columns.bins.numpy())[:, column]
        for which in np.unique(bins[:, column]):
            inside, drawn = background[bins[:, column] == which, column], points[mine == which, column]
            assert len(drawn) / len(points) == pytest.approx(len(inside) / len(background))
            if inside.std() == 0:
                assert (drawn == inside[0]).all()
                continue
            low, high = ((end - inside.mean()) / inside.std() for end in ends[which : which + 2])
            cut = truncnorm(low, high, inside.mean(), inside.std())
            assert drawn.mean() == pytest.approx(cut.mean(), abs=0.01 * inside.std())
            assert drawn.std() == pytest.approx(cut.std(), rel=0.01)
            assert drawn.min() >= ends[which]
            assert drawn.max() <= ends[which + 1]


def _squeezed(bins):
    """Bins numbered without gaps, as edges that coincide leave none to the authors."""
    return np.stack([np.unique(column, return_inverse=True)[1] for column in bins.T], 1)


def test_what_it_says_of_a_model_additive_in_bins():
    """f counts columns in their lowest bin with weights: the slope is the gap to the mean of the other bins."""
    edges = torch.from_numpy(np.percentile(BACKGROUND.numpy(), 25, axis=0))
    weight = torch.tensor([1.0, -2.0, 3.0, 0.0, 0.0], dtype=torch.float64)
    x = torch.from_numpy(BACKGROUND.numpy().min(0, keepdims=True))
    method = methods.lime_tabular(BACKGROUND, 4000, alpha=0)
    e = pellucid.explain(lambda z: ((z <= edges) * weight).sum(1), x, method)
    assert np.abs(e.values - weight.numpy()).max() < 1e-10
    assert e.details["r2"][0] == pytest.approx(1)


def test_a_linear_model_in_standard_deviations():
    weight = torch.tensor([1.0, -2.0, 3.0, 0.5, 0.0], dtype=torch.float64)
    method = methods.lime_tabular(BACKGROUND, 2000, discretise=False, alpha=0)
    e = pellucid.explain(lambda z: z @ weight, BACKGROUND[:3], method)
    assert np.abs(e.values - weight.numpy() * BACKGROUND.numpy().std(0)).max() < 1e-10
    assert np.abs(e.base_values - float(BACKGROUND.mean(0) @ weight)).max() < 1e-10


def test_the_tangent_line_example():
    """f = 2 x₂² where x₁ > 0, else -x₂², at (-0.001, 1): the gradient in x₂ is -2. With its usual kernel LIME says
    about +1, the mean of both sides; samples that stay on the row's side give back the gradient."""
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    x = torch.tensor([[-0.001, 1.0]], dtype=torch.float64)
    model = lambda z: torch.where(z[:, 0] > 0, 2.0, -1.0) * z[:, 1] ** 2  # noqa: E731

    def slope(spread, **options):
        background = x + corners * torch.tensor(spread, dtype=torch.float64)
        e = pellucid.explain(model, x, methods.lime_tabular(background, 20000, False, alpha=0, **options))
        return e.values[0, 1] / spread[1], e.std_error[0, 1] / spread[1]

    usual, error = slope((1.0, 1.0))
    across = 2 * (3 * 0.5 * (1 + math.erf(-0.001 / math.sqrt(2) / (0.75 * math.sqrt(2) / math.hypot(1, 1.0607)))) - 1)
    assert usual == pytest.approx(across, abs=4 * error + 1e-3)
    assert 0.8 < usual < 1.2
    local, error = slope((0.0001, 0.05))
    assert local == pytest.approx(-2, abs=4 * error + 1e-3)


def test_its_errors_are_the_spread_between_seeds():
    x, model = BACKGROUND[[3]], net(5, 1, seed=4)
    every = [pellucid.explain(model, x, methods.lime_tabular(BACKGROUND, 400), seed=s) for s in range(60)]
    values, errors = (np.array([getattr(e, name)[0] for e in every]) for name in ("values", "std_error"))
    assert 0.85 < (values.std(0, ddof=1) / errors.mean(0)).mean() < 1.15


def test_rows_share_samples_and_still_stand_alone():
    model, x = net(5), BACKGROUND[:6]
    method = methods.lime_tabular(BACKGROUND, 3000)
    e = pellucid.explain(model, x, method, target=[0, 1, 2, 0, 1, 2])
    for row in (0, 4):
        alone = pellucid.explain(model, x[row : row + 1], method, target=[0, 1, 2, 0, 1, 2][row], first_row=row)
        for name in ("values", "std_error", "base_values"):
            assert np.abs(getattr(e, name)[row] - getattr(alone, name)[0]).max() < 1e-11
    again = pellucid.explain(model, x, method, target=[0, 1, 2, 0, 1, 2], run=Run(batch_size=37))
    assert np.abs(e.values - again.values).max() < 1e-11
    every = pellucid.explain(model, x, method, target="all")
    assert np.abs(every.values[1, :, 1] - e.values[1]).max() < 1e-11
    other = pellucid.explain(model, x, method, target=[0, 1, 2, 0, 1, 2], seed=1)
    assert (other.values != e.values).all()


def test_categories_are_drawn_by_frequency_and_compared():
    frame = pd.DataFrame({"size": np.linspace(0, 1, 60), "colour": ["red"] * 30 + ["blue"] * 20 + ["green"] * 10})
    effect = {"red": 0.0, "blue": 1.0, "green": 4.0}
    seen = []

    def model(f):
        seen.append(f)
        return f["colour"].map(effect).to_numpy(dtype=float)

    for discretise in (True, False):
        seen.clear()
        method = methods.lime_tabular(frame, 6000, discretise, alpha=0, width=100.0)
        e = pellucid.explain(model, frame.iloc[[45, 0]], method)
        drawn = pd.concat([f for f in seen if len(f) > 2])["colour"].value_counts(normalize=True)
        assert drawn["red"] == pytest.approx(1 / 2, abs=0.03)
        assert drawn["green"] == pytest.approx(1 / 6, abs=0.03)
        assert e.feature_names == ("size", "colour")
        # Blue against the others, red against the others; the kernel is nearly flat.
        others = (0.5 * 0 + 4 / 6) / (4 / 6), (1 / 3 + 4 / 6) / 0.5
        assert e.values[0, 1] == pytest.approx(1 - others[0], abs=5 * e.std_error[0, 1] + 1e-3)
        assert e.values[1, 1] == pytest.approx(0 - others[1], abs=5 * e.std_error[1, 1] + 1e-3)
        assert np.abs(e.values[:, 0]).max() < 5 * e.std_error[:, 0].max()


def test_a_constant_column_stays_and_says_nothing():
    background = torch.cat([BACKGROUND[:, :2], torch.full((203, 1), 7.0, dtype=torch.float64)], 1)
    for discretise in (True, False):
        seen = surrogates.Listening(lambda z: z.sum(1))
        method = methods.lime_tabular(background, 300, discretise)
        e = pellucid.explain(seen, background[:2], method)
        assert (seen.samples(300, 2)[:, 2] == 7).all()
        assert np.abs(e.values[:, 2]).max() < 1e-12


@pytest.mark.parametrize(
    ("background", "options", "says"),
    [
        (BACKGROUND[:, :4], {}, r"rows must be shaped like x, \(5,\); got \(4,\)"),
        (BACKGROUND[:1], {}, "background must have at least 2 rows, got 1"),
        (BACKGROUND[0], {}, "must be a batch of rows"),
        (BACKGROUND, {"budget": 5}, r"budget must be at least n \+ 1 = 6"),
        (BACKGROUND, {"width": -1.0}, "lime_tabular: width must be positive"),
        (BACKGROUND, {"alpha": -1.0}, "alpha must be at least 0"),
        (BACKGROUND.masked_fill(BACKGROUND > 8, torch.nan), {}, "NaN or infinite"),
    ],
)
def test_backgrounds_and_settings_that_do_not_fit(background, options, says):
    with pytest.raises(BadInput, match=says):
        pellucid.explain(net(5), BACKGROUND[:2], methods.lime_tabular(background, **options), target=0)


def test_what_is_no_table_is_refused_with_what_would_work():
    pictures = rows(2, 1, 6, 6)
    with pytest.raises(Unsupported, match=r"needs a table of numbers.*use lime\(\) or rise\(\)"):
        pellucid.explain(lambda z: z.sum((1, 2, 3)), pictures, methods.lime_tabular(pictures))
    with pytest.raises(Unsupported, match=r"columns are its players.*lime\(\) or kernel_shap\(\)"):
        pellucid.explain(net(5), BACKGROUND[:1], methods.lime_tabular(BACKGROUND), target=0, players=players.each())
