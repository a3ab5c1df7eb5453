"""What losses of variational autoencoders are made of: densities, divergences, and samples that gradients pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pellucid.core.errors import BadInput


def log_normal(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log N(z; mean, e^log_var), entry by entry."""
    return -0.5 * (math.log(math.tau) + log_var + (z - mean) ** 2 * torch.exp(-log_var))


def stratified_log_weights(batch: int, rows: int) -> Tensor:
    """Logarithms of the weights W (batch, batch) of minibatch stratified sampling, q(z_i) ≈ Σ_j W_ij q(z_i | x_j).

    With N rows and M = batch - 1: W_ii = 1/N, for z_i came from row i; one other column (N - M) / (N M), which stands
    for all rows that are not in the minibatch; the rest 1/M. Every line sums to 1. Departure: released code puts 1/N
    into the first column in place of the diagonal, which weights the row that z_i came from by about N / M times too
    much. Source: chen2018tc.

    >>> stratified_log_weights(3, 10).exp()
    tensor([[0.1000, 0.4000, 0.5000],
            [0.5000, 0.1000, 0.4000],
            [0.4000, 0.5000, 0.1000]], dtype=torch.float64)
    """
    if not 2 <= batch <= rows:
        raise BadInput(f"minibatch stratified sampling needs 2 to {rows} rows a minibatch (all there are), got {batch}")
    own, others = torch.arange(batch), batch - 1
    weights = torch.full((batch, batch), 1 / others, dtype=torch.float64)
    weights[own, own] = 1 / rows
    weights[own, (own + 1) % batch] = (rows - others) / (rows * others)
    return weights.log()


def divergences(z: Tensor, mean: Tensor, log_var: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """The three parts of E KL(q(z | x) || N(0, 1)), by minibatch stratified sampling, each one number.

    Mutual information of z and the row, KL(q(z, n) || q(z) p(n)); total correlation KL(q(z) || Π_l q(z_l)); and
    the sum over latents of KL(q(z_l) || p(z_l)). ``z``, ``mean``, ``log_var``: (batch, L); ``rows``: of all the data.
    Source: chen2018tc.
    """
    weights = stratified_log_weights(len(z), rows).to(z)
    pairs = log_normal(z.unsqueeze(1), mean.unsqueeze(0), log_var.unsqueeze(0))  # (i, j, l): z_i under q(. | x_j)
    joint = torch.logsumexp(weights + pairs.sum(2), 1)
    product = torch.logsumexp(weights.unsqueeze(2) + pairs, 1).sum(1)
    own = log_normal(z, mean, log_var).sum(1)
    prior = log_normal(z, torch.zeros_like(z), torch.zeros_like(z)).sum(1)
    return (own - joint).mean(), (joint - product).mean(), (product - prior).mean()


def normal_divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, e^log_var) || N(0, 1)), summed over latents: (B,)."""
    return 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)


def category_divergence(log_alpha: Tensor) -> Tensor:
    """KL of categories (B, K) with these log probabilities from equal ones, Σ α log α + log K: (B,)."""
    return (log_alpha.exp() * log_alpha).sum(1) + math.log(log_alpha.shape[1])


def gumbel_softmax(log_alpha: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """A soft one-hot sample, softmax((log α + g) / temperature) with Gumbel noise g = -log(-log u): (B, K).

    Its largest entry is at each category with that category's probability. Source: jang2017.
    """
    tiny = torch.finfo(uniform.dtype).tiny
    noise = -(-uniform.clamp(tiny, 1 - torch.finfo(uniform.dtype).eps).log()).log()
    return torch.softmax((log_alpha + noise) / temperature, 1)
