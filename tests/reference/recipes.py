"""The whole catalogue as instances, so that a new recipe is under every table of tests without being named in one."""

import inspect

from pellucid import methods

SMALL = {"steps": 6, "samples": 6, "budget": 64}  # enough to run, small enough to run often


def instance(recipe, background, **chosen):
    """A recipe's method, small and with the background it may ask for."""
    offered = {**SMALL, "background": background, **chosen}
    parameters = inspect.signature(recipe).parameters
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in offered]
    assert not missing, f"{recipe.__name__} asks for {missing}; tests/reference/recipes.py must offer it"
    return recipe(**{name: offered[name] for name in parameters if name in offered})


def every():
    return list(methods.CATALOGUE)


def names():
    return [recipe.__name__ for recipe in methods.CATALOGUE]
