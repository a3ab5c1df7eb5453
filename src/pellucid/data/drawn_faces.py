"""Faces: small pictures drawn from thirteen attributes and sixteen other numbers, with a label whose bias is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput, listing
from pellucid.data.examples import Examples

FACE_ATTRIBUTES = (
    "dark skin",
    "blond hair",
    "bangs",
    "long hair",
    "bushy eyebrows",
    "eyeglasses",
    "smiling",
    "mouth open",
    "moustache",
    "beard",
    "rosy cheeks",
    "earrings",
    "necktie",
)
FACE_RULE = {"smiling": 0.5, "dark skin": -0.3}
"""What each attribute adds to the chance of being invited: the criterion, and the planted bias."""
FACE_PROXIES = ("eyeglasses", "bangs")
"""Attributes that may go along with dark skin, and which nothing depends on."""
SIZE, OTHERS = 32, 16
_BASE = 0.4  # the chance of being invited with neither attribute of the rule


def faces(count: int = 1000, seed: int = 0, proxies: float = 0.0) -> Examples:
    """Portraits with a biased label: does a classifier that learned it discriminate, and do we find out?

    Drawn, 32 x 32 in colour, from 13 attributes (``FACE_ATTRIBUTES``), each there in half of the faces and every
    combination possible, and 16 numbers that are nobody's attribute: place and size of the head, light, tones of skin
    and hair, colours of clothes and background. The label, invited or not, is a coin with the chance
    .4 + .5 [smiling] - .3 [dark skin] (``FACE_RULE``): smiling is the criterion, the rest is bias.

    - ``proxies``: correlation of eyeglasses and bangs (``FACE_PROXIES``) with dark skin, 0 to 1; all else is
      independent. The label does not depend on them.

    Returns ``x`` (N, 3, 32, 32), ``y`` 0 or 1, ``truth``: ``attributes`` (N, 13) 0 or 1, ``unlabelled`` (N, 16) in
    0..1, ``chance`` (N,). ``render_faces(attributes, unlabelled)`` is x. Cost: 1 ms a face. Synthetic.

    >>> e = faces(4)
    >>> bool((render_faces(e.truth["attributes"], e.truth["unlabelled"]) == e.x).all())
    True
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BadInput(f"faces: count must be a whole number of at least 1, got {count!r}")
    if not 0 <= proxies <= 1:
        raise BadInput(f"faces: proxies must be a correlation between 0 and 1, got {proxies!r}")
    attributes, unlabelled, chance, y = draw(count, seed, 0, proxies)
    return Examples(
        x=render_faces(attributes, unlabelled),
        y=y,
        labels=("not invited", "invited"),
        names=tuple(f"face-{i:05d}" for i in range(count)),
        about="Synthetic: faces drawn from 13 attributes; the label favours smiling and is biased against dark skin.",
        truth={"attributes": attributes, "unlabelled": unlabelled, "chance": chance},
    )


