"""Variational autoencoders whose latents are meant to be read: β-TCVAE, JointVAE, and one with labelled latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.core.errors import BadInput, listing
from pellucid.core.settings import checked
from pellucid.generative.autoencoder import VAE, Pass
from pellucid.generative.latents import category_divergence, divergences, normal_divergence
from pellucid.generative.learner import Step, halvings, positive, whole


@dataclass(frozen=True)
class BetaTCVAE:
    """Settings of ``generative.beta_tcvae`` and ``supervised_vae``."""

    size: int
    latents: int
    channels: int
    beta: float
    anneal: int
    named: tuple[str, ...] = ()
    weight: float = 0.0
    alpha: float = 1.0
    gamma: float = 1.0
    batch: int = 64
    rate: float = 5e-4
    decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    filters: tuple[int, ...] = (32,)
    hidden: tuple[int, ...] = (256, 256)

    categories = ()
    temperature = 1.0

    def __post_init__(self) -> None:
        for field in ("latents", "channels"):
            whole(self.name, field, getattr(self, field))
        whole(self.name, "anneal", self.anneal, 0)
        for field in ("beta", "weight"):
            positive(self.name, field, getattr(self, field))
        if len(self.named) > self.latents or len(set(self.named)) < len(self.named):
            raise BadInput(
                f"{self.name}: names must be different, and at most one for each of {self.latents} latents, got "
                f"{listing(self.named)}"
            )
        halvings(self.name, self.size, 4)

    @property
    def name(self) -> str:
        """The recipe's."""
        return "supervised_vae" if self.named else "beta_tcvae"

    @property
    def labelled(self) -> int:
        """How many of the first latents take a label."""
        return len(self.named)

    @property
    def gaussian(self) -> tuple[str, ...]:
        """The labels' names, then z0, z1, ..."""
        return (*self.named, *(f"z{i}" for i in range(self.latents - len(self.named))))

    def build(self, seed: int) -> VAE:
        """An untrained network."""
        return VAE(self, seed)

    def terms(self, made: Pass, x: Tensor, targets: Tensor | None, step: Step) -> dict[str, Tensor]:
        """Reconstruction + α MI + β TC + γ(t) KL of each latent alone, + weight · squared error of labelled means."""
        ramp = min(1.0, step.index / self.anneal) if self.anneal else 1.0
        information, correlation, marginal = divergences(made.z, made.mean, made.log_var, step.rows)
        reconstruction = made.reconstruction(x)
        loss = reconstruction + self.alpha * information + self.beta * correlation + ramp * self.gamma * marginal
        terms = {"reconstruction": reconstruction, "mutual information": information}
        terms |= {"total correlation": correlation, "dimension-wise kl": marginal}
        if targets is not None:
            known = targets.isfinite()
            error = (made.mean[:, : self.labelled] - torch.where(known, targets, 0)) ** 2  # NaN would pass as gradient
            terms["labels"] = torch.where(known, error, 0).sum() / known.any(1).sum().clamp_min(1)
            loss = loss + self.weight * terms["labels"]
        return {"loss": loss, **terms}


@dataclass(frozen=True)
class JointVAE:
    """Settings of ``generative.joint_vae``."""

    size: int
    continuous: int
    discrete: tuple[int, ...]
    channels: int
    pressure: float
    capacity: float
    ramp: int
    temperature: float = 0.67
    batch: int = 64
    rate: float = 5e-4
    decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    filters: tuple[int, ...] = (32, 64)
    hidden: tuple[int, ...] = (256,)

    name = "joint_vae"
    labelled = 0

    def __post_init__(self) -> None:
        for field in ("continuous", "channels", "ramp"):
            whole(self.name, field, getattr(self, field))
        for field in ("pressure", "capacity"):
            positive(self.name, field, getattr(self, field))
        for count in self.discrete:
            whole(self.name, "each entry of discrete", count, 2)
        halvings(self.name, self.size, 4)

    @property
    def categories(self) -> tuple[int, ...]:
        """How many values each category takes."""
        return self.discrete

    @property
    def gaussian(self) -> tuple[str, ...]:
        """Names z0, z1, ..."""
        return tuple(f"z{i}" for i in range(self.continuous))

    def build(self, seed: int) -> VAE:
        """An untrained network."""
        return VAE(self, seed)

    def capacities(self, index: int) -> tuple[float, float]:
        """How much Gaussian latents and categories may tell at a step, nats."""
        now = self.capacity * min(1.0, index / self.ramp)
        return now, min(now, sum(math.log(count) for count in self.discrete))

    def terms(self, made: Pass, x: Tensor, targets: Tensor | None, step: Step) -> dict[str, Tensor]:
        """(Reconstruction + pressure |C_z(t) - KL_z| + pressure |C_c(t) - KL_c|) / pixels."""
        room, rest = self.capacities(step.index)
        continuous = normal_divergence(made.mean, made.log_var).mean()
        discrete = sum((category_divergence(part).mean() for part in made.log_alphas), torch.zeros_like(continuous))
        reconstruction = made.reconstruction(x)
        loss = reconstruction + self.pressure * ((room - continuous).abs() + (rest - discrete).abs())
        return {
            "loss": loss / x[0].numel(),
            "reconstruction": reconstruction,
            "continuous kl": continuous,
            "discrete kl": discrete,
        }


