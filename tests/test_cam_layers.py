"""Class activation maps: which layer, which shapes, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pellucid
from pellucid import BadInput, Run, Target, Unsupported, methods, players
from tests.reference import nets
from tests.reference.pooled import CAMS, X, pooled


def test_the_last_convolution_with_a_map_is_found():
    net = pooled()
    e = pellucid.explain(net, X, "grad_cam", target=0)
    assert e.details["layer"] == "conv2"
    assert e.dims == ("layer_height", "layer_width")
    np.testing.assert_array_equal(e.values, pellucid.explain(net, X, methods.grad_cam("conv2"), target=0).values)
    assert e.method == {"name": "grad_cam", "fields": {"layer": None}}
    assert e.residual is None
    assert e.base_values is None


def test_convolutions_that_do_not_count_are_passed_over():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Conv2d(4, 4, 1)
            self.used, self.side, self.squeeze = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1)
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            a = functional.relu(self.used(x))
            self.side(a)  # what f does not depend on
            return self.fc(self.squeeze(a.mean((2, 3), keepdim=True)).flatten(1))  # one position only

    e = pellucid.explain(nets.seeded(Net).double(), X, methods.grad_cam(), target=0)
    assert e.details["layer"] == "used"


def test_the_order_of_running_decides_not_that_of_registration():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first, self.fc = nn.Conv2d(4, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(functional.relu(self.second(functional.relu(self.first(x)))).mean((2, 3)))

    assert pellucid.explain(nets.seeded(Net).double(), X, "grad_cam", target=0).details["layer"] == "second"


@pytest.mark.parametrize(
    ("reads", "norm_first", "layer"),
    [("cls", True, "blocks.2.norm1"), ("cls", False, "blocks.1.norm2"), ("mean", True, "norm")],
)
@pytest.mark.parametrize("prefix", [1, 5])
def test_tokens_of_a_transformer_are_a_square_grid(reads, norm_first, layer, prefix):
    net = nets.seeded(lambda: nets.Patches(reads, prefix, norm_first)).double()
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    e = pellucid.explain(net, x, methods.grad_cam(), target=[0, 2])
    assert e.details["layer"] == layer
    assert e.values.shape == (2, 4, 4)
    assert e.map().shape == (2, 16, 16)
    assert e.values.max() > 0
    if reads == "mean":  # a mean over the patches and one linear layer: both CAMs have their closed form
        plain = pellucid.explain(net, x, methods.cam(), target=[0, 2])
        assert plain.details["layer"] == "norm"
        np.testing.assert_allclose(plain.values.mean((1, 2)) + net.head.bias[[0, 2]].detach().numpy(), plain.outputs)
        np.testing.assert_allclose(e.values, np.maximum(plain.values, 0) / 16, atol=1e-15)


def test_as_many_tokens_as_channels_are_still_tokens():
    net = nets.seeded(lambda: nets.Patches("mean", prefix=0, width=16)).double()
    e = pellucid.explain(net, torch.rand(2, 3, 16, 16).double(), methods.cam(), target=1)
    assert e.details["layer"] == "norm"
    np.testing.assert_allclose(e.values.mean((1, 2)) + net.head.bias[1].item(), e.outputs, atol=1e-14)


def test_patch_tokens_keep_their_place():
    """A head that reads one patch only: all of the map is at that patch."""

    class Net(nets.Patches):
        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            tokens = self.norm(torch.cat([self.first.expand(len(x), -1, -1), tokens], 1))
            return self.head(tokens[:, self.prefix + 4 * 2 + 1])  # row 2, column 1

    net = nets.seeded(Net).double()
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    e = pellucid.explain(net, x, methods.grad_cam("norm"), target="all")
    weight, token = net.head.weight, net.norm(net.patch(x).flatten(2).transpose(1, 2))[0]
    expected = (weight @ token.T).clamp_min(0) / 16  # (K, 16): each weight meets every patch
    np.testing.assert_allclose(e.values[0], expected.T.reshape(4, 4, 3).detach(), atol=1e-15)


def test_signals_have_maps_over_time():
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    x = torch.randn(3, 2, 20)
    for name in CAMS:
        e = pellucid.explain(net.eval(), x, name, target=0)
        assert e.dims == ("layer_time",)
        assert e.values.shape == (3, 18)
        assert e.map().shape == (3, 20)


def test_channels_last_layers_are_recognised_by_their_weight():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.fc = nn.Conv2d(3, 5, 3), nn.LayerNorm(5), nn.Linear(5, 2)

        def forward(self, x):
            return self.fc(self.norm(self.conv(x).movedim(1, 3)).mean((1, 2)))

    net = nets.seeded(Net).double()
    e = pellucid.explain(net, X, methods.cam(layer="norm"), target=1)
    assert e.values.shape == (3, 10, 10)
    np.testing.assert_allclose(e.values.mean((1, 2)) + net.fc.bias[1].item(), e.outputs, atol=1e-14)


def test_layers_with_odd_weights_are_looked_through():
    """PReLU has one weight, a scaled layer a weight without a dimension."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return self.weight * x

    body = nn.Conv2d(3, 5, 3), nn.PReLU(), Scaled(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)
    net = nn.Sequential(*body).double().eval()
    e = pellucid.explain(net, X, methods.cam(), target=1)
    assert e.details["layer"] == "2"
    np.testing.assert_allclose(e.values.mean((1, 2)) + net[5].bias[1].item(), e.outputs, atol=1e-14)


