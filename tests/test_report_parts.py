"""Parts of the report that some explanations bring along: places under each reference, chosen sets, named features of
a space, global values and traversals."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import pellucid
from pellucid import attack, methods, metrics, players, removal, spaces
from pellucid.app import demo, meanings
from pellucid.core.comparison import Comparison
from pellucid.core.scores import Cell, Scores
from pellucid.core.verdict import Disagreement
from pellucid.reporting import (
    chapter,
    contrast,
    figures,
    html,
    numerals,
    page,
    palette,
    pictures,
    places,
    semantic,
    sentences,
    spectrum,
    surfaces,
    telling,
)

EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Elements and words of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.inside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside[-1:]):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def cell(method, reference, values, family="insertion", **options):
    values = np.asarray(values, dtype=float)
    label = f"{family}, {reference} reference, 7 x 7 patches"
    better = {"insertion": "higher", "deletion": "lower"}[family]
    return Cell(
        method,
        label,
        family,
        better,
        values,
        float(np.nanmean(values)),
        np.nan,
        np.nan,
        reference,
        "7 x 7 patches",
        **options,
    )


def comparison(cells, further=()):
    nothing = np.empty((0, 0))
    return Comparison({}, Scores(tuple(cells)), (), Disagreement((), nothing, nothing, 0.1), (), further=tuple(further))


# ---------------------------------------------------------------- places under each reference


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


# ---------------------------------------------------------------- features that have a meaning


BANDS = spaces.fourier(bins=6)


def waves(count=12, size=24):
    """Pictures of a coarse wave whose strength is the class's score, over fine noise."""
    torch.manual_seed(1)
    across = torch.arange(size) / size
    wave = torch.cos(2 * torch.pi * across).expand(1, size, size)
    strength = torch.linspace(0.1, 0.4, count).reshape(-1, 1, 1, 1)
    return 0.5 + strength * wave + 0.02 * torch.randn(count, 1, size, size), wave


@pytest.fixture(scope="module")
def spectral():
    """A model that reads one coarse wave: pixel map, local and global values of frequencies."""
    x, wave = waves()
    flat = (wave / wave.square().sum()).flatten()

    def read(z):
        score = 40 * (z.flatten(1) @ flat - 0.25)
        return torch.stack([-score, score], 1).softmax(1)

    model, y = pellucid.wrap(read, scale="prob"), [0] * 6 + [1] * 6
    absent = removal.marginal(x, draws=1)
    local = pellucid.explain(model, x, methods.permutation_shapley(60, removal=absent), 1, BANDS)
    whole = pellucid.explain_global(model, x, y, methods.permutation_shapley(24, removal=absent), BANDS)
    pixels = pellucid.explain(model, x, methods.feature_ablation(0.5), 1, players=players.grid(3))
    return local, whole, pixels


def test_explanations_say_in_which_space_they_live(spectral, tmp_path):
    local, whole, pixels = spectral
    assert local.details["space"] == whole.details["space"] == {"name": "fourier", "exact": True}
    assert "space" not in pixels.details
    assert [surfaces.kind(e) for e in spectral] == ["bars", "bars", "image"]  # frequencies are no places of a picture
    assert [surfaces.named(e) for e in spectral] == [True, True, False]
    local.save(tmp_path / "e.npz")
    assert surfaces.named(pellucid.load(tmp_path / "e.npz"))


def test_bands_have_the_edges_of_their_rings(spectral):
    local, _, _ = spectral
    found = spectrum.rings(local, local.values[0], local.std_error[0])
    assert np.allclose(found.low[1:], found.high[:-1])
    assert np.allclose(found.high[:-1], 0.5**0.5 / 6 * np.arange(1, 6), atol=0.03)
    assert found.low[0] == 0
    assert np.array_equal(found.values, local.values[0])
    assert spectrum.band(found, 0).startswith("periods over ")
    single = replace(local, players=spaces.fourier().groups.divide(torch.zeros(1, 1, 24, 24), (), None).labels.numpy())
    many = np.arange(24 * 24 / 2 + 2)
    summed = spectrum.rings(single, many, np.ones_like(many))
    assert len(summed.values) == spectrum.RINGS
    assert summed.errors is None  # those of sums are not known
    assert summed.values.sum() == pytest.approx(many.sum())
    other = replace(local, players=np.random.default_rng(0).integers(0, 6, (1, 24, 24)))
    assert not spectrum.is_spectrum(other)  # sets of frequencies that are no bands are drawn as bars


