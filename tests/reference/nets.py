"""Networks that the tests explain. Weights come from a seed, so that a test can say what it saw."""

import copy

import torch
from torch import nn
from torch.nn import functional


def seeded(build, seed=0):
    """A module made with its own seed, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()


def smooth_mlp(features=4, outputs=3, seed=0):
    def build():
        return nn.Sequential(nn.Linear(features, 8), nn.GELU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, outputs))

    return seeded(build, seed).double()


def deep_relu(features=6, outputs=3, seed=0):
    def build():
        layers = [layer for _ in range(4) for layer in (nn.Linear(features, features), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(features, outputs))

    return seeded(build, seed).double()


class Pooled(nn.Module):
    """Convolutions, BatchNorm, ReLU in place, a mean over positions and one linear layer: every CAM applies.

    ReLU comes in three ways: one module used twice, in place, and as a function.
    """

    def __init__(self, channels=3, outputs=4, inplace=True):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=inplace)
        self.conv2 = nn.Conv2d(6, 5, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(5, outputs)

    def features(self, x):
        x = functional.relu(self.norm1(self.conv1(x)))
        return self.relu(self.conv2(self.relu(1.5 * x - 0.1)))

    def forward(self, x):
        return self.fc(self.drop(self.features(x).mean((2, 3))))


def pooled(seed=0, **options):
    net = seeded(lambda: Pooled(**options), seed)
    with torch.no_grad():
        net.norm1.running_mean.uniform_(-0.3, 0.3, generator=torch.Generator().manual_seed(seed))
        net.norm1.running_var.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(seed + 1))
    return net


def contrasted():
    """A pooled net whose outputs differ from row to row more than among themselves, so that classes differ too."""
    net = pooled()
    with torch.no_grad():
        x = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(9))
        net.fc.weight *= 30
        net.fc.bias -= net(x).mean(0)
    return net


class Residual(nn.Module):
    """A block as in ResNet: BatchNorm, ReLU in place right after it, and an addition in place."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4 * 8 * 8, 2)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(x))
        out += x
        return self.fc(self.relu(out).flatten(1))


class Patches(nn.Module):
    """A small vision transformer; ``reads`` "cls" or "mean" says what the head sees, after ``prefix`` other tokens."""

    def __init__(self, reads="cls", prefix=1, norm_first=True, width=16):
        super().__init__()
        self.reads, self.prefix = reads, prefix
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.first = nn.Parameter(torch.randn(1, prefix, width))
        block = {"batch_first": True, "norm_first": norm_first, "dropout": 0.0}
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(width, 2, 32, **block) for _ in range(3))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return self.head(tokens[:, 0] if self.reads == "cls" else tokens[:, self.prefix :].mean(1))


def twin(net):
    """An independent copy, to compare a module with what it was."""
    return copy.deepcopy(net)
