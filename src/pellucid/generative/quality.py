"""How good a generative model is, always beside a trivial control: explanations through a poor one are about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput, listing

if TYPE_CHECKING:
    import pandas as pd

AT_ONCE = 256
"""Pictures in a call of the model."""
COMPONENTS_FROM = 1000
"""Pictures from which the control's principal components are found."""


class Reconstructing(Protocol):
    """A model that gives pictures back."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """The pictures as they come back."""
        ...


class Coding(Protocol):
    """A model that has codes for pictures."""

    def codes(self, x: Tensor) -> Tensor:
        """A column for each code."""
        ...


@dataclass(frozen=True)
class Reconstruction:
    """Mean squared error of a pixel: the model's (with its standard error) and the mean picture's.

    ``explained``: 1 - error / control. ``passes``: the error is below the control by more than two standard errors.
    """

    error: float
    std_error: float
    control: float
    passes: bool

    @property
    def explained(self) -> float:
        """The share of the pictures' variance that comes back."""
        return 1 - self.error / self.control if self.control > 0 else math.nan


def reconstruction(model: Reconstructing, x: Tensor, reference: Tensor | None = None) -> Reconstruction:
    """Does the model give pictures back better than the mean picture does?

    ``x``: (N, ...) held-out pictures; ``reference``: those whose mean is the control (None: x). Cost: a forward each.
    """
    if len(x) < 2 or (reference is not None and reference.shape[1:] != x.shape[1:]):
        raise BadInput(f"generative.reconstruction: needs two or more pictures, all alike; got {tuple(x.shape)}")
    back = applied(model.reconstruct, x)
    if back.shape != x.shape:
        raise BadInput(f"generative.reconstruction: {tuple(x.shape)} pictures came back as {tuple(back.shape)}")
    mean = (x if reference is None else reference).double().mean(0)
    errors = ((back.double() - x.double()) ** 2).flatten(1).mean(1)
    control = ((mean - x.double()) ** 2).flatten(1).mean(1)
    gain = control - errors
    passes = bool(gain.mean() > 2 * gain.std() / math.sqrt(len(x)))
    return Reconstruction(float(errors.mean()), float(errors.std()) / math.sqrt(len(x)), float(control.mean()), passes)


@dataclass(frozen=True, eq=False)
class Disentanglement:
    """Which code tells what about which factor.

    ``mig``: the mean over factors of ``gaps``, by name; ``information`` (codes, factors): I(code; factor) / H(factor).
    ``control``: the mig of as many principal components of the pictures; ``chance``: with rows of the codes shuffled.
    """

    mig: float
    gaps: dict[str, float]
    information: Tensor
    control: float
    chance: float

    @property
    def passes(self) -> bool:
        """Whether the codes are more separate than principal components, and than chance."""
        return self.mig > max(self.control, self.chance)


def disentanglement(
    model: Coding, x: Tensor, factors: Tensor, names: Sequence[str] | None = None, bins: int = 20
) -> Disentanglement:
    """Does each known factor of the pictures have a code of its own? By the mutual information gap.

    gap_k = (largest - second largest over codes j of I(z_j; v_k)) / H(v_k), in 0..1; see
    ``mutual_information_gap``. ``factors``: (N, K). Cost: a forward of each picture, and an eigenvalue problem of
    1,000 x 1,000 for the control. Source: chen2018tc.
    """
    codes = applied(model.codes, x).double()
    information = _information(codes, factors, bins)
    gaps = _gaps(information)
    named = titles(names, factors)
    shuffled = codes[rng.permutation(0, "generative.disentanglement", 0, 0, 1, len(codes))[0]]
    return Disentanglement(
        float(gaps.mean()),
        dict(zip(named, gaps.tolist(), strict=True)),
        information,
        mutual_information_gap(components(x, codes.shape[1]), factors, bins),
        mutual_information_gap(shuffled, factors, bins),
    )


