"""Pictures with some attributes changed and all else kept: a small translator after STGAN."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.core.errors import BadInput, Unreliable, listing
from pellucid.core.settings import checked
from pellucid.generative.learner import Learner, Step, halvings, initialised, pictures, positive, whole
from pellucid.generative.quality import Flips
from pellucid.spaces.attributes import Attributes, Reader
from pellucid.spaces.attributes import attributes as space_of

_DEEPEST = 5
_SLOPE = 0.2


@dataclass(frozen=True)
class STGAN:
    """Settings of ``generative.translator``."""

    names: tuple[str, ...]
    size: int
    channels: int
    filters: int
    attribute_weight: float
    reconstruction_weight: float
    critic_steps: int
    noise: float
    penalty: float = 10.0
    batch: int = 32
    rate: float = 2e-4
    decay: float = 0.25
    betas: tuple[float, float] = (0.5, 0.999)

    name = "translator"

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise BadInput(f"translator: names must be one or more different attributes, got {listing(self.names)}")
        for field in ("channels", "filters", "critic_steps"):
            whole(self.name, field, getattr(self, field))
        for field in ("attribute_weight", "reconstruction_weight", "penalty"):
            positive(self.name, field, getattr(self, field))
        if not 0 <= self.noise < 1:
            raise BadInput(f"translator: noise must be a standard deviation from 0 to under 1, got {self.noise!r}")
        halvings(self.name, self.size, 4)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the encoder's layers, each at half the size of the one before."""
        depth = min(halvings(self.name, self.size, 4), _DEEPEST)
        return tuple(self.filters * 2**level for level in range(depth))

    def build(self, seed: int) -> Translator:
        """An untrained generator and critic."""
        return Translator(self, seed)


class Transfer(nn.Module):
    """A selective transfer unit: which features of one layer of the encoder pass on, given the wanted differences d.

    With s' = W_t * [s, d] the state of the layer below, doubled in size: reset r = σ(W_r * [f, s']), update
    z = σ(W_z * [f, s']); the state is r s', and what passes is (1 - z) s' + z tanh(W_h * [f, r s']). Source: liu2019.
    """

    def __init__(self, below: int, width: int, attributes: int) -> None:
        super().__init__()
        self.raised = nn.ConvTranspose2d(below + attributes, width, 4, 2, 1)
        self.gates = nn.Conv2d(2 * width, 2 * width, 3, 1, 1)
        self.fresh = nn.Conv2d(2 * width, width, 3, 1, 1)

    def forward(self, feature: Tensor, state: Tensor, difference: Tensor) -> tuple[Tensor, Tensor]:
        """What passes, and the state for the layer above."""
        raised = self.raised(_joined(state, difference))
        reset, update = torch.sigmoid(self.gates(torch.cat([feature, raised], 1))).chunk(2, 1)
        state = reset * raised
        fresh = torch.tanh(self.fresh(torch.cat([feature, state], 1)))
        return (1 - update) * raised + update * fresh, state


class Generator(nn.Module):
    """Encoder, a selective transfer unit on each skip, decoder, and a mask that says where the picture is painted over.

    Rows do not see each other: norms are by groups.
    """

    def __init__(self, settings: STGAN) -> None:
        super().__init__()
        widths, channels, count = settings.widths, settings.channels, len(settings.names)
        self.down = nn.ModuleList(_halving(i, o) for i, o in itertools.pairwise([channels, *widths]))
        self.transfer = nn.ModuleList(Transfer(below, width, count) for width, below in itertools.pairwise(widths))
        self.up = nn.ModuleList(
            _doubling(inputs, width)
            for inputs, width in zip(
                [widths[-1] + count, *(2 * width for width in reversed(widths[:-1]))],
                [*reversed(widths[:-1]), widths[0]],
                strict=True,
            )
        )
        self.last = nn.Conv2d(widths[0] + channels, channels + 1, 3, 1, 1)

    def forward(self, x: Tensor, difference: Tensor) -> Tensor:
        """Pictures in 0..1 with the attributes moved by the differences."""
        scaled = 2 * x - 1
        features, here = [], scaled
        for layer in self.down:
            here = layer(here)
            features.append(here)
        state, made = features[-1], _joined(features[-1], difference)
        for layer, transfer, feature in zip(self.up, [*reversed(self.transfer)], features[-2::-1], strict=False):
            passed, state = transfer(feature, state, difference)
            made = torch.cat([layer(made), passed], 1)
        made = self.up[-1](made)
        paint, mask = self.last(torch.cat([made, scaled], 1)).tensor_split([-1], 1)
        painted: Tensor = x + torch.sigmoid(mask) * (torch.sigmoid(paint) - x)
        return painted


