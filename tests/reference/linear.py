"""A linear model whose numbers are known by hand, networks around it, and what a model must look like afterwards."""

import copy

import numpy as np
import torch
from torch import nn

WEIGHT = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]])
BIAS = torch.tensor([0.25, -1.0])
X = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])


def linear(dtype=torch.float32):
    net = nn.Linear(3, 2).to(dtype).eval()
    with torch.no_grad():
        net.weight.copy_(WEIGHT)
        net.bias.copy_(BIAS)
    return net


class Deep(nn.Module):
    """BatchNorm, dropout and operations in place, in train or eval mode."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.norm, self.last = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)
        self.drop, self.act = nn.Dropout(0.5), nn.ReLU(inplace=True)

    def forward(self, x):
        x += 0.5
        return self.last(self.drop(self.act(self.norm(self.first(x)))))


def state_of(net):
    """All that must be found as it was left."""
    return {
        "tensors": {name: tensor.clone() for name, tensor in net.state_dict().items()},
        "same": [id(tensor) for tensor in (*net.parameters(), *net.buffers())],
        "asks": [parameter.requires_grad for parameter in net.parameters()],
        "grads": [parameter.grad for parameter in net.parameters()],
        "modes": [child.training for child in net.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in net.modules()],
        "attributes": [sorted(vars(child)) for child in net.modules()],
        "random": (torch.get_rng_state(), np.random.get_state()[1].copy()),  # noqa: NPY002
    }


def assert_same(before, after):
    for key in ("same", "asks", "grads", "modes", "hooks", "attributes"):
        assert before[key] == after[key], key
    for a, b in zip(before["tensors"].values(), after["tensors"].values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(before["random"][0], after["random"][0])
    assert np.array_equal(before["random"][1], after["random"][1])


def by_hand(net, x, column):
    """f and its gradient, on a copy in eval mode."""
    twin = copy.deepcopy(net).eval()
    x = x.clone().requires_grad_()
    out = twin(x.clone())[:, column]
    (grad,) = torch.autograd.grad(out.sum(), x)
    return out.detach(), grad


class Shaped(nn.Module):
    def __init__(self, shape, net=None):
        super().__init__()
        self.shape, self.net = shape, net or linear()

    def forward(self, x):
        return self.shape(self.net(x))


class Words(nn.Module):
    """The mean of word vectors, then a linear layer: the effect of a word is known."""

    def __init__(self, bag=False):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.words = nn.EmbeddingBag(7, 4, mode="mean") if bag else nn.Embedding(7, 4)
            self.head = nn.Linear(4, 2)
        self.bag = bag

    def forward(self, ids):
        vectors = self.words(ids)
        return self.head(vectors if self.bag else vectors.mean(1))