def components(x: Tensor, count: int) -> Tensor:
    """So many principal components of pictures, the trivial codes: (N, count)."""
    flat = x.flatten(1).double()
    centred = flat[:COMPONENTS_FROM] - flat[:COMPONENTS_FROM].mean(0)
    _, vectors = torch.linalg.eigh(centred @ centred.T)
    found: Tensor = (flat - flat.mean(0)) @ (centred.T @ vectors[:, -count:])
    return found


def mutual_information_gap(codes: Tensor, factors: Tensor, bins: int = 20) -> float:
    """The mean over factors of (largest - second largest I(z_j; v_k)) / H(v_k): 1 if each factor is one code, alone.

    ``codes`` (N, L >= 2), ``factors`` (N, K). Codes and factors with more than ``bins`` values are cut into ``bins``
    parts of as equal counts as ties allow, factors too so that 1 can be reached. Departure: the source draws codes from
    the encoder's noise; here they are its means, as explanations use them. Source: chen2018tc.

    >>> v = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    >>> mutual_information_gap(v, v), mutual_information_gap(v @ torch.tensor([[1.0, 1.0], [1.0, -1.0]]), v)
    (1.0, 0.0)
    """
    return float(_gaps(_information(codes, factors, bins)).mean())


def _information(codes: Tensor, factors: Tensor, bins: int) -> Tensor:
    """I(z_j; v_k) / H(v_k), (L, K), from counts."""
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or codes.shape[1] < 2:
        raise BadInput(
            "mutual_information_gap: needs codes (N, L) with L of 2 or more and factors (N, K), got "
            f"{tuple(codes.shape)} and {tuple(factors.shape)}"
        )
    z, v = ([_parts(column, bins) for column in table.double().T] for table in (codes, factors))
    if any(int(part.max()) == 0 for part in v):
        raise BadInput("mutual_information_gap: a factor is constant; leave it out")
    return torch.stack([torch.stack([_shared(code, factor) / _entropy(factor) for factor in v]) for code in z])


def _gaps(information: Tensor) -> Tensor:
    best = information.topk(2, 0).values
    gaps: Tensor = best[0] - best[1]
    return gaps


def _parts(values: Tensor, bins: int) -> Tensor:
    """Which part each value is in: its own if there are few, else one of parts with equal counts."""
    distinct, places = values.unique(return_inverse=True)
    if len(distinct) > bins:
        edges = values.quantile(torch.arange(1, bins, dtype=values.dtype) / bins).unique()
        _, places = torch.searchsorted(edges, values.contiguous(), right=True).unique(return_inverse=True)
    found: Tensor = places
    return found


def _entropy(places: Tensor) -> Tensor:
    share = places.bincount().double() / len(places)
    entropy: Tensor = -torch.special.xlogy(share, share).sum()
    return entropy


def _shared(a: Tensor, b: Tensor) -> Tensor:
    return _entropy(a) + _entropy(b) - _entropy((a * (int(b.max()) + 1) + b).unique(return_inverse=True)[1])


