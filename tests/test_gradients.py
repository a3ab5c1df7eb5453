"""Gradient methods against slow twins, closed forms, axioms and captum."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import Target, Unreliable, methods, players, removal
from pellucid.core import rng
from tests.reference import gradients as slow
from tests.reference import nets

# Few steps on a kinked net leave a residual, and explain says so; these tests compare the numbers as they are.
rough = pytest.mark.filterwarnings("ignore:integrated_gradients. values miss their sum")

RULES = ("gauss_legendre", "trapezoid", "left", "right")


def rows(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def of(function, x, method, **options):
    """The values of a plain function of one output."""
    return pellucid.explain(function, x, method, **{"target": 0, **options})


def scalar(net, column):
    return lambda x: net(x)[:, column]


# ---------------------------------------------------------------- slow twins


@pytest.mark.parametrize("column", [0, 2])
def test_saliency_is_the_slope_by_differences(column):
    net = nets.smooth_mlp()
    x = torch.randn(3, 4, dtype=torch.float64)
    e = of(net, x, methods.saliency(), target=column)
    times = of(net, x, methods.input_x_gradient(), target=column)
    for row in range(3):
        expected = slow.slope(scalar(net, column), x[row])
        np.testing.assert_allclose(e.values[row], expected.detach(), rtol=0, atol=1e-8)
        np.testing.assert_allclose(times.values[row], (x[row] * expected).detach(), rtol=0, atol=1e-8)
    assert (e.values < 0).any(), "the sign is kept"


@rough
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 7])
@pytest.mark.parametrize("start", [0.0, 0.3, "array", "by row"])
def test_integrated_gradients_equal_their_slow_twin(rule, steps, start):
    net = nets.deep_relu()
    x = torch.randn(3, 6, dtype=torch.float64)
    given = {"array": torch.linspace(-1, 1, 6, dtype=torch.float64), "by row": x.flip(0) / 2}.get(start, start)
    e = of(net, x, methods.integrated_gradients(steps, given, rule), target=[0, 1, 2])
    for row in range(3):
        b = given[row] if start == "by row" else torch.as_tensor(given, dtype=torch.float64).expand(6)
        expected = slow.integrated_gradients(scalar(net, row), x[row], b, rule, steps)
        np.testing.assert_allclose(e.values[row], expected, rtol=0, atol=1e-13)
        ends = slow.value(scalar(net, row), x[row]), slow.value(scalar(net, row), b)
        np.testing.assert_allclose([e.outputs[row], e.base_values[row]], ends, rtol=0, atol=1e-14)
        gap = abs(float(expected.sum()) - (ends[0] - ends[1]))
        np.testing.assert_allclose(e.residual[row], gap, rtol=0, atol=1e-13)


def test_integrated_gradients_from_a_background_are_the_mean_over_it():
    net, x = nets.smooth_mlp(), torch.randn(2, 4, dtype=torch.float64)
    background = torch.randn(3, 4, dtype=torch.float64)
    e = of(net, x, methods.integrated_gradients(5, removal.marginal(background)), target=1)
    for row in range(2):
        each = [slow.integrated_gradients(scalar(net, 1), x[row], b, "gauss_legendre", 5) for b in background]
        np.testing.assert_allclose(e.values[row], sum(each) / 3, rtol=0, atol=1e-13)
    np.testing.assert_allclose(e.base_values, net(background)[:, 1].mean().item(), atol=1e-14)


@pytest.mark.parametrize("first_row", [0, 5])
def test_smooth_grad_equals_its_slow_twin_on_the_same_draws(first_row):
    net, x = nets.deep_relu(), torch.randn(3, 6, dtype=torch.float64)
    e = of(net, x, methods.smooth_grad(samples=7, sigma=0.4), target=1, seed=3, first_row=first_row)
    for row in range(3):
        noise = [rng.normal(3, "smooth_grad", draw, first_row + row, 1, 6)[0] for draw in range(7)]
        expected = slow.smooth_grad(scalar(net, 1), x[row], noise, 0.4)
        np.testing.assert_allclose(e.values[row], expected, rtol=0, atol=1e-13)


def strata(samples, size):
    """How many draws each background row gets."""
    return [samples // size + (index < samples % size) for index in range(size)]


@pytest.mark.parametrize("samples", [6, 10, 11])
def test_expected_gradients_equal_their_slow_twin_by_strata(samples):
    """From two draws a background row on, each row is a stratum; the strata weigh the same."""
    net, x = nets.deep_relu(), torch.randn(2, 6, dtype=torch.float64)
    background = torch.randn(3, 6, dtype=torch.float64)
    e = of(net, x, methods.expected_gradients(background, samples), target=0, seed=4)
    assert e.details["stratified"] is True
    for row in range(2):
        draw, means = 0, []
        for b, count in zip(background, strata(samples, 3), strict=True):
            alphas = [rng.uniform(4, "expected_gradients", draw + k, row, 1, 1)[0, 0] for k in range(count)]
            draw += count
            means.append(slow.expected_gradients(scalar(net, 0), x[row], [b] * count, alphas))
        np.testing.assert_allclose(e.values[row], sum(means) / 3, rtol=0, atol=1e-13)
    np.testing.assert_allclose(e.base_values, net(background)[:, 0].mean().item(), atol=1e-14)


def test_expected_gradients_with_few_samples_pass_through_the_background_evenly():
    """With a linear f, each draw contributes w (x - b): the rows that were used can be read off."""
    weight, background = rows(1.0, -2.0), torch.randn(5, 2, dtype=torch.float64)
    e = of(lambda x: x @ weight, rows([0.5, 2.0]), methods.expected_gradients(background, samples=9), seed=1)
    first = background.sum(0)  # one whole pass
    rest = [first + sum(pair) for pair in itertools.combinations(background, 4)]
    choices = torch.stack([weight * (rows(0.5, 2.0) - total / 9) for total in rest])
    assert e.details["stratified"] is False
    assert float((choices - torch.from_numpy(e.values)).abs().sum(1).min()) < 1e-14


# ---------------------------------------------------------------- closed forms


def test_a_product_is_shared_equally():
    x = rows([3.0, 2.0], [-1.0, 4.0])
    for rule in ("gauss_legendre", "trapezoid"):
        e = of(lambda x: x[:, 0] * x[:, 1], x, methods.integrated_gradients(steps=2, rule=rule))
        np.testing.assert_allclose(e.values, [[3.0, 3.0], [-2.0, -2.0]], rtol=0, atol=1e-15)
        assert e.residual.max() < 1e-15


def bend(x):
    """F = 1 - ReLU(1 - x): flat from x = 1 on."""
    return 1 - torch.relu(1 - x[:, 0])


def test_integrated_gradients_see_past_saturation():
    x = rows([2.0])
    assert of(bend, x, methods.saliency()).values == 0
    assert of(bend, x, methods.integrated_gradients(steps=50, rule="left")).values == pytest.approx(1.0, abs=1e-15)
    negative = of(lambda x: torch.relu(1 - x[:, 0]), x, methods.integrated_gradients(50, rule="left"))
    assert negative.values == pytest.approx(-1.0, abs=1e-15)


@rough
@pytest.mark.parametrize(("intervals", "expected"), [(10, 0.90), (50, 0.98)])
def test_the_trapezoid_rule_pays_for_the_bend(intervals, expected):
    e = of(bend, rows([2.0]), methods.integrated_gradients(intervals + 1, rule="trapezoid"))
    assert e.values == pytest.approx(expected, abs=1e-15)
    assert e.residual == pytest.approx(1 - expected, abs=1e-15)


def test_a_residual_that_matters_is_warned_of():
    with pytest.warns(
        Unreliable, match=r"integrated_gradients: values miss their sum by 10% .* worst row; raise steps"
    ):
        of(bend, rows([2.0]), methods.integrated_gradients(11, rule="trapezoid"))


def test_a_quadratic_is_exact_by_the_trapezoid_rule():
    a = torch.randn(3, 3, dtype=torch.float64)
    x, b = torch.randn(2, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    e = of(lambda x: ((x @ a) * x).sum(1), x, methods.integrated_gradients(2, b, rule="trapezoid"))
    expected = (x - b) * ((x + b) / 2 @ (a + a.T))
    np.testing.assert_allclose(e.values, expected, rtol=0, atol=1e-13)
    assert e.residual.max() < 1e-13


@pytest.mark.parametrize("samples", [10, 11, 24])
def test_on_a_linear_model_everything_is_w_times_the_distance(samples):
    net = nn.Linear(3, 2).double().eval()
    x, background = torch.randn(4, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    weight, b = net.weight[1].detach(), rows(0.5, -1.0, 2.0)
    for rule in RULES:
        e = of(net, x, methods.integrated_gradients(3, b, rule=rule), target=1)
        np.testing.assert_allclose(e.values, weight * (x - b), rtol=0, atol=1e-14)
        assert e.residual.max() < 1e-14
    e = of(net, x, methods.integrated_gradients(3, removal.marginal(background)), target=1)
    np.testing.assert_allclose(e.values, weight * (x - background.mean(0)), rtol=0, atol=1e-14)
    e = of(net, x, methods.expected_gradients(background, samples), target=1)
    np.testing.assert_allclose(e.values, weight * (x - background.mean(0)), rtol=0, atol=1e-14)
    np.testing.assert_allclose(e.std_error, 0, atol=1e-15)
    assert e.residual.max() < 1e-14
    np.testing.assert_allclose(of(net, x, methods.smooth_grad(3), target=1).values, weight.expand(4, 3), atol=1e-14)
    np.testing.assert_allclose(of(net, x, methods.input_x_gradient(), target=1).values, weight * x, atol=1e-14)


def test_the_noise_of_smooth_grad_has_the_size_asked_for():
    """For Σ x³ the mean gradient under noise of variance s² is 3 (x² + s²), with s = sigma times the row's range."""
    x = rows([-1.0, 0.0, 3.0]).expand(4000, 3)
    e = of(lambda x: (x**3).sum(1), x, methods.smooth_grad(samples=4, sigma=0.25))
    mean, spread = e.values.mean(0), e.values.std(0) / 4000**0.5
    assert (np.abs(mean - 3 * (np.array([1, 0, 9]) + 1.0)) < 4 * spread).all()
    assert spread.max() < 0.2


