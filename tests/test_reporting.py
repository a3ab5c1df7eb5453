"""The report and the plots: whole, self-contained, escaped, honest about scale, and readable by everyone."""

import base64
import html.parser
import io
import itertools
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import pellucid
from pellucid import methods
from pellucid.core.comparison import Comparison
from pellucid.core.scores import Cell, Scores
from pellucid.core.verdict import Check, Disagreement, Verdict
from pellucid.reporting import (
    belief,
    contradictions,
    descriptions,
    features,
    figures,
    gallery,
    glossary,
    page,
    palette,
    pictures,
    plot,
    ranking,
    references,
    sentences,
    surfaces,
    trust,
)
from pellucid.reporting import html as reports

EVIL = "<script>alert(1)</script>"
FRACTIONS = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0])


# ---------------------------------------------------------------- fixtures


def photos(rows, size=48):
    """Real photos of scikit-image, (rows, 3, size, size) in [0, 1]."""
    from skimage import data

    sources = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    cut = []
    for i in range(rows):
        image = Image.fromarray(sources[i % 4])
        side, shift = min(image.size), 20 * (i // 4)
        left = (image.width - side) // 2 + shift
        cut.append(np.asarray(image.crop((left, 0, left + side, side)).resize((size, size))) / 255)
    return torch.tensor(np.stack(cut)).permute(0, 3, 1, 2).float()


def small_net(channels, classes=7):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, 2), nn.Softplus(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, classes)
    ).eval()


def layer_map(like, size=6):
    """A map at the size of a layer, as Grad-CAM gives."""
    rng = np.random.default_rng(0)
    values = np.clip(rng.normal(size=(len(like), size, size)), 0, None).astype(np.float32)
    details = {**like.details, "promise": None, "ranking": "signed", "reduction": "sum"}
    return replace(
        like,
        values=values,
        dims=("layer_height", "layer_width"),
        method={"name": "grad_cam", "fields": {"layer": "0", "relu": True}},
        residual=None,
        base_values=None,
        details=details,
    )


def cell(method, metric, family, better, rng, rows, **options):
    """A cell filled by hand; ``better`` is how far the method stands above chance."""
    sign = 1 if family == "insertion" else -1
    ends = FRACTIONS if sign > 0 else 1 - FRACTIONS
    curve = 5 * ends + sign * (better + rng.normal(0, 0.4, (rows, 1))) * np.sin(np.pi * FRACTIONS)
    values = curve.mean(1)
    low, high = (np.nan, np.nan) if rows < 2 else values.mean() + np.array([-2, 2]) * values.std(ddof=1) / rows**0.5
    return Cell(
        method,
        metric,
        family,
        "higher" if sign > 0 else "lower",
        values,
        float(values.mean()),
        float(low),
        float(high),
        fractions=FRACTIONS,
        curve=curve,
        points=40 * values,
        **options,
    )


def scores_by_hand(labels, rows, control="random_attribution"):
    rng = np.random.default_rng(1)
    cells = []
    for place, label in enumerate(labels):
        is_control = label == control
        strength = 0.0 if is_control else 2.0 - 0.5 * place
        for family in ("insertion", "deletion"):
            for reference in ("uniform", "0"):
                for granularity in ("7 x 7 patches", "features"):
                    cells.append(
                        cell(
                            label,
                            f"{family}, {reference} reference, {granularity}",
                            family,
                            strength,
                            rng,
                            rows,
                            reference=reference,
                            granularity=granularity,
                            matched=label == "integrated_gradients" and reference == "0",
                            control=is_control,
                        )
                    )
        nothing = np.full(rows, np.nan)
        status = {"integrated_gradients": "measured", "rule": "exact by construction"}.get(label, "promises nothing")
        mean = 0.02 if status == "measured" else np.nan
        cells.append(
            Cell(
                label,
                "completeness",
                "completeness",
                "lower",
                nothing if status != "measured" else np.full(rows, 0.02),
                mean,
                mean,
                mean,
                status=status,
                control=is_control,
            )
        )
    return Scores(
        tuple(cells),
        0,
        {"forwards": 12000, "seconds": 34.5, "peak_bytes": 3.2e8},
        {"pellucid": "0.1.0", "torch": "2.13.0"},
    )


def differences_by_hand(scores, rows):
    return tuple(
        {
            "method": c.method,
            "metric": c.metric,
            "better_by": c.better * (c.mean - ranking.control_cell(scores, c.metric).mean),
            "low": c.better * (c.mean - ranking.control_cell(scores, c.metric).mean) - 0.2,
            "high": c.better * (c.mean - ranking.control_cell(scores, c.metric).mean) + 0.2,
            "p_wilcoxon": 0.0001 if rows >= 12 else None,
            "p_wilcoxon_holm": 0.0009 if rows >= 12 else None,
        }
        for c in scores.cells
        if c.measured and not c.control and c.family != "completeness"
    )


def verdicts_by_hand(labels, control="random_attribution"):
    nan = float("nan")
    decided = []
    for place, label in enumerate(labels):
        good = place < 2
        checks = (
            Check(
                "beats random order",
                1.9 if good else 0.1,
                1.5 if good else -0.2,
                2.3 if good else 0.4,
                0.0,
                good or None,
                "by hand",
            ),
            Check(
                "depends on the weights",
                0.2 if good else 0.93,
                0.1 if good else 0.9,
                0.3 if good else 0.95,
                0.7,
                good,
                f"{label} {EVIL}",
            ),
            Check("survives a change of reference", 0.9, 0.9, 0.9, 0.8, True, "place 1 of 4, then 1"),
            Check("finds a planted tag", nan, nan, nan, 0.5, None, "could not run on the tagged digits", applies=False),
        )
        word = "control" if label == control else "trust" if good else "unclear" if place == 2 else "do not trust"
        decided.append(Verdict(label, word, checks, checks[1].reason))
    return tuple(decided)


