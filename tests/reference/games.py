"""Values of games by their definitions, one loop a sum sign; and games to try estimators on."""

import itertools
import math

import numpy as np
import torch

import pellucid
from pellucid import games


def subsets(players):
    players = list(players)
    for size in range(len(players) + 1):
        yield from map(frozenset, itertools.combinations(players, size))


def worths(n, value):
    """Worth of every coalition, by frozenset, of a function of a bool matrix."""
    every = list(subsets(range(n)))
    s = torch.tensor([[i in coalition for i in range(n)] for coalition in every], dtype=torch.bool).reshape(-1, n)
    return dict(zip(every, np.asarray(value(s), dtype=float), strict=True))


def shapley(n, v):
    values = np.zeros(n)
    for i in range(n):
        for t in subsets(set(range(n)) - {i}):
            weight = math.factorial(len(t)) * math.factorial(n - len(t) - 1) / math.factorial(n)
            values[i] += weight * (v[t | {i}] - v[t])
    return values


def banzhaf(n, v):
    return np.array([np.mean([v[t | {i}] - v[t] for t in subsets(set(range(n)) - {i})]) for i in range(n)])


def interactions(n, v, index):
    """Pairs off the diagonal, players on it."""
    pairs = np.zeros((n, n))
    for i, j in itertools.combinations(range(n), 2):
        for t in subsets(set(range(n)) - {i, j}):
            size = len(t)
            if index == "STII":
                weight = 2 / n / math.comb(n - 1, size)
            else:
                weight = math.factorial(size) * math.factorial(n - size - 2) / math.factorial(n - 1)
            pairs[i, j] += weight * (v[t | {i, j}] - v[t | {i}] - v[t | {j}] + v[t])
    pairs += pairs.T
    alone = shapley(n, v)
    if index == "k-SII":
        alone = alone - pairs.sum(1) / 2
    if index == "STII":
        alone = np.array([v[frozenset({i})] - v[frozenset()] for i in range(n)])
    return pairs + np.diag(alone)


def table(n, seed, outputs=None):
    """A game whose 2^n worths are random numbers; of several outputs, a random table each."""
    shape = (2**n,) if outputs is None else (2**n, outputs)
    worth = torch.from_numpy(np.random.default_rng(seed).normal(size=shape))
    place = 2 ** torch.arange(n)
    return games.FunctionGame(n, lambda s: worth[(s * place).sum(1)])


def _draws(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape))


def smooth(n):
    """A small net of the members; what real models are most like."""
    first, last = _draws(n, 16), _draws(16)
    return lambda s: torch.tanh(s @ first - 0.5) @ last


def products(n):
    """Twelve products of one to six members."""
    sizes = [1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 6, 6]
    teams = [np.random.default_rng([7, k]).permutation(n)[:size] for k, size in enumerate(sizes)]
    worth = _draws(12, seed=1)
    return lambda s: sum(w * s[:, team].prod(1) for w, team in zip(worth, teams, strict=True))


def growing(n):
    """An exponential: every member multiplies."""
    rate = _draws(n, seed=2).abs()
    return lambda s: torch.exp(s @ rate / 2 - 1) + s[:, 0] * s[:, 1] * s[:, 2]


def gloves(n):
    """Few left and many right gloves: pairs count."""
    return lambda s: torch.minimum(s[:, : n // 3].sum(1), s[:, n // 3 :].sum(1))


def wave(n):
    """A game that rises and falls."""
    rate = _draws(n, seed=3)
    return lambda s: torch.sin(s @ rate) + s @ rate / 4


def voting(n):
    """A vote: a member matters in few coalitions, and fully."""
    weight = _draws(n, seed=4).abs() + 0.5
    return lambda s: (s @ weight > 0.55 * weight.sum()).double()


def costliest(n):
    """The costliest member counts alone."""
    cost = _draws(n, seed=5).abs()
    return lambda s: (s * cost).amax(1)


SMOOTH = {game.__name__: game for game in (smooth, products, growing, gloves, wave)}
LUMPY = {game.__name__: game for game in (voting, costliest)}


def played(function, n):
    """A function of presences in double precision as a game."""
    return games.FunctionGame(n, lambda s: function(s.double()))


def many(function, n, method, rows, **options):
    """The same game ``rows`` times under keys of their own: independent repeats of an estimate, (rows, n) each."""
    x = torch.ones(rows, n, dtype=torch.float64)
    return pellucid.explain(function, x, method, target=0, **options)
