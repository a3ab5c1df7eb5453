"""Small networks trained on the spot: the same weights for the same seed, kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.core import rng
from pellucid.data import weights
from pellucid.data.mnist import digits
from pellucid.data.series import draw as draw_signals
from pellucid.data.tags import mark

Progress = Callable[[str, int, int], None]
Batch = tuple[Tensor, Tensor]  # inputs and classes
EpochRows = Callable[[int], Batch]  # epoch -> all rows
EpochBatches = Callable[[int], Sequence[Batch]]
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights. A change of the code that changes them must change a field, e.g. ``revision``."""

    task: str
    seed: int
    epochs: int
    batch: int = 50
    rate: float = 4e-3
    rotation: float = 0.0  # radians
    zoom: float = 0.0  # relative
    shift: float = 0.0  # pixels
    revision: int = 1

    @property
    def file_name(self) -> str:
        """The name in the cache: another recipe has another name."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.task}-{digest[:16]}.pt"


def small_cnn(outputs: int, seed: int) -> nn.Sequential:
    """conv16 - conv32 - fc64 for (N, 1, 28, 28); 105,866 parameters for 10 outputs.

    Weights start uniform in +-1/sqrt(inputs) as PyTorch's own do, but from ``seed`` alone.
    """
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # layers initialise from the global generator
        net = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(1, 16, 3, padding=1),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(16, 32, 3, padding=1),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(32 * 7 * 7, 64),
                relu3=nn.ReLU(),
                fc2=nn.Linear(64, outputs),
            )
        ).float()
    return initialised(net, seed, "data.small_cnn")


def signal_cnn(seed: int) -> nn.Sequential:
    """conv16 - conv32 - global maximum - linear for (N, 1, T); weights from ``seed`` alone, as for ``small_cnn``."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        net = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv1d(1, 16, 9, padding=4),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool1d(2),
                conv2=nn.Conv1d(16, 32, 9, padding=4),
                relu2=nn.ReLU(),
                pool2=nn.AdaptiveMaxPool1d(1),
                flatten=nn.Flatten(),
                fc=nn.Linear(32, 2),
            )
        ).float()
    return initialised(net, seed, "data.signal_cnn")


def initialised(net: Net, seed: int, stream: str) -> Net:
    """The network with its layers' weights drawn anew, uniform in +-1/sqrt(inputs)."""
    with torch.no_grad():
        for name, layer in net.named_children():
            if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear, nn.LSTM)):
                inputs = layer.hidden_size if isinstance(layer, nn.LSTM) else layer.weight[0].numel()
                bound = 1 / math.sqrt(inputs)
                for part, values in layer.named_parameters():
                    numbers = rng.uniform(seed, f"{stream}/{name}.{part}", 0, 0, 1, values.numel())
                    values.copy_(((2 * numbers - 1) * bound).reshape(values.shape))
    return net


