"""The whole catalogue as instances, so that a new recipe is under every table of tests without being named in one."""

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch

from pellucid import methods, players
from tests.reference import nets

SMALL = {"steps": 6, "samples": 6, "budget": 64}  # enough to run, small enough to run often


@dataclass(frozen=True)
class Scene:
    """What a method is tried on: a maker of a net with four outputs, five rows, and a background for those that ask."""

    net: Any
    x: torch.Tensor
    background: torch.Tensor
    options: dict[str, Any] = field(default_factory=dict)
    map_shape: tuple[int, ...] = ()

    def method(self, name, dtype=torch.float32):
        """A recipe's method, small; another argument without a default would be a gap in this file."""
        offered = {**SMALL, "background": self.background.to(dtype)}
        parameters = inspect.signature(getattr(methods, name)).parameters
        missing = [each for each, p in parameters.items() if p.default is p.empty and each not in offered]
        assert not missing, f"methods.{name} asks for {missing}; tests/reference/recipes.py must offer it"
        return getattr(methods, name)(**{each: offered[each] for each in parameters if each in offered})


def _random(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


IMAGES = Scene(nets.contrasted, _random(1, 5, 3, 8, 8), _random(2, 4, 3, 8, 8), {}, (8, 8))
# Few players for methods that see predictions only, so that coalitions of them can be enumerated.
CELLS = Scene(nets.contrasted, IMAGES.x, IMAGES.background, {"players": players.grid(2)}, (8, 8))
TABLES = Scene(lambda: nets.smooth_mlp(6, 4), 2 * _random(3, 5, 6) - 1, 2 * _random(4, 30, 6) - 1, {}, (6,))


def names():
    return [recipe.__name__ for recipe in methods.CATALOGUE]


def scene(name):
    """Pictures, or a table for methods that are made for tables."""
    if name.endswith("_tabular"):
        return TABLES
    return CELLS if IMAGES.method(name).access == "predictions" else IMAGES