# ---------------------------------------------------------------- axioms

ADDING = {
    "integrated_gradients": lambda: methods.integrated_gradients(steps=40, baseline=0.2),
    "expected_gradients": lambda: methods.expected_gradients(torch.full((1, 4), 0.2), samples=40),
}
NETS = range(3)


@pytest.mark.parametrize("seed", NETS)
def test_values_add_up_on_smooth_nets(seed):
    net, x = nets.smooth_mlp(seed=seed), torch.randn(5, 4, dtype=torch.float64)
    e = of(net, x, methods.integrated_gradients(steps=64), target=[0, 1, 2, 0, 1])
    np.testing.assert_allclose(e.values.sum(1), e.outputs - e.base_values, rtol=0, atol=1e-4)
    assert e.residual.max() <= 1e-4
    assert e.residual_relative.max() <= 1e-4


@pytest.mark.parametrize("make", ADDING.values(), ids=ADDING)
def test_a_feature_that_does_nothing_gets_nothing(make):
    net, x = nets.smooth_mlp(features=3), torch.randn(3, 4, dtype=torch.float64)
    e = of(lambda x: net(x[:, [0, 1, 3]]), x, make(), target=1)
    assert (e.values[:, 2] == 0).all()
    assert (np.abs(e.values[:, [0, 1, 3]]) > 0).all()