def judged(explanations, rows, **options):
    """A whole comparison around real explanations, its judgement filled by hand."""
    labels = tuple(explanations)
    size = len(labels)
    rng = np.random.default_rng(2)
    correlation = np.eye(size)
    correlation[np.triu_indices(size, 1)] = np.linspace(0.71, -0.3, size * (size - 1) // 2)
    correlation = (
        np.maximum(correlation, correlation.T) if size < 2 else np.triu(correlation) + np.triu(correlation, 1).T
    )
    scores = scores_by_hand(labels, rows)
    probabilities = rng.dirichlet(np.full(7, 0.3), rows)
    return Comparison(
        explanations,
        scores,
        differences_by_hand(scores, rows),
        Disagreement(labels, correlation, np.abs(correlation), 0.1),
        verdicts_by_hand(labels),
        **{
            "probabilities": probabilities,
            "truth": tuple(int(k) for k in rng.integers(0, 7, rows)),
            "warnings": (f"integrated_gradients: values miss their sum {EVIL}",),
            "refused": {"kernel_shap": f"needs predictions {EVIL}; feature_ablation() would work"},
            "about": {
                "title": "Photos",
                "model": "a small net",
                "data": f"{rows} photos",
                "command": "pellucid demo --seed 0",
            },
        }
        | options,
    )


@cache
def photo_comparison(rows=4):
    x = photos(rows)
    model = pellucid.wrap(small_net(3), labels=["espresso", "cat", EVIL, "rocket", "suit", "cup", "dog"])
    chosen = {
        "integrated_gradients": methods.integrated_gradients(steps=8),
        "input_x_gradient": methods.input_x_gradient(),
        "smooth_grad": methods.smooth_grad(samples=3),
        "saliency": methods.saliency(),
    }
    found = {name: pellucid.explain(model, x, method) for name, method in chosen.items()}
    found["grad_cam"] = layer_map(found["saliency"])
    found["random_attribution"] = pellucid.explain(model, x, methods.random_attribution())
    return judged(found, rows, names=tuple(f"photo {EVIL} {i}.jpg" for i in range(rows)))


@cache
def digit_comparison(rows=12):
    from sklearn.datasets import load_digits

    x = torch.tensor(load_digits().images[:rows] / 16).float().unsqueeze(1)
    x = nn.functional.interpolate(x, size=28, mode="nearest")
    net = small_net(1)
    found = {
        name: pellucid.explain(net, x, name) for name in ("integrated_gradients", "saliency", "random_attribution")
    }
    return judged(found, rows, about={"title": "Digits"})


@cache
def table_comparison(rows=5):
    from sklearn.datasets import load_diabetes

    x, names = load_diabetes(return_X_y=False).data[:rows], load_diabetes().feature_names
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1)).double().eval()
    found = {
        "integrated_gradients": pellucid.explain(net, x, methods.integrated_gradients(steps=8)),
        "smooth_grad": pellucid.explain(net, x, methods.smooth_grad(samples=8)),
        "random_attribution": pellucid.explain(net, x, methods.random_attribution()),
    }
    found = {label: replace(e, feature_names=tuple(names)) for label, e in found.items()}
    return judged(found, rows, probabilities=None, truth=None, about={"title": "Table"})


# ---------------------------------------------------------------- the page as a reader's machine sees it


