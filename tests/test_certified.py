"""A proven lower bound: exact on linear models, never above what an attack finds, refused where it cannot be proven."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pellucid
from pellucid import attack, data
from pellucid.attack.geometry import nearest, size
from pellucid.attack.operations import _circulant_norm
from pellucid.attack.relaxation import Region

DUAL = {1: math.inf, 2: 2, math.inf: 1}
BRACKET = [attack.minimum_norm(), attack.certified()]


class Functional(nn.Module):
    """Everything that is bounded, written the way people write it."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.side = nn.Conv2d(6, 6, 3, stride=2, dilation=2, groups=2), nn.Conv2d(6, 6, 1)
        self.last = nn.Linear(6, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        x = F.max_pool2d(x, 3, 2, 1) - 0.1
        x = F.leaky_relu(0.5 * x + self.side(x), 0.1)
        x = F.relu6(self.second(F.pad(x, (2, 2, 2, 2))))
        x = F.avg_pool2d(x, 2).clamp(min=-1)
        return 1 - self.last(x.view(x.size(0), -1))


def multilayer():
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))


def pooled():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )


def series():
    return nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.ReLU6(), nn.MaxPool1d(2), nn.Conv1d(4, 4, 2), nn.Hardtanh(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 3), nn.Softmax(1),
    )  # fmt: skip


NETS = {
    "multilayer": (multilayer, (6,)),
    "pooled": (pooled, (1, 8, 8)),
    "functional": (Functional, (1, 9, 9)),
    "series": (series, (2, 14)),
}


def built(name, bounds=None, **more):
    make, shape = NETS[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = make().double()
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, -1, 1)
    if name == "series":
        more["scale"] = "prob"
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(3, *shape, generator=generator, dtype=torch.float64)
    free = torch.rand(3, 2, *shape, generator=generator) < 0.5
    free[:, 1] |= free[:, 0]
    return pellucid.wrap(net.eval(), bounds=bounds, **more), x, free


def linear(classes, features=9):
    generator = torch.Generator().manual_seed(0)
    net = nn.Linear(features, classes).double()
    with torch.no_grad():
        net.weight.copy_(torch.randn(net.weight.shape, generator=generator, dtype=torch.float64))
    x = torch.rand(5, features, generator=generator, dtype=torch.float64)
    free = torch.rand(5, 3, features, generator=generator) < 0.5
    free[..., 0] = True
    return net.eval(), x, free


def plane_distance(net, x, free, norm):
    weights = net.weight.detach()
    z = net(x).detach()
    radius = torch.full(free.shape[:2], math.inf, dtype=torch.float64)
    for b, m in np.ndindex(*free.shape[:2]):
        own = int(z[b].argmax())
        for rival in set(range(len(weights))) - {own}:
            slope = torch.linalg.vector_norm((weights[rival] - weights[own]) * free[b, m], DUAL[norm])
            radius[b, m] = min(radius[b, m], (z[b, own] - z[b, rival]) / slope)
    return radius.numpy()


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("classes", [2, 5])
def test_exact_for_linear_models(norm, classes):
    net, x, free = linear(classes)
    wanted = plane_distance(net, x, free, norm)
    r = attack.minimal_radius(pellucid.wrap(net), x, free, norm=norm, method=attack.certified())
    np.testing.assert_allclose(r.lower, wanted, rtol=1e-6)
    assert bool((r.lower < wanted).all())
    assert not r.found.any()
    both = attack.minimal_radius(pellucid.wrap(net), x, free, norm=norm, method=BRACKET)
    np.testing.assert_allclose(both.lower, both.radius, rtol=1e-3)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_exact_for_linear_models_in_a_box_also_where_nothing_can_change(norm):
    net, x, free = linear(2)
    r = attack.minimal_radius(pellucid.wrap(net, bounds=(0.0, 1.0)), x, free, norm=norm, method=BRACKET)
    np.testing.assert_allclose(r.lower[r.found], r.radius[r.found], rtol=1e-3)
    assert (~r.found).any(), "a case that the box makes impossible"
    assert np.isinf(r.lower[~r.found]).all(), "proven, not merely not found"


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)], ids=["open", "box"])
@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("name", NETS)
def test_never_above_an_attack_and_not_trivial(name, norm, bounds):
    model, x, free = built(name, bounds)
    r = attack.minimal_radius(model, x, free, norm=norm, method=BRACKET)
    assert bool((r.lower <= r.radius).all())
    assert bool((r.lower > 0).all())
    # More free features never raise the true radius; the bound follows to a few percent.
    assert bool((r.lower[:, 0] >= 0.95 * r.lower[:, 1]).all())
    # Asked for alone the bound must hold too, without knowing what an attack found: nothing inside the ball changes.
    alone = attack.minimal_radius(model, x, free, norm=norm, method=attack.certified())
    assert bool((alone.lower <= r.radius).all())
    finite = np.isfinite(alone.lower)
    generator = torch.Generator().manual_seed(3)
    for b, m in zip(*np.nonzero(finite), strict=True):
        delta = torch.randn(300, *x.shape[1:], generator=generator, dtype=torch.float64).sign() * free[b, m]
        delta = delta * (torch.rand(delta.shape, generator=generator) < 0.3)
        length = size(delta.flatten(1), norm).clamp_min(1e-9)
        moved = x[b] + delta * (alone.lower[b, m] / length).reshape(-1, *[1] * (x.ndim - 1))
        moved = moved if bounds is None else moved.clamp(*bounds)
        with torch.no_grad():
            assert bool((model.outputs(moved).argmax(1) == int(r.own[b])).all())


