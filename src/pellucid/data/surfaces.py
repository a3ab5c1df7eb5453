"""Surfaces and gratings: pictures whose class lies in their frequencies, real ones and ones with known truth."""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.data import wheels
from pellucid.data.examples import Examples
from pellucid.data.networks import Batch, Progress, Recipe, fit, initialised, trained

TEXTURES = ("brick", "grass", "gravel")
SIZE = 64
CYCLES = ((4, 0), (8, 2), (11, 6), (4, 16), (20, 8), (0, 0))
"""Cycles a picture, down and across, of the gratings of each class; the last is noise alone."""
CONTRAST, WAVE, NOISE = 0.15, 0.2, 0.1


@lru_cache(maxsize=1)
def _surfaces() -> Tensor:
    """(3, 512, 512) in [0, 1]."""
    try:
        from PIL import Image
    except ImportError:
        raise wheels.missing("pillow", "data.textures") from None
    found = []
    for name in TEXTURES:
        with Image.open(wheels.file("skimage", f"data/{name}.png", "data.textures")) as image:
            found.append(torch.from_numpy(np.asarray(image.convert("L"), dtype=np.float32) / 255))
    return torch.stack(found)


def _equalised(x: Tensor) -> Tensor:
    """Every picture at mean .5 and standard deviation .15, cut to [0, 1]: brightness and contrast tell no class."""
    mean, spread = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True).clamp_min(1e-3)
    return ((x - mean) / spread * CONTRAST + 0.5).clamp(0, 1)


def textures(split: str = "test", count: int = 300, seed: int = 0) -> Examples:
    """Pieces of real brick, grass and gravel: does a network read texture or shape?

    Squares of 64 x 64 pixels at random places of three grey photos of 512 x 512: ``split`` "train" takes them from the
    left half, "test" from the right one. Each is brought to mean .5 and standard deviation .15, so that brightness and
    contrast tell nothing. ``count`` rows, the three classes in turn; ``seed`` says where the pieces lie. Pieces of
    one half overlap, so rows are not independent: intervals over them are about these three photos.

    Returns ``x`` (count, 1, 64, 64) in [0, 1], ``y`` the texture. Source: photos of the package scikit-image (CC0).
    """
    _checked("data.textures", split, count)
    surfaces = _surfaces()
    y = torch.arange(count) % len(TEXTURES)
    draws = rng.uniform(seed, f"data.textures/{split}", 0, 0, count, 2)
    half = surfaces.shape[-1] // 2
    top = (draws[:, 0] * (surfaces.shape[-2] - SIZE + 1)).long()
    left = (draws[:, 1] * (half - SIZE + 1)).long() + (0 if split == "train" else half)
    reach = torch.arange(SIZE)
    x = surfaces[y[:, None, None], (top[:, None] + reach)[:, :, None], (left[:, None] + reach)[:, None, :]]
    names = tuple(f"{TEXTURES[k]}-{t}-{c}" for k, t, c in zip(y.tolist(), top.tolist(), left.tolist(), strict=True))
    about = f"Real: brick, grass and gravel of scikit-image (CC0), pieces of 64 x 64, {split} half."
    return Examples(_equalised(x[:, None]), y, TEXTURES, names, about)


def gratings(split: str = "test", count: int = 300, seed: int = 0) -> Examples:
    """Waves of a known frequency in noise: the class is the frequency, and nothing else.

    x = ½ + .2 cos(wave) + noise of standard deviation .1, cut to [0, 1], where the wave has ``CYCLES[y]`` cycles
    down and across a picture of 64 x 64, mirrored or turned by a quarter at random, and any phase. The last class is
    noise alone, so that no other can be known by what is missing. So the evidence lies in exactly one pair of
    frequencies, ``truth["frequency"]`` (count, 2) in cycles a pixel, 0 where there is none. ``split``, ``count``,
    ``seed``: as for ``textures``; the splits have noise and phases of their own. Synthetic, no licence needed.
    """
    _checked("data.gratings", split, count)
    y = torch.arange(count) % len(CYCLES)
    stream = f"data.gratings/{split}"
    draws = rng.uniform(seed, stream, 0, 0, count, 3)
    cycles = torch.tensor(CYCLES)[y].double()
    cycles = torch.where(draws[:, :1] < 0.5, cycles, cycles.flip(1))
    cycles[:, 1] *= torch.where(draws[:, 1] < 0.5, 1.0, -1.0)
    place = torch.arange(SIZE, dtype=torch.float64) / SIZE
    turns = cycles[:, 0, None, None] * place[:, None] + cycles[:, 1, None, None] * place + draws[:, 2, None, None]
    noise = rng.normal(seed, f"{stream}/noise", 0, 0, count, SIZE * SIZE).reshape(count, SIZE, SIZE)
    wave = WAVE * (y < len(CYCLES) - 1)[:, None, None]
    x = 0.5 + wave * (math.tau * turns).cos() + NOISE * noise
    return Examples(
        x.clamp(0, 1).float()[:, None],
        y,
        (*(f"{down}, {across} cycles" for down, across in CYCLES[:-1]), "noise"),
        tuple(f"grating-{split}-{i:05d}" for i in range(count)),
        "Synthetic: gratings of five known frequencies in noise.",
        {"frequency": (cycles / SIZE).float()},
    )


def _checked(name: str, split: str, count: int) -> None:
    if split not in ("train", "test"):
        raise BadInput(f"{name}: split must be 'train' or 'test', got {split!r}")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BadInput(f"{name}: count must be a whole number of at least 1, got {count!r}")


def texture_cnn(outputs: int, seed: int) -> nn.Sequential:
    """conv16 - conv32 - conv32 - mean - linear for (N, 1, 64, 64): it can tell what is there, hardly where."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        net = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(1, 16, 5, stride=2, padding=2),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(16, 32, 3, stride=2, padding=1),
                relu2=nn.ReLU(),
                conv3=nn.Conv2d(32, 32, 3, stride=2, padding=1),
                relu3=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(32, outputs),
            )
        ).float()
    return initialised(net, seed, "data.texture_cnn")


def textures_cnn(seed: int = 0, progress: Progress | None = None) -> nn.Sequential:
    """A small convolutional network that tells ``textures`` apart, trained on first use in about 20 s.

    Layers ``conv1 relu1 conv2 relu2 conv3 relu3 pool flatten fc``; takes (N, 1, 64, 64), returns (N, 3) logits. Cache,
    seed, progress and return as for ``digits_cnn``.
    """
    recipe = Recipe("textures_cnn", seed, epochs=40)
    return trained(recipe, lambda seed: texture_cnn(len(TEXTURES), seed), lambda net: _learn(net, recipe, progress))


def gratings_cnn(seed: int = 0, progress: Progress | None = None) -> nn.Sequential:
    """The network of ``textures_cnn`` with six outputs, trained to tell ``gratings`` apart: its evidence is known."""
    recipe = Recipe("gratings_cnn", seed, epochs=40)
    return trained(recipe, lambda seed: texture_cnn(len(CYCLES), seed), lambda net: _learn(net, recipe, progress))


def _learn(net: nn.Module, recipe: Recipe, progress: Progress | None) -> None:
    """1,000 new training pictures each epoch."""
    source = textures if recipe.task.startswith("textures") else gratings

    def batches(epoch: int) -> list[Batch]:
        rows = source("train", 1000, 1000 * (recipe.seed + 1) + epoch)
        order = rng.permutation(recipe.seed, f"data.{recipe.task}/order", epoch, 0, 1, len(rows))[0]
        return [(rows.x[part], rows.y[part]) for part in order.split(recipe.batch)]

    fit(net, recipe, batches, progress)
