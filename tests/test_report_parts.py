"""Parts of the report: places under each reference, and chosen sets."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import pellucid
from pellucid import attack, methods, metrics, players
from pellucid.core.scores import Scores
from pellucid.reporting import (
    chapter,
    contrast,
    html,
    page,
    palette,
    pictures,
    places,
    sentences,
    surfaces,
)
from tests.reference.parts import EVIL, Reader, cell, comparison


def placed(rows=20, family="insertion", noise=0.05):
    """Three methods: one first everywhere, one that falls from 2 to 4, one that rises from 4 to 2, and a control."""
    rng = np.random.default_rng(0)
    sign = 1 if family == "insertion" else -1
    heights = {
        "steady": (9, 9, 9),
        "falls": (8, 5, 1),
        "rises": (1, 4, 8),
        "random_attribution": (3, 3, 3),
    }
    found = []
    for method, at in heights.items():
        for reference, height in zip(("0.25", "uniform", "1"), at, strict=True):
            drawn = sign * (height + rng.normal(0, noise, rows))
            control = method == "random_attribution"
            found.append(
                cell(method, reference, drawn, family, control=control, matched=method == "falls" and reference == "1")
            )
    return found


def test_places_are_ranks_in_the_order_of_the_references():
    (found,) = places.places(comparison(placed()))
    assert [(short, name) for short, name, _ in found.references] == [(".25", "0.25"), ("1", "1"), ("U", "uniform")]
    tracks = {track.method: track for track in found.tracks}
    assert set(tracks) == {"steady", "falls", "rises"}  # the control lies behind them
    assert tracks["falls"].words == "falls: place 2 under 0.25, 4 under 1, 2 under uniform, of 4"
    assert tracks["falls"].matched == (60.0,)
    x, y = zip(*(map(float, point.split(",")) for point in tracks["falls"].own.line.split()), strict=True)
    assert list(x) == [9.0, 60.0, 111.0]
    assert y[0] == y[2] == 28.0  # place 2 of 4, a third of the way down
    assert y[1] == 72.0
    assert tracks["rises"].control == tracks["steady"].control != ""
    told = sentences.plain(found.said)
    assert (
        told == "Insertion: steady stays in place 1 whatever the reference; falls moves from 2 under 0.25 to 4 under 1."
    )


def test_places_know_lower_is_better_and_luck():
    (found,) = places.places(comparison(placed(family="deletion")))
    assert (
        "place 1 under 0.25, 1 under 1, 1 under uniform" in next(t for t in found.tracks if t.method == "steady").words
    )
    (doubtful,) = places.places(comparison(placed(noise=40.0)))
    assert sentences.plain(doubtful.said).endswith("which may be luck.")
    (few,) = places.places(comparison(placed(rows=2)))
    assert all(track.own.band == "" for track in few.tracks)


def test_ranks_share_the_better_place_and_resample_rows():
    values = np.array([[[1.0, 3.0, 2.0]], [[1.0, 3.0, 2.0]], [[0.0, 0.0, 9.0]]])  # means 2, 2, 3
    ranks, low, high, resampled = places.ranked(values)
    assert ranks[:, 0].tolist() == [2, 2, 1]
    assert resampled.shape == (3, 1, places.DRAWS)
    # the last one wins where its one good row is drawn often enough: first of 3 in some resamples, last in others
    assert (low[2, 0], high[2, 0]) == (1, 3)
    holes = values.copy()
    holes[0, 0, 0] = np.nan  # an input without a figure leaves the others: mean 2.5
    assert places.ranked(holes)[0][:, 0].tolist() == [2, 3, 1]


def test_two_references_make_no_chart_and_further_scores_join_in():
    cells = placed()
    two = [c for c in cells if c.reference != "1"]
    assert places.places(comparison(two)) == ()
    third = [c for c in cells if c.reference == "1"]
    (found,) = places.places(comparison(two, [Scores(tuple(third))]))
    assert len(found.references) == 3
    shorter = [replace(c, values=c.values[:5]) for c in third]
    assert places.places(comparison(two, [Scores(tuple(shorter))])) == ()  # of other rows: not all else equal


# ---------------------------------------------------------------- chosen sets


@pytest.fixture(scope="module")
def squares():
    """A net whose class is the brighter half of a picture, and the set that Greedy-AS chooses."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2, bias=False)).eval()
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[0, :18], net[1].weight[1, 18:] = 1.0, 1.0
    x = torch.full((2, 1, 6, 6), 0.4)
    x[0, 0, :3] = 0.7
    x[1, 0, 3:] = 0.7
    model = pellucid.wrap(net, labels=["top", EVIL], bounds=(0.0, 1.0))
    e = pellucid.explain(
        model,
        x,
        methods.greedy_as("relevant", fraction=0.5, step=0.5, subsets=20, against=(1, 0)),
        players=players.grid(2),
    )
    return model, e


def test_one_class_to_be_reached_for_each_row(squares):
    model, e = squares
    alone = pellucid.explain(
        model,
        torch.tensor(e.data[1:]),
        methods.greedy_as("relevant", fraction=0.5, step=0.5, subsets=20, against=0),
        players=players.grid(2),
        first_row=1,
    )
    assert np.allclose(e.details["radius"][1], alone.details["radius"][0], rtol=1e-5)
    r = attack.minimal_radius(model, torch.tensor(e.data), torch.ones(2, 1, 6, 6, dtype=torch.bool), target=(1, 0))
    assert np.allclose(r.radius, 5.4 / 6, rtol=2e-3)  # the margin, 18 pixels of .3, over the norm of 36 slopes of 1