@dataclass(frozen=True, eq=False)
class Flips:
    """What changes when one attribute is asked to change.

    ``matrix`` (A, A): the share of pictures whose attribute k is read as changed after attribute j was asked to;
    ``control`` (A,): after nothing was asked to. ``low`` and ``high``: 95 % limits of ``matrix``.
    """

    names: tuple[str, ...]
    matrix: Tensor
    low: Tensor
    high: Tensor
    control: Tensor
    rows: int
    least: float
    most: float

    @property
    def accuracy(self) -> dict[str, float]:
        """The share of pictures in which the wanted attribute did change."""
        return dict(zip(self.names, self.matrix.diagonal().tolist(), strict=True))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is wrong, worst first; nothing where all is well."""
        found = []
        for j, asked in enumerate(self.names):
            for k, name in enumerate(self.names):
                rate = float(self.matrix[j, k])
                if j == k and float(self.low[j, k]) < self.least:
                    text = f"asked to change {asked!r}, it does so in {rate:.0%} of pictures (needed {self.least:.0%})"
                    found.append((self.least - rate, text))
                if j != k and float(self.high[j, k]) > self.most:
                    text = f"asked to change {asked!r}, it changes {name!r} in {rate:.0%} (allowed {self.most:.0%})"
                    found.append((rate - self.most, text))
        return tuple(text for _, text in sorted(found, key=lambda pair: -pair[0]))

    @property
    def passes(self) -> bool:
        """Whether each attribute changes when asked to, and alone, also at the worse end of the 95 % limits."""
        return not self.reasons

    @property
    def table(self) -> pd.DataFrame:
        """The matrix with names: a row for each attribute that was asked for, and one for none."""
        import pandas as pd

        rows = torch.cat([self.matrix, self.control.unsqueeze(0)]).numpy()
        return pd.DataFrame(rows, index=[*self.names, "none"], columns=list(self.names))


def flips(
    translate: Callable[[Tensor, Tensor], Tensor],
    read: Callable[[Tensor], Tensor],
    x: Tensor,
    names: Sequence[str],
    least: float = 0.8,
    most: float = 0.1,
) -> Flips:
    """Does a translator change the attribute it is asked to change, and no other?

    For each attribute j each picture is translated to the other value of j; ``read`` says which attributes then differ
    from those it read before. ``translate``: (pictures (B, ...), differences (B, A) in -1, 0, 1) to pictures;
    ``read``: pictures to attributes (B, A), there above .5. It must be a judge of its own, never the classifier that
    the translator was trained against. ``least`` and ``most``: the shares that every wanted change must reach and no
    other may exceed, at the worse end of exact 95 % limits. Cost: A + 1 translations and A + 2 readings a picture.
    Source: singla2020.
    """
    titles = tuple(str(name) for name in names)
    before = applied(read, x) > 0.5
    if tuple(before.shape) != (len(x), len(titles)) or not titles:
        raise BadInput(
            f"generative.flips: read must return {len(titles)} attributes ({listing(titles)}) a picture, got "
            f"{tuple(before.shape)} for {len(x)} pictures"
        )
    if not 0 <= most < least <= 1:
        raise BadInput(f"generative.flips: needs 0 <= most < least <= 1, got most {most!r} and least {least!r}")

    def changed(column: int | None) -> Tensor:
        wanted = torch.zeros(len(x), len(titles), dtype=x.dtype if x.is_floating_point() else torch.float32)
        if column is not None:
            wanted[:, column] = torch.where(before[:, column], -1.0, 1.0)
        after = applied(read, applied(translate, x, wanted)) > 0.5
        return (after != before).double().sum(0)

    counts = torch.stack([changed(column) for column in range(len(titles))])
    low, high = _limits(counts, len(x))
    return Flips(titles, counts / len(x), low, high, changed(None) / len(x), len(x), least, most)


def _limits(counts: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Exact 95 % limits of shares (clopper1934)."""
    from scipy.stats import beta

    k = counts.numpy()
    low = torch.from_numpy(beta.ppf(0.025, k, rows - k + 1)).nan_to_num(0.0)
    return low, torch.from_numpy(beta.ppf(0.975, k + 1, rows - k)).nan_to_num(1.0)


def applied(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """The function of a few rows at a time, without gradients."""
    with torch.no_grad():
        return torch.cat(
            [function(*parts).detach().cpu() for parts in zip(*(i.split(AT_ONCE) for i in inputs), strict=True)]
        )


def titles(names: Iterable[Any] | None, factors: Tensor) -> list[str]:
    """A name for each factor."""
    found = [f"factor {k}" for k in range(factors.shape[1])] if names is None else [str(name) for name in names]
    if len(found) != factors.shape[1] or len(set(found)) < len(found):
        raise BadInput(f"generative.disentanglement: needs {factors.shape[1]} different names, got {listing(found)}")
    return found
