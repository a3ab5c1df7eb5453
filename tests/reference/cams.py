"""Class activation maps a second time, slowly: loops over channels and positions of one row.

``head`` maps the activations (C, h, w) of one row to one number.
"""

import torch


def weights(head, activations):
    """α_k = (1/Z) Σ_ij ∂head/∂A_kij."""
    a = activations.detach().clone().requires_grad_()
    (grad,) = torch.autograd.grad(head(a), a)
    channels, height, width = a.shape
    out = []
    for k in range(channels):
        total = 0.0
        for i in range(height):
            for j in range(width):
                total += float(grad[k, i, j])
        out.append(total / (height * width))
    return out


def grad_cam(head, activations, sign=1):
    """ReLU(Σ_k sign α_k A_k)."""
    alphas = weights(head, activations)
    _, height, width = activations.shape
    out = torch.zeros(height, width, dtype=activations.dtype)
    for i in range(height):
        for j in range(width):
            out[i, j] = max(0.0, sum(sign * a * float(activations[k, i, j]) for k, a in enumerate(alphas)))
    return out


def cam(weight, activations):
    """Σ_k w_k A_k."""
    _, height, width = activations.shape
    out = torch.zeros(height, width, dtype=activations.dtype)
    for i in range(height):
        for j in range(width):
            out[i, j] = sum(float(w) * float(activations[k, i, j]) for k, w in enumerate(weight.detach()))
    return out