def test_signs_of_a_chosen_set_are_drawn_and_told(squares):
    _, e = squares
    signs = surfaces.signs(e, 0)
    assert signs.shape == (6, 6)
    assert set(np.unique(signs[:3])) <= {0.0, 1.0}  # taking the bright top down makes it the other class
    assert set(np.unique(signs[3:])) <= {0.0, -1.0}
    assert int(np.abs(signs).sum()) == 18  # two of four squares
    assert np.array_equal(surfaces.flat_map(e, 0), signs)
    assert surfaces.scale_words(e, 0, 1.0) == "2 of 4 chosen"
    ranks = np.sort(np.unique(surfaces.positions(e, 0)))
    assert len(ranks) == 4  # agreement is still measured on ranks


def test_why_this_and_not_that(squares):
    _, e = squares
    (found,) = contrast.contrasts(html.unjudged({"greedy_as": e}))
    assert (found.targeted, found.pictured, len(found.cases)) == (True, True, 2)
    first, second = found.cases
    assert first.question == f"Why top and not {EVIL}?"
    assert second.question == f"Why {EVIL} and not top?"
    size = float(np.linalg.norm(e.details["perturbation"][0]))
    told = f"2 of 4 features alone: a change of length {size:.1f} ({size / np.linalg.norm(e.data[0]):.0%}"
    assert first.told[0].replace(" %", "%").startswith(told)
    changed = np.asarray(Image.open(io.BytesIO(_bytes(first.changed.src)))).astype(float) / 255
    assert np.allclose(changed, np.clip(e.data[0, 0] + e.details["perturbation"][0, 0], 0, 1), atol=0.01)
    text = page.page([html.unjudged({"greedy_as": e})])
    assert EVIL not in text
    reader = Reader(text)
    assert "Why this and not that" in reader.text
    assert "must stay away" in reader.text
    assert not contrast.contrasts(html.unjudged({"random": replace(e, details={})}))


def test_without_a_class_to_reach_and_without_a_picture():
    torch.manual_seed(0)
    net = nn.Linear(3, 2).double().eval()
    x = torch.rand(2, 3).double()
    e = pellucid.explain(pellucid.wrap(net, bounds=(0, 1)), x, methods.greedy("irrelevant", fraction=0.4, step=1))
    e = replace(e, feature_names=("age", "bmi", EVIL))
    (found,) = contrast.contrasts(html.unjudged({"greedy": e}))
    assert not found.pictured
    case = found.cases[0]
    assert case.question.startswith("What makes it class ")
    assert len(case.present) + len(case.absent) == 1
    assert case.told[-1] == f"With these held, all others have to change by {float(e.details['radius'][0]):.2g}."
    assert EVIL not in page.page([html.unjudged({"greedy": e})])


def _bytes(src):
    import base64

    return base64.b64decode(src.split(",", 1)[1])


def test_presence_and_absence_are_told_apart_without_colour():
    signs = np.zeros((4, 4))
    signs[0, 0], signs[3, 3] = 1, -1
    made = pictures.chosen(np.full((4, 4, 3), 200, np.uint8), signs)
    assert (made.width, made.height) == (224, 224)
    drawn = np.asarray(Image.open(io.BytesIO(_bytes(made.src))).convert("RGB")).astype(float)
    present, absent, rest = drawn[:56, :56], drawn[168:, 168:], drawn[60:160, 60:160]
    assert present.std(axis=(0, 1)).max() == 0  # plain
    assert absent.std(axis=(0, 1)).max() > 30  # hatched
    assert rest.std(axis=(0, 1)).max() == 0
    assert palette.luminance("#{:02x}{:02x}{:02x}".format(*present[0, 0].astype(int))) < 0.5


def test_an_unjudged_chapter_opens_with_what_it_is_about(squares):
    _, e = squares
    loose = html.unjudged({"greedy_as": e, "again": e})
    keys = [section.key for section in chapter.chapter(loose, 1).sections]
    assert keys == ["gallery", "contrast", "leaderboard", "contradictions", "making"]
    said = replace(loose, about={"unjudged": "Two squares only."})
    made = chapter.chapter(said, 1)
    assert [section.key for section in made.sections] == ["contrast", "gallery", "contradictions", "making"]
    assert [section.number for section in made.sections] == [1, 2, 3, 4]
    text = page.page([said])
    order = [match for match in re.findall(r'id="c1-(\w+)"', text) if match in made.number]
    assert order == ["contrast", "gallery", "contradictions", "making"]


def test_further_scores_are_shown_apart_from_those_that_verdicts_rest_on(squares):
    model, e = squares
    again = pellucid.evaluate(model, {"greedy_as": e}, [metrics.robustness_relevant((0.25, 0.5), grid=2)])
    text = page.page([replace(html.unjudged({"greedy_as": e}), further=(again,))])
    words = Reader(text).text
    assert "No verdict rests on these, and no tests were made." in words
    assert "Robustness, relevant" in words
    assert "Nothing was scored" not in words