def test_a_spectrum_is_drawn_to_scale():
    found = spectrum.Rings(
        np.array([0, 0.1, 0.2]), np.array([0.1, 0.2, 0.4]), np.array([2.0, -1.0, 0.0]), np.array([0.1, 0.1, 0])
    )
    low, high = spectrum.reach(found)
    assert (low, high) == pytest.approx((-1.196, 2.196))
    drawn = spectrum.drawn(found, low, high, "Title")
    a, b, c = drawn.columns
    unit = (spectrum.HEIGHT - 2) / (high - low)
    assert drawn.zero == pytest.approx(1 + unit * 2.196, abs=0.1)
    assert (a.height, b.height, b.positive) == (round(2 * unit, 1), round(unit, 1), False)
    assert a.y + a.height == pytest.approx(drawn.zero, abs=0.2)
    assert b.y == drawn.zero
    assert c.whisker is None
    assert a.whisker == pytest.approx((1.0, 1 + unit * 2 * 0.196), abs=0.2)
    assert a.x + a.width < b.x < b.x + b.width < c.x < c.x + c.width < 100
    assert c.width == pytest.approx(2 * b.width, abs=0.02)
    assert drawn.marks[0] == (31.2, "8 px")
    assert "largest periods over 10 pixels: 2.0" in drawn.words
    assert spectrum.reach(replace(found, values=np.abs(found.values), errors=None)) == (0.0, 2.0)


def test_coarse_and_fine_parts_make_the_picture(spectral):
    local, _, _ = spectral
    low, high = spectrum.parted(local, 2, 0.1)
    middle = (local.data[2].min() + 1.0) / 2
    assert np.allclose(low.data + high.data - middle, local.data[2:3], atol=1e-6)
    assert np.std(low.data) > 5 * np.std(high.data)  # the wave is coarse, the noise fine


def test_local_stands_beside_global_and_pixels(spectral):
    local, whole, pixels = spectral
    (loose,) = html.loose([whole, pixels, local])  # the mean over inputs belongs to the inputs it is a mean of
    (meaning,) = semantic.meanings(loose, "c1")
    assert [s.prediction is None for s in meaning.subjects] == [True, False, False, False, False]
    assert meaning.subjects[0].name == "all 12 inputs"
    assert [line.kind for line in meaning.lines] == ["spectrum", "picture", "picture", "map"]
    assert all(len(line.cells) == 5 for line in meaning.lines)
    assert meaning.lines[3].cells[0] is None
    said = [sentences.plain(s) for s in (*meaning.findings, *meaning.notes)]
    assert said[0].startswith("Over all inputs the true class's score rests most on periods ")
    rule = whole.details["sum_rule"]
    gained = f"add up (sum rule) to {numerals.figure(rule['outputs'] - rule['base'])}: "
    assert any(gained in s for s in said)
    assert "The way into these features and back is exact: nothing is lost." in said
    text = page.page([loose])
    assert "NaN" not in Reader(text).text
    assert chapter.chapter(loose, 1).gallery.methods == ("feature_ablation",)  # named features are shown in their part


def test_a_set_of_frequencies_is_told_by_name(spectral):
    local, _, _ = spectral
    signs = np.array([[1, 0, -1, 0, 0, 0]] * len(local))
    chosen = replace(local, details={**local.details, "pertinent": signs, "by_row": ["pertinent"]})
    made = chapter.chapter(html.unjudged({"greedy": chosen}), 1)
    assert made.meanings == ()
    case = made.contrasts[0].cases[0]
    assert (case.present, case.absent) == (local.feature_names[:1], local.feature_names[2:3])


def test_coarse_against_fine_has_an_interval_over_inputs(spectral):
    _, whole, _ = spectral
    each = whole.details["local"]["values"]
    told = sentences.plain(telling.parting(whole))
    count, _ = spectrum.split(spectrum.rings(whole, each.mean(0), None))
    coarse = each[:, :count].sum(1)
    mean, low, high = numerals.estimate(*figures.paired_interval(coarse))
    assert f"have {mean} ({low} to {high}) of it" in told


def causes(rows=3):
    """A rule that reads one of three causes of a picture, the exact way into them, and what it says as they move."""

    def draw(z):
        picture = torch.zeros(len(z), 1, 12, 12)
        picture[:, 0, :4], picture[:, 0, 4:8], picture[:, 0, 8:] = (z[:, k, None, None] for k in range(3))
        return picture

    space = spaces.decoder(lambda x: x[:, 0, ::4, 0], draw, ("top", EVIL, "bottom"))
    x = draw(torch.rand(8, 3, generator=torch.Generator().manual_seed(3)))
    rule = pellucid.wrap(
        lambda x: torch.cat([1 - x[:, 0, 0, :1], x[:, 0, 0, :1]], 1), scale="prob", labels=["dark", "light"]
    )
    exact = methods.exact_shapley(removal.marginal(x))
    local = pellucid.explain(rule, x[:rows], exact, 1, space)
    walk = pellucid.traverse(rule, x[1:2], space, x, 1, steps=5)
    whole = pellucid.explain_global(rule, x, (x[:, 0, 0, 0] > 0.5).long(), exact, space)
    return walk.beside(local, 1), whole, walk


