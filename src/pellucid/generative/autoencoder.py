"""The network of a variational autoencoder, whatever its loss: one encoder, one decoder, readable coordinates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.core.errors import BadInput, listing
from pellucid.generative.latents import gumbel_softmax
from pellucid.generative.learner import Learner, Step, halvings, initialised, pictures
from pellucid.spaces.decoder import Decoder
from pellucid.spaces.decoder import decoder as space_of

if TYPE_CHECKING:
    from pellucid.generative.vae import Settings


@dataclass(frozen=True)
class Pass:
    """What one pass through the network gives the loss: logits of the pixels, (B, C, H, W); samples z, means and log
    variances of the Gaussian latents, (B, L); log probabilities (B, K) of each category."""

    logits: Tensor
    z: Tensor
    mean: Tensor
    log_var: Tensor
    log_alphas: tuple[Tensor, ...]

    def reconstruction(self, x: Tensor) -> Tensor:
        """The Bernoulli loss, summed over pixels, mean over rows."""
        return F.binary_cross_entropy_with_logits(self.logits, x, reduction="sum") / len(x)


class VAE(Learner):
    """An encoder and a decoder, each the mirror of the other (see ``generative.beta_tcvae``, ``joint_vae``).

    Coordinates z are the means of the Gaussian latents, then a one-hot block for each category: no sampling.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, settings: Settings, seed: int) -> None:
        super().__init__()
        self.settings = settings
        count, least = halvings(settings.name, settings.size, 4), settings.size
        widths = [settings.filters[min(layer, len(settings.filters) - 1)] for layer in range(count)]
        self.edge = least // 2**count
        flat = [widths[-1] * self.edge**2, *settings.hidden]
        gaussian, categories = len(settings.gaussian), settings.categories
        with torch.random.fork_rng(devices=[]):  # layers initialise from the global generator
            stages = zip([settings.channels, *widths], widths, strict=False)
            self.down = nn.Sequential(*(part for i, o in stages for part in (nn.Conv2d(i, o, 4, 2, 1), nn.ReLU())))
            self.code = _dense(flat)
            self.heads = nn.Linear(flat[-1], 2 * gaussian + sum(categories))
            self.start = _dense([gaussian + sum(categories), *reversed(flat)])
            back = [*reversed(widths), settings.channels]
            up = [nn.ConvTranspose2d(i, o, 4, 2, 1) for i, o in itertools.pairwise(back)]
            self.up = nn.Sequential(*[part for layer in up for part in (layer, nn.ReLU())][:-1])
        self.register_buffer("centre", torch.zeros(settings.labelled))
        self.register_buffer("spread", torch.ones(settings.labelled))
        initialised(self, seed, f"generative.{settings.name}")

    def check(self, x: Tensor, y: Tensor | None) -> None:
        """Pictures of the right size in 0..1, and a label for each labelled latent."""
        settings = self.settings
        pictures(settings.name, x, settings.channels, settings.size)
        wanted = settings.labelled
        if (0 if y is None else y.shape[1]) != wanted:
            found = "none" if y is None else f"(N, {y.shape[1]})"
            raise BadInput(f"{settings.name}: needs labels (N, {wanted}) for its named latents, got {found}")

    def prepare(self, x: Tensor, y: Tensor | None) -> None:
        """Keep the mean and the spread of each label, so that latents take labels in standard deviations."""
        for column in range(self.settings.labelled):
            known = cast("Tensor", y)[:, column]
            known = known[known.isfinite()].double()
            name = self.settings.gaussian[column]
            if len(known) < 2 or not float(known.std()) > 0:
                raise BadInput(
                    f"{self.settings.name}: the label {name!r} is constant or unknown in the training rows; "
                    "a latent cannot take it"
                )
            self.centre[column], self.spread[column] = float(known.mean()), float(known.std())

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates (B, L + Σ K): means, and one-hot blocks at the likeliest category."""
        mean, _, log_alphas = self._posterior(self._own(x))
        blocks = [F.one_hot(part.argmax(1), part.shape[1]).to(mean) for part in log_alphas]
        return torch.cat([mean, *blocks], 1).to(x.device)

    def decode(self, z: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in 0..1, the probability of each pixel."""
        return torch.sigmoid(self._logits(self._own(z))).to(z.device)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The pictures as they come back."""
        return self.decode(self.encode(x))

    def codes(self, x: Tensor) -> Tensor:
        """A column for each player: Gaussian latents, and each category's number. (B, n)."""
        count = len(self.settings.gaussian)
        z = self.encode(x)
        blocks = z[:, count:].split(list(self.settings.categories), 1) if self.settings.categories else ()
        return torch.cat([z[:, :count], *(block.argmax(1, keepdim=True).to(z) for block in blocks)], 1)

    def read(self, x: Tensor) -> Tensor:
        """The labelled attributes of pictures, in the units of the labels: (B, A)."""
        found = self.encode(x)[:, : self.settings.labelled]
        return found * self.spread.to(found) + self.centre.to(found)

    def losses(self, part: str, x: Tensor, y: Tensor | None, step: Step) -> dict[str, Tensor]:
        """The terms of the recipe's loss at samples of the latents."""
        mean, log_var, log_alphas = self._posterior(x)
        z = mean + torch.exp(0.5 * log_var) * step.normal("latents", mean)
        blocks = [
            gumbel_softmax(log_alpha, step.uniform(f"category {i}", log_alpha), self.settings.temperature)
            for i, log_alpha in enumerate(log_alphas)
        ]
        made = Pass(self._logits(torch.cat([z, *blocks], 1)), z, mean, log_var, log_alphas)
        targets = None if y is None else (y - self.centre) / self.spread
        return self.settings.terms(made, x, targets, step)

    def space(self, names: Sequence[str] | None = None, rotation: Any = None, tolerance: float = 0.1) -> Decoder:
        """The latents as a space for ``explain``: a player for each Gaussian latent and one for each category, whose
        one-hot block is never cut.

        ``names``: one for each player. ``rotation``: as ``spaces.aligned`` finds it. See ``spaces.decoder``.
        """
        gaussian, categories = self.settings.gaussian, self.settings.categories
        default = [*gaussian, *(f"category {i}" for i in range(len(categories)))]
        titles = [str(name) for name in (default if names is None else names)]
        if len(titles) != len(default) or len(set(titles)) < len(titles):
            raise BadInput(
                f"{self.settings.name}: space needs {len(default)} different names, one for each of "
                f"{listing(default, 12)}; got {listing(titles, 12)}"
            )
        coordinates, groups = titles[: len(gaussian)], {name: [i] for i, name in enumerate(titles[: len(gaussian)])}
        for name, count in zip(titles[len(gaussian) :], categories, strict=True):
            groups[name] = list(range(len(coordinates), len(coordinates) + count))
            coordinates += [f"{name}={i}" for i in range(count)]
        return space_of(self.encode, self.decode, coordinates, groups if categories else None, rotation, tolerance)

    def _own(self, values: Tensor) -> Tensor:
        weight = self.heads.weight
        return values.to(weight.device, weight.dtype)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        count = len(self.settings.gaussian)
        heads = self.heads(self.code(self.down(x).flatten(1)))
        mean, log_var, rest = heads.split([count, count, heads.shape[1] - 2 * count], 1)
        parts = rest.split(list(self.settings.categories), 1) if self.settings.categories else ()
        return mean, log_var, tuple(F.log_softmax(part, 1) for part in parts)

    def _logits(self, z: Tensor) -> Tensor:
        start: Tensor = self.start(z)
        logits: Tensor = self.up(start.unflatten(1, (-1, self.edge, self.edge)))
        return logits


def _dense(widths: Sequence[int]) -> nn.Sequential:
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(part for i, o in pairs for part in (nn.Linear(i, o), nn.ReLU())))