class Reader(html.parser.HTMLParser):
    """Collects elements, and fails where tags do not close in order."""

    VOID = frozenset({"meta", "img", "br", "input", "link", "hr"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"an attribute of <{tag}> comes twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.words).split())


@cache
def whole_page():
    return page.page([photo_comparison(), digit_comparison(), table_comparison()])


@cache
def whole():
    return Reader(whole_page())


CASES = {
    "photos": lambda: [photo_comparison()],
    "one row": lambda: [photo_comparison(1)],
    "three chapters": lambda: [photo_comparison(), digit_comparison(), table_comparison()],
    "explanations only": lambda: reports.loose(list(photo_comparison().explanations.values())),
    "one explanation": lambda: reports.loose(photo_comparison().explanations["saliency"]),
    "scores only": lambda: reports.loose((), photo_comparison().scores),
    "nothing finite": lambda: [broken()],
}


def broken():
    """Maps of zeros and NaN, cells and checks without figures, no verdict that trusts."""
    c = photo_comparison()
    zero = {label: replace(e, values=np.zeros_like(e.values)) for label, e in c.explanations.items()}
    zero["saliency"] = replace(zero["saliency"], values=np.full_like(zero["saliency"].values, np.nan))
    nan = float("nan")
    cells = tuple(
        replace(x, values=x.values * nan, mean=nan, low=nan, high=nan, curve=None if x.curve is None else x.curve * nan)
        for x in c.scores.cells
    )
    size = len(zero)
    return replace(
        c,
        explanations=zero,
        scores=replace(c.scores, cells=cells),
        test_rows=(),
        agreement=Disagreement(tuple(zero), np.full((size, size), nan), np.full((size, size), nan), 0.1),
        decided=tuple(Verdict(label, "do not trust", (), "nothing could be measured") for label in zero),
    )


@pytest.mark.parametrize("case", CASES)
def test_page_is_well_formed_and_self_contained(case):
    text = page.page(CASES[case]())
    reader = Reader(text)
    ids = [attrs["id"] for _, attrs in reader.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in reader.elements:
        for name, value in attrs.items():
            assert not name.startswith("on"), f"inline handler on <{tag}>"
            if name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
                if tag == "a":
                    assert value.startswith(("#", "https://"))
                else:
                    assert value.startswith(("data:image/", "#")), f"<{tag} {name}={value[:40]}>"
                if value.startswith("#"):
                    assert value[1:] in ids or value == "#", f"{value} leads nowhere"
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    outside = re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text)
    outside = re.sub(r'<a href="https://[^"]*"', "", outside)
    assert not re.search(r"https?://", outside)


@pytest.mark.parametrize("case", CASES)
def test_page_has_every_section_or_says_why_not(case):
    reader = Reader(page.page(CASES[case]()))
    for title in (
        "What to believe",
        "Gallery",
        "Which is better",
        "Who contradicts whom",
        "Checks",
        "How this was made",
    ):
        assert title in reader.text
    assert len([tag for tag, _ in reader.elements if tag == "h1"]) == 1
    levels = [int(tag[1]) for tag, _ in reader.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    if case == "explanations only":
        assert "Nothing was scored" in reader.text
        assert "No checks were made" in reader.text
    if case == "scores only":
        assert "No explanation was passed" in reader.text
        assert "2.9" in reader.text or "3.0" in reader.text


def test_user_strings_are_escaped_everywhere():
    names = ("photo.jpg" + EVIL,) * 4
    c = photo_comparison()
    evil = {EVIL + label: e for label, e in c.explanations.items()}
    scores = replace(
        c.scores, cells=tuple(replace(x, method=EVIL + x.method, metric=EVIL + x.metric) for x in c.scores.cells)
    )
    c = replace(
        c,
        names=names,
        explanations=evil,
        scores=scores,
        about={"title": EVIL, "model": EVIL, "data": EVIL, "command": f'"{EVIL}', "date": EVIL},
        agreement=replace(c.agreement, methods=tuple(EVIL + m for m in c.agreement.methods)),
        decided=tuple(replace(v, method=EVIL + v.method) for v in c.decided),
        test_rows=(),
    )
    text = page.page([c], title=EVIL + '" onload="x')
    assert text.count("<script") == 1
    assert "alert(1)</script>" not in text
    assert len(Reader(text).all("script")) == 1
    assert text.count("&lt;script&gt;alert(1)") > 50
    fragment = plot.notebook_html(c.explanations[EVIL + "integrated_gradients"])
    assert "<script" not in fragment
    assert "&lt;script&gt;" in fragment  # the class label


def test_scripts_other_than_our_own_may_not_run():
    """The content security policy names the one script by its hash, so that even a missed escape would be inert."""
    import hashlib

    (policy,) = (a["content"] for a in whole().all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*)</script>", whole_page(), re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_every_picture_says_what_it_shows():
    images = whole().all("img")
    assert len(images) > 4 * 6 + 12 * 3
    for image in images:
        assert image["src"].startswith("data:image/png;base64,")
        assert re.search(r"evidence|zero", image["alt"])
        assert image["alt"].count(" ") > 6
    drawings = whole().all("svg")
    assert len(drawings) > 100
    for drawing in drawings:
        assert drawing.get("aria-hidden") == "true" or (drawing["role"] == "img" and len(drawing["aria-label"]) > 8)


def test_page_can_be_used_by_keyboard_and_screen_reader():
    reader = whole()
    assert reader.all("html")[0]["lang"] == "en"
    assert [tag for tag, _ in reader.elements if tag in ("header", "main", "nav", "footer")] == [
        "header",
        "main",
        "nav",
        "footer",
    ]
    assert reader.all("a")[0] == {"class": "skip", "href": "#main"}
    for attrs in reader.all("th"):
        assert attrs["scope"] in ("col", "row", "colgroup")
    for tag, attrs in reader.elements:
        if "scroll" in (attrs.get("class") or "").split():
            assert attrs["tabindex"] == "0", f"<{tag}> scrolls but cannot be reached"
            assert attrs["aria-label"]
    assert ":focus-visible" in whole_page()
    assert "@media print" in whole_page()


def test_words_of_the_glossary_are_explained():
    used = {attrs["href"][len("#term-") :] for attrs in whole().all("a") if attrs.get("class") == "term"}
    assert {"insertion", "rank-correlation", "95-interval", "random-control", "matched"} <= used
    assert used <= set(glossary.TERMS)


def test_light_and_dark_come_from_the_same_tokens():
    text = whole_page()
    for name, light, dark in palette.TOKENS:
        assert f"--{name}:{light};" in text
        assert text.count(f"--{name}:{dark};") == 2  # by preference and by the switch
    assert "prefers-color-scheme:dark" in text
    used = set(re.findall(r"var\(--([\w-]+)\)", text))
    defined = set(re.findall(r"--([\w-]+):", text))
    assert used <= defined


@pytest.mark.parametrize("theme", [1, 2])
def test_text_has_contrast(theme):
    token = {entry[0]: entry[theme] for entry in palette.TOKENS}
    for name in token:
        if name not in palette.LINES and name not in ("paper", "raised"):
            for ground in ("paper", "raised"):
                assert palette.contrast(token[name], token[ground]) >= 4.5, (name, ground)


def test_verdicts_have_a_word_a_shape_and_a_colour():
    shapes = {"trust": "●", "unclear": "◐", "do not trust": "○"}
    assert {word: trust.mark(word).shape for word in shapes} == shapes
    assert len({trust.mark(word).style for word in shapes}) == 3
    for word, shape in shapes.items():
        assert f"{shape} {word}" in whole().text
    links = {a["href"] for a in whole().all("a") if "-verdict-" in a["href"]}
    assert len(links) == 5 + 2 + 2  # each judged method leads to its checks


def test_size_stays_mailable(tmp_path):
    """12 photos x 8 methods at 224 px and 12 digits x 8 methods, all noise, which compresses worst."""
    rng = np.random.default_rng(0)
    from skimage import data

    photo = np.moveaxis(np.asarray(Image.fromarray(data.astronaut()).resize((224, 224))), -1, 0) / 255
    chapters = []
    for shape in ((3, 224, 224), (1, 28, 28)):
        x = np.broadcast_to(photo[: shape[0], : shape[1], : shape[2]], (12, *shape)) * rng.uniform(
            0.8, 1, (12, 1, 1, 1)
        )
        template = photo_comparison().explanations["saliency"]
        found = {
            label: replace(
                template,
                data=x.astype(np.float32),
                values=rng.standard_t(3, (12, *shape)).astype(np.float32),
                outputs=np.zeros(12, np.float32),
                target={"index": [0] * 12, "read": "raw"},
            )
            for label in (*(f"method {i}" for i in range(7)), "random_attribution")
        }
        chapters.append(judged(found, 12))
    path = reports.write(tmp_path / "big.html", chapters)
    size = (tmp_path / "big.html").stat().st_size
    assert path == str(tmp_path / "big.html")
    assert 1e6 < size < 6e6


# ---------------------------------------------------------------- honest numbers


def decode(src):
    image = Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2])))
    return np.asarray(image.convert("RGBA"))


