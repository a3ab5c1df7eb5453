"""The report as a browser, a screen reader and a mischief-maker meet it: whole, self-contained, escaped, readable."""

import base64
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pellucid.reporting import (
    glossary,
    page,
    palette,
    plot,
    trust,
)
from pellucid.reporting import html as reports
from tests.reference.comparisons import (
    CASES,
    EVIL,
    Reader,
    judged,
    photo_comparison,
    whole,
    whole_page,
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
