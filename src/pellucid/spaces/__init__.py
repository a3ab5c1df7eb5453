"""Spaces: coordinates in which an explanation can live."""

from pellucid.core.space import Identity
from pellucid.spaces.attributes import attributes, labels
from pellucid.spaces.composition import compose
from pellucid.spaces.decoder import aligned, decoder
from pellucid.spaces.fourier import fourier
from pellucid.spaces.layer import layer
from pellucid.spaces.wavelets import wavelets

__all__ = ["Identity", "aligned", "attributes", "compose", "decoder", "fourier", "labels", "layer", "wavelets"]