def test_signed_scale_is_symmetric_and_honest():
    values = np.array([[2.0, -2.0], [0.0, 1.0], [-1.0, 40.0]])
    picture = pictures.signed(values, 2.0)
    pixels = decode(picture.src)
    assert pixels[0, 0].tolist() == [*palette.POSITIVE, 255]
    assert pixels[0, 1].tolist() == [*palette.NEGATIVE, 255]
    assert pixels[1, 0, 3] == 0  # zero lets the photo through
    assert pixels[1, 1].tolist() == [*palette.POSITIVE, 128]  # half the value, half the strength, on either side
    assert pixels[2, 0].tolist() == [*palette.NEGATIVE, 128]
    assert pixels[2, 1].tolist() == [*palette.POSITIVE, 255]  # clipped, not rescaled
    red, green, blue = palette.POSITIVE
    assert red > green > blue  # orange-red
    red, green, blue = palette.NEGATIVE
    assert blue > green > red  # blue
    assert palette.over(palette.rgba(np.zeros((1, 1)), 1.0), palette.flat(1, 1))[0, 0].tolist() == list(palette.ZERO)


def test_scale_is_the_99th_percentile_of_the_row_and_is_printed():
    e = photo_comparison().explanations["input_x_gradient"]
    for row in range(2):
        values = e[row].map()[0]
        expected = np.percentile(np.abs(values), 99)
        assert palette.limit(values) == pytest.approx(expected)
        tile = gallery.row(photo_comparison(), row, "k").tiles[1]
        assert float(tile.scale.replace("±", "")) == pytest.approx(expected, rel=5e-3)
        assert tile.scale in whole().text
        strongest = np.unravel_index(np.argmax(values), values.shape)
        assert decode(tile.picture.src)[strongest].tolist() == [*palette.POSITIVE, 255]
        weakest = np.unravel_index(np.argmin(values), values.shape)
        assert decode(tile.picture.src)[weakest][3] > 0
        assert decode(tile.picture.src)[weakest][:3].tolist() == list(palette.NEGATIVE)


def test_maps_that_cannot_be_drawn_say_so():
    rows = gallery.gallery(broken(), "k").rows
    notes = {one.method: one.note for one in rows[0].tiles}
    assert notes["saliency"] == "some values are not finite and are left blank"
    assert notes["grad_cam"] == "zero everywhere"
    assert not decode(rows[0].tiles[0].picture.src)[..., 3].any()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((slice(0, 3), slice(0, 3)), "in the upper left"),
        ((slice(0, 3), slice(3, 6)), "at the top"),
        ((slice(3, 6), slice(6, 9)), "on the right"),
        ((slice(3, 6), slice(3, 6)), "in the centre"),
        ((slice(6, 9), slice(0, 3)), "in the lower left"),
        ((slice(0, 9), slice(0, 9)), "spread over the whole picture"),
    ],
)
def test_descriptions_say_where(place, words):
    mass = np.zeros((9, 9))
    mass[place] = 1
    assert descriptions.region(mass) == words
    assert words in descriptions.signs(mass)
    assert descriptions.signs(-mass).startswith("negative evidence only")


def test_gallery_says_how_many_are_shown():
    reader = Reader(page.page([digit_comparison(30)]))
    assert "12 of 30 shown" in reader.text
    assert len(gallery.gallery(digit_comparison(30), "k").rows) == 12
    assert "shown: the first" not in whole().text


def test_predictions_top_five_truth_and_mistakes():
    c = photo_comparison()
    for row in range(4):
        p = gallery.predict(c, c.explanations["saliency"], row)
        order = np.argsort(-c.probabilities[row])
        labels = c.explanations["saliency"].output_names
        assert [guess.name for guess in p.guesses] == [labels[k] for k in order[:5]]
        assert p.wrong == (order[0] != c.truth[row])
        assert p.truth == labels[c.truth[row]]
    assert any(gallery.predict(c, c.explanations["saliency"], row).wrong for row in range(4))
    # Without probabilities the page does not claim to know what the model predicts.
    unknown = gallery.predict(replace(c, probabilities=None), c.explanations["saliency"], 0)
    assert not unknown.known
    assert unknown.guesses == ()


def test_leaderboard_marks_what_is_matched_exact_and_best():
    board = ranking.board(photo_comparison())
    lines = {line.method: line for line in board.lines}
    entries = {(m, e.column): e for m, line in lines.items() for e in line.entries}
    matched = {key for key, entry in entries.items() if entry.matched}
    assert {m for m, _ in matched} == {"integrated_gradients"}
    assert {c for _, c in matched} == {c.metric for c in photo_comparison().scores.cells if c.reference == "0"}
    assert not any(entries[key].best for key in matched)  # its own reference decides nothing
    assert entries["saliency", "completeness"].note == "promises nothing"
    best = {entry.column: m for (m, _), entry in entries.items() if entry.best}
    for metric, method in best.items():
        field = [
            c
            for c in photo_comparison().scores.cells
            if c.metric == metric and c.measured and not c.control and not c.matched
        ]
        assert method == max(field, key=lambda c: c.better * c.mean).method
    assert board.lines[-1].control  # the control stands last
    assert [name for name, _, _ in lines["saliency"].cost] == ["forwards", "backwards", "time", "peak memory"]
    assert "exact by construction" in Reader(page.page([exact()])).text


