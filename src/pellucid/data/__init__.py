"""Example data and models: real where it can be had offline, procedural with known truth where it cannot.

Names are loaded on first use (PEP 562), so importing this package costs nothing. No submodule may bear the name of a
public function: importing it would put the module where the function belongs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid.data.drawn_faces import FACE_ATTRIBUTES, face_translator, faces, render_faces
    from pellucid.data.examples import Examples
    from pellucid.data.face_networks import faces_cnn, faces_reader
    from pellucid.data.hardened import robust_digits_cnn
    from pellucid.data.imagenet import efficientnet, efficientnet_module, imagenet_labels, photos
    from pellucid.data.mnist import digits
    from pellucid.data.networks import digits_cnn, signals_cnn, tagged_digits_cnn
    from pellucid.data.readers import sentences_bilstm
    from pellucid.data.sentences import Sentences, movie_sentences
    from pellucid.data.series import signals
    from pellucid.data.shapes import SPRITE_LATENTS, render_sprites, sprite_latents, sprites
    from pellucid.data.surfaces import gratings, gratings_cnn, textures, textures_cnn
    from pellucid.data.tags import tagged_digits
    from pellucid.data.transformer import sentences_minilm

__all__ = [
    "FACE_ATTRIBUTES",
    "SPRITE_LATENTS",
    "Examples",
    "Sentences",
    "digits",
    "digits_cnn",
    "efficientnet",
    "efficientnet_module",
    "face_translator",
    "faces",
    "faces_cnn",
    "faces_reader",
    "gratings",
    "gratings_cnn",
    "imagenet_labels",
    "movie_sentences",
    "photos",
    "render_faces",
    "render_sprites",
    "robust_digits_cnn",
    "sentences_bilstm",
    "sentences_minilm",
    "signals",
    "signals_cnn",
    "sprite_latents",
    "sprites",
    "tagged_digits",
    "tagged_digits_cnn",
    "textures",
    "textures_cnn",
]

_HOME = {
    "Examples": "examples",
    "FACE_ATTRIBUTES": "drawn_faces",
    "SPRITE_LATENTS": "shapes",
    "Sentences": "sentences",
    "digits": "mnist",
    "digits_cnn": "networks",
    "efficientnet": "imagenet",
    "efficientnet_module": "imagenet",
    "face_translator": "drawn_faces",
    "faces": "drawn_faces",
    "faces_cnn": "face_networks",
    "faces_reader": "face_networks",
    "gratings": "surfaces",
    "gratings_cnn": "surfaces",
    "imagenet_labels": "imagenet",
    "movie_sentences": "sentences",
    "photos": "imagenet",
    "render_faces": "drawn_faces",
    "render_sprites": "shapes",
    "robust_digits_cnn": "hardened",
    "sentences_bilstm": "readers",
    "sentences_minilm": "transformer",
    "signals": "series",
    "signals_cnn": "networks",
    "sprite_latents": "shapes",
    "sprites": "shapes",
    "tagged_digits": "tags",
    "tagged_digits_cnn": "networks",
    "textures": "surfaces",
    "textures_cnn": "surfaces",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