def test_cam_finds_activations_after_a_functional_relu():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 5, 3), nn.Linear(5, 2)

        def forward(self, x):
            return self.fc(functional.adaptive_avg_pool2d(functional.relu(self.conv(x), inplace=True), 1).flatten(1))

    net = nets.seeded(Net).double()
    e = pellucid.explain(net, X, "cam", target=1)
    a = functional.relu(net.conv(X)).detach()
    np.testing.assert_allclose(e.values, torch.einsum("k,nkij->nij", net.fc.weight[1], a).detach(), atol=1e-14)


@pytest.mark.parametrize(("channels", "outputs"), [(5, 2), (5, 1), (1, 2), (1, 1)])
@pytest.mark.parametrize("linear", [True, False])
def test_cam_takes_heads_of_any_size_and_kind(channels, outputs, linear):
    head = (nn.Flatten(), nn.Linear(channels, outputs)) if linear else (nn.Conv2d(channels, outputs, 1), nn.Flatten())
    net = nn.Sequential(nn.Conv2d(3, channels, 3), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), *head).double().eval()
    e = pellucid.explain(net, X, methods.cam(), target=outputs - 1)
    assert e.details["layer"] == "1"
    bias = net[4 if linear else 3].bias[outputs - 1].item()
    np.testing.assert_allclose(e.values.mean((1, 2)) + bias, e.outputs, atol=1e-14)


# ---------------------------------------------------------------- shapes, sizes, rows


