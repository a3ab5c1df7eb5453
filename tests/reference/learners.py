"""Small generative models, pictures whose factors are known, and whether two nets have the same weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from pellucid import generative

PICTURES = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SMALL = replace(generative.beta_tcvae(size=8, latents=3, anneal=10), batch=16, filters=(4,), hidden=(8,))
JOINT = replace(
    generative.joint_vae(size=8, continuous=2, discrete=(3, 4), ramp=10), batch=16, filters=(4,), hidden=(8,)
)
NAMED = replace(
    generative.supervised_vae(["a", "b"], size=8, latents=3, anneal=10), batch=16, filters=(4,), hidden=(8,)
)


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(values, other[name]) for name, values in a.state_dict().items())


def bars(count, seed=0):
    """8 x 8 pictures of a bar: its column in 1..6 and its brightness, both labels."""
    generator = torch.Generator().manual_seed(seed)
    place, light = torch.rand(count, generator=generator) * 5 + 1, torch.rand(count, generator=generator)
    columns = torch.arange(8.0)
    profile = (1 - (columns - place[:, None]).abs()).clamp(0) * (0.3 + 0.7 * light[:, None])
    return profile[:, None, None, :].expand(count, 1, 8, 8).contiguous(), torch.stack([place, light], 1)
