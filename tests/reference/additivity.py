"""How well values add up, a second time: one row, one coalition, one feature at a time.

``gone`` is a list of sets of features that are taken away; ``drop`` maps such a set to f(x) - f(x without it).
"""

import itertools
import math


def value_error(values, base, full, gone, drop):
    """RMS of v - (base + Σ values of those present), over the standard deviation of v."""
    present = [[i for i in range(len(values)) if i not in away] for away in gone]
    v = [full - drop(away) for away in gone]
    predicted = [base + sum(values[i] for i in stay) for stay in present]
    mean = sum(v) / len(v)
    error = sum((a - b) ** 2 for a, b in zip(v, predicted, strict=True)) / len(v)
    return math.sqrt(error / (sum((a - mean) ** 2 for a in v) / len(v)))


def correlation(a, b):
    """Pearson's."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    top = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return top / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def sensitivity(values, gone, drop):
    """Correlation of the drop with the sum of the values taken away."""
    return correlation([sum(values[i] for i in away) for away in gone], [drop(away) for away in gone])


def infidelity(values, gone, drop):
    """Mean squared error of the best scaled sums, over the mean squared drop."""
    said, true = [sum(values[i] for i in away) for away in gone], [drop(away) for away in gone]
    scale = max(0.0, sum(a * b for a, b in zip(said, true, strict=True)) / sum(a * a for a in said))
    error = sum((scale * a - b) ** 2 for a, b in zip(said, true, strict=True))
    return error / sum(b * b for b in true)


def every(n, size):
    """All sets of one size."""
    return [set(members) for members in itertools.combinations(range(n), size)]
