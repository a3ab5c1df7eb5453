"""A surrogate of a game: main effects and interactions of pairs, by ridge regression."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SHRINK = (0.0, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)
"""Ridge parameters to choose from, in units of the number of coalitions."""
_RANK = 1e-10


@dataclass(frozen=True)
class Quadratic:
    """g(S) = base + Σ_{i in S} singles_i + Σ_{i < j in S} pairs_ij, of J values.

    ``base`` (J,), ``singles`` (n, J), ``pairs`` (n, n, J) symmetrical with a zero diagonal.
    """

    base: Tensor
    singles: Tensor
    pairs: Tensor

    @classmethod
    def fitted(cls, s: Tensor, values: Tensor) -> Quadratic:
        """The ridge fit to values (m, J) of coalitions s (m, n), its parameter chosen by leave-one-out error for each
        of the J values.

        Features are χ_i = ±1 and χ_i χ_j; pairs are scaled down, since there are n times as many.
        """
        n = s.shape[1]
        chi, (first, second) = s.double() * 2 - 1, torch.triu_indices(n, n, 1)
        small = n**-0.5
        x = torch.cat([chi.new_full((len(chi), 1), 1 / small), chi, chi[:, first] * chi[:, second] * small], 1)
        u, level, axes = torch.linalg.svd(x, full_matrices=False)
        kept = level > _RANK * level[0]
        u, level, axes = u[:, kept], level[kept], axes[kept]
        inner, scores = u.T @ values, []
        for shrink in _SHRINK:
            part = level**2 / (level**2 + shrink * len(x))
            left = 1 - (u**2 * part).sum(1, keepdim=True)
            scores.append((((values - (u * part) @ inner) / left.clamp_min(1e-9)) ** 2).sum(0))
        chosen = torch.tensor(_SHRINK, dtype=torch.float64)[torch.stack(scores).argmin(0)] * len(x)
        coefficients = axes.T @ (inner * (level.unsqueeze(1) / (level.unsqueeze(1) ** 2 + chosen)))
        singles, bends = coefficients[1 : n + 1], coefficients[n + 1 :] * small
        pairs = values.new_zeros(n, n, values.shape[1])
        pairs[first, second] = pairs[second, first] = bends
        row = pairs.sum(1)  # χ = 2 s - 1
        base = coefficients[0] / small - singles.sum(0) + bends.sum(0)
        return cls(base, 2 * singles - 2 * row, 4 * pairs)

    def __call__(self, s: Tensor) -> Tensor:
        """g of coalitions (m, n): (m, J)."""
        x = s.double()
        return self.base + x @ self.singles + torch.einsum("mi,ikj,mk->mj", x, self.pairs, x) / 2