def test_a_tight_case_by_hand():
    # f = relu(x1 + x2) - 1 against 0 at x = 0: the ReLU's upper chord over the ball is half of its argument plus half
    # of its range, and the true radius is 1 / sqrt(2); a ball of that radius has the range ±1, where the chord is at
    # 1 exactly at its edge. So nothing is lost.
    net = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2)).double().eval()
    with torch.no_grad():
        net[0].weight.fill_(1.0), net[0].bias.zero_()
        net[2].weight.copy_(torch.tensor([[1.0], [0.0]])), net[2].bias.copy_(torch.tensor([-1.0, 0.0]))
    x, free = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.bool)
    r = attack.minimal_radius(net, x, free, method=attack.certified(20))
    assert r.lower[0] == pytest.approx(1 / math.sqrt(2), rel=0.03)
    assert r.lower[0] < 1 / math.sqrt(2)


def test_preprocessing_is_part_of_the_network():
    net, x, free = linear(3)
    model = pellucid.wrap(net, mean=0.3, std=0.5)
    scaled = (x - 0.3) / 0.5
    r = attack.minimal_radius(model, x, free, method=attack.certified())
    np.testing.assert_allclose(r.lower, 0.5 * plane_distance(net, scaled, free, 2), rtol=1e-6)


def test_functions_and_single_outputs():
    net, x, free = linear(1)
    with torch.no_grad():
        distance = (net(x)[:, 0].abs().numpy()[:, None]) / np.linalg.norm((net.weight.detach() * free).numpy(), axis=2)
    for model in (
        pellucid.wrap(net, scale="logit"),
        pellucid.wrap(lambda x: net(x)[:, 0], scale="logit"),
        pellucid.wrap(lambda x: x @ net.weight[0] + net.bias, scale="logit"),
        pellucid.wrap(nn.Sequential(net, nn.Sigmoid()).eval(), scale="prob"),
        pellucid.wrap(lambda x: net(x) + 0.5, scale="prob"),
    ):
        r = attack.minimal_radius(model, x, free, method=attack.certified())
        np.testing.assert_allclose(r.lower, distance, rtol=1e-6)


def test_a_class_to_be_reached():
    model, x, free = built("multilayer")
    free = torch.ones(3, 6, dtype=torch.bool)
    target = [int(c) for c in (model.outputs(x).argsort(1)[:, 0])]
    r = attack.minimal_radius(model, x, free, target=target, method=BRACKET)
    any_class = attack.minimal_radius(model, x, free, method=attack.certified())
    assert bool((r.lower <= r.radius).all())
    assert bool((r.lower >= any_class.lower * 0.97).all())


@pytest.mark.parametrize(
    ("layer", "name"),
    [(nn.GELU(), "gelu"), (nn.Tanh(), "tanh"), (nn.LayerNorm(6), "layer_norm"), (nn.Softmax(1), "softmax")],
    ids=["gelu", "tanh", "layer norm", "inner softmax"],
)
def test_other_operations_are_refused_by_name(layer, name):
    net = nn.Sequential(nn.Linear(6, 6), layer, nn.Linear(6, 2)).eval()
    with pytest.raises(pellucid.Unsupported, match=f"certified cannot bound Sequential.*{name}.*minimum_norm"):
        attack.minimal_radius(net, torch.rand(1, 6), torch.ones(1, 6, dtype=torch.bool), method=attack.certified())


