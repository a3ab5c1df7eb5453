"""The numbers of the report are honest: scales, bands, intervals, and what is not praised."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pellucid.reporting import (
    belief,
    descriptions,
    figures,
    gallery,
    page,
    palette,
    pictures,
    ranking,
    sentences,
)
from tests.reference.comparisons import (
    Reader,
    broken,
    digit_comparison,
    photo_comparison,
    whole,
)


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