Settings = BetaTCVAE | JointVAE


@checked
def beta_tcvae(
    size: int = 64, latents: int = 10, channels: int = 1, beta: float = 6.4, anneal: int = 10_000
) -> BetaTCVAE:
    """Latents that vary on their own, learned without labels: which causes of a picture does a model use?

    Loss = reconstruction (Bernoulli, summed over pixels) + I(z; x) + β TC(z) + γ(t) Σ_l KL(q(z_l) || p(z_l)), with the
    total correlation TC = KL(q(z) || Π q(z_l)); γ rises from 0 to 1 over ``anneal`` steps; q(z) by minibatch stratified
    sampling with the right weights. Four convolutions of 32 channels (kernel 4, stride 2) at 64 pixels, one more or
    less for each factor of 2, two layers of 256; Adam at 5e-4, minibatches of 64.

    ``size``: of square pictures (N, ``channels``, size, size) in 0..1, such as 28, 32, 64 or 128. Train it by
    ``generative.fit(beta_tcvae(), x).model``, which has ``encode`` (means, no sampling), ``decode`` and ``space()``.
    Cost: 6 M multiplications a picture and direction at 64 pixels. Departure: released code puts 1/N of the weights
    into the first column in place of the diagonal. Sources: chen2018tc, burgess2018.

    >>> beta_tcvae(latents=6).build(seed=0).encode(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 6])
    """
    return BetaTCVAE(size, latents, channels, beta, anneal)


@checked
def supervised_vae(
    names: Sequence[str],
    size: int = 64,
    latents: int = 10,
    channels: int = 1,
    beta: float = 6.4,
    weight: float = 100.0,
    anneal: int = 10_000,
) -> BetaTCVAE:
    """A β-TCVAE whose first latents take labelled attributes, by name: no guess at what a latent means.

    Loss = that of ``beta_tcvae`` + weight · Σ_j (μ_j - t_j)² over the labels that are known, with t_j label j of the
    picture, less its mean, in standard deviations. ``names``: of the label columns; ``fit`` is given labels y
    (N, len(names)), numbers or 0 and 1, NaN where unknown; a category takes a column for each value, an angle its sine
    and cosine.
    The model's ``read`` gives attributes in the units of the labels. Cost: as ``beta_tcvae``. Departure: demijolla2020
    turns two latents onto labelled axes after training, which ``spaces.aligned`` does. Sources: chen2018tc,
    locatello2020.

    >>> supervised_vae(["age", "smile"], latents=4).gaussian
    ('age', 'smile', 'z0', 'z1')
    """
    if isinstance(names, str) or not len(names):
        raise BadInput(f"supervised_vae: names must be a list of one or more labels, got {names!r}")
    positive("supervised_vae", "weight", weight)
    return BetaTCVAE(size, latents, channels, beta, anneal, tuple(str(name) for name in names), weight)


@checked
def joint_vae(
    size: int = 32,
    continuous: int = 10,
    discrete: Sequence[int] = (10,),
    channels: int = 1,
    pressure: float = 30.0,
    capacity: float = 5.0,
    ramp: int = 25_000,
) -> JointVAE:
    """Latents of which some are categories, such as which digit it is, learned without labels.

    Loss = (reconstruction + pressure · |C_z(t) - KL_z| + pressure · |C_c(t) - KL_c|) / pixels. Capacities C rise from 0
    to ``capacity`` nats over ``ramp`` steps, that of the categories to at most Σ log K. In training categories are
    sampled by Gumbel-softmax at temperature .67. Convolutions of 32, 64, 64 channels and a layer of 256; Adam at 5e-4,
    minibatches of 64.

    ``encode`` gives means and a one-hot block at the likeliest category; in ``space()`` the whole block is one player,
    since a block cut in two is no category. ``size``, ``channels`` and cost as for ``beta_tcvae``. Departure: the
    decoder is the encoder's mirror, of 64, 32, 32 channels and the picture's. Sources: dupont2018, jang2017.

    >>> joint_vae().build(seed=0).encode(torch.zeros(2, 1, 32, 32))[:, 10:].sum(1).tolist()
    [1.0, 1.0]
    """
    return JointVAE(size, continuous, tuple(discrete), channels, pressure, capacity, ramp)
