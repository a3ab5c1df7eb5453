"""The semantic benchmark: tiny runs from end to end, resumed, and claims that follow from numbers."""

import re

import numpy as np
import pandas as pd
import pytest

from pellucid.core.errors import BadInput
from pellucid.experiments.findings import FAILS, HOLDS, OPEN
from pellucid.experiments.semantic import charts, running, tiles, writing
from pellucid.experiments.semantic.blocks import Bars, Gallery, Lines, Result, Section, Series, Strip, Table, Text
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
    assert by_text["2.0"] == pytest.approx(end[1], abs=0.2)
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


def test_sprites_run_resume_and_write(tmp_path, command_line):
    settings = Settings(("sprites",), examples=12, steps=3, orders=2)
    (result,) = running.run(settings, tmp_path / "store")
    exact = dict(zip(result.tables[0].frame.factor, result.tables[0].frame["exact codec"], strict=True))
    assert exact["pos_x"] == 0
    assert exact["pos_y"] > 0.2
    said = []
    flags = "--experiment sprites --examples 12 --steps 3 --orders 2"
    code, out, err = command_line(f"benchmark semantic {flags} --out {tmp_path / 'made'} --store {tmp_path / 'store'}")
    assert code == 0, err
    assert "0 pieces made" in err
    assert "pos_x exactly 0" in out
    folder = tmp_path / "made" / "semantic-sprites"
    assert {path.name for path in folder.iterdir()} == set(writing.files(result))
    (again,) = running.run(settings, tmp_path / "store", None, said.append)
    assert [c.reason for c in again.claims] == [c.reason for c in result.claims]
    assert said[0].startswith("sprites: 0 pieces made")
