"""Recipes for class activation maps."""

from __future__ import annotations

from pellucid.core.method import Method
from pellucid.core.settings import checked
from pellucid.gradients.cam import GradientMap, HeadMap, RectifiedMap, curved_gradient, opposed_gradient


@checked
def cam(layer: str | None = None) -> Method:
    """Where in the picture the evidence for an output lies, in a net that ends in a mean over positions and one linear
    layer.

    M_c = Σ_k w_k^c A_k, with A the activations before the mean and w the linear layer; the mean of M_c plus the bias
    is the output.

    ``layer``: the layer whose mean is taken (None: found). That outputs = mean(A) wᵀ + b, for A as the layer returns
    it or after a ReLU, is checked on every row; other nets are refused. Returns signed values of the layer's size, (B,
    h, w). Cost: 1 forward a row, and 1 to find the layer. Source: zhou2016.

    >>> import torch, pellucid
    >>> conv, head = torch.nn.Conv2d(1, 1, 1), torch.nn.Linear(1, 1)
    >>> net = torch.nn.Sequential(conv, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head).eval()
    >>> net.load_state_dict({name: torch.ones_like(value) for name, value in net.state_dict().items()})
    <All keys matched successfully>
    >>> e = pellucid.explain(net, torch.arange(4.0).reshape(1, 1, 2, 2), cam(), target=0)
    >>> e.values.tolist(), e.outputs.tolist()  # the mean of the map, 2.5, plus the bias 1
    ([[[1.0, 2.0], [3.0, 4.0]]], [3.5])
    """
    return HeadMap("cam", layer)


@checked
def grad_cam(layer: str | None = None) -> Method:
    """Where in the picture a layer's features speak for the output.

    L = ReLU(Σ_k α_k A_k), α_k = mean over positions of ∂y/∂A_k, with y as it is read (the raw output unless told
    otherwise).

    ``layer``: the name of a layer (None: the last convolution with a map of positions that y depends on; where the
    tokens of a picture come after it, the last norm layer through whose patch tokens y depends on the picture, which
    are taken for a square grid after up to 8 other tokens). A layer used more than once counts at its last call.
    Returns values >= 0 of the layer's size, (B, h, w), never normalised; ``details["layer"]`` names the layer.
    Cost: 1 forward a row, 1 backward a row and output as far as the layer, and 1 forward and backward to find it.
    Source: selvaraju2017; their code sums over positions instead, which scales the map.

    >>> import torch, pellucid
    >>> conv, head = torch.nn.Conv2d(1, 1, 1, bias=False), torch.nn.Linear(4, 1)
    >>> _ = conv.weight.data.fill_(1.0), head.weight.data.fill_(2.0)
    >>> net = torch.nn.Sequential(conv, torch.nn.Flatten(), head).eval()
    >>> pellucid.explain(net, torch.tensor([[[[1.0, -1.0], [0.0, 3.0]]]]), grad_cam(), target=0).values.tolist()
    [[[2.0, 0.0], [0.0, 6.0]]]
    """
    return GradientMap("grad_cam", layer)


@checked
def counterfactual_grad_cam(layer: str | None = None) -> Method:
    """Where in the picture a layer's features speak against the output: removing them would raise it.

    L = ReLU(Σ_k -α_k A_k), with α as in ``grad_cam``; the same as the Grad-CAM of -y.

    ``layer``, values and cost as for ``grad_cam``. Source: selvaraju2017.
    """
    return GradientMap("counterfactual_grad_cam", layer, opposed_gradient)


@checked
def grad_cam_plus_plus(layer: str | None = None) -> Method:
    """Where in the picture a layer's features speak for the output, small and repeated objects included.

    L = ReLU(Σ_k w_k A_k), w_k = Σ_ij α_ij ReLU(g_ij), g = ∂y/∂A_k, α_ij = g_ij² / (2 g_ij² + g_ij³ Σ_ab A_k,ab):
    positions whose gradient is positive count alike, however few they are.

    ``layer``, values and cost as for ``grad_cam``. Source: chattopadhay2018; departures: their common factor exp(y) is
    left out (it overflows and changes no order within a row), and only positive activations A count, so that a
    convolution before its ReLU serves as well as the ReLU after it.
    """
    return RectifiedMap("grad_cam_plus_plus", layer, curved_gradient)
