"""Spaces: coordinates in which an explanation can live."""

from pellucid.core.space import Identity
from pellucid.spaces.decoder import decoder
from pellucid.spaces.fourier import fourier

__all__ = ["Identity", "decoder", "fourier"]
