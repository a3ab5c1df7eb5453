"""The semantic benchmark: tiny runs from end to end, resumed, and claims that follow from numbers."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

import pellucid
from pellucid import data, generative, spaces
from pellucid.core.errors import BadInput
from pellucid.experiments.findings import FAILS, HOLDS, OPEN
from pellucid.experiments.semantic import (
    charts,
    frequencies,
    latents,
    running,
    spectra,
    sprites,
    textures,
    tiles,
    writing,
)
from pellucid.experiments.semantic.blocks import (
    Bars,
    Gallery,
    Lines,
    Result,
    Section,
    Series,
    Strip,
    Table,
    Text,
    losses,
)
from pellucid.experiments.semantic.claims import Hypothesis, Trial, decided
from pellucid.experiments.semantic.settings import EXPERIMENTS, Settings


def made(**changed):
    """A result with a block of every kind."""
    x = np.linspace(0, 0.5, 6)
    blocks = (
        Text("Plain <b>words</b>."),
        Table("numbers", pd.DataFrame({"who": ["a | b", "c"], "how much": [0.123456, None]}), "Two lines."),
        Table("hidden", pd.DataFrame({"x": range(3)}), shown=False),
        Bars("Values", ("f", "g"), (Series("global", np.array([1.0, -0.5]), np.array([0.1, 0.0])),)),
        Lines("Spectrum", x, (Series("one", x**2, 0.01 + 0 * x), Series("two", -x, None, "minus")), "r", "value"),
        Gallery("Pictures", (Strip("row", (tiles.picture(np.eye(4), "eye"), None, tiles.signed(np.eye(4) - 0.5))),)),
    )
    known = {"name": "sprites", "title": "A title", "question": "Why?", "headline": ("It is so.",), "claims": ()}
    return Result(**known | {"sections": (Section("All", blocks),), "facts": (("Rows", "two"),)} | changed)


# ---------------------------------------------------------------- claims


@pytest.mark.parametrize(("ahead", "outcome"), [(1.0, HOLDS), (-1.0, FAILS), (0.0, OPEN)])
def test_a_claim_holds_fails_or_is_open(ahead, outcome):
    noise = np.random.default_rng(0).normal(size=(2, 30)) * 0.5
    sure = Trial("sure", 2 + noise[0])
    (claim,), tests = decided([Hypothesis("It is more", "Figure 1", (sure, Trial("asked", ahead + noise[1])))])
    assert claim.outcome == outcome
    assert "asked" in claim.reason
    assert tests.loc[0, "says"] == "for"
    np.testing.assert_allclose(tests["mean"], [2 + noise[0].mean(), ahead + noise[1].mean()])


def test_tests_are_corrected_over_all_of_a_page():
    noise = np.random.default_rng(1).normal(size=30)
    values = noise - noise.mean() + 0.43 * noise.std(ddof=1)  # p about .025 alone
    alone = decided([Hypothesis("a", "", (Trial("a", values),))])
    among = decided([Hypothesis(str(i), "", (Trial("a", values),)) for i in range(3)])
    assert alone[0][0].outcome == HOLDS
    assert [claim.outcome for claim in among[0]] == [OPEN] * 3
    assert alone[1].p_holm[0] < 0.05 < among[1].p_holm[0]


def test_few_inputs_decide_nothing():
    claims, _ = decided([Hypothesis("a", "", (Trial("a", np.array([1.0, 1.1, 1.2, 1.3])),))])
    assert claims[0].outcome == OPEN


# ---------------------------------------------------------------- pages


def test_a_page_has_every_block_escaped_and_nothing_from_outside():
    page = writing.page(made(), "pellucid <script>")
    assert "&lt;b&gt;words" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    for text in ("0.123", "Spectrum", "Pictures", "numbers.csv", "1.00 ± 0.10"):
        assert text in page
    assert "hidden.csv" not in page


def test_words_say_the_same_and_tables_are_written(tmp_path):
    result = made()
    names = writing.files(result)
    assert names == ("page.html", "README.md", "numbers.csv", "hidden.csv")
    writing.write(result, "pellucid benchmark", {name: tmp_path / name for name in names})
    words = (tmp_path / "README.md").read_text()
    assert "| a \\| b | 0.123 |" in words
    assert "- It is so." in words
    assert "| g | −0.50 |" in words
    assert pd.read_csv(tmp_path / "numbers.csv")["how much"][0] == 0.123456


def test_lines_and_bars_are_drawn_where_the_numbers_are():
    block = Lines("a", np.array([0.0, 1.0]), (Series("s", np.array([0.0, 2.0]), np.array([0.5, 0.5])),), "x", "y")
    d = charts.drawing(block)
    (start, end) = (tuple(map(float, p.split(","))) for p in d.curves[0].line.split())
    assert start[0] == 0
    assert end[0] == charts.WIDTH
    assert start[1] == d.zero > end[1]
    by_text = {tick.text: tick.y for tick in d.up}
    assert by_text["2"] == pytest.approx(end[1], abs=0.2)
    bars = Bars("b", ("f",), (Series("s", np.array([1.0])), Series("t", np.array([-2.0]))))
    (_, _, one), (_, _, two) = charts.columns(bars)
    assert one[0].width == pytest.approx(25)
    assert two[0].width == pytest.approx(50)
    assert charts.columns(Bars("b", ("f",), bars.series, shared=False))[0][2][0].width == pytest.approx(50)


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"experiment": ("sprites", "cats")}, "'cats' is not there; have"),
        ({"experiment": ()}, "nothing is named"),
        ({"examples": 1}, "at least 2"),
        ({"steps": 0}, "at least 1"),
        ({"orders": 1}, "at least 2"),
        ({"seed": -1}, "at least 0"),
    ],
    ids=range(6),
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(BadInput, match=message):
        Settings(**wrong)


def test_every_experiment_has_its_module():
    assert Settings().named == EXPERIMENTS
    for name in EXPERIMENTS:
        assert __import__(f"pellucid.experiments.semantic.{name}", fromlist=["run"]).run


def test_flags_of_another_benchmark_are_refused(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = command_line("benchmark semantic --subsets 3")
    assert code == 2
    assert "--subsets belongs to benchmark robustness" in err
    code, _, err = command_line("benchmark robustness --orders 3")
    assert code == 2
    assert "--orders belongs to benchmark semantic" in err


def test_sprites_run_resume_and_write(tmp_path, command_line, monkeypatch):
    monkeypatch.setattr(sprites, "BACKGROUND", 60)
    settings = Settings(("sprites",), examples=12, steps=3, orders=2)
    (result,) = running.run(settings, tmp_path / "store")
    exact = dict(zip(result.tables[0].frame.factor, result.tables[0].frame["exact codec"], strict=True))
    assert exact["pos_x"] == 0
    assert exact["pos_y"] > 0.2
    flags = "--experiment sprites --examples 12 --steps 3 --orders 2"
    code, out, err = command_line(f"benchmark semantic {flags} --out {tmp_path / 'made'} --store {tmp_path / 'store'}")
    assert code == 0, err
    assert "0 pieces made" in err
    assert "pos_x exactly 0" in out
    folder = tmp_path / "made" / "semantic-sprites"
    assert {path.name for path in folder.iterdir()} == set(writing.files(result))
    for line in result.headline:
        assert line in out  # read back, and the same


# ---------------------------------------------------------------- parts of experiments


def test_the_hole_rule_knows_a_ring_from_a_gap():
    ring = torch.zeros(1, 32, 32)
    ring[0, 10:20, 10:20] = 1
    ring[0, 13:17, 13:17] = 0
    gap, diagonal = ring.clone(), ring.clone()
    gap[0, 17:20, 14] = 0  # open to the border
    diagonal[0, 12, 12] = diagonal[0, 11, 11] = diagonal[0, 10, 10] = 0  # corners touch: no way along the axes
    said = latents.hole_rule(torch.stack([ring, gap, diagonal, 0.4 * ring, torch.zeros(1, 32, 32)]))
    assert said.tolist() == [[0, 1], [1, 0], [0, 1], [1, 0], [1, 0]]


def test_thickness_slant_and_width_of_known_strokes():
    upright, wide, slanted = (torch.zeros(1, 32, 32) for _ in range(3))
    upright[0, 4:28, 14:16] = 1
    wide[0, 4:28, 12:18] = 1
    for row in range(4, 28):
        slanted[0, row, 26 - row // 2 : 28 - row // 2] = 1
    found = latents._factors(torch.stack([upright, wide, slanted]), torch.tensor([1, 1, 1]))
    digit, thickness, slant, width = found.T
    assert digit.tolist() == [1, 1, 1]
    np.testing.assert_allclose(thickness[:2], [2 * 48 / 52, 2 * 144 / 60])  # twice the area by the outline
    assert slant[:2].abs().max() < 1e-9
    assert slant[2] == pytest.approx(-0.5, abs=0.05)
    assert width[1] > 2 * width[0]


def test_rings_keep_sums_and_lie_where_their_frequencies_are():
    labels, radius, names = spectra.players(spaces.fourier(), 28)
    assert len(names) == 394 == labels.max() + 1
    assert radius[labels[0, 0]] == 0
    assert radius[labels[0, 7]] == pytest.approx(0.25)
    assert radius[labels[14, 14]] == pytest.approx(0.5**0.5)
    values = np.random.default_rng(0).normal(size=(3, 394))
    middle, sums = spectra.rings(values, radius, 14)
    np.testing.assert_allclose(sums.sum(1), values.sum(1))
    lone = np.zeros((1, 394))
    lone[0, labels[0, 7]] = 1  # a quarter cycle a pixel: the fifth of 14 rings up to .7071
    assert spectra.rings(lone, radius, 14)[1].nonzero()[1].tolist() == [4]
    assert middle[4] == pytest.approx(0.7071 * 4.5 / 14, abs=1e-4)


def subject(name):
    """Texture pieces or gratings before a network that says which corner is brightest."""
    rows = data.textures("test", 12) if name == "surfaces" else data.gratings("test", 12)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()).eval()
    return textures.Subject(name, net, pellucid.wrap(net), rows, rows.x)


def test_the_true_ring_of_a_grating_is_named_by_its_frequency():
    s = subject("gratings")
    waves = textures.Subject(s.name, s.net, s.model, s.rows[s.rows.y < 5], s.background)
    _, radius, names = spectra.players(spectra.bands(25), 64)
    for ring, frequency in zip(textures._truth(waves, radius), waves.rows.truth["frequency"], strict=True):
        low, high = map(float, names[ring].split(" to "))
        assert low - 1e-3 <= float(frequency.norm()) <= high + 1e-3


def test_what_is_kept_of_a_surface(monkeypatch):
    seen = []
    s = subject("surfaces")
    monkeypatch.setattr(s.net, "forward", lambda x: seen.append(x) or torch.zeros(len(x), 3))
    monkeypatch.setattr(type(s.net), "__call__", lambda self, x: self.forward(x))
    bench = type("Bench", (), {"settings": Settings()})()
    kept = textures._behaviour(bench, s)
    whole, coarse, fine, mixed = seen
    assert set(kept) == {
        "as they are",
        "coarse frequencies only",
        "fine frequencies only",
        "blocks of 16 x 16 shuffled",
    }
    np.testing.assert_allclose(coarse + fine - whole.mean((2, 3), keepdim=True), whole, atol=1e-5)
    np.testing.assert_allclose(coarse.mean((2, 3)), whole.mean((2, 3)), atol=1e-6)
    np.testing.assert_array_equal(mixed.flatten(1).sort(1).values, whole.flatten(1).sort(1).values)
    assert not torch.equal(mixed, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frequencies", "textures", "latents"])
def test_an_experiment_runs_and_resumes(name, tmp_path, monkeypatch):
    monkeypatch.setattr(frequencies, "robust_digits_cnn", lambda progress=None: data.digits_cnn(seed=0))
    monkeypatch.setattr(spectra, "REPEATS", 2)
    settings, said = Settings((name,), examples=12, steps=5, orders=2), []
    (first,) = running.run(settings, tmp_path)
    (again,) = running.run(settings, tmp_path, None, said.append)
    assert said[0].startswith(f"{name}: 0 pieces made")
    assert [c.reason for c in first.claims] == [c.reason for c in again.claims]
    for one, other in zip(first.tables, again.tables, strict=True):
        pd.testing.assert_frame_equal(one.frame, other.frame)
    page = writing.page(first, "pellucid benchmark")
    assert page.count("<img") > 4


def test_the_record_of_a_training_shows_the_terms_of_every_part():
    """Parts take turns, so that single lines of the record have the terms of one of them."""
    x, y = torch.rand(16, 1, 16, 16), (torch.arange(16) % 2).float()[:, None]
    settings = generative.translator(["hat"], size=16, channels=1, filters=2, critic_steps=2)
    fitted = generative.fit(settings, x, y, steps=7, every=7)
    table = losses(fitted, lines=3).frame
    assert list(table["up to step"]) == [3, 6, 7]
    assert table["generator attributes"].notna().tolist() == [True, True, False]
    assert np.isclose(table["critic gap"][0], fitted.losses["critic gap"][:3].mean())