@pytest.mark.parametrize("name", CAMS)
def test_all_targets_at_once_equal_each_alone(name):
    net = pooled()
    every = pellucid.explain(net, X, name, target="all")
    assert every.values.shape == (3, 6, 6, 4)
    for k in range(4):
        alone = pellucid.explain(net, X, name, target=k)
        np.testing.assert_allclose(every.values[..., k], alone.values, rtol=0, atol=1e-15)
        np.testing.assert_allclose(every.map()[..., k], alone.map(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("name", CAMS)
def test_the_size_of_a_model_call_does_not_matter(name, batch_size):
    net = pooled()
    whole = pellucid.explain(net, X, name, target=[0, 1, 2])
    parts = pellucid.explain(net, X, name, target=[0, 1, 2], run=Run(batch_size=batch_size))
    np.testing.assert_allclose(parts.values, whole.values, rtol=0, atol=1e-15)
    for row in range(3):
        alone = pellucid.explain(net, X[row : row + 1], name, target=[row], first_row=row)
        np.testing.assert_allclose(alone.values, whole.values[row : row + 1], rtol=0, atol=1e-15)


def test_the_map_of_the_input_is_a_bilinear_resize():
    net = pooled()
    e = pellucid.explain(net, X, "grad_cam", target=0)
    expected = functional.interpolate(torch.from_numpy(e.values)[:, None], (12, 12), mode="bilinear")[:, 0]
    np.testing.assert_array_equal(e.map(), expected)


# ---------------------------------------------------------------- refusals


def explain(net, method, x=X, **options):
    return pellucid.explain(net.double().eval(), x, method, **{"target": 0, **options})


def test_a_layer_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(BadInput, match=r"grad_cam: layer 'layer9' not found; have 'conv1', 'norm1', .* 'fc'"):
        explain(pooled(), methods.grad_cam("layer9"))


def test_a_layer_without_positions_is_refused():
    with pytest.raises(BadInput, match=r"layer 'fc' returns shape \(3, 4\), which is no map"):
        explain(pooled(), methods.grad_cam("fc"))


def test_a_layer_that_did_not_run_is_refused():
    net = pooled()
    net.idle = nn.Conv2d(3, 3, 1)
    with pytest.raises(BadInput, match=r"layer 'idle' did not run"):
        explain(net, methods.grad_cam("idle"))


def test_a_layer_under_no_grad_is_refused():
    class Net(nets.Pooled):
        def features(self, x):
            with torch.no_grad():
                return super().features(x)

    net = nets.seeded(Net)
    with pytest.raises(Unsupported, match=r"no gradient flows from layer 'conv2'.*feature_ablation\(\)"):
        explain(net, methods.grad_cam("conv2"))
    with pytest.raises(Unsupported, match=r"grad_cam: found no convolution.*integrated_gradients\(\)"):
        explain(net, methods.grad_cam())
    assert explain(net, methods.cam()).values.shape == (3, 6, 6)  # needs no gradient


@pytest.mark.parametrize("name", CAMS)
def test_players_and_other_spaces_are_refused(name):
    class Half:
        exact, names, groups = True, None, None

        def encode(self, x):
            return x * 2

        def decode(self, z):
            return z / 2

    for options in ({"players": players.grid(2)}, {"space": Half()}):
        with pytest.raises(Unsupported, match=rf"{name}: .*integrated_gradients\(\) or feature_ablation\(\)"):
            explain(pooled(), getattr(methods, name)(), **options)


def test_nets_without_a_map_are_refused_with_what_would_work():
    net = nn.Sequential(nn.Flatten(), nn.Linear(432, 2))
    with pytest.raises(Unsupported, match=r"grad_cam: found no convolution .*integrated_gradients\(\)"):
        explain(net, methods.grad_cam())
    with pytest.raises(Unsupported, match=r"cam: the outputs of Sequential are not.*grad_cam\(\) or integrated"):
        explain(net, methods.cam())


@pytest.mark.parametrize("layer", [None, "conv1", "conv2", "bn2"])
def test_cam_refuses_a_head_that_is_not_linear_on_a_mean(layer):
    with pytest.raises(Unsupported, match=r"cam: .*grad_cam\(\) or integrated_gradients\(\)"):
        explain(nets.seeded(nets.Residual), methods.cam(layer), x=X[..., :8, :8])


def test_cam_refuses_a_net_that_only_looks_right_on_some_rows():
    """Linear on the mean for the first row, which the layer is found on; not for a row where the bend bites."""

    class Net(nets.Pooled):
        def forward(self, x):
            return self.fc(self.features(x).mean((2, 3)).clamp_max(0.5))

    net = nets.seeded(Net).double()
    x = torch.cat([X[:1] * 0.01, X[1:] * 50])
    assert explain(net, methods.cam(), x=x[:1]).values.shape == (1, 6, 6)
    with pytest.raises(Unsupported, match="are not a linear layer on the mean"):
        explain(net, methods.cam(), x=x)


@pytest.mark.parametrize("read", ["prob", "margin", lambda out: out[:, 0]])
def test_cam_maps_the_outputs_themselves_only(read):
    with pytest.raises(BadInput, match=r"cam: maps the outputs of the last layer themselves"):
        explain(pooled(), methods.cam(), target=Target(0, read))


def test_tokens_that_make_no_square_are_refused():
    net = nets.seeded(nets.Patches)
    wide = torch.rand(2, 3, 16, 20, dtype=torch.float64)
    with pytest.raises(Unsupported, match="found no square grid of tokens"):
        explain(net, methods.grad_cam(), x=wide)
    with pytest.raises(BadInput, match="which is no map of several positions"):
        explain(net, methods.grad_cam("norm"), x=wide)


def test_models_without_layers_are_refused():
    with pytest.raises(Unsupported, match=r"grad_cam needs layers.*feature_ablation\(\) and random_attribution\(\)"):
        pellucid.explain(lambda x: x.mean((2, 3)), X, "grad_cam")


def test_a_new_cam_is_one_function():
    """Layer-wise Grad-CAM with weights by the largest slope, as a user would write it."""
    from pellucid.gradients.cam import GradientMap, Seen

    def largest(seen: Seen) -> torch.Tensor:
        return seen.gradients.flatten(2, -2).amax(2)

    net = pooled()
    e = pellucid.explain(net, X, GradientMap("max_cam", "relu", largest), target=0)
    # The slope is the same at every position of a pooled net, so the largest is the mean.
    np.testing.assert_allclose(
        e.values, pellucid.explain(net, X, methods.grad_cam("relu"), target=0).values, atol=1e-15
    )
    assert e.method["name"] == "max_cam"
