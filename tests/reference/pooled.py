"""Pooled networks, whose class activation maps are known."""

import torch

from tests.reference import nets

X = torch.rand(3, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
CAMS = ("cam", "grad_cam", "counterfactual_grad_cam")


def pooled(**options):
    return nets.pooled(**options).double()


def shift(net, x):
    """The bias of each output, so that a mean of a map plus it is the output."""
    return net.fc.bias.detach().numpy()
