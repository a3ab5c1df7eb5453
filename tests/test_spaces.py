"""Spaces: every method runs in them, and linear models have closed forms there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, methods, players, removal, spaces

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
        (spaces.decoder(lambda x: x, lambda z: z[:1]), "decode must return"),
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
