"""The whole catalogue as instances, so that a new recipe is under every table of tests without being named in one."""

import inspect
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn

import pellucid
from pellucid import BadInput, Unsupported, methods, players
from tests.reference import nets

SMALL = {"steps": 6, "samples": 6, "budget": 64, "subsets": 40}  # enough to run, small enough to run often


@dataclass(frozen=True)
class Scene:
    """What a method is tried on: a maker of a model of four outputs, five rows, and what its recipe may ask for."""

    make: Any
    x: torch.Tensor
    arguments: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    map_shape: tuple[int, ...] = (6,)

    def model(self, dtype=torch.float32):
        """The model; a module in a dtype."""
        made = self.make()
        return made.to(dtype) if isinstance(made, nn.Module) else made

    def method(self, name):
        """A recipe's method, small; raises LookupError for an argument that has no default here or there."""
        offered, parameters = {**SMALL, **self.arguments}, inspect.signature(getattr(methods, name)).parameters
        for each, parameter in parameters.items():
            if parameter.default is parameter.empty and each not in offered:
                raise LookupError(f"methods.{name} asks for {each}")
        return getattr(methods, name)(**{each: offered[each] for each in parameters if each in offered})


def _random(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class Largest(nn.Module):
    """The largest of six features, four times over."""

    def forward(self, x):
        return x.reshape(-1, 6).amax(1, keepdim=True).expand(-1, 4)


def _tree():
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=4, random_state=0)


X, ROWS = 2 * _random(3, 5, 6) - 1, 2 * _random(4, 40, 6) - 1
CLASSES = (ROWS[:, 0] > 0) + 2 * (ROWS[:, 1] + ROWS[:, 2] > 0).long()
PICTURES, BEHIND = _random(1, 5, 3, 8, 8), _random(2, 4, 3, 8, 8)

IMAGES = Scene(nets.contrasted, PICTURES, {"background": BEHIND}, map_shape=(8, 8))
# Few players for methods that see predictions only, so that coalitions of them can be enumerated.
CELLS = Scene(nets.contrasted, PICTURES, {"background": BEHIND}, {"players": players.grid(2)}, (8, 8))
TABLES = Scene(lambda: nets.smooth_mlp(6, 4), X, {"background": ROWS})
LINEAR = Scene(lambda: nets.seeded(lambda: nn.Linear(6, 4)), X, {"background": ROWS})
LARGEST = Scene(Largest, X, {})
TREES = Scene(
    lambda: _tree().fit(ROWS.numpy(), CLASSES.numpy()),
    X,
    {"background": ROWS, "estimator": _tree(), "X": ROWS, "y": CLASSES.numpy()},
)


def names():
    return [recipe.__name__ for recipe in methods.CATALOGUE]


@cache
def scene(name):
    """The first scene that a method does not refuse."""
    why = []
    for each in (CELLS, IMAGES, TABLES, LINEAR, LARGEST, TREES):
        try:
            method = each.method(name)
            if each is CELLS and method.access != "predictions":
                continue
            pellucid.explain(each.model(), each.x[:2], method, target=0, **each.options)
        except (LookupError, BadInput, Unsupported) as error:
            why.append(str(error))
        else:
            return each
    raise AssertionError(f"methods.{name} works on no scene of tests/reference/recipes.py, add one: {why}")