def test_features_on_their_way_with_the_output_under_each(tmp_path):
    local, whole, walk = causes()
    (loose,) = html.loose({"here": local, "everywhere": whole})
    (meaning,) = semantic.meanings(loose, "c1")
    (shown,) = meaning.walks
    assert shown.name == "input 2"
    assert [sweep.name for sweep in shown.sweeps] == ["top", EVIL, "bottom"]
    top, middle, _ = shown.sweeps
    assert len(top.stops) == 5
    assert [stop.value for stop in top.stops] == [stop.output for stop in top.stops]  # the rule reads this very number
    assert middle.effect == "0"
    assert sum(stop.here for stop in top.stops) == 1
    assert all(stop.picture is not None for stop in top.stops)
    local.save(tmp_path / "e.npz")
    again = pellucid.load(tmp_path / "e.npz")
    assert again == local
    assert len(semantic.meanings(html.unjudged({"here": again[1]}), "c1")[0].walks) == 1
    assert semantic.meanings(html.unjudged({"here": again[0]}), "c1")[0].walks == ()  # of another row
    said = [sentences.plain(s) for s in (*meaning.findings, *meaning.notes)]
    assert f"exactly nothing on {EVIL} and bottom" in said[0]
    assert any(s.startswith("Reconstruction changes no output here") for s in said)
    assert EVIL not in page.page([loose])
    with pytest.raises(pellucid.BadInput, match="row 3 is out of range"):
        walk.beside(local, 3)


def test_a_way_back_that_loses_something_is_said():
    x = torch.rand(3, 1, 8, 8)
    mean = spaces.decoder(lambda x: x.mean((2, 3)), lambda z: z[:, :, None, None].expand(-1, -1, 8, 8), tolerance=9.0)
    rule = pellucid.wrap(lambda x: x[:, 0, 0], scale="value")
    e = pellucid.explain(rule, x, methods.exact_shapley(0.0), 0, mean)
    (meaning,) = semantic.meanings(html.unjudged({"mean": e}), "c1")
    gap = numerals.figure(float(np.abs(e.details["reconstruction_gap"]).max()), 2)
    assert any(f"and {gap} at most" in sentences.plain(s) for s in meaning.notes)


def test_a_global_explanation_of_a_table_is_no_input():
    torch.manual_seed(0)
    x = torch.rand(30, 3)
    rule = pellucid.wrap(lambda x: torch.stack([1 - x[:, 0], x[:, 0]], 1), scale="prob")
    whole = pellucid.explain_global(rule, x, (x[:, 0] > 0.5).long(), methods.exact_shapley(removal.marginal(x)))
    made = chapter.chapter(html.unjudged({"whole": whole}), 1)
    keys = [section.key for section in made.sections]
    assert keys == ["semantic", "leaderboard", "making"]  # nothing of single inputs: no gallery
    assert made.meanings[0].subjects[0].name == "all 30 inputs"
    assert made.belief.lead is None
    text = Reader(page.page([html.unjudged({"whole": whole})])).text
    assert "exactly nothing on x1 and x2" in text
    flat = replace(whole, outputs=whole.base_values, residual=np.ones(1))  # nothing to be relative to
    assert repr(flat) == "Explanation(exact_shapley, 1 rows, values (1, 3))"


def test_semantic_chapters_of_the_demonstration_show_what_they_must(monkeypatch):
    found = meanings.causes(demo.Settings(), None)
    whole = found.explanations["causes, all sprites"]
    values = dict(zip(whole.feature_names, whole.values[0], strict=True))
    assert values["pos_x"] == whole.std_error[0][whole.feature_names.index("pos_x")] == 0
    assert min(values["pos_y"], values["scale"]) > 0.15 > 10 * max(values["shape"], values["orientation"]) / 2
    assert found.explanations["causes"].details["traversals"]
    assert found.explanations["causes"].std_error is not None
    assert meanings.causes(demo.Settings(digits=0), None) is None
    assert meanings.frequencies(demo.Settings(photos=0), None) is None
