"""Small networks that read faces: one that learned a biased label, and readers of attributes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.core.errors import BadInput, listing
from pellucid.data import networks
from pellucid.data.drawn_faces import FACE_ATTRIBUTES, SIZE, draw, render_faces
from pellucid.data.networks import Batch, Progress

INVITED = "invited"
_ROWS = 6000


@dataclass(frozen=True)
class FaceRecipe(networks.Recipe):
    """A recipe for faces: how correlated they are, and which attribute is painted over in them."""

    proxies: float = 0.0
    hidden: str | None = None


def faces_cnn(
    task: str = INVITED,
    proxies: float = 0.0,
    hidden: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> nn.Sequential:
    """A classifier of ``faces``, trained on first use: what a network makes of a biased label.

    ``task``: "invited", the biased label, or one of ``FACE_ATTRIBUTES``, the label of a control. ``proxies``: as in
    ``faces``. ``hidden``: an attribute that no training picture shows: a bias in the labels can then be learned through
    proxies only. Two convolutions of 3 x 3 (16 and 32 channels), each with batch normalisation, ReLU and max-pooling,
    then 64 hidden units; layers ``conv1 norm1 relu1 pool1 conv2 norm2 relu2 pool2 flatten fc1 relu3 fc2``. Takes
    (N, 3, 32, 32) in 0..1, returns (N, 2) logits.

    Trained for 8 epochs on 6,000 faces of its own in about 10 s; cache, seed, progress and return as for
    ``digits_cnn``.
    """
    if task != INVITED and task not in FACE_ATTRIBUTES:
        raise BadInput(f"faces_cnn: task {task!r} is not there; have {listing([INVITED, *FACE_ATTRIBUTES], 20)}")
    if hidden is not None and hidden not in FACE_ATTRIBUTES:
        raise BadInput(f"faces_cnn: hidden must be one of the attributes, got {hidden!r}")
    recipe = FaceRecipe(
        f"faces_cnn-{task.replace(' ', '_')}", seed, epochs=8, rate=2e-3, proxies=proxies, hidden=hidden
    )

    def rows() -> Batch:
        attributes, unlabelled, _, invited = draw(_ROWS, seed, 1, proxies)
        y = invited if task == INVITED else attributes[:, FACE_ATTRIBUTES.index(task)].long()
        if hidden is not None:
            attributes[:, FACE_ATTRIBUTES.index(hidden)] = 0
        return render_faces(attributes, unlabelled), y

    return _trained(recipe, None, rows, progress)


class FaceReader(nn.Module):
    """All attributes of faces from one network: (N, 3, 32, 32) to probabilities (N, 13)."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """The probability of each attribute."""
        probabilities: Tensor = self.net(x).softmax(1)[:, 1]
        return probabilities


def faces_reader(seed: int = 1, progress: Progress | None = None) -> FaceReader:
    """A network that reads the 13 attributes of ``faces``, trained on first use: a judge of translators.

    Layers as for ``faces_cnn``, trained for 4 epochs on 6,000 faces with independent attributes in about 5 s. Takes
    (N, 3, 32, 32), returns probabilities (N, 13); over 99.5 % right on each attribute of new faces.
    """
    recipe = FaceRecipe("faces_reader", seed, epochs=4, rate=2e-3)

    def rows() -> Batch:
        attributes, unlabelled, _, _ = draw(_ROWS, seed, 1, 0.0)
        return render_faces(attributes, unlabelled), attributes.long()

    return FaceReader(_trained(recipe, len(FACE_ATTRIBUTES), rows, progress)).eval()


def _trained(
    recipe: FaceRecipe, tasks: int | None, rows: Callable[[], Batch], progress: Progress | None
) -> nn.Sequential:
    """From the cache, or on rows that are drawn once."""

    def always(_: networks.Recipe) -> networks.EpochRows:
        drawn = rows()
        return lambda epoch: drawn

    return networks.trained(recipe, lambda seed: _net(tasks, seed), networks.on_rows(recipe, always, progress))


def _net(tasks: int | None, seed: int) -> nn.Sequential:
    """Logits (N, 2), or (N, 2, tasks) for several."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # layers initialise from the global generator
        layers = OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(3, 16, 3, padding=1),
            norm1=nn.BatchNorm2d(16),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            norm2=nn.BatchNorm2d(32),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(32 * (SIZE // 4) ** 2, 64),
            relu3=nn.ReLU(),
            fc2=nn.Linear(64, 2 * (tasks or 1)),
        )
        if tasks is not None:
            layers["tasks"] = nn.Unflatten(1, (2, tasks))
        net = nn.Sequential(layers).float()
    return networks.initialised(net, seed, "data.faces_cnn")