def exact():
    c = photo_comparison()
    cells = tuple(
        replace(x, status="exact by construction", mean=float("nan")) if x.family == "completeness" else x
        for x in c.scores.cells
    )
    return replace(c, scores=replace(c.scores, cells=cells))


def test_curves_band_is_the_t_interval():
    from scipy.stats import t

    curve = np.random.default_rng(0).normal(size=(9, 4))
    mean, low, high = figures.mean_and_band(curve)
    reach = t.ppf(0.975, 8) * curve.std(0, ddof=1) / 3
    np.testing.assert_allclose(mean, curve.mean(0))
    np.testing.assert_allclose(low, curve.mean(0) - reach)
    np.testing.assert_allclose(high, curve.mean(0) + reach)
    assert np.isnan(figures.mean_and_band(curve[:1])[1]).all()
    panels = ranking.curves(photo_comparison())[0].panels
    assert all(panel.own.band and panel.control is not None and panel.control.band for panel in panels)
    assert all(panel.own.band == "" for panel in ranking.curves(photo_comparison(1))[0].panels)


def test_dot_lies_inside_its_interval():
    axis = figures.Axis.around([1.0, 3.0])
    drawn = figures.dot(axis, 2.0, 1.0, 3.0, 1.5)
    assert drawn.low < drawn.mark < drawn.x < drawn.high
    assert drawn.x == pytest.approx(50)
    assert figures.dot(axis, float("nan"), 1.0, 3.0) is None
    assert figures.dot(axis, 2.0, float("nan"), float("nan")).low is None


def test_what_to_believe_names_best_contradiction_and_doubt():
    said = [sentences.plain(s) for s in belief.belief(photo_comparison(12), "c1").sentences]
    text = " ".join(said)
    assert "Integrated gradients and Input × gradient agree (rank correlation" in text
    assert "Best by insertion: Integrated gradients, significantly better than random order by" in text
    assert "p < .001" in text
    assert "Saliency and Grad-CAM contradict each other" in text
    few = " ".join(sentences.plain(s) for s in belief.belief(photo_comparison(), "c1").sentences)
    assert "p <" not in few
    assert "With 4 inputs there are intervals but no tests" in few
    one = " ".join(sentences.plain(s) for s in belief.belief(photo_comparison(1), "c1").sentences)
    assert "There is one input only" in one
    rolls = {roll.mark.word: roll for roll in belief.belief(photo_comparison(), "c1").rolls}
    assert [m.title for group in rolls["trust"].groups for m in group.methods] == [
        "Integrated gradients",
        "Input × gradient",
    ]
    assert rolls["do not trust"].groups[0].reason == "unchanged by random weights"


def test_a_lead_that_may_be_luck_is_not_called_a_lead():
    c = photo_comparison(12)
    metric = "insertion, uniform reference, 7 x 7 patches"
    ig, ixg = c.scores.cell("integrated_gradients", metric), c.scores.cell("input_x_gradient", metric)
    close = replace(ixg, values=ig.values + np.tile([0.5, -0.51], 6), mean=ig.mean - 0.005)
    cells = tuple(close if x is ixg else x for x in c.scores.cells)
    text = " ".join(
        sentences.plain(s) for s in belief.belief(replace(c, scores=replace(c.scores, cells=cells)), "c1").sentences
    )
    assert re.search(r"its lead over Input × gradient \(0\.0\d, −0\.33 to 0\.34\) may be luck", text)


@pytest.mark.parametrize(("p", "low"), [(0.2, 0.1), (0.01, -0.1)])
def test_what_may_be_chance_is_not_called_significant(p, low):
    c = photo_comparison(12)
    rows = tuple({**row, "p_wilcoxon_holm": p, "low": low} for row in c.test_rows)
    text = " ".join(sentences.plain(s) for s in belief.belief(replace(c, test_rows=rows), "c1").sentences)
    assert "significantly" not in text
    assert "Best by insertion: Integrated gradients, yet not clearly better than random order" in text


def test_no_trusted_method_is_admitted():
    assert "no method earned trust" in belief.belief(broken(), "c1").caption


def test_p_values_stand_beside_their_difference():
    for bare in re.finditer(r"p [<=] \.\d+", whole().text):
        before = whole().text[max(0, bare.start() - 40) : bare.start()]
        assert re.search(r"\([−\d.]+ to [−\d.]+; $", before), before


def test_checks_show_figure_threshold_and_meaning():
    t = trust.trial(photo_comparison(), "c1")
    assert [c.name for c in t.columns] == [
        "Beats random order",
        "Depends on the weights",
        "Survives a change of reference",
        "Finds a planted tag",
    ]
    assert all(c.asks and c.failing for c in t.columns)
    case = next(case for case in t.cases if case.method == "saliency")
    assert case.outcomes[1].word == "failed"
    assert case.outcomes[1].needs == "needs under 0.70"
    assert case.outcomes[0].word == "undecided"
    assert case.outcomes[3].word == "not applicable"
    assert "it draws the picture's edges or textures" in whole().text


def test_worst_pair_is_shown_on_the_input_where_it_disagrees_most():
    c = photo_comparison()
    clash = contradictions.contradictions(c, "c1").clash
    assert {clash.a, clash.b} == {"Saliency", "Grad-CAM"}
    rhos = [
        contradictions.rank_correlation(
            surfaces.positions(c.explanations["saliency"], i), surfaces.positions(c.explanations["grad_cam"], i)
        )
        for i in range(4)
    ]
    assert clash.row.number - 1 == int(np.argmin(rhos))


