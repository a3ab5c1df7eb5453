"""The whole catalogue as instances, so that a new recipe is under every table of tests without being named in one."""

import inspect

from pellucid import methods, players

SMALL = {"steps": 6, "samples": 6, "budget": 64}  # enough to run, small enough to run often


def names():
    return [recipe.__name__ for recipe in methods.CATALOGUE]


def instance(name, background):
    """A recipe's method, small, with the background it may ask for; another argument without a default is a gap."""
    offered = {**SMALL, "background": background}
    parameters = inspect.signature(getattr(methods, name)).parameters
    missing = [each for each, p in parameters.items() if p.default is p.empty and each not in offered]
    assert not missing, f"methods.{name} asks for {missing}; tests/reference/recipes.py must offer it"
    return getattr(methods, name)(**{each: offered[each] for each in parameters if each in offered})


def options(method):
    """Few players for methods that see predictions only, so that coalitions of them can be enumerated."""
    return {"players": players.grid(2)} if method.access == "predictions" else {}