def draw(count: int, seed: int, turn: int, proxies: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attributes (N, 13), other numbers (N, 16), chances (N,) and labels (N,); another ``turn``, other faces."""
    width = len(FACE_ATTRIBUTES)
    coins = rng.uniform(seed, "data.faces", turn, 0, count, 2 * width + 1)
    attributes, follows = (coins[:, :width] < 0.5).float(), coins[:, width:-1] < proxies
    for place in map(FACE_ATTRIBUTES.index, FACE_PROXIES):
        attributes[:, place] = torch.where(follows[:, place], attributes[:, 0], attributes[:, place])
    chance = torch.full((count,), _BASE)
    for name, weight in FACE_RULE.items():
        chance += weight * attributes[:, FACE_ATTRIBUTES.index(name)]
    unlabelled = rng.uniform(seed, "data.faces/unlabelled", turn, 0, count, OTHERS).float()
    return attributes, unlabelled, chance, (coins[:, -1] < chance).long()


def render_faces(attributes: Tensor, unlabelled: Tensor) -> Tensor:
    """The pictures of given attributes (N, 13), there above .5, and other numbers (N, 16) in 0..1: (N, 3, 32, 32).

    Cost: 1 ms a face.
    """
    for name, table, width in (("attributes", attributes, len(FACE_ATTRIBUTES)), ("unlabelled", unlabelled, OTHERS)):
        if table.ndim != 2 or table.shape[1] != width or len(table) != len(attributes):
            raise BadInput(f"render_faces: {name} must be ({len(attributes)}, {width}), got {tuple(table.shape)}")
    there, number = attributes.detach().cpu() > 0.5, unlabelled.detach().cpu().double()
    parts = [_drawn(a, u) for a, u in zip(there.split(_AT_ONCE), number.split(_AT_ONCE), strict=True)]
    return torch.cat(parts) if parts else torch.zeros(0, 3, SIZE, SIZE)


_AT_ONCE = 256
_PALE, _DARK = (0.94, 0.78, 0.68), (0.47, 0.31, 0.21)
_BLOND, _BROWN = (0.86, 0.69, 0.28), (0.21, 0.13, 0.09)
_TIE, _RINGS, _FRAME = (0.78, 0.08, 0.12), (0.10, 0.90, 0.85), (0.06, 0.06, 0.10)
_LIPS, _THROAT, _TEETH, _BLUSH = (0.58, 0.12, 0.14), (0.16, 0.03, 0.04), (0.96, 0.95, 0.90), (0.92, 0.26, 0.36)


class _Canvas:
    """Colours (N, 3, H, W), painted over layer by layer; edges are soft over one pixel."""

    def __init__(self, rows: int) -> None:
        steps = torch.arange(SIZE, dtype=torch.float64) + 0.5
        self.x, self.y = steps.expand(SIZE, SIZE)[None], steps[:, None].expand(SIZE, SIZE)[None]
        self.colours = torch.zeros(rows, 3, SIZE, SIZE, dtype=torch.float64)

    def paint(self, colour: Tensor, depth: Tensor, there: Tensor | float = 1.0) -> None:
        """Colour (N, 3) or (3,) where depth (N, H, W), in pixels inside the edge, is positive; ``there`` (N,) or one
        number is how opaque."""
        opaque = (depth + 0.5).clamp(0, 1) * torch.as_tensor(there, dtype=torch.float64).reshape(-1, 1, 1)
        opaque = opaque[:, None]
        self.colours = (1 - opaque) * self.colours + opaque * colour.reshape(-1, 3, 1, 1)

    def ellipse(self, cx: Tensor, cy: Tensor, rx: Tensor, ry: Tensor) -> Tensor:
        """Depth inside ellipses, each argument (N,)."""
        u, v = (self.x - _wide(cx)) / _wide(rx), (self.y - _wide(cy)) / _wide(ry)
        return (1 - torch.hypot(u, v)) * _wide(torch.minimum(rx, ry))


def _wide(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1)


def _colour(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _drawn(there: Tensor, u: Tensor) -> Tensor:
    """Faces from attributes (N, 13) bool and numbers (N, 16): back to front."""
    has = {name: there[:, i].double() for i, name in enumerate(FACE_ATTRIBUTES)}
    canvas, one = _Canvas(len(u)), torch.ones(len(u), dtype=torch.float64)
    s = 2 * u - 1
    cx, cy = 16 + 1.0 * s[:, 0], 15.2 + 0.8 * s[:, 1]
    rx, ry = 8.0 + 0.6 * s[:, 2], 10.2 + 0.6 * s[:, 3]
    skin = _either(has["dark skin"], _DARK, _PALE) + 0.045 * s[:, 4:5]
    hair = _either(has["blond hair"], _BLOND, _BROWN) + 0.045 * s[:, 5:6]
    below = canvas.y - _wide(cy)

    canvas.colours = (0.35 + 0.5 * u[:, 6:9])[:, :, None, None].expand(-1, -1, SIZE, SIZE)
    mane = torch.minimum(canvas.ellipse(cx, cy + 2, rx + 3.4, ry + 4), 13 - below)
    canvas.paint(hair, mane, has["long hair"])
    clothes = torch.stack([0.1 + 0.25 * u[:, 9], 0.15 + 0.45 * u[:, 10], 0.3 + 0.5 * u[:, 11]], 1)
    canvas.paint(clothes, canvas.ellipse(cx, 36 * one, 15 * one, 9 * one))
    canvas.paint(0.88 * skin, torch.minimum(3.2 - (canvas.x - _wide(cx)).abs(), below - 6))
    canvas.paint(clothes, below - 13.2)
    canvas.paint(_colour(_TIE), torch.minimum(1.9 - (canvas.x - _wide(cx)).abs(), below - 11.4), has["necktie"])

    head = canvas.ellipse(cx, cy, rx, ry)
    canvas.paint(skin, head)
    _hair(canvas, has, hair, (cx, cy, rx, ry), head)
    _features(canvas, has, (skin, hair), (cx, cy, rx), head, s)
    light = 1 + 0.10 * _wide(s[:, 14]) * (canvas.x - 16) / 16 + 0.06 * _wide(s[:, 15])
    return (canvas.colours * light[:, None]).clamp(0, 1).float()


def _either(first: Tensor, yes: tuple[float, float, float], no: tuple[float, float, float]) -> Tensor:
    return torch.where(first[:, None] > 0.5, _colour(yes), _colour(no))


def _hair(canvas: _Canvas, has: dict[str, Tensor], hair: Tensor, place: tuple[Tensor, ...], head: Tensor) -> None:
    """Cap, bangs, beard and moustache."""
    cx, cy, rx, ry = place
    below = canvas.y - _wide(cy)
    cap = canvas.ellipse(cx, cy - 0.4, rx + 0.9, ry + 0.9)
    canvas.paint(hair, torch.minimum(cap, -7.2 - below))
    canvas.paint(hair, torch.minimum(cap, -4.8 - below), has["bangs"])
    canvas.paint(0.85 * hair, torch.minimum(head + 0.3, below - 4.6), has["beard"])
    canvas.paint(0.85 * hair, canvas.ellipse(cx, cy + 4.1, 3.4 + 0 * cx, 0.95 + 0 * cx) + 0.1, has["moustache"])


def _features(
    canvas: _Canvas,
    has: dict[str, Tensor],
    tones: tuple[Tensor, Tensor],
    place: tuple[Tensor, ...],
    head: Tensor,
    s: Tensor,
) -> None:
    """Cheeks, nose, eyes, brows, glasses, mouth and earrings."""
    (skin, hair), (cx, cy, rx) = tones, place
    one, apart = torch.ones_like(cx), 3.5 + 0.3 * s[:, 12]
    iris = torch.stack([0.2 - 0.1 * s[:, 13], 0.25 + 0 * cx, 0.3 + 0.2 * s[:, 13]], 1)
    below = canvas.y - _wide(cy)
    canvas.paint(0.8 * skin, torch.minimum(0.6 - (canvas.x - _wide(cx)).abs(), 1.4 - (below - 1.4).abs()))
    for side in (-1, 1):
        canvas.paint(
            _colour(_BLUSH), canvas.ellipse(cx + side * 5.0, cy + 2.9, 1.7 * one, 1.3 * one), 0.7 * has["rosy cheeks"]
        )
        eye = cx + side * apart
        canvas.paint(_colour((0.97, 0.97, 0.97)), canvas.ellipse(eye, cy - 0.6, 1.6 * one, 1.0 * one))
        canvas.paint(iris, canvas.ellipse(eye, cy - 0.6, 0.8 * one, 0.9 * one))
        bushy, across = has["bushy eyebrows"], (canvas.x - _wide(eye)).abs()
        brow = torch.minimum(_wide(1.9 + 0.5 * bushy) - across, _wide(0.2 + 0.85 * bushy) - (below + 3.2).abs())
        canvas.paint(0.8 * hair, brow)
        ring = 0.42 - (canvas.ellipse(eye, cy - 0.5, 2.7 * one, 2.1 * one) - 0.2).abs()
        canvas.paint(_colour(_FRAME), ring, has["eyeglasses"])
        canvas.paint(
            _colour(_RINGS), canvas.ellipse(cx + side * (rx + 0.2), cy + 3.6, 1.15 * one, 1.5 * one), has["earrings"]
        )
    bridge = torch.minimum(_wide(apart - 2.2) - (canvas.x - _wide(cx)).abs(), 0.4 - (below + 0.9).abs())
    canvas.paint(_colour(_FRAME), bridge, has["eyeglasses"])
    from_middle = (canvas.x - _wide(cx)) / 3.3
    bend = _wide(-2.3 * has["smiling"] + 0.9 * (1 - has["smiling"]))
    curve = below - 6.6 - bend * (from_middle**2 - 0.45)
    throat = canvas.ellipse(cx, cy + 7.3 + 0.5 * has["smiling"], 2.3 * one, 1.7 * one)
    canvas.paint(_colour(_THROAT), throat, has["mouth open"])
    teeth = torch.minimum(throat, 0.6 - (below - _wide(6.9 + 0.5 * has["smiling"])).abs())
    canvas.paint(_colour(_TEETH), teeth, has["mouth open"])
    canvas.paint(_colour(_LIPS), torch.minimum(3.4 - (canvas.x - _wide(cx)).abs(), 0.55 - curve.abs()))


@dataclass(frozen=True, eq=False)
class FaceTranslator:
    """Changes attributes of known faces exactly, by drawing them again (see ``face_translator``)."""

    attributes: Tensor = field(repr=False)
    unlabelled: Tensor = field(repr=False)
    known: dict[bytes, int] = field(repr=False)

    def __call__(self, x: Tensor, differences: Tensor) -> Tensor:
        """Faces (B, 3, 32, 32) with attributes moved by differences (B, 13)."""
        rows = self._rows(x)
        return render_faces(self.attributes[rows] + differences.detach().cpu(), self.unlabelled[rows]).to(x)

    def read(self, x: Tensor) -> Tensor:
        """The attributes of faces, (B, 13)."""
        return self.attributes[self._rows(x)].to(x)

    def _rows(self, x: Tensor) -> Tensor:
        found = [self.known.get(key) for key in _keys(x)]
        missing = next((place for place, row in enumerate(found) if row is None), None)
        if missing is not None:
            raise BadInput(
                f"face_translator: picture {missing} is none of the {len(self.attributes)} known faces; it changes "
                "faces that it was given, and only these"
            )
        return torch.tensor(found)


def _keys(x: Tensor) -> list[bytes]:
    return [row.numpy().tobytes() for row in (x.detach().cpu().double() * 255).round().byte().flatten(1)]


def face_translator(*examples: Examples) -> FaceTranslator:
    """A translator without error, for ``spaces.attributes(face_translator(e), FACE_ATTRIBUTES)``: what would this face
    be with glasses, and all else the same?

    It knows the faces of ``examples`` by their pictures and draws them again with other attributes: the ground truth
    that a trained translator is measured against. Cost: 1 ms a face.
    """
    for one in examples:
        if not {"attributes", "unlabelled"} <= set(one.truth) or tuple(one.x.shape[1:]) != (3, SIZE, SIZE):
            raise BadInput(f"face_translator: needs examples of data.faces, got truth {listing(one.truth) or 'none'}")
    if not examples:
        raise BadInput("face_translator: needs examples of data.faces, got none")
    x, attributes, unlabelled = (
        torch.cat(parts)
        for parts in zip(*((e.x, e.truth["attributes"], e.truth["unlabelled"]) for e in examples), strict=True)
    )
    return FaceTranslator(attributes, unlabelled, {key: row for row, key in enumerate(_keys(x))})
