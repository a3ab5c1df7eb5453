"""Labelled attributes of a picture, and all else that it shows, by a translator that changes attributes in pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from pellucid.core.errors import BadInput, listing
from pellucid.core.partition import Division, Players
from pellucid.core.settings import checked, function_of

UNLABELLED = "unlabelled"

Reader = Callable[[Tensor], Tensor]
Translator = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Attributes:
    """z = (wanted attributes (A), attributes of the base picture (A), base picture), one flat row (see
    ``spaces.attributes``).

    The first A entries are a player each; the rest is one player, "unlabelled", so that a base picture always comes
    with its own attributes.
    """

    translator: Translator
    read: Reader
    names: tuple[str, ...]
    exclusive: tuple[list[int], ...] = ()
    resolve: bool = False
    coding: tuple[float, float] = (0.0, 1.0)
    tolerance: float = 0.1
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @property
    def exact(self) -> bool:
        """A translator that changes nothing need not give the picture back; the gap is recorded."""
        return False

    @property
    def middle(self) -> float:
        """An attribute above it is there."""
        return sum(self.coding) / 2

    @property
    def groups(self) -> Division:
        """A player for each attribute, and one for the rest."""
        return Division("attributes", self._divide)

    def encode(self, x: Tensor) -> Tensor:
        """The attributes of x twice, as wanted and as base, and x."""
        with torch.no_grad():
            own = self._checked(self.read(x), x)
        self.shapes[x[0].numel()] = tuple(x.shape[1:])
        return torch.cat([own, own, x.flatten(1)], 1)

    def decode(self, z: Tensor) -> Tensor:
        """The base pictures, changed from their own attributes to the wanted ones."""
        count = len(self.names)
        shape = self.shapes.get(z.shape[1] - 2 * count)
        if shape is None:
            raise BadInput(
                f"spaces.attributes: rows of {z.shape[1]} coordinates are not {count} attributes twice and a picture "
                "that was encoded before"
            )
        wanted, own, base = z[:, :count], z[:, count : 2 * count], z[:, 2 * count :].unflatten(1, shape)
        if self.resolve:
            wanted = self._resolved(wanted, own)
        made = self.translator(base, wanted - own)
        if not isinstance(made, Tensor) or made.shape != base.shape:
            found = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise BadInput(
                f"spaces.attributes: the translator must return pictures like those it gets, {tuple(base.shape)}; "
                f"it returned {found}"
            )
        if not bool(torch.isfinite(made).all()):
            raise BadInput("spaces.attributes: the translator returned NaN or infinite entries")
        return made

    def _checked(self, found: Any, x: Tensor) -> Tensor:
        found = torch.as_tensor(found)
        if tuple(found.shape) != (len(x), len(self.names)):
            raise BadInput(
                f"spaces.attributes: read must return {len(self.names)} attributes ({listing(self.names)}) for each of "
                f"the {len(x)} pictures; it returned shape {tuple(found.shape)}"
            )
        own: Tensor = found.detach().to(x)
        if not bool(torch.isfinite(own).all()):
            raise BadInput("spaces.attributes: read returned NaN or infinite entries; every picture needs its labels")
        for group in self.exclusive:
            both = (own[:, group] > self.middle).sum(1) > 1
            if bool(both.any()):
                row = int(both.nonzero()[0])
                has = [self.names[i] for i in group if float(own[row, i]) > self.middle]
                raise BadInput(
                    f"spaces.attributes: picture {row} is labelled {' and '.join(map(repr, has))}, which exclude each "
                    f"other ({int(both.sum())} of {len(x)} pictures); correct its labels, or leave the group out of "
                    "exclusive="
                )
        return own

    def _resolved(self, wanted: Tensor, own: Tensor) -> Tensor:
        """Of attributes that exclude each other one stays: the one the base picture did not have, as if it had been
        switched on last, else the first."""
        cleared = wanted.clone()
        for group in self.exclusive:
            here, before = wanted[:, group] > self.middle, own[:, group] > self.middle
            fresh = here & ~before
            kept = torch.where(fresh.any(1, keepdim=True), fresh, here)
            kept = kept & (kept.long().cumsum(1) == 1)
            cleared[:, group] = torch.where(here & ~kept, self.coding[0], wanted[:, group])
        return cleared

    def _divide(self, z: Tensor, dims: tuple[str, ...], names: Sequence[str] | None) -> Players:
        count = len(self.names)
        labels = torch.full((z.shape[1],), count, dtype=torch.long)
        labels[:count] = torch.arange(count)
        return Players(labels, (*self.names, UNLABELLED))


@dataclass(frozen=True, eq=False)
class Labels:
    """A reader of attributes that knows the labels of certain pictures (see ``spaces.labels``)."""

    rows: dict[bytes, Tensor] = field(repr=False)

    def __call__(self, x: Tensor) -> Tensor:
        """The labels of pictures that are known."""
        found = [self.rows.get(key) for key in _keys(x)]
        missing = next((row for row, label in enumerate(found) if label is None), None)
        if missing is not None:
            raise BadInput(
                f"spaces.labels: picture {missing} is not among the {len(self.rows)} labelled ones; label every "
                "picture that is explained or serves as background, or read attributes by a function"
            )
        return torch.stack([label for label in found if label is not None])


def _keys(x: Tensor) -> list[bytes]:
    x = x.detach().cpu()
    whole = (x.double() / 255 if x.dtype == torch.uint8 else x.double()) * 1e4
    return [row.numpy().tobytes() for row in whole.round().int().flatten(1)]


def labels(x: Any, attributes: Any) -> Labels:
    """A reader for ``spaces.attributes`` from a labelled data set: pictures x (N, ...) and attributes (N, A).

    Pictures are known again by their content, to four decimals (uint8 counts as 0..1). Cost: the size of x once.
    """
    pictures, rows = torch.as_tensor(x), torch.as_tensor(attributes)
    if rows.ndim != 2 or len(rows) != len(pictures):
        raise BadInput(
            f"spaces.labels: needs one row of attributes for each of the {len(pictures)} pictures, got "
            f"{tuple(rows.shape)}"
        )
    if rows.is_floating_point() and not bool(torch.isfinite(rows).all()):
        raise BadInput("spaces.labels: attributes have NaN or infinite entries; leave pictures without labels out")
    keys = _keys(pictures)
    known: dict[bytes, Tensor] = {}
    for row, key in enumerate(keys):
        if key in known and not bool((known[key] == rows[row]).all()):
            raise BadInput(f"spaces.labels: picture {row} comes twice, with attributes that contradict each other")
        known[key] = rows[row].detach().clone()
    return Labels(known)


@checked
def attributes(
    translator: Translator,
    names: Sequence[str],
    read: Reader | None = None,
    exclusive: Sequence[Sequence[str]] = (),
    resolve: bool = False,
    coding: tuple[float, float] = (0.0, 1.0),
    tolerance: float = 0.1,
) -> Attributes:
    """Does the model use age, glasses or gender, and how much of its output rests on none of the labelled attributes?

    Players are the attributes and "unlabelled". For a coalition S the base picture is x if "unlabelled" is in S, else
    a background picture x'; the wanted attributes are t_j = a_j(x) for j in S, else a_j(x'); and the value is
    f(G(base, t - a(base))), with a the attributes and G the translator.

    ``translator``: G(pictures (B, ...), differences (B, A)) to pictures, differentiable if gradient methods are to run.
    ``names``: of the attributes. ``read``: pictures to attributes (B, A): a classifier, or ``spaces.labels(...)`` (by
    default the translator's own ``read``). ``exclusive``: groups of attributes of which a picture has at most one; a
    label that says otherwise is refused. Splicing two pictures can still ask for both: the translator is asked so
    (``resolve`` False, as in the paper), or, with ``resolve``, the one that the base picture does not have stays.
    ``coding``: values of an attribute that is absent and present. ``tolerance``: above it, relative to what is
    explained, the distance from f(G(x, 0)) to f(x), ``details["reconstruction_gap"]``, is warned of.

    Removal by ``marginal(background)`` gives values their meaning. Cost: one translation for each forward. Sources:
    demijolla2020, liu2019.
    """
    reader = read if read is not None else getattr(translator, "read", None)
    function_of(translator, "spaces.attributes: translator", "x", "difference")
    function_of(reader, "spaces.attributes: read", "x")
    titles = tuple(str(name) for name in names)
    if not titles or len(set(titles)) < len(titles) or UNLABELLED in titles:
        raise BadInput(
            f"spaces.attributes: names must be different, and none {UNLABELLED!r}, got {listing(titles) or 'none'}"
        )
    groups = []
    for group in exclusive:
        unknown = [name for name in group if name not in titles]
        if isinstance(group, str) or unknown or len(group) < 2:
            raise BadInput(
                f"spaces.attributes: exclusive must be groups of two or more of the names {listing(titles)}; "
                f"got {group!r}"
            )
        groups.append([titles.index(name) for name in group])
    if not coding[0] < coding[1]:
        raise BadInput(f"spaces.attributes: coding must be (absent, present) in this order, got {coding!r}")
    if resolve and not groups:
        raise BadInput("spaces.attributes: resolve needs to know which attributes exclude each other: exclusive=[...]")
    return Attributes(translator, cast("Reader", reader), titles, tuple(groups), resolve, coding, tolerance)
