"""Anchors a second time: every set of players, every coalition or background row, no sampling and no search."""

import itertools

import numpy as np


def precision_by_coins(decide, x, stand_in, held):
    """How often ``decide`` stays as it is at x when each player that is not held is replaced with probability 1/2."""
    free = [i for i in range(len(x)) if i not in held]
    stayed = 0
    for gone in itertools.product((False, True), repeat=len(free)):
        z = x.copy()
        for i, away in zip(free, gone, strict=True):
            if away:
                z[i] = stand_in[i]
        stayed += decide(z) == decide(x)
    return stayed / 2 ** len(free)


def shortest(decide, x, stand_in, threshold):
    """All sets of the smallest size whose precision reaches the threshold."""
    for size in range(len(x) + 1):
        sets = itertools.combinations(range(len(x)), size)
        found = [s for s in sets if precision_by_coins(decide, x, stand_in, s) >= threshold]
        if found:
            return found
    return []


def quartile(value, column):
    """The interval (low, high] between quartiles of a column in which a value lies."""
    edges = np.quantile(column, (0.25, 0.5, 0.75))
    low = max((e for e in edges if e < value), default=-np.inf)
    high = min((e for e in edges if e >= value), default=np.inf)
    return low, high


def true_for(row, x, background, held):
    """Whether a rule holds for a row: every held entry in the quartile of x."""
    for i in held:
        low, high = quartile(x[i], background[:, i])
        if not low < row[i] <= high:
            return False
    return True
