"""Spaces: every method runs in them, and linear models have closed forms there."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Unreliable, Unsupported, methods, players, removal, spaces

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(3, 3, 8, 8, generator=GENERATOR, dtype=torch.float64)
BACKGROUND = torch.rand(5, 3, 8, 8, generator=GENERATOR, dtype=torch.float64)


def linear_net(features: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(features, 4)).double().eval()


def fourier_truth(net: torch.nn.Module, x: torch.Tensor, mean: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """<w, IFFT(mask * (F(x) - F(mean)))> for every player, by complex transforms."""
    w = net[1].weight[1].detach().reshape(x.shape[1:]).numpy()
    gap = np.fft.fft2((x - mean).numpy())
    each = [np.fft.ifft2(gap * (labels == player)) for player in range(labels.max() + 1)]
    assert max(float(np.abs(part.imag).max()) for part in each) < 1e-12  # whole pairs keep the picture real
    return np.stack([(w * part.real).sum((1, 2, 3)) for part in each], 1)


@pytest.mark.parametrize(("size", "count"), [((4, 4), 10), ((5, 5), 13), ((32, 32), 514), ((6, 9), 28)])
def test_a_player_is_a_conjugate_pair(size, count):
    z = torch.zeros(1, 3, *size)
    assert spaces.fourier().groups.divide(z, (), None).n == count


def test_photo_size_has_its_known_number_of_pairs():
    assert spaces.fourier().groups.divide(torch.zeros(1, 1, 224, 224), (), None).n == 25_090


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 6)])
def test_fourier_decodes_exactly(size):
    x = torch.rand(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    space = spaces.fourier()
    assert torch.allclose(space.decode(space.encode(x)), x, atol=1e-14)


@pytest.mark.parametrize("bins", [None, 4, 25])
@pytest.mark.parametrize(
    "method",
    [
        methods.integrated_gradients(steps=4, baseline=removal.marginal(BACKGROUND)),
        methods.expected_gradients(BACKGROUND, samples=10),
        methods.permutation_shapley(140, removal=removal.marginal(BACKGROUND)),
        methods.feature_ablation(removal.marginal(BACKGROUND)),
    ],
    ids=lambda m: m.name,
)
def test_frequencies_of_a_linear_model_have_a_closed_form(method, bins):
    net = linear_net(192)
    e = pellucid.explain(net, X, method, target=1, space=spaces.fourier(bins))
    truth = fourier_truth(net, X, BACKGROUND.mean(0), e.players)
    assert e.values.shape == truth.shape
    assert np.allclose(e.values, truth, atol=1e-12)


def test_a_grating_is_credited_to_its_own_frequency():
    place = torch.arange(16, dtype=torch.float64)
    grating = torch.cos(2 * torch.pi * (3 * place[:, None] + 2 * place[None, :]) / 16).reshape(1, 1, 16, 16)

    def strength(x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x)[:, 0, 3, 2].abs()

    e = pellucid.explain(strength, grating, methods.integrated_gradients(), target=0, space=spaces.fourier())
    best = int(np.abs(e.values[0]).argmax())
    assert e.feature_names[best] == "(0.188, 0.125)"
    assert e.values[0, best] == pytest.approx(e.outputs[0], rel=1e-9)
    assert np.abs(np.delete(e.values[0], best)).max() < 1e-9


def test_an_exact_codec_explains_its_factors():
    mixing = torch.randn(6, 20, generator=GENERATOR, dtype=torch.float64)
    codec = spaces.decoder(
        lambda x: x @ torch.linalg.pinv(mixing), lambda z: z @ mixing, names=[f"f{i}" for i in range(6)]
    )
    net = torch.nn.Linear(20, 2).double().eval()
    z = torch.randn(4, 6, generator=GENERATOR, dtype=torch.float64)
    e = pellucid.explain(net, z @ mixing, methods.kernel_shap(70), target=0, space=codec)
    assert e.feature_names == tuple(f"f{i}" for i in range(6))
    assert np.allclose(e.values, (z * (mixing @ net.weight[0].detach())).numpy(), atol=1e-10)
    assert np.abs(e.details["reconstruction_gap"]).max() < 1e-10


def test_what_a_codec_loses_is_recorded_and_a_group_is_one_player():
    net = torch.nn.Linear(5, 2).double().eval()
    x = torch.randn(4, 5, generator=GENERATOR, dtype=torch.float64)
    codec = spaces.decoder(
        lambda x: x[:, :4], lambda z: torch.cat([z, torch.zeros(len(z), 1).to(z)], 1), groups={"a": [0, 1], "b": [2, 3]}
    )
    with pytest.warns(Unreliable, match="reconstruction"):
        e = pellucid.explain(net, x, methods.integrated_gradients(), target=0, space=codec)
    weight = net.weight[0].detach()
    assert np.allclose(e.details["reconstruction_gap"], (x[:, 4] * weight[4]).numpy())
    assert np.allclose(e.values[:, 0], (x[:, :2] * weight[:2]).sum(1).numpy())
    assert np.allclose(e[2].details["reconstruction_gap"], e.details["reconstruction_gap"][2:3])


def test_players_given_replace_those_the_space_implies():
    net = linear_net(192)
    e = pellucid.explain(
        net, X, methods.integrated_gradients(), target=0, space=spaces.fourier(), players=players.each()
    )
    assert e.values.shape == (3, 192)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.decoder(lambda x: x[:1], lambda z: z), "encode must return"),
        (spaces.decoder(lambda x: x * torch.nan, lambda z: z), "NaN"),
        (spaces.decoder(lambda x: x, lambda z: z, names=["a"]), "1 names for 192"),
        (spaces.decoder(lambda x: x, lambda z: z[:0]), "decode must return"),
        (spaces.decoder(lambda x: x.flatten(1), lambda z: z), "do not fit each other"),
        (spaces.decoder(lambda x: x.flatten(1)[:, :7], lambda z: z @ torch.ones(5, 192)), r"encode returns.*\(7,\)"),
        (spaces.decoder(lambda x: x, lambda z: z, rotation=torch.eye(3)), "a rotation of 3 coordinates"),
    ],
)
def test_a_codec_that_does_not_fit_is_named(space, words):
    with pytest.raises(BadInput, match=words):
        pellucid.explain(linear_net(192), X, methods.saliency(), space=space)


@pytest.mark.parametrize("bins", [0, -1, 2.5, True])
def test_bins_are_counted_in_whole_numbers(bins):
    with pytest.raises(BadInput, match="bins"):
        spaces.fourier(bins)


def test_a_table_has_no_frequencies():
    with pytest.raises(BadInput, match="images"):
        pellucid.explain(linear_net(6), torch.rand(2, 6).double(), methods.saliency(), space=spaces.fourier())


def test_a_decoder_warns_above_its_own_tolerance_only():
    net = torch.nn.Linear(5, 2).double().eval()
    x = torch.randn(4, 5, generator=GENERATOR, dtype=torch.float64)
    lossy = {"encode": lambda x: x * torch.tensor([1, 1, 1, 1, 0.5]), "decode": lambda z: z}
    pellucid.explain(net, x, methods.saliency(), target=0, space=spaces.decoder(**lossy, tolerance=10.0))
    with pytest.warns(Unreliable, match="reconstruction"):
        pellucid.explain(net, x, methods.saliency(), target=0, space=spaces.decoder(**lossy, tolerance=1e-9))


def test_a_rotation_brings_latents_onto_labelled_axes():
    place = torch.randn(200, 2, generator=GENERATOR, dtype=torch.float64)
    other = torch.randn(200, 1, generator=GENERATOR, dtype=torch.float64)
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    mixed = place @ turn * 3  # an encoder that holds the place in latents 2 and 0, turned and scaled
    latents = torch.stack([mixed[:, 1], other[:, 0], mixed[:, 0]], 1)
    found = spaces.aligned(latents, place, columns=[2, 0])
    back = latents @ found
    assert torch.allclose(found @ found.T, torch.eye(3, dtype=torch.float64))
    assert torch.allclose(back[:, [2, 0]], 3 * place, atol=0.2)  # the sample's own correlation turns it a little
    assert torch.equal(back[:, 1], other[:, 0])

    codec = spaces.decoder(lambda x: x, lambda z: z, names=["down", "other", "across"], rotation=found)
    weight = found @ torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)  # f reads the third axis after the turn
    e = pellucid.explain(
        lambda x: x @ weight, latents[:3], methods.exact_shapley(removal.marginal(latents)), space=codec
    )
    truth = 2 * (back[:3, 2] - back[:, 2].mean())
    assert np.allclose(e.values[:, 2], truth, atol=1e-10)
    assert np.abs(e.values[:, :2]).max() < 1e-10
    assert np.abs(e.details["reconstruction_gap"]).max() < 1e-10
    with pytest.raises(BadInput, match="orthogonal"):
        spaces.decoder(lambda x: x, lambda z: z, rotation=torch.ones(2, 2))
    with pytest.raises(BadInput, match="constant"):
        spaces.aligned(latents, torch.ones(200, 2), columns=[0, 1])


def test_spaces_compose():
    net = linear_net(192)
    w = net[1].weight[1].detach()
    mixing = torch.linalg.qr(torch.randn(192, 192, generator=GENERATOR, dtype=torch.float64)).Q
    rotated = spaces.decoder(lambda z: z.flatten(1) @ mixing, lambda z: (z @ mixing.T).reshape(-1, 3, 8, 8))
    both = spaces.compose(spaces.fourier(), rotated)
    e = pellucid.explain(net, X, methods.input_x_gradient(), target=1, space=both)
    spectrum = spaces.fourier()
    # f(z) = w . decode(z) is linear, so a coordinate's share is its own picture under w
    basis = spectrum.decode((mixing.T).reshape(-1, 3, 8, 8)).flatten(1)
    assert np.allclose(e.values, (both.encode(X) * (basis @ w)).numpy(), atol=1e-12)
    assert np.abs(e.details["reconstruction_gap"]).max() < 1e-12
    with pytest.raises(BadInput, match="at least two"):
        spaces.compose(spectrum)
    with pytest.raises(BadInput, match="expected spaces"):
        spaces.compose(spectrum, "fourier")


def deep_net(skip: bool = False) -> torch.nn.Module:
    torch.manual_seed(1)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(4)
            self.act = torch.nn.ReLU(inplace=True)
            self.inner = torch.nn.Conv2d(4, 4, 1)
            self.head = torch.nn.Linear(4, 3)

        def forward(self, x):
            h = self.act(self.norm(self.conv(x)))
            h = h + self.inner(h).tanh() if skip else self.inner(h).tanh()
            return self.head(h.mean((2, 3)).reshape(len(x), -1))  # counts the rows of the input

    net = Net().double()
    net(torch.rand(8, 3, 8, 8, dtype=torch.float64))
    return net.eval()


@pytest.mark.parametrize("layer", ["conv", "norm", "act", "inner", "head"])
def test_the_model_goes_on_from_a_layer(layer):
    net = deep_net()
    space = spaces.layer(net, layer)
    with torch.no_grad():
        outputs = net(X)[:, 2].numpy()
    for method in (methods.integrated_gradients(), methods.feature_ablation(), methods.saliency()):
        e = pellucid.explain(net, X, method, target=2, space=space)
        assert np.abs(e.outputs - outputs).max() < 1e-14
        assert np.abs(e.details["reconstruction_gap"]).max() < 1e-14
    assert all(not module._forward_hooks for module in net.modules())


def pooled_net() -> torch.nn.Sequential:
    torch.manual_seed(2)
    parts = {
        "conv": torch.nn.Conv2d(3, 4, 3),
        "act": torch.nn.Tanh(),
        "pool": torch.nn.AdaptiveAvgPool2d(1),
        "flat": torch.nn.Flatten(),
        "head": torch.nn.Linear(4, 3),
    }
    return torch.nn.Sequential(OrderedDict(parts)).double().eval()


@pytest.mark.parametrize(("by", "names"), [("channel", "channel 0"), ("position", "position 0,0"), ("unit", None)])
def test_before_a_linear_end_the_parts_of_a_layer_have_a_closed_form(by, names):
    net = pooled_net()
    e = pellucid.explain(
        net,
        X,
        methods.permutation_shapley(600, removal=removal.marginal(BACKGROUND)),
        target=0,
        space=spaces.layer(net, "act", by),
    )
    with torch.no_grad():
        gap = net.act(net.conv(X)) - net.act(net.conv(BACKGROUND)).mean(0)
        share = gap * net.head.weight[0][:, None, None] / 36
    truth = {"channel": share.sum((2, 3)), "position": share.sum(1).flatten(1), "unit": share}[by]
    assert np.allclose(e.values, truth.numpy(), atol=1e-12)
    assert by == "unit" or e.feature_names[0] == names


def test_directions_of_a_layer_are_a_composition():
    net = pooled_net()
    basis = torch.linalg.qr(torch.randn(4, 4, generator=GENERATOR, dtype=torch.float64)).Q
    directions = spaces.decoder(lambda z: z @ basis, lambda z: z @ basis.T, names=list("abcd"))
    e = pellucid.explain(
        net, X, methods.integrated_gradients(), target=1, space=spaces.compose(spaces.layer(net, "flat"), directions)
    )
    with torch.no_grad():
        truth = (net[:4](X) @ basis) * (net.head.weight[1] @ basis)
    assert np.allclose(e.values, truth.numpy(), atol=1e-12)
    assert e.feature_names == tuple("abcd")
    with pytest.raises(BadInput, match="must come first"):
        spaces.compose(directions, spaces.layer(net, "flat"))


def test_a_layer_that_ways_lead_around_is_refused_with_layers_that_would_do():
    net = deep_net(skip=True)
    with pytest.raises(Unsupported, match="'conv', 'norm', 'act', 'head'"):
        pellucid.explain(net, X, methods.saliency(), space=spaces.layer(net, "inner"))


def test_a_layer_is_named_or_refused():
    net = pooled_net()
    with pytest.raises(BadInput, match="layer 'nose' not found"):
        spaces.layer(net, "nose")
    with pytest.raises(BadInput, match="by must be"):
        spaces.layer(net, "act", by="neuron")
    with pytest.raises(Unsupported, match="no layers"):
        spaces.layer(lambda x: x.sum((1, 2, 3)), "act")
    with pytest.raises(BadInput, match="another model"):
        pellucid.explain(deep_net(), X, methods.saliency(), space=spaces.layer(net, "act"))
    with pytest.raises(BadInput, match="no positions"):
        pellucid.explain(net, X, methods.saliency(), space=spaces.layer(net, "flat", by="position"))


# ---------------------------------------------------------------- wavelets


@pytest.mark.filterwarnings("ignore:Level value")  # all coefficients of small pictures meet the border
@pytest.mark.parametrize(("name", "levels", "size"), [("haar", 1, (6, 8)), ("db2", 3, (16, 24)), ("sym4", 2, (8, 8))])
def test_wavelets_keep_lengths_decode_exactly_and_agree_with_pywavelets(name, levels, size):
    pywt = pytest.importorskip("pywt")
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    space = spaces.wavelets(name, levels)
    z = space.encode(x)
    np.testing.assert_allclose(space.decode(z), x, atol=1e-12)
    np.testing.assert_allclose((z**2).sum(), (x**2).sum())
    players = space.groups.divide(z, (), None)
    assert players.n == 3 * levels + 1
    coarse, *details = pywt.wavedec2(x[0, 1].numpy(), name, mode="periodization", level=levels)
    mine = [z[0, 1][players.labels[1] == player].numpy() for player in range(players.n)]
    np.testing.assert_allclose(mine[0], coarse.reshape(-1), atol=1e-12)
    for place, (down, across, diagonal) in enumerate(details):  # pywt names a detail by the axis of the fine filter
        for offset, theirs in enumerate((across, down, diagonal)):
            np.testing.assert_allclose(mine[1 + 3 * place + offset], theirs.reshape(-1), atol=1e-12)


def test_integrated_gradients_run_over_wavelet_bands():
    pytest.importorskip("pywt")
    weights = torch.randn(1, 64, dtype=torch.float64)
    model = pellucid.wrap(lambda x: x.flatten(1) @ weights.T, scale="value")
    x, space = torch.rand(1, 1, 8, 8, dtype=torch.float64), spaces.wavelets("db2", 2)
    e = pellucid.explain(model, x, methods.integrated_gradients(), target=0, space=space)
    z = space.encode(x)
    for player, value in enumerate(e.values[0]):
        part = space.decode(torch.where(torch.from_numpy(e.players == player), z, 0))
        assert value == pytest.approx(float((part.flatten(1) @ weights.T)[0, 0]), abs=1e-9)
    stripes = (torch.arange(8) % 2).double().expand(1, 1, 8, 8)  # changes across, from pixel to pixel
    e = pellucid.explain(model, stripes, methods.integrated_gradients(), target=0, space=spaces.wavelets("haar", 2))
    heard = {name for name, value in zip(e.feature_names, e.values[0], strict=True) if abs(value) > 1e-9}
    assert heard == {"coarser than 4 pixels", "1 to 2 pixels, across"}


def test_wavelets_refuse():
    pytest.importorskip("pywt")
    for wrong, message in (({"wavelet": "bior2.2"}, "orthogonal"), ({"wavelet": "cats"}, "orthogonal")):
        with pytest.raises(pellucid.BadInput, match=message):
            spaces.wavelets(**wrong)
    with pytest.raises(pellucid.BadInput, match="at least 1"):
        spaces.wavelets(levels=0)
    with pytest.raises(pellucid.Unsupported, match="cannot be halved 3 times"):
        spaces.wavelets(levels=3).encode(torch.rand(1, 1, 28, 28))
    with pytest.raises(pellucid.BadInput, match="needs images"):
        spaces.wavelets().encode(torch.rand(1, 8))