@pytest.mark.parametrize("make", ADDING.values(), ids=ADDING)
def test_features_that_do_the_same_get_the_same(make):
    x = torch.randn(3, 4, dtype=torch.float64)
    x[:, 1] = x[:, 0]
    e = of(lambda x: torch.sin(x[:, 0]) * torch.sin(x[:, 1]) + x[:, 2] ** 3 * (x[:, 0] + x[:, 1]), x, make())
    np.testing.assert_allclose(e.values[:, 0], e.values[:, 1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", [*ADDING, "saliency", "input_x_gradient", "smooth_grad"])
def test_a_mixture_of_models_gets_the_mixture_of_values(name):
    f, g = nets.smooth_mlp(seed=1), nets.smooth_mlp(seed=2)
    x = torch.randn(3, 4, dtype=torch.float64)
    method = ADDING[name]() if name in ADDING else getattr(methods, name)()
    one, two, both = (of(m, x, method, target=0).values for m in (f, g, lambda x: 2 * f(x) - 3 * g(x)))
    np.testing.assert_allclose(both, 2 * one - 3 * two, rtol=0, atol=1e-12)


@rough
@pytest.mark.parametrize("name", [*ADDING, "saliency", "input_x_gradient", "smooth_grad"])
def test_the_way_a_function_is_written_does_not_matter(name):
    net, x = nets.deep_relu(), torch.randn(3, 6, dtype=torch.float64)
    first, rest = net[0], net[2:]
    method = methods.expected_gradients(torch.zeros(1, 6), 20) if name == "expected_gradients" else None
    method = method or getattr(methods, name)()

    def rewritten(x):
        hidden = x.clone()
        hidden = hidden @ first.weight.T / 2 + (first.bias + hidden @ first.weight.T) / 2 + first.bias / 2
        return rest((hidden + hidden.abs()) / 2)

    one, two = (of(m, x, method, target=2).values for m in (net, rewritten))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)


# ---------------------------------------------------------------- captum


def conv_net():
    return nets.pooled(inplace=False).double(), torch.rand(3, 3, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saliency_agrees_with_captum(dtype):
    from captum.attr import InputXGradient, Saliency

    net, x = conv_net()
    net, x, target = net.to(dtype), x.to(dtype), [0, 3, 1]
    slope = Saliency(net).attribute(x, target=target, abs=False)
    np.testing.assert_allclose(of(net, x, methods.saliency(), target=target).values, slope.detach(), atol=1e-5)
    times = InputXGradient(net).attribute(x, target=target)
    np.testing.assert_allclose(of(net, x, methods.input_x_gradient(), target=target).values, times.detach(), atol=1e-5)


@rough
@pytest.mark.parametrize(
    ("ours", "theirs", "factor"),
    [
        ("gauss_legendre", "gausslegendre", 1),
        ("left", "riemann_left", 1),
        ("right", "riemann_right", 1),
        # captum's weights of the trapezoid add up to (n - 1) / n: on a linear model its values are that much too small.
        ("trapezoid", "riemann_trapezoid", 20 / 19),
    ],
)
def test_integrated_gradients_agree_with_captum(ours, theirs, factor):
    """On a kinked net with BatchNorm, so in float64 and without folding, and on a smooth one in float32."""
    from captum.attr import IntegratedGradients

    net, x = conv_net()
    peer = factor * IntegratedGradients(net).attribute(x, 0.1, target=[0, 3, 1], n_steps=20, method=theirs).detach()
    e = of(net, x, methods.integrated_gradients(20, 0.1, ours), target=[0, 3, 1], run=pellucid.Run(fold=False))
    np.testing.assert_allclose(e.values, peer, rtol=0, atol=1e-10)
    assert np.abs(e.values).max() > 1e-3
    smooth, x = nets.smooth_mlp().float(), torch.randn(3, 4)
    peer = factor * IntegratedGradients(smooth).attribute(x, target=1, n_steps=20, method=theirs).detach()
    e = of(smooth, x, methods.integrated_gradients(20, rule=ours), target=1)
    np.testing.assert_allclose(e.values, peer, rtol=0, atol=1e-5)
    assert np.abs(e.values).max() > 0.01


@pytest.mark.parametrize("samples", [8, 3])
def test_expected_gradients_agree_with_captum_on_the_same_draws(samples, monkeypatch):
    """captum has no seed: it is handed our background rows and our places on the way, then does the rest itself."""
    from captum.attr import GradientShap

    net, (x, background) = nets.deep_relu(), torch.randn(2, 4, 6, dtype=torch.float64)
    x = x[:1]
    ours = of(net, x, methods.expected_gradients(background, samples), target=1, seed=9)
    if ours.details["stratified"]:
        order = np.repeat(np.arange(4), 2)
    else:
        order = rng.permutation(9, "removal.marginal", 0, 0, 1, 4)[0, :samples].numpy()
    alphas = np.array([float(rng.uniform(9, "expected_gradients", draw, 0, 1, 1)) for draw in range(samples)])
    monkeypatch.setattr(np.random, "choice", lambda population, count: order)
    monkeypatch.setattr(np.random, "uniform", lambda low, high, count: alphas)
    peer = GradientShap(net).attribute(x, background, n_samples=samples, stdevs=0.0, target=1)
    np.testing.assert_allclose(ours.values, peer.detach(), rtol=0, atol=1e-5)


def test_smooth_grad_agrees_with_captum_on_the_same_noise(monkeypatch):
    from captum.attr import NoiseTunnel, Saliency

    net, x = nets.deep_relu(), torch.randn(1, 6, dtype=torch.float64)
    ours = of(net, x, methods.smooth_grad(samples=5, sigma=0.2), target=1, seed=2)
    spread = 0.2 * float(x.max() - x.min())
    noise = spread * torch.cat([rng.normal(2, "smooth_grad", draw, 0, 1, 6) for draw in range(5)])
    monkeypatch.setattr(torch, "normal", lambda mean, std: noise.reshape(std.shape))
    peer = NoiseTunnel(Saliency(net)).attribute(x, nt_samples=5, stdevs=spread, target=1, abs=False)
    np.testing.assert_allclose(ours.values, peer.detach(), rtol=0, atol=1e-5)


@rough
def test_a_real_deep_net_agrees_with_captum():
    """EfficientNet-Lite0 with its weights, in float64 and unfolded: in float32 rounding alone turns some ReLU6 over."""
    from captum.attr import IntegratedGradients, LayerGradCam, Saliency

    from pellucid import data

    net, x = data.efficientnet_module().double(), data.photos(2, size=64).x.double()
    mean, std, target = 0.498, 0.502, [3, 700]
    model, scaled = pellucid.wrap(net, mean=mean, std=std), (x - mean) / std

    def check(method, peer):
        ours = of(model, x, method, target=target, run=pellucid.Run(fold=False)).values
        theirs = peer.detach().numpy().reshape(ours.shape)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())

    options = {"baselines": -mean / std, "target": target, "n_steps": 6, "internal_batch_size": 4}
    check(methods.integrated_gradients(steps=6), IntegratedGradients(net).attribute(scaled, **options))
    check(methods.saliency(), Saliency(net).attribute(scaled, target=target, abs=False) / std)
    peer = LayerGradCam(net, net.get_submodule("_conv_head"))
    check(methods.grad_cam(), peer.attribute(scaled, target=target, relu_attributions=True))


# ---------------------------------------------------------------- players, outputs, reads

GRADIENTS = {
    "saliency": methods.saliency,
    "input_x_gradient": methods.input_x_gradient,
    "integrated_gradients": lambda: methods.integrated_gradients(steps=4),
    "expected_gradients": lambda: methods.expected_gradients(torch.zeros(2, 3, 8, 8), samples=5),
    "smooth_grad": lambda: methods.smooth_grad(samples=3),
}


@rough
@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
def test_a_player_gets_the_sum_of_its_entries(make):
    net, x = conv_net()
    whole = of(net, x, make(), target=1)
    cells = of(net, x, make(), target=1, players=players.grid(2, 4))
    assert cells.values.shape == (3, 8)
    summed = whole.values.reshape(3, 3, 2, 4, 4, 2).sum((1, 3, 5)).reshape(3, 8)
    np.testing.assert_allclose(cells.values, summed, rtol=0, atol=1e-12)
    if whole.residual is not None:
        np.testing.assert_allclose(cells.residual, whole.residual, rtol=0, atol=1e-12)
    np.testing.assert_allclose(cells.map().sum((1, 2)), cells.values.sum(1), rtol=0, atol=1e-12)


def test_the_error_of_a_player_is_that_of_its_sum():
    """Two entries that move against each other have errors, their sum has none."""
    x = rows([1.0, 2.0])
    method = methods.smooth_grad(samples=8)

    def twisted(x):  # the two slopes are x1 and x0 - x1 + c: their sum is x0 + c
        return x[:, 0] * x[:, 1] - x[:, 1] ** 2 / 2 + x[:, 0] ** 2 * 0

    apart = of(twisted, x, method, seed=1)
    together = of(twisted, x, method, seed=1, players={"both": [0, 1]})
    draws = torch.cat([rng.normal(1, "smooth_grad", d, 0, 1, 2) for d in range(8)]) * 0.15 * 1.0 + x
    slopes = torch.stack([draws[:, 1], draws[:, 0] - draws[:, 1]], 1)
    np.testing.assert_allclose(apart.std_error[0], slopes.std(0) / 8**0.5, atol=1e-14)
    np.testing.assert_allclose(together.std_error[0], slopes.sum(1).std(0) / 8**0.5, atol=1e-14)


@rough
@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
def test_all_outputs_at_once_equal_each_alone(make):
    net, x = conv_net()
    every = of(net, x, make(), target="all")
    assert every.values.shape == (3, 3, 8, 8, 4)
    assert every.outputs.shape == (3, 4)
    assert every.map().shape == (3, 8, 8, 4)
    for k in range(4):
        alone = of(net, x, make(), target=k)
        for name in ("values", "outputs", "base_values", "residual", "std_error"):
            if getattr(alone, name) is not None:
                whole = getattr(every, name)[..., k]
                np.testing.assert_allclose(whole, getattr(alone, name), rtol=0, atol=1e-12, err_msg=name)
    assert every.details["std_error_covers"] if every.std_error is not None else True


@pytest.mark.parametrize("read", ["logit", "centred", "prob", "logprob", "margin", "loss"])
def test_what_is_read_is_what_is_explained(read):
    net, x = nets.smooth_mlp(), torch.randn(3, 4, dtype=torch.float64)
    e = of(net, x, methods.integrated_gradients(steps=40), target=Target([0, 1, 2], read))
    z = net(x).detach()
    own, log = z.diagonal(), z.log_softmax(1).diagonal()
    others = torch.stack([torch.cat([z[i, :i], z[i, i + 1 :]]).max() for i in range(3)])
    expected = {"logit": own, "centred": own - z.mean(1), "prob": log.exp(), "logprob": log}
    expected |= {"margin": own - others, "loss": -log}
    np.testing.assert_allclose(e.outputs, expected[read], rtol=0, atol=1e-14)
    if read != "margin":  # where the rival changes on the way there is a kink
        assert e.residual.max() < 1e-4


def test_a_callable_reads_any_output():
    net, x = nets.smooth_mlp(), torch.randn(3, 4, dtype=torch.float64)
    e = of(lambda x: {"deep": (net(x), x)}, x, methods.saliency(), target=Target(read=lambda out: out["deep"][0][:, 2]))
    np.testing.assert_array_equal(e.values, of(net, x, methods.saliency(), target=2).values)
