"""Recipes by name and budget, and games by their table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import settings

from pellucid import games, methods

BUDGETED = ("permutation_shapley", "shapley_sampling", "kernel_shap", "regression_shapley", "kernel_shap_lasso")
QUIET = pytest.mark.filterwarnings("ignore::pellucid.core.errors.Unreliable")
few = settings(max_examples=25, deadline=None, derandomize=True)


def recipe(name, budget, **options):
    return getattr(methods, name)(budget=budget, **options)


def of_table(worth):
    """The game whose worths are listed by number of the coalition."""
    worth = torch.as_tensor(np.asarray(worth, dtype=float))
    n = int(math.log2(len(worth)))
    return games.FunctionGame(n, lambda s: worth[(s * 2 ** torch.arange(n)).sum(1)])
