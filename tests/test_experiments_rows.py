"""The robustness benchmark on sentences and on photos: tiny runs, figures against a slow twin, and the page."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pellucid
from pellucid import attack, methods
from pellucid.core.errors import BadInput
from pellucid.experiments import photos, portraits, robustness, sentences, tables, writing
from pellucid.experiments.contestants import contestants
from pellucid.experiments.kinds import KINDS, PHOTOS, TEXT
from pellucid.experiments.pieces import Piece, Shown, pieces
from pellucid.experiments.settings import Settings
from tests.reference import reviews

TINY = {"examples": 2, "subsets": 8, "banzhaf": 8, "restarts": 1, "pgd_steps": 2, "workers": 1}
WORDS = {"rows": "text", "methods": ("grad", "loo", "greedy_as_irrelevant", "greedy_relevant", "anchor", "random")}
CELLS = {"rows": "photos", "methods": ("grad", "shap", "greedy_as_relevant", "random")}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        reviews.install(patch, tmp_path_factory.mktemp("cache"))
        yield sentences.texts(2, 0)
    reviews.remove()


@pytest.fixture(scope="module")
def found(texts, tmp_path_factory):
    return robustness.run(Settings(**TINY | WORDS), tmp_path_factory.mktemp("store"))


# ---------------------------------------------------------------- sentences


def test_the_word_that_decides_is_the_first_keyword(found):
    assert found.get("precision@1", "loo").values.tolist() == [1, 1]
    np.testing.assert_allclose(found.get("precision@5", "loo").values, 1 / 5)  # one such word in each sentence
    np.testing.assert_allclose(found.get("precision", "loo").values, np.mean([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]))
    assert found.get("precision@1", "anchor") is not None
    assert found.get("precision@2", "anchor") is None
    assert found.get("robustness_relevant", "anchor") is None
    assert found.get("robustness_irrelevant", "greedy_relevant") is None  # of the ablation, its own criterion alone


@torch.no_grad()
def test_deletion_takes_the_words_out_one_after_the_other(texts, found):
    n = found.get("deletion/0", "loo")
    for row in range(2):
        vectors, at = texts.row(row), int(texts.net(texts.row(row)).argmax())
        left = texts.net(
            torch.cat([vectors * (torch.arange(vectors.shape[1]) != i)[:, None] for i in range(vectors.shape[1])])
        )
        order = left[:, at].argsort()
        curve = [float(texts.net(vectors.index_fill(1, order[:k], 0.0))[0, at]) for k in range(1, 6)]
        np.testing.assert_allclose(n.curve[row], curve, atol=1e-5)
        np.testing.assert_allclose(n.values[row], np.trapezoid(curve), atol=1e-5)  # over k = 1 to 5


def test_radii_are_of_whole_words_and_without_a_box(texts, found):
    row, settings = 1, Settings(**TINY | WORDS)
    e = pellucid.explain(texts.model, texts.row(row), methods.feature_ablation(), players=texts.players)
    first = int(e.values[0].argmax())
    free = torch.zeros(1, 1, *texts.row(row).shape[1:], dtype=torch.bool)
    free[0, 0, first] = True
    ways = (attack.minimum_norm(), attack.pgd(settings.pgd_steps, settings.restarts))
    radius = float(attack.minimal_radius(texts.model, texts.row(row), free, method=ways).radius[0, 0])
    assert found.get("robustness_relevant", "loo").curve[row, 0] == pytest.approx(radius, rel=1e-3)
    others = float(attack.minimal_radius(texts.model, texts.row(row), ~free, method=ways).radius[0, 0])
    assert found.get("robustness_irrelevant", "loo").curve[row, 0] == pytest.approx(others, rel=0.01)


def test_backgrounds_and_random_words_have_the_length_of_the_sentence(texts):
    for row in range(2):
        shape = texts.row(row).shape[1:]
        assert texts.background_of(row).shape[1:] == shape
        noise = texts.noise(row)
        assert noise.shape == (sentences.NOISES, *shape)
        known = {tuple(vector.tolist()) for vector in texts.net.embedding.weight[1:]}
        assert {tuple(vector.tolist()) for vector in noise.flatten(0, 1)} <= known
    assert not torch.equal(texts.noise(0)[:, :8], texts.noise(1)[:, :8])


def test_a_prediction_without_scored_words_has_no_precision(texts, found, tmp_path):
    none = replace(texts, held_out=replace(texts.held_out, valence=tuple(0 * v for v in texts.held_out.valence)))
    with robustness.opened(found.settings, none, tmp_path) as store:
        numbers = sentences.TextsBench(found.settings, none, store)._keywords(Piece(0, "loo", "keywords"))
    assert all(np.isnan(entry["value"]) for entry in numbers.values())
    lost = {key: replace(n, values=n.values * np.nan) for key, n in found.numbers.items() if key[0] == "precision"}
    without = replace(found, numbers=found.numbers | lost)
    assert not tables.lines(without, "precision")
    assert "Keywords that people scored" in writing.written(without, "")[writing.PAGE]


def test_the_page_of_sentences(found):
    page = writing.written(found, "pellucid <script>")[writing.PAGE]
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    for said in ("substitute", "Table 9", "Table 10", "Keywords in their sentences", "random words"):
        assert said in page
    for gone in ("Blindness", "planted", "MNIST", "pixels"):
        assert gone not in page
    assert "blindness.csv" not in writing.written(found, "")
    assert set(writing.written(found, "")) == set(writing.files(found.settings))


def test_text_that_looks_like_markup_is_escaped(found):
    first, *others = found.shown
    text = "<b>bold</b> & "
    spoilt = replace(
        first, text=text + first.text, places=tuple((a + len(text), b + len(text)) for a, b in first.places)
    )
    page = writing.written(replace(found, shown=(spoilt, *others)), "")[writing.PAGE]
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; " in page
    assert "<b>" not in page


def test_keywords_are_marked_in_their_sentence():
    text, places = "So dull, a dull film!", ((0, 2), (3, 7), (9, 10), (11, 15), (16, 20))
    row = Shown(np.zeros(5), "a", "b", {"x": np.array([0.0, 0.5, 0.0, 0.9, 0.0])}, text, places)
    assert portraits._ranks(row.maps["x"]).tolist() == [5, 2, 5, 1, 5]  # the others share the places 3 to 5
    parts = portraits._cut(row, portraits._ranks(row.maps["x"]))
    assert "".join(part for part, _ in parts) == text
    assert [part for part, rank in parts if rank == 1] == ["dull"]
    assert portraits._ranks(np.array([3.0, 1, 1, 1, 1, 1, 1])).tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert portraits._ranks(np.array([0, 1, 1, 0, 0, 0, 0.0])).tolist() == [0, 2, 2, 0, 0, 0, 0]  # a rule of two words


def test_the_command_takes_text(texts, tmp_path, monkeypatch, command_line):
    monkeypatch.chdir(tmp_path)
    flags = "--examples 2 --restarts 1 --pgd-steps 1 --methods loo --workers 1"
    code, out, err = command_line(f"benchmark robustness --rows text --out made {flags}")
    assert code == 0, err
    assert "wrote made/index.html" in out
    summary = pd.read_csv(tmp_path / "made" / "summary.csv")
    loo = summary[(summary.criterion == "precision") & (summary.method == "LOO")].iloc[0]
    assert (loo["table"], loo["paper"]) == ("headline", 0.56)
    assert Path("made/index.html").is_file()


class Saturated(nn.Module):
    """Never the other class; where the unit is saturated, a slope says that it lies beyond all numbers."""

    def forward(self, z):
        mixed = z @ torch.tensor([[3.0, -3.0], [3.0, 3.0]])
        return torch.stack([torch.full_like(z[:, 0], 2.0), torch.tanh(z[:, 0]) + 1e-38 * mixed.sum(1)], 1)


def test_a_saturated_network_without_a_box_is_out_of_reach_and_no_error():
    free = torch.ones(1, 1, 2, dtype=torch.bool)
    x = torch.tensor([[0.3, 0.1]])
    found = attack.minimal_radius(Saturated().eval(), x, free, method=attack.minimum_norm())
    assert np.isinf(found.radius).all()


# ---------------------------------------------------------------- photos


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).eval()
    x = torch.rand(4, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net(x)
    model = pellucid.wrap(net, bounds=(0, 1), labels=("cat", "dog", "<cup>"))
    rows = photos.Photos("Made up.", model, (0, 1), "none", x[:2], x, ("cat", "dog", "<cup>"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(robustness._HOW, "photos", (lambda *_: rows, photos.PhotosBench))
        yield rows, robustness.run(Settings(**TINY | CELLS), tmp_path_factory.mktemp("store"))


def test_photos_are_ranked_by_cells(made):
    rows, run = made
    assert run.get("insertion/uniform", "grad").curve.shape == (2, 3)
    assert {row.maps["grad"].shape for row in run.shown} == {(7, 7)}
    e = pellucid.explain(rows.model, rows.row(0), methods.saliency())
    by_hand = np.abs(e.values[0]).sum(0).reshape(7, 2, 7, 2).sum((1, 3))
    np.testing.assert_allclose(run.shown[0].maps["grad"], by_hand, rtol=1e-5)
    order = by_hand.flatten().argsort()[::-1]
    at = int(rows.model.outputs(rows.row(0)).argmax())
    for k, height in zip((5, 10, 15), run.get("deletion/0", "grad").curve[0], strict=True):
        kept = torch.ones(49).index_fill(0, torch.from_numpy(order[:k].copy()), 0).reshape(7, 7)
        mask = kept.repeat_interleave(2, 0).repeat_interleave(2, 1)
        assert height == pytest.approx(float(rows.model.outputs(rows.row(0) * mask)[0, at]), abs=1e-5)
    assert torch.equal(rows.background_of(1), rows.every[[0, 2, 3]])


def test_the_page_of_photos_shows_no_photo(made):
    _, run = made
    page = writing.written(run, "")[writing.PAGE]
    assert "reduced" in page
    assert "&lt;cup&gt;" in page
    assert "<cup>" not in page
    for gone in ("Blindness", "digit", "Keywords", "planted"):
        assert gone not in page
    assert len(re.findall(r"<img", page)) == 2 * 4  # maps alone, of two rows by four methods


# ---------------------------------------------------------------- what is asked


def test_defaults_are_those_of_the_rows():
    assert (Settings().examples, Settings(rows="text").examples, Settings(rows="photos").examples) == (100, 50, 4)
    assert Settings(rows="text").sizes == (1, 2, 3, 4, 5)
    assert Settings(rows="photos", subsets=7).subsets == 7
    assert Settings(rows="text").spec() != Settings().spec()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": "photos", "examples": 21}, "at most 20, the held-out photos"),
        ({"rows": "text", "few": 3}, "on digits only"),
        ({"rows": "photos", "released": 1}, "on digits only"),
        ({"rows": "text", "sizes": (1, 2.5)}, "words, whole ones"),
        ({"rows": "text", "sizes": (1, 10)}, "rise between 0 and 6"),
        ({"rows": "text", "methods": ("bbmp",)}, "'bbmp' is not there; have grad"),
    ],
    ids=range(6),
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(BadInput, match=message):
        Settings(**wrong)


@pytest.mark.parametrize("kind", [TEXT, PHOTOS], ids=["text", "photos"])
def test_what_is_compared_is_there_and_what_is_published_is_compared(kind):
    settings = Settings(rows=kind.name)
    made = contestants(settings, torch.zeros(1, 9, 50))
    assert {c.key for c in made} == set(kind.methods)
    names = {c.paper for c in made} | {"Greedy"}  # left out of photos
    for criterion, figures in kind.figures.items():
        assert criterion in kind.tables
        assert set(figures) <= names, criterion
    assert {piece.kind for piece in pieces(settings, 0)} == {"explanation", *kind.pieces}
    assert set(KINDS) == {"digits", "text", "photos"}
