"""The semantic chapter: features that have a meaning, their bars, spectra and traversals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import pellucid
from pellucid import methods, players, removal, spaces
from pellucid.app import demo, meanings
from pellucid.reporting import (
    chapter,
    figures,
    html,
    numerals,
    page,
    semantic,
    sentences,
    spectrum,
    surfaces,
    telling,
)
from tests.reference.parts import EVIL, Reader

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
