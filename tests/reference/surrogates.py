"""LIME one sample at a time, as the authors' code has it; only the random numbers are ours."""

import numpy as np
import torch
from sklearn.linear_model import Ridge

from pellucid.core import rng


def coalitions(n, budget, seed, row):
    """Who is in each sample: everybody once, then each player by a fair coin drawn under the row's key."""
    numbers = {
        (group, block): rng.uniform(seed, f"lime.{group}", block, row, 1, 512 * 16)[0].reshape(512, 16)
        for group in range(n // 16 + 1)
        for block in range(budget // 512 + 1)
    }
    s = np.empty((budget, n), bool)
    for draw in range(budget):
        for player in range(n):
            s[draw, player] = numbers[player // 16, draw // 512][draw % 512, player % 16] < 0.5
    s[0] = True
    return s


def kernel(distance, width):
    return np.sqrt(np.exp(-(distance**2) / width**2))


def cosine_distance(s):
    """From the all-ones vector; of the empty coalition 1."""
    ones = np.ones(len(s))
    return 1 - s @ ones / (np.linalg.norm(s) * np.linalg.norm(ones)) if s.any() else 1.0


def euclidean_distance(s):
    return np.linalg.norm(s - 1.0)


def fit(design, scores, weight, alpha):
    """Slopes, intercept and weighted R² by scikit-learn."""
    model = Ridge(alpha=alpha, fit_intercept=True, solver="cholesky").fit(design, scores, sample_weight=weight)
    return model.coef_, model.intercept_, model.score(design, scores, sample_weight=weight)


def jackknife(design, scores, weight, alpha, fixed=()):
    """Standard errors of the slopes, by leaving each sample out in turn."""
    slopes = fit(design, scores, weight, alpha)[0]
    total = np.zeros_like(slopes)
    for i in range(len(design)):
        if i not in fixed:
            kept = np.arange(len(design)) != i
            total += (fit(design[kept], scores[kept], weight[kept], alpha)[0] - slopes) ** 2
    return np.sqrt(total)


class Listening:
    """A model that keeps what it was asked."""

    def __init__(self, function):
        self.function, self.heard = function, []

    def __call__(self, x):
        self.heard.append(torch.as_tensor(x).detach().clone())
        return self.function(x)

    def samples(self, budget, rows):
        """The samples of a table: ``budget - 1`` of the inputs, among calls about the ``rows`` themselves."""
        every = torch.cat([x for x in self.heard if len(x) not in (1, rows)])
        assert len(every) == budget - 1
        return every.double().numpy()


def quartile_bins(x, background):
    """Bins of numbers as the authors' QuartileDiscretizer has them."""
    bins = np.empty(x.shape, int)
    for column in range(background.shape[1]):
        edges = np.unique(np.percentile(background[:, column], [25, 50, 75]))
        bins[:, column] = np.searchsorted(edges, x[:, column])
    return bins