def branching(x):
    return x @ torch.ones(6, 2) if float(x.sum()) > 1 else x @ torch.eye(6)[:, :2]


def splitting(x):
    first, second = x.split(3, 1)
    return first[:, :2] + second[:, 1:]


def squaring(x):
    return (x * x)[:, :2]


def ranking(x):
    return (x - x.mean(0))[:, :2]


def turning(x):
    return (torch.ones(2, 6) @ x.T).T


def escaping(x):
    return torch.from_numpy(x.detach().numpy())[:, :2] * 2


@pytest.mark.parametrize("function", [branching, splitting, squaring, ranking, turning, escaping])
def test_what_is_not_understood_is_refused(function):
    x = torch.tensor([[0.1, 0.9, 0.4, 0.2, 0.3, 0.8]])
    model = pellucid.wrap(function, scale="logit")
    with pytest.raises(pellucid.Unsupported, match="certified cannot bound"):
        attack.minimal_radius(model, x, torch.ones(1, 6, dtype=torch.bool), method=attack.certified())


def test_a_forest_is_refused():
    with pytest.raises(pellucid.Unsupported, match="outside torch"):
        attack.minimal_radius(
            lambda x: np.stack([x[:, 0], x[:, 1]], 1), np.ones((1, 2)) * [1, 2], np.ones((1, 2), bool), None, BRACKET[1]
        )


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_the_most_a_slope_gains_over_a_ball_in_a_box(norm):
    generator = torch.Generator().manual_seed(0)
    slope = torch.randn(4, 5, 7, generator=generator, dtype=torch.float64)
    slope[:, 0, :3] = 0
    low, high = -torch.rand(4, 7, generator=generator).double(), torch.rand(4, 7, generator=generator).double()
    low[:, :2], high[:, 1] = 0, 0
    radius = torch.tensor([0.01, 0.4, 1.0, 30.0], dtype=torch.float64)
    most = Region(torch.zeros(4, 7), low, high, radius, norm).most(slope)
    for i in range(4):
        ends = low[i].expand(5, -1), high[i].expand(5, -1)
        delta = nearest(slope[i], most[i], *ends, norm)  # the shortest way to gain as much
        torch.testing.assert_close((slope[i] * delta).sum(1), most[i], rtol=1e-9, atol=1e-12)
        assert bool((size(delta, norm) <= radius[i] * (1 + 1e-9)).all())
        drawn = torch.randn(2000, 7, generator=generator, dtype=torch.float64)
        drawn = torch.minimum(torch.maximum(drawn, low[i]), high[i])
        drawn = drawn * (radius[i] / size(drawn, norm)).clamp(max=1).unsqueeze(1)
        assert bool((drawn @ slope[i].T <= most[i] + 1e-12).all())


def test_the_norm_of_a_convolution_is_bounded_closely():
    for options in ({"padding": 1}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}):
        conv = nn.Conv2d(4, 6, 3, bias=False, **options).double()
        unit = torch.eye(4 * 49).double().reshape(-1, 4, 7, 7)
        with torch.no_grad():
            true = float(torch.linalg.matrix_norm(conv(unit).flatten(1), 2))
        bound = _circulant_norm(conv.weight.detach(), (7, 7), conv.dilation, conv.groups)
        assert true <= bound
        assert bound < (2.5 if conv.stride[0] == 2 else 1.3) * true


def test_the_digits_network():
    model, digits = pellucid.wrap(data.digits_cnn(), bounds=(0.0, 1.0)), data.digits("test", 2)
    free = torch.rand(2, 1, 1, 28, 28, generator=torch.Generator().manual_seed(2)) < 0.1
    for norm, share in ((2, 0.02), (math.inf, 0.1)):
        r = attack.minimal_radius(model, digits.x, free, norm=norm, method=BRACKET)
        assert bool((r.lower <= r.radius).all())
        assert bool((r.lower >= share * np.where(r.found, r.radius, 0)).all())
    assert not data.digits_cnn().conv1.weight.grad


@pytest.mark.parametrize("rounds", [0, 1, 3.0, True])
def test_bad_rounds(rounds):
    with pytest.raises(pellucid.BadInput, match="rounds must be"):
        attack.certified(rounds)