class Critic(nn.Module):
    """Scores how real pictures look, and logits of their attributes, from one trunk."""

    def __init__(self, settings: STGAN) -> None:
        super().__init__()
        widths = settings.widths
        layers = [nn.Conv2d(i, o, 4, 2, 1) for i, o in itertools.pairwise([settings.channels, *widths])]
        self.trunk = nn.Sequential(*(part for layer in layers for part in (layer, nn.LeakyReLU(_SLOPE))), nn.Flatten())
        flat = widths[-1] * (settings.size // 2 ** len(widths)) ** 2
        self.real, self.attributes = _head(flat, 1), _head(flat, len(settings.names))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) scores and (B, A) logits."""
        seen = self.trunk(2 * x - 1)
        real, attributes = self.real(seen), self.attributes(seen)
        return real[:, 0], attributes


class Translator(Learner):
    """Changes attributes in pictures (see ``generative.translator``): ``model(x, differences)``."""

    def __init__(self, settings: STGAN, seed: int) -> None:
        super().__init__()
        self.settings = settings
        with torch.random.fork_rng(devices=[]):  # layers initialise from the global generator
            self.generator, self.critic = Generator(settings), Critic(settings)
        initialised(self, seed, "generative.translator")

    def parts(self) -> Mapping[str, list[nn.Parameter]]:
        """Generator and critic."""
        return {"critic": list(self.critic.parameters()), "generator": list(self.generator.parameters())}

    def turn(self, index: int) -> str:
        """Some steps of the critic, then one of the generator."""
        return "critic" if (index + 1) % (self.settings.critic_steps + 1) else "generator"

    def check(self, x: Tensor, y: Tensor | None) -> None:
        """Pictures of the right size in 0..1, and for each all attributes, there (1) or not (0)."""
        settings = self.settings
        pictures(settings.name, x, settings.channels, settings.size)
        count = len(settings.names)
        if y is None or y.shape[1] != count:
            found = "none" if y is None else f"(N, {y.shape[1]})"
            raise BadInput(f"translator: needs labels (N, {count}): {listing(settings.names)}; got {found}")
        self._refuse(y, lambda values: not values <= {0.0, 1.0})

    def prepare(self, x: Tensor, y: Tensor | None) -> None:
        """Refuse an attribute that all training pictures have, or none: nothing could be learned about it."""
        self._refuse(cast("Tensor", y), lambda values: len(values) < 2)

    def _refuse(self, y: Tensor, wrong: Callable[[set[float]], bool]) -> None:
        for column, name in enumerate(self.settings.names):
            values = set(y[:, column].unique().tolist())
            if wrong(values):
                raise BadInput(
                    f"translator: attribute {name!r} must be 0 in some pictures and 1 in the others, got values "
                    f"{listing(sorted(values), 5)}"
                )

    def forward(self, x: Tensor, difference: Tensor) -> Tensor:
        """Pictures (B, C, H, W) with attributes moved by differences (B, A) in -1..1."""
        count = len(self.settings.names)
        if tuple(difference.shape) != (len(x), count):
            raise BadInput(f"translator: differences must be ({len(x)}, {count}), got {tuple(difference.shape)}")
        weight = next(self.parameters())
        made: Tensor = self.generator(x.to(weight), difference.to(weight))
        return made.to(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The pictures with nothing changed."""
        return cast("Tensor", self(x, x.new_zeros(len(x), len(self.settings.names))))

    def read(self, x: Tensor) -> Tensor:
        """The attributes, 0 or 1, as the critic reads them: (B, A)."""
        logits: Tensor = self.critic(x.to(next(self.parameters())))[1]
        return (logits > 0).to(x)

    def losses(self, part: str, x: Tensor, y: Tensor | None, step: Step) -> dict[str, Tensor]:
        """The critic's or the generator's terms (gulrajani2017, liu2019)."""
        settings, own = self.settings, cast("Tensor", y)
        wanted = self._wanted(own, step)
        if part == "critic":
            with torch.no_grad():
                fake = self.generator(x, wanted - own)
            (real_score, _), (fake_score, _) = self.critic(x), self.critic(fake)
            between = step.uniform("between", x[:, 0, 0, 0])
            penalty = gradient_penalty(lambda x: self.critic(x)[0], x, fake, between)
            gap = (real_score - fake_score).mean()
            attributes = F.binary_cross_entropy_with_logits(self._read(x, step), own)
            loss = settings.penalty * penalty - gap + attributes
            return {"loss": loss, "critic gap": gap, "critic penalty": penalty, "critic attributes": attributes}
        fake, back = self.generator(x, wanted - own), self.generator(x, torch.zeros_like(own))
        score, _ = self.critic(fake)
        with torch.no_grad():  # what is to stay is to read as it did, no more: else it would be painted ever bolder
            before = torch.sigmoid(self._read(x, step))
        to_read = torch.where(wanted == own, before, wanted)
        attributes = F.binary_cross_entropy_with_logits(self._read(fake, step), to_read)
        reconstruction = (back - x).abs().mean()
        changes = settings.attribute_weight * attributes + settings.reconstruction_weight * reconstruction
        return {
            "loss": changes - score.mean(),
            "generator attributes": attributes,
            "generator reconstruction": reconstruction,
        }

    def score(self, x: Tensor, y: Tensor | None, step: Step) -> Tensor:
        """The generator's loss without the adversarial term, which has no fixed scale."""
        terms, settings = self.losses("generator", x, y, step), self.settings
        return (
            settings.attribute_weight * terms["generator attributes"]
            + settings.reconstruction_weight * terms["generator reconstruction"]
        )

    def space(
        self,
        quality: Flips | None = None,
        read: Reader | None = None,
        exclusive: Sequence[Sequence[str]] = (),
        resolve: bool = False,
        tolerance: float = 0.1,
    ) -> Attributes:
        """The attributes and "unlabelled" as a space for ``explain`` (see ``spaces.attributes``).

        ``quality``: what ``generative.flips`` found; without it, or where it does not pass, a warning says that
        explanations through this translator are not to be believed. ``read``: a reader of attributes, such as
        ``spaces.labels(...)`` (None: the critic's).
        """
        if quality is None or not quality.passes:
            why = "nobody measured it: give quality=generative.flips(...)" if quality is None else quality.reasons[0]
            warnings.warn(
                f"translator: explanations through it are not to be believed; {why}", Unreliable, stacklevel=2
            )
        return space_of(self, self.settings.names, read, exclusive, resolve, tolerance=tolerance)

    def _read(self, x: Tensor, step: Step) -> Tensor:
        """Logits of attributes seen through noise, weak or strong, so that only what is changed in full reads so."""
        strength = self.settings.noise * step.uniform("strength", x[:, :1, :1, :1])
        logits: Tensor = self.critic(x + strength * step.normal("noise", x))[1]
        return logits

    def _wanted(self, own: Tensor, step: Step) -> Tensor:
        """Of every attribute the picture's own or that of another row, by a coin each: what coalitions ask for."""
        other = own[step.order("other", len(own)).to(own.device)]
        return torch.where(step.uniform("coins", own) < 0.5, own, other)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Mean of (|∇ critic(x̂)| - 1)² at x̂ = share · real + (1 - share) · fake, one share for each row: one number.

    Source: gulrajani2017.
    """
    mix = share.reshape(-1, *(1,) * (real.ndim - 1))
    with torch.enable_grad():
        between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = ((torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1) ** 2).mean()
    return penalty


def _joined(feature: Tensor, difference: Tensor) -> Tensor:
    planes = difference[:, :, None, None].expand(*difference.shape, *feature.shape[2:])
    return torch.cat([feature, planes], 1)


def _norm(width: int) -> nn.Module:
    return nn.GroupNorm(next(groups for groups in (8, 4, 2, 1) if width % groups == 0), width)


def _halving(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, width, 4, 2, 1), _norm(width), nn.LeakyReLU(_SLOPE))


def _doubling(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, width, 4, 2, 1), _norm(width), nn.ReLU())


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 128), nn.LeakyReLU(_SLOPE), nn.Linear(128, outputs))


@checked
def translator(
    names: Sequence[str],
    size: int = 64,
    channels: int = 3,
    filters: int = 32,
    attribute_weight: float = 10.0,
    reconstruction_weight: float = 100.0,
    critic_steps: int = 5,
    noise: float = 0.5,
) -> STGAN:
    """What would this picture be with glasses, and all else the same? Attributes changed in pictures, learned from
    labels.

    Generator G(x, d) = x + m (p - x), d = wanted - own attributes: paint p and where it goes, m in 0..1 at each pixel,
    come from an encoder and a decoder with selective transfer units on the skips. Loss = - critic(G(x, d)) +
    attribute_weight · cross-entropy of what the critic reads, from 0 or 1 for attributes that are to change and from
    what it reads in x for the others + reconstruction_weight · mean |G(x, 0) - x|. Critic: Wasserstein with gradient
    penalty 10, + cross-entropy of the true attributes; ``critic_steps`` steps of it for one of the generator. Adam at
    2e-4, falling to 0 over the last quarter of the steps, minibatches of 32. In training attributes are read through
    normal noise whose standard deviation is drawn for each picture from 0 to ``noise``, lest the generator learn
    changes that the critic reads and nobody sees.

    ``names``: of the attributes; ``fit(translator(names), x, y)`` is given labels y (N, A), 0 or 1. ``size``: of square
    pictures, 28 to 128 pixels; ``filters``: width of the first layer, which doubles at each of up to five. Check the
    trained model by ``generative.flips``, with a judge of its own, and give the result to ``model.space(quality=...)``.

    Cost: about 120 M multiplications a picture at 64 pixels. Departures: each attribute is wanted as in the picture or
    as in another row by a coin of its own, which is what coalitions ask for, where the source wants all of another
    row's; attributes are read through noise, and those that stay need only be read as they were, lest they be painted
    ever bolder; norms are by groups, so that rows do not depend on one another; and the mask, without which what is
    there is hard to take away (pumarola2018). Sources: liu2019, he2019, gulrajani2017.

    >>> model = translator(["hat"], size=32, channels=1, filters=4).build(seed=0)
    >>> model(torch.zeros(2, 1, 32, 32), torch.ones(2, 1)).shape
    torch.Size([2, 1, 32, 32])
    """
    if isinstance(names, str):
        raise BadInput(f"translator: names must be a list of attributes, got the text {names!r}")
    titles = tuple(str(name) for name in names)
    return STGAN(titles, size, channels, filters, attribute_weight, reconstruction_weight, critic_steps, float(noise))
