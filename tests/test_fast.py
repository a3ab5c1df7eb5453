"""Private copies: what a replica shares with the user's module, and the faster copy of a convolutional network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import pellucid
from pellucid import methods


def convolutional(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), *layers, nn.Flatten(), nn.LazyLinear(4))


POOLS = {
    "two": lambda: nn.MaxPool2d(2),
    "one axis": lambda: nn.MaxPool2d((1, 2)),
    "two by three": lambda: nn.MaxPool2d((2, 3)),
    "overlapping": lambda: nn.MaxPool2d(3, 2),
    "padded": lambda: nn.MaxPool2d(2, padding=1),
    "dilated": lambda: nn.MaxPool2d(2, dilation=2),
    "rounded up": lambda: nn.MaxPool2d(2, ceil_mode=True),
    "wide": lambda: nn.MaxPool2d(5),
    "many channels": lambda: nn.Sequential(nn.Conv2d(3, 40, 1), nn.MaxPool2d(2)),
    "after a ReLU": lambda: nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2)),
    "in a row": lambda: nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.MaxPool2d(2)),
}


@pytest.mark.parametrize("size", [(8, 8), (7, 9)], ids=str)
@pytest.mark.parametrize("pool", POOLS)
def test_the_faster_copy_pools_as_the_module_does(pool, size):
    """Values and gradients, also where windows do not divide the picture and where entries are equal."""
    net, x = convolutional(POOLS[pool](), nn.ReLU()), torch.rand(3, 1, *size).round(decimals=1)
    net(x)
    net.eval()
    quick = pellucid.wrap(net).fast(x)
    assert quick.folded
    with torch.no_grad():
        torch.testing.assert_close(quick(x), net(x))
        kept = net[2](net[1](net[0](x)))
        rest = quick.submodule("2")(quick.submodule("0")(x))
        torch.testing.assert_close(rest, kept)
    slopes = []
    for model in (net, quick):
        at = x.clone().requires_grad_()
        slopes.append(torch.autograd.grad(model(at).sum(), at)[0])
    torch.testing.assert_close(*slopes)


class Halves(nn.Module):
    """Reads its layers up to the ReLU, and past the pool."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.layers[:2](x).mean((1, 2, 3)), self.layers(x).mean((1, 2, 3))], 1)


def test_a_relu_changes_places_with_the_pool_after_it_only_where_nobody_sees():
    x, layers = torch.rand(2, 1, 6, 6), Halves().layers
    quick = pellucid.wrap(nn.Sequential(*layers, nn.Flatten()).eval()).fast(x)
    assert [isinstance(quick.submodule(place), nn.ReLU) for place in "12"] == [False, True]
    net = Halves().eval()
    quick = pellucid.wrap(net).fast(x)
    assert quick.folded
    assert [isinstance(quick.submodule(f"layers.{place}"), nn.ReLU) for place in "12"] == [True, False]
    with torch.no_grad():
        torch.testing.assert_close(quick(x), net(x))


def test_a_pool_that_does_not_fit_says_so():
    net = convolutional(nn.MaxPool2d(4))
    net(torch.rand(1, 1, 8, 8))
    with pytest.raises(pellucid.BadInput, match="the model raised RuntimeError"):
        pellucid.explain(net.eval(), torch.rand(2, 1, 3, 3), methods.feature_ablation(), target=0)


class Remembers(nn.Linear):
    """Has attributes of every kind."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.seen: list[torch.Tensor] = []
        self.settings = {"scale": torch.full((2,), 3.0), "names": ("a", "b")}
        self.register_buffer("calls", torch.zeros(()))
        self.itself = [self]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        self.calls += 1
        self.settings["scale"] *= 2
        return super().forward(x) * 3


class Own(nn.Linear):
    """Says itself how it is copied."""

    factor = 1.0

    def __deepcopy__(self, memo):
        twin = Own(3, 2)
        twin.load_state_dict(self.state_dict())
        twin.factor = 5.0
        return twin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.factor


def test_a_replica_shares_nothing_but_parameters():
    net, x = nn.Sequential(Remembers(), nn.ReLU(), nn.Linear(2, 2)).eval(), torch.rand(4, 3)
    before = copy.deepcopy(net[0].settings)
    pellucid.explain(net, x, methods.feature_ablation(), target=0)
    assert net[0].seen == []
    assert float(net[0].calls) == 0
    assert torch.equal(net[0].settings["scale"], before["scale"])
    assert net[0].itself == [net[0]]
    twin = pellucid.wrap(net).submodule("0")
    assert twin.itself == [twin]
    assert twin.weight.data_ptr() == net[0].weight.data_ptr()


def test_a_module_with_a_way_of_its_own_is_copied_its_way():
    x, net = torch.rand(4, 3), Own(3, 2).eval()
    found = pellucid.explain(net, x, methods.feature_ablation(), target=1)
    torch.testing.assert_close(torch.from_numpy(found.values), (5 * net.weight[1] * x).detach().double())
