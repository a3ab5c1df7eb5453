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


def grad_cam_plus_plus(head, activations):
    """ReLU(Σ_k w_k A_k), w_k = Σ_ij α_ij ReLU(g_ij), α_ij = g² / (2 g² + g³ Σ_ab A_ab), of activations >= 0."""
    a = activations.detach().clone().requires_grad_()
    (grad,) = torch.autograd.grad(head(a), a)
    channels, height, width = a.shape
    out = torch.zeros(height, width, dtype=a.dtype)
    for k in range(channels):
        total, weight = float(activations[k].sum()), 0.0
        for i in range(height):
            for j in range(width):
                g = float(grad[k, i, j])
                alpha = 0.0 if g == 0 else g**2 / (2 * g**2 + g**3 * total)
                weight += alpha * max(g, 0.0)
        out += weight * activations[k]
    return out.clamp_min(0)


def alpha_by_derivatives(head, activations, k, i, j):
    """α_ij of channel k from the second and third derivatives of Y = exp(head) themselves: Y'' / (2 Y'' + Y''' Σ A)."""
    entry = activations[k, i, j].detach().clone().requires_grad_()
    a = activations.detach().clone()
    a[k, i, j] = entry
    derivatives = [torch.exp(head(a))]
    for _ in range(3):
        derivatives += torch.autograd.grad(derivatives[-1], entry, create_graph=True)
    _, _, second, third = (float(d.detach()) for d in derivatives)
    return second / (2 * second + third * float(a[k].detach().sum()))