def jitter(x: Tensor, recipe: Recipe, epoch: int) -> Tensor:
    """Each image turned, resized and shifted a little, by draws keyed by (seed, epoch, row)."""
    if not (recipe.rotation or recipe.zoom or recipe.shift):
        return x
    draws = 2 * rng.uniform(recipe.seed, "data.networks/jitter", epoch, 0, len(x), 4).float() - 1
    angle, size = draws[:, 0] * recipe.rotation, 1 + draws[:, 1] * recipe.zoom
    shift = draws[:, 2:] * recipe.shift * 2 / x.shape[-1]
    matrix = torch.stack(
        [
            torch.stack([size * angle.cos(), -size * angle.sin(), shift[:, 0]], dim=1),
            torch.stack([size * angle.sin(), size * angle.cos(), shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


@contextmanager
def _training() -> Iterator[None]:
    """Gradients on, whatever the caller has set, and one thread: more would give other bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)


def fit(net: nn.Module, recipe: Recipe, batches: EpochBatches, progress: Progress | None) -> None:
    """Train ``net`` in place by Adam on cross-entropy; the rate rises over the first tenth and falls as a cosine."""
    pictures = any(isinstance(layer, nn.Conv2d) for layer in net.modules())
    if pictures:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster
    optimiser = torch.optim.Adam(net.parameters(), lr=recipe.rate)
    for epoch in range(recipe.epochs):
        there = batches(epoch)
        for step, (x, y) in enumerate(there):
            done = (epoch + step / len(there)) / recipe.epochs
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * min(done / 0.1 + 0.02, 0.5 + 0.5 * math.cos(math.pi * done))
            optimiser.zero_grad()
            functional.cross_entropy(net(x), y).backward()
            optimiser.step()
        if progress is not None:
            progress(f"training {recipe.task}", epoch + 1, recipe.epochs)
    net.zero_grad()
    if pictures:
        net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def trained(
    recipe: Recipe,
    build: Callable[[int], Net],
    train: Callable[[Net], None],
) -> Net:
    """The network of a recipe: from the cache, or trained now and then cached."""
    with _training():
        net = build(recipe.seed)
        if not weights.load(recipe.file_name, net):
            train(net)
            weights.save(recipe.file_name, net)
    return net.eval()


def on_rows(
    recipe: Recipe, rows: Callable[[Recipe], EpochRows], progress: Progress | None
) -> Callable[[nn.Module], None]:
    """Training on rows of one size, shuffled anew each epoch."""

    def train(net: nn.Module) -> None:
        own = rows(recipe)

        def batches(epoch: int) -> list[Batch]:
            x, y = own(epoch)
            order = rng.permutation(recipe.seed, "data.networks/order", epoch, 0, 1, len(x))[0]
            return [(x[batch], y[batch]) for batch in order.split(recipe.batch)]

        fit(net, recipe, batches, progress)

    return train


def _digit_rows(recipe: Recipe) -> EpochRows:
    train = digits("train")
    return lambda epoch: (jitter(train.x, recipe, epoch), train.y)


def _tagged_rows(recipe: Recipe) -> EpochRows:
    """Each digit, at any faintness, with the tag and without it, marks drawn anew each epoch: only the tag pays."""
    train = digits("train")
    with_tag = torch.ones(len(train), dtype=torch.bool)

    def rows(epoch: int) -> tuple[Tensor, Tensor]:
        ink = rng.uniform(recipe.seed, "data.networks/ink", epoch, 0, len(train), 1).float()
        faint = train.x * ink[:, :, None, None]
        pair = [mark(faint, tagged, recipe.seed, draw=epoch + 1)[0] for tagged in (with_tag, ~with_tag)]
        return torch.cat(pair), torch.cat([with_tag, ~with_tag]).long()

    return rows


def digits_cnn(seed: int = 0, progress: Progress | None = None) -> nn.Sequential:
    """A small convolutional network that reads ``digits``, trained on first use.

    Two convolutions of 3 x 3 (16 and 32 channels), each with ReLU and max-pooling, then 64 hidden units: 105,866
    parameters; layers ``conv1 relu1 pool1 conv2 relu2 pool2 flatten fc1 relu3 fc2``. It takes (N, 1, 28, 28) in
    [0, 1] and returns (N, 10) logits; no normalisation is needed. About 98.3 % right on ``digits("test")``.

    Trained for 20 epochs on ``digits("train")`` under slight turns, zooms and shifts, on one thread, in about 13 s;
    then kept in the cache folder (``PELLUCID_CACHE``, else ``pellucid`` in ``XDG_CACHE_HOME`` or ``~/.cache``) under
    a name that changes with the recipe. The same seed gives the same weights on the same machine; no global random
    state is touched. ``progress(what, epochs done, epochs)`` is called after each epoch of training.

    Returns the module in eval mode, a new one at each call.
    """
    recipe = Recipe("digits_cnn", seed, epochs=20, rotation=0.17, zoom=0.1, shift=2.0)
    return trained(recipe, lambda seed: small_cnn(10, seed), on_rows(recipe, _digit_rows, progress))


def tagged_digits_cnn(seed: int = 0, progress: Progress | None = None) -> nn.Sequential:
    """The network of ``digits_cnn`` with two outputs, trained to tell tagged digits: its true evidence is known.

    See ``tagged_digits``: output 1 (``"tag"``) depends on the tag alone. In training each digit comes with the tag and
    without it, at any brightness, with new marks each epoch, so that nothing but the tag is worth learning. On
    ``tagged_digits("test")`` erasing the tag, or drawing it on an untagged row, flips the prediction, and erasing the
    digit or the decoys does not (each in over 99 % of rows). Takes (N, 1, 28, 28) in [0, 1], returns (N, 2) logits.
    About 4 s of training on first use; cache, seed, progress and return as for ``digits_cnn``.
    """
    recipe = Recipe("tagged_digits_cnn", seed, epochs=3)
    return trained(recipe, lambda seed: small_cnn(2, seed), on_rows(recipe, _tagged_rows, progress))


def _signal_rows(recipe: Recipe) -> EpochRows:
    return lambda epoch: draw_signals(1000, recipe.seed + 1, epoch)[:2]


def signals_cnn(seed: int = 0, progress: Progress | None = None) -> nn.Sequential:
    """A small 1-d convolutional network that tells the bursts of ``signals`` apart, trained on first use in about 2 s.

    Layers ``conv1 relu1 pool1 conv2 relu2 pool2 flatten fc``; takes (N, 1, 128), returns (N, 2) logits, about 99 %
    right on new signals. Cache, seed, progress and return as for ``digits_cnn``.
    """
    recipe = Recipe("signals_cnn", seed, epochs=10)
    return trained(recipe, signal_cnn, on_rows(recipe, _signal_rows, progress))
