"""Shapley and Banzhaf values by least squares on pairs: a coalition and its complement.

With χ_i = +1 for a present and -1 for an absent player, half the difference of a pair's values holds only the odd part
of the game, Σ β_T χ_T over coalitions T of odd size. The Shapley value is φ_i = Σ 2 β_T / |T| over odd T with i in T,
and Σ φ = v(N) - v(∅) fixes Σ 2 β_T; the Banzhaf value is 2 β_i. Even terms, among them all pairwise interactions,
cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_RANK = 1e-10
"""Eigenvalues below this part of the largest count as zero: what the sample says nothing about stays at the equal
share."""
_TRIPLES = (0.0, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0, 1e3, 1e6)
"""Prior variances of triples, against the noise of a pair, to choose from; 0 is regression on single players alone."""
_SINGLES = (math.inf, 1e-2, 1e-1, 1.0, 10.0)
"""Prior variances of single players, in the same units; infinite means that they are not shrunk."""
_SCARCE = 4
"""Pairs per player under which single players may be shrunk to the equal share: plain least squares would blow up."""
_EXACT = 1e-20
"""Part of the squared data under which left-out errors are rounding."""
_CHOOSE = 400
"""Pairs on which the prior variance is chosen."""
_DUAL = 2048
"""Pairs up to which the ridge is solved; its matrix is pairs x pairs."""


@dataclass(frozen=True)
class Fit:
    """Values (B, n, J), their standard errors (NaN where the sample leaves no freedom), terms, order and pairs of the
    fit, and the degrees of freedom of the errors (the left-out residuals of a ridge count as data, less the single
    players)."""

    values: Tensor
    std_error: Tensor
    terms: int
    order: int
    pairs: int
    freedom: int


def linear(side: Tensor, half: Tensor, weight: Tensor, open_share: Tensor, total: Tensor | None) -> Fit:
    """Weighted least squares of pair differences on single players, for each row.

    ``side`` (B, m, n) one side of every pair; ``half`` (B, m, J) half the difference of its values; ``weight`` (B, m);
    ``open_share`` (B, m) the part of the pair's stratum that was not drawn (its finite-population factor); ``total``
    (B, 1, J) what values must sum to, (B, m, J) where every pair has stand-ins and hence a total of its own (they must
    sum to the mean), or None (Banzhaf). Errors are heteroscedasticity-consistent (HC3, the jackknife's), with the
    finite-population factor.
    """
    pairs, n = side.shape[1:]
    chi = side.double() * 2 - 1
    free = torch.eye(n, dtype=torch.float64) if total is None else _centred_basis(n)
    root = weight.sqrt().unsqueeze(-1)
    total = half.new_zeros(len(half), 1, half.shape[2]) if total is None else total
    each, mean = total / n, total.mean(1, keepdim=True) / n  # the equal share of φ
    x = (chi @ free) * root
    y = (half - chi.sum(2, keepdim=True) * each / 2) * root
    level, axes = torch.linalg.eigh(x.mT @ x)
    kept = level > _RANK * level[:, -1:]
    inverse = (axes * torch.where(kept, 1 / level.clamp_min(torch.finfo(level.dtype).tiny), 0).unsqueeze(1)) @ axes.mT
    influence = 2 * free @ inverse @ x.mT
    values = mean + influence @ y
    leverage = ((x @ inverse) * x).sum(2).clamp(max=1 - 1e-9)
    residual = (y - x @ (inverse @ (x.mT @ y))) / (1 - leverage).unsqueeze(-1)
    shift = (each - mean) / max(1, pairs)
    error = _spread(influence, residual, shift, open_share.unsqueeze(1))
    rank = kept.sum(1)
    poor = (rank < x.shape[2]) | ((pairs - rank < 2) & (open_share > 0).any(1))
    error = torch.where(poor.reshape(-1, 1, 1), torch.nan, error)
    return Fit(values, error, x.shape[2], 1, pairs, max(0, pairs - int(rank.max())))


def _spread(influence: Tensor, residual: Tensor, shift: Tensor, share: Tensor) -> Tensor:
    """√Σ share (influence · residual + shift)² over pairs: influence (.., n, m), share (.., 1, m), residual (.., m, J)
    and shift (.., m or 1, J)."""
    part = influence * share
    squares = (part * influence) @ residual**2 + 2 * part @ (residual * shift) + share @ (shift**2).expand_as(residual)
    return squares.clamp_min(0).sqrt()


def cubic(side: Tensor, half: Tensor, weight: Tensor, open_share: Tensor, total: Tensor) -> Fit:
    """Ridge regression on single players and all triples; the shrinkage of triples is chosen by leave-one-out error.

    With few pairs the triples are shrunk to nothing and the fit is ``linear``; with many they are free. With fewer than
    four pairs a player, single players may be shrunk to the equal share too. Shrinkage biases the values while pairs
    are scarce; the leave-one-out residuals behind the standard errors contain that misfit, and with no more pairs than
    players there are none. Over 2,048 pairs the fit is ``linear``.
    """
    rows, pairs, n = side.shape
    if not 1 < pairs <= _DUAL or n < 3:
        return linear(side, half, weight, open_share, total)
    values = torch.empty(rows, n, half.shape[2], dtype=torch.float64)
    errors = torch.empty_like(values)
    for row in range(rows):
        ridge = _Ridge.of(side[row], weight[row])
        for j in range(half.shape[2]):
            values[row, :, j], errors[row, :, j] = ridge.solve(half[row, :, j], open_share[row], total[row, :, j])
    if pairs <= n + 1:
        errors[:] = torch.nan
    return Fit(values, errors, min(n + math.comb(n, 3), pairs), 3, pairs, max(0, pairs - n))


@dataclass(frozen=True)
class _Ridge:
    """The ridge of one row in its dual form: triples enter through sums over all of them, so they are never written
    out.

    With s = Σ χ_i, letting single players absorb the constraint on Σ β turns the triple χ_T into χ_T - s / n. Single
    players are fixed effects (``x``), triples random ones with covariance ``kernel``; ``gain`` maps dual coefficients
    to values.
    """

    chi: Tensor
    root: Tensor
    basis: Tensor
    x: Tensor
    kernel: Tensor
    gain: Tensor

    @classmethod
    def of(cls, side: Tensor, weight: Tensor) -> _Ridge:
        chi, n = side.double() * 2 - 1, side.shape[1]
        root = (weight / weight.mean()).sqrt()
        inner, s = chi @ chi.T, chi.sum(1)
        every, each = math.comb(n, 3), math.comb(n - 1, 2)  # triples in all, and those with one given player
        e3 = (s**3 - (3 * n - 2) * s) / 6
        kernel = (inner**3 - (3 * n - 2) * inner) / 6 - (torch.outer(s, e3) + torch.outer(e3, s)) / n
        kernel = (kernel + every * torch.outer(s, s) / n**2) * torch.outer(root, root)
        rest = s.unsqueeze(1) - chi
        members = chi * (rest**2 - (n - 1)) / 2 - each * s.unsqueeze(1) / n
        gain = ((2 / 3) * members - (2 / n) * (e3 - every * s / n).unsqueeze(1)) * root.unsqueeze(1)
        basis = _centred_basis(n)
        return cls(chi, root, basis, (chi @ basis) * root.unsqueeze(1), kernel, gain)

    def candidates(self) -> list[tuple[float, float]]:
        """Prior variances (of single players, of triples) to choose from."""
        pairs, n = self.chi.shape
        if pairs >= _SCARCE * n:
            return [(math.inf, triple) for triple in _TRIPLES]
        return [(single, triple) for single in _SINGLES[pairs <= n + 1 :] for triple in _TRIPLES[::3]]

    def smoother(self, single: float, triple: float, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Maps from weighted data to single players' effects, (n - 1, m), and to dual coefficients, (m, m)."""
        x, kernel = self.x[rows], triple * self.kernel[rows, rows] + torch.eye(len(self.x[rows]), dtype=torch.float64)
        if math.isfinite(single):
            dual = _inverse(kernel + single * x @ x.T)
            return single * x.T @ dual, dual
        inverse = _inverse(kernel)
        fixed = torch.linalg.pinv(x.T @ inverse @ x, hermitian=True) @ x.T @ inverse
        return fixed, inverse - inverse @ x @ fixed

    @cached_property
    def modes(self) -> tuple[Tensor, Tensor]:
        """Axes (m, r) on which single players have no say and triples do not mix, and the kernel's powers (r,) there,
        of the first pairs: with these the dual map for any variance v of triples is axes diag(1 / (v power + 1))
        axesᵀ."""
        x, kernel = self.x[:_CHOOSE], self.kernel[:_CHOOSE, :_CHOOSE]
        sides, level, _ = torch.linalg.svd(x)
        apart = sides[:, int((level > _RANK**0.5 * level[0]).sum()) :]
        power, axes = torch.linalg.eigh(apart.T @ kernel @ apart)
        return apart @ axes, power.clamp_min(0)

    def left_out(self, y: Tensor, single: float, triple: float) -> Tensor:
        """Errors of the first pairs, each predicted from the others."""
        if math.isfinite(single):
            dual = self.smoother(single, triple, slice(0, _CHOOSE))[1]
            return (dual @ y) / dual.diagonal()
        axes, power = self.modes
        share = 1 / (triple * power + 1)
        return (axes @ (share * (axes.T @ y))) / (axes**2 @ share)

    def solve(self, half: Tensor, open_share: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Values and standard errors (n,)."""
        pairs, n = self.chi.shape
        share, mean = total / n, total.mean() / n
        y = (half - self.chi.sum(1) * share / 2) * self.root
        first = y[:_CHOOSE]
        rounding = float(first @ first) * _EXACT  # of all that fit exactly the first, which is the simplest
        scores = {at: max(rounding, float((self.left_out(first, *at) ** 2).sum())) for at in self.candidates()}
        single, variance = min(scores, key=scores.__getitem__)
        fixed, dual = self.smoother(single, variance)
        influence = 2 * self.basis @ fixed + variance * self.gain.T @ dual
        left_out = (dual @ y) / dual.diagonal()
        shift = ((share - mean) / pairs).unsqueeze(1)
        errors = _spread(influence, left_out.unsqueeze(1), shift, open_share.unsqueeze(0))[:, 0]
        if math.isfinite(single):  # the data do not show how far values were pulled; the prior does
            pull = 2 * single * self.basis @ self.x.T + variance * self.gain.T
            left = _prior(n, single, variance) - (influence * pull).sum(1)
            errors = torch.maximum(errors, (left.clamp_min(0) * (y @ dual @ y) / pairs).sqrt())
        return mean + influence @ y, errors


def _inverse(matrix: Tensor) -> Tensor:
    """The inverse of a positive definite matrix."""
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def _prior(n: int, single: float, triple: float) -> float:
    """Prior variance of a value: 2 β_i around the equal share, and 2/3 of each triple with i less its share of all."""
    mine, others = math.comb(n - 1, 2), math.comb(n - 1, 3)
    return 4 * single * (1 - 1 / n) + triple * (mine * (2 / 3 - 2 / n) ** 2 + others * (2 / n) ** 2)


def _centred_basis(count: int) -> Tensor:
    """An orthonormal basis (count, count - 1) of the vectors that sum to zero, by one Householder reflection."""
    w = torch.full((count,), count**-0.5, dtype=torch.float64)
    w[0] += 1
    w /= w.norm()
    return (torch.eye(count, dtype=torch.float64) - 2 * torch.outer(w, w))[:, 1:]