def test_rank_correlation_and_agreement_match_scipy():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 60).astype(float), rng.normal(size=60)
    assert contradictions.rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert np.isnan(contradictions.rank_correlation(np.ones(5), b[:5]))
    e = photo_comparison().explanations
    found = contradictions.agreement({"a": e["saliency"], "b": e["saliency"], "c": e["grad_cam"]})
    np.testing.assert_allclose(np.diag(found.correlation), 1)
    assert found.correlation[0, 1] == pytest.approx(1)
    assert found.overlap[0, 1] == 1
    assert found.correlation[0, 2] < 0.9
    slope = e["saliency"]  # its sign says which way, not whether: turned round, it still points at the same places
    assert contradictions.agreement({"a": slope, "b": replace(slope, values=-slope.values)}).correlation[0, 1] == 1


def tabular(rows=9, several=False):
    """A linear model of four named columns: integrated gradients, and a control, with hand-checked values."""
    net = nn.Linear(4, 3).double().eval()
    with torch.no_grad():
        net.weight[:] = torch.tensor([[1.0, -2.0, 0.0, 0.5], [0.0, 1.0, 1.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
        net.bias[:] = torch.tensor([0.25, 0.0, 0.0])
    x = torch.tensor(np.random.default_rng(3).normal(size=(rows, 4)))
    target = [0] * (rows - 2) + [1, 1] if several else 0
    found = {
        name: replace(pellucid.explain(net, x, name, target=target), feature_names=("a", "b", "c", "d"))
        for name in ("integrated_gradients", "saliency", "random_attribution")
    }
    return x.numpy(), judged(found, rows, probabilities=None, truth=None, about={"title": "Four columns"})


@pytest.mark.parametrize("row", range(4))
def test_waterfall_leads_from_the_base_to_the_output_by_the_values(row):
    x, c = tabular()
    e = c.explanations["integrated_gradients"]
    drawn = features.waterfall(c, e, row, count=3)
    values = x[row] * np.array([1.0, -2.0, 0.0, 0.5])
    order = np.argsort(-np.abs(values))
    assert [step.name for step in drawn.steps] == [*("abcd"[i] for i in order[:2]), "2 others"]
    assert [step.positive for step in drawn.steps[:2]] == [values[i] > 0 for i in order[:2]]
    assert drawn.base == "0.250"
    ends = 0.25 + np.cumsum([*values[order[:2]], values[order[2:]].sum()])
    axis = figures.Axis.around([0.25, *ends], 0.14)
    assert [step.end for step in drawn.steps] == pytest.approx([axis.at(end) for end in ends], abs=0.02)
    assert drawn.steps[-1].end == pytest.approx(drawn.end, abs=0.02)
    for before, step in zip((drawn.start, *(s.end for s in drawn.steps)), drawn.steps, strict=False):
        assert [step.x, step.x + step.width] == pytest.approx(sorted([before, step.end]), abs=0.03)
    assert drawn.note == ""
    off = replace(e, residual=np.full(len(e), 0.5))
    assert "miss the output by 0.50" in features.waterfall(c, off, 0).note


def test_waterfalls_are_of_methods_that_add_up_and_beeswarms_of_rows_with_one_output():
    x, c = tabular()
    shown = features.tables(c)
    assert shown.lead == "Integrated gradients"
    assert [swarm.title for swarm in shown.swarms] == ["Integrated gradients", "Saliency"]
    assert (shown.rows, shown.total, shown.explained) == (9, 9, "class 0")
    lines = {line.name: line for line in shown.swarms[0].lines}
    assert next(iter(lines)) == "abcd"[np.argmax(np.abs(x * [1, -2, 0, 0.5]).mean(0))]
    assert lines["a"].words == "high speaks for"
    assert lines["b"].words == "high speaks against"
    assert lines["c"].words == "mixed"
    dots = sorted(zip(x[:, 0], lines["a"].dots, strict=True))
    assert [dot[0] for _, dot in dots] == sorted(dot[0] for _, dot in dots)  # to the right with the value
    assert (dots[0][1][2], dots[-1][1][2]) == (0, features.SHADES - 1)
    _, mixed = tabular(several=True)
    assert (features.tables(mixed).rows, features.tables(mixed).total) == (7, 9)
    alone = replace(c, explanations={"saliency": c.explanations["saliency"]})
    assert features.tables(alone).waterfalls == ()
    assert features.tables(photo_comparison()) is None


def test_chapters_of_tables_have_one_more_section_and_all_count_on():
    text = whole().text
    assert text.count("Feature by feature") == 2  # in the contents, and above the section
    _, c = tabular()
    reader = Reader(page.page([c, photo_comparison()]))
    ids = {attrs["id"] for _, attrs in reader.elements if "id" in attrs}
    assert "c1-tables" in ids
    assert "c2-tables" not in ids
    assert "6 How this was made" in reader.text
    assert "5 How this was made" in reader.text


def test_beeswarms_and_waterfalls_take_what_is_not_finite_or_equal_without_harm():
    _, c = tabular()
    e = c.explanations["integrated_gradients"]
    flat = {"integrated_gradients": replace(e, values=np.zeros_like(e.values))}
    bad = {"integrated_gradients": replace(e, values=np.full_like(e.values, np.nan))}
    assert features.tables(replace(c, explanations=flat)).swarms[0].lines[0].words == "mixed"
    assert features.tables(replace(c, explanations=bad)) is None
    Reader(page.page([replace(c, explanations=flat)]))


def test_maps_of_mean_outputs_are_drawn_around_the_mean():
    x = photos(2)
    e = pellucid.explain(pellucid.wrap(small_net(3), bounds=(0, 1)), x, methods.rise(64, cells=4))
    mean = e.details["mean_output"]
    assert surfaces.level(e, 1) == pytest.approx(mean[1])
    assert np.allclose(surfaces.flat_map(e, 1), e[1].map()[0] - mean[1])
    tile = gallery.tile("rise", e, 1, (), "x")
    assert " around " in tile.scale
    assert surfaces.level(photo_comparison().explanations["saliency"], 0) == 0


def test_what_is_matched_is_not_praised_and_what_is_level_is_named():
    c = photo_comparison()
    leader = "insertion, uniform reference, 7 x 7 patches"
    best = next(x for x in c.scores.cells if x.metric == leader)
    level = tuple(
        replace(x, values=best.values - 1e-9 * np.arange(len(x.values)), mean=best.mean - 1e-9)
        if x.metric == leader and x.method in ("input_x_gradient", "smooth_grad")
        else x
        for x in c.scores.cells
    )
    said = [
        sentences.plain(s) for s in belief.belief(replace(c, scores=replace(c.scores, cells=level)), "c1").sentences
    ]
    sentence = next(s for s in said if s.startswith("Best by insertion"))
    assert "Integrated gradients" in sentence
    assert "Input × gradient" in sentence
    assert "SmoothGrad" in sentence
    hatched = tuple(replace(x, matched=x.matched or x.method == best.method) for x in c.scores.cells)
    said = [
        sentences.plain(s) for s in belief.belief(replace(c, scores=replace(c.scores, cells=hatched)), "c1").sentences
    ]
    assert not any(s.startswith("Best by insertion: Integrated") for s in said)


def test_value_error_is_measured_by_a_constant_guess():
    rng = np.random.default_rng(0)
    cells = [
        Cell(
            m, "value_error", "value_error", "lower", v, v.mean(), v.mean() - 0.1, v.mean() + 0.1, control=m == "random"
        )
        for m, v in (
            ("a", rng.normal(0.3, 0.01, 20)),
            ("b", rng.normal(2, 0.01, 20)),
            ("random", rng.normal(99, 1, 20)),
        )
    ]
    _, c = tabular(20)
    scored = replace(c, scores=Scores(tuple(cells), 0, {}, {}), test_rows=(), decided=())
    lines = {line.method: line.entries[0] for line in ranking.board(scored).lines}
    assert lines["random"].note == "1: a constant guess"
    assert lines["a"].dot.x < lines["a"].dot.mark < lines["b"].dot.x
    said = " ".join(sentences.plain(s) for s in belief.belief(scored, "c1").sentences)
    assert "better than a constant guess (0.30, where the guess scores 1)" in said
    worse = [replace(cells[0], values=cells[0].values + 2, mean=2.3, low=2.2, high=2.4), *cells[1:]]
    said = " ".join(
        sentences.plain(s)
        for s in belief.belief(replace(scored, scores=Scores(tuple(worse), 0, {}, {})), "c1").sentences
    )
    assert "yet worse than a constant guess (2.0" in said


def test_two_rows_are_not_ranked_and_have_no_band():
    c = photo_comparison(2)
    said = " ".join(sentences.plain(s) for s in belief.belief(c, "c1").sentences)
    assert "Best by" not in said
    assert "With 2 inputs there are intervals but no tests" in said
    assert all(panel.own.band == "" for row in ranking.curves(c) for panel in row.panels)
    text = Reader(page.page([replace(c, decided=(), about={"title": "Two", "unjudged": "Too few to judge."})])).text
    assert text.count("Too few to judge.") == 1
    assert "No checks were made" not in text  # the reason on top says it


def test_rows_are_called_what_the_caller_says():
    net, x = nn.Linear(3, 2).eval(), torch.rand(3, 3)
    each = [pellucid.explain(net, x, name) for name in ("saliency", "random_attribution")]
    scored = [pellucid.metrics.insertion(0.0)]
    assert pellucid.compare(net, x, each, scored).names is None
    c = pellucid.compare(net, x, each, scored, about={"names": ["Ada", "Bo", 7]})
    assert c.names == ("Ada", "Bo", "7")
    assert "Ada" in page.page([c])
    with pytest.raises(pellucid.BadInput, match="one name a row, 3 of them; got 2"):
        pellucid.compare(net, x, each, scored, about={"names": ["Ada", "Bo"]})


def test_provenance_is_complete():
    text = whole().text
    for needed in (
        "sigma = 0.15",
        "gauss_legendre",
        "pellucid 0.1.0, torch",
        "pellucid demo --seed 0",
        "values miss their sum",
        "median",
        "worst",
    ):
        assert needed in text
    assert "warning 1" in text
    bib = (page.TEMPLATES.parents[3] / ".." / "docs" / "references.bib").resolve()
    if bib.exists():
        keys = set(re.findall(r"@\w+\{(\w+),", bib.read_text(encoding="utf-8")))
        assert set(references.PAPERS) <= keys
    assert {key for _, keys in references.KNOWN.values() for key in keys} <= set(references.PAPERS)


# ---------------------------------------------------------------- writing


def test_write_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(pellucid.BadInput, match="does not exist"):
        reports.write(tmp_path / "missing" / "report.html", [table_comparison()])
    with pytest.raises(pellucid.BadInput, match="is a folder"):
        reports.write(tmp_path, [table_comparison()])
    with pytest.raises(pellucid.BadInput, match="nothing to show"):
        reports.write(path, [])
    with pytest.raises(pellucid.BadInput, match="expected comparisons, got str"):
        reports.write(path, ["x"])

    def fail(self, target):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            reports.write(path, [table_comparison()])
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert table_comparison().report(path) == str(path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_report_of_explanations_and_scores(tmp_path):
    c = photo_comparison()
    each = [c.explanations["saliency"], c.explanations["integrated_gradients"]]
    pellucid.report(tmp_path / "a.html", explanations=each)
    alone = Reader((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "Saliency" in alone.text
    assert "Nothing was scored" in alone.text
    assert len(alone.all("img")) >= 8
    pellucid.report(tmp_path / "b.html", explanations=each, scores=c.scores, title="Both")
    both = Reader((tmp_path / "b.html").read_text(encoding="utf-8"))
    assert "Nothing was scored" not in both.text
    assert "Both" in both.text
    mixed = reports.loose([*each, each[0], table_comparison().explanations["smooth_grad"]])
    assert [list(comparison.explanations) for comparison in mixed] == [
        ["saliency", "integrated_gradients", "saliency 2"],
        ["smooth_grad"],
    ]
    with pytest.raises(pellucid.BadInput, match="expected explanations"):
        pellucid.report(tmp_path / "c.html", explanations=["saliency"])


# ---------------------------------------------------------------- plots and notebooks


def drawn(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=60)
    return np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))


def test_plots_draw():
    c, table = photo_comparison(), table_comparison()
    metric = "insertion, uniform reference, 7 x 7 patches"
    each = [
        plot.explanation(c.explanations["grad_cam"]),
        plot.explanation(c.explanations["saliency"], row=1, overlay=False),
        plot.explanation(table.explanations["smooth_grad"]),
        plot.maps(c.explanations, rows=(0, 2)),
        plot.bars(table.explanations["smooth_grad"], row=1, count=4),
        plot.curves(c.scores, metric),
        plot.curves(photo_comparison(1).scores),
        plot.matrix(c.agreement),
        plot.matrix(c.agreement, "overlap"),
        plot.leaderboard(c.scores),
        c.explanations["saliency"].plot(row=0),
    ]
    for figure in each:
        assert drawn(figure).std() > 3
    assert each[0]._repr_png_().startswith(b"\x89PNG")
    grey = [line for line in each[5].axes[0].lines if line.get_color() == palette.CONTROL]
    assert len(grey) == 1
    assert len(each[5].axes[0].lines) == 6
    assert len(each[5].axes[0].collections) == 6  # a band for each, the control included
    assert each[4].axes[0].patches[0].get_width() == surfaces.bars(table.explanations["smooth_grad"], 1).values[0]


def test_plotted_map_has_the_signed_colours():
    e = photo_comparison().explanations["input_x_gradient"]
    figure = plot.explanation(e, row=0, overlay=False)
    pixels = np.asarray(figure.axes[1].images[0].get_array())
    values = e[0].map()[0]
    strongest = np.unravel_index(np.argmax(values), values.shape)
    assert pixels[strongest].tolist() == list(palette.POSITIVE)
    quiet = np.abs(values) < palette.limit(values) / (2 * palette.STEPS + 1)
    assert (pixels[quiet] == palette.ZERO).all()


def test_plots_refuse_with_words():
    c, table = photo_comparison(), table_comparison()
    with pytest.raises(pellucid.BadInput, match="row 9 is out of range"):
        plot.explanation(c.explanations["saliency"], row=9)
    with pytest.raises(pellucid.BadInput, match=r"use plot\.bars"):
        plot.maps(table.explanations)
    with pytest.raises(pellucid.BadInput, match="have 'insertion"):
        plot.curves(c.scores, "nonsense")
    with pytest.raises(pellucid.BadInput, match="no metric here has a curve"):
        plot.curves(Scores(()))
    with pytest.raises(pellucid.BadInput, match="measure must be"):
        plot.matrix(c.agreement, "cosine")
    with pytest.raises(pellucid.BadInput, match="not found"):
        plot.leaderboard(c.scores, ["nonsense"])


def test_no_pyplot_and_no_model_is_needed():
    code = (
        "import sys, pellucid.reporting.html, pellucid.reporting.plot\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "above = ('pellucid.methods', 'pellucid.metrics', 'pellucid.models', 'pellucid.api')\n"
        "assert not [m for m in sys.modules if m.startswith(above)]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=page.TEMPLATES.parents[2])
    before = sys.modules.get("matplotlib.pyplot")
    drawn(plot.explanation(photo_comparison().explanations["saliency"], row=0))
    assert sys.modules.get("matplotlib.pyplot") is before


def test_notebook_fragment_is_small_and_whole():
    e = photo_comparison().explanations["integrated_gradients"]
    text = e._repr_html_()
    reader = Reader(text)
    assert len(text) < 60_000
    assert len(reader.all("img")) == 8
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in reader.all("img"))
    assert "residual at most" in reader.text
    table = Reader(plot.notebook_html(table_comparison().explanations["smooth_grad"]))
    assert "4 of 5 rows shown" in table.text
    assert "bmi" in table.text


@pytest.mark.parametrize("shape", [(2, 3, 40), (2, 2, 3, 4, 5)])
def test_series_and_odd_shapes_have_a_page(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    e = pellucid.explain(lambda batch: batch.reshape(len(batch), -1)[:, :3] ** 2, torch.tensor(x), "saliency")
    reader = Reader(page.page(reports.loose(e)))
    assert "Saliency" in reader.text
    assert "Saliency" in Reader(plot.notebook_html(e)).text
    assert drawn(plot.explanation(e, row=0)).std() > 1


def test_players_and_several_outputs_have_a_page():
    net, x = small_net(3), photos(2)
    by_grid = pellucid.explain(net, x, "feature_ablation", players=pellucid.players.grid(3))
    everything = pellucid.explain(net, x, "saliency", target="all")
    assert surfaces.flat_map(by_grid, 0).shape == (48, 48)
    largest = int(np.argmax(everything.outputs[0]))
    np.testing.assert_array_equal(surfaces.flat_map(everything, 0), everything[0].map()[0, ..., largest])
    assert f"class {largest}" in Reader(page.page(reports.loose(everything))).text
    assert len(Reader(page.page(reports.loose(by_grid))).all("img")) >= 2


def test_every_method_and_metric_has_a_name_for_readers():
    from pellucid import methods, metrics
    from pellucid.reporting.references import KNOWN

    recipes = [*methods.CATALOGUE, *metrics.CATALOGUE]
    assert not [recipe.__name__ for recipe in recipes if recipe.__name__ not in KNOWN]
