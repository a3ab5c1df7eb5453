"""The robustness benchmark: a tiny run from end to end, resumed bit by bit, and words that follow from numbers."""

import re

import numpy as np
import pandas as pd
import pytest

from pellucid.core.errors import BadInput
from pellucid.experiments import digits, findings, robustness, tables, writing
from pellucid.experiments.blindness import Blindness
from pellucid.experiments.contestants import contestants
from pellucid.experiments.kinds import METHODS
from pellucid.experiments.pieces import pieces
from pellucid.experiments.published import FIGURES, REFERENCES
from pellucid.experiments.robustness import Found, Numbers
from pellucid.experiments.settings import Settings

TINY = {
    "examples": 2,
    "subsets": 8,
    "restarts": 1,
    "pgd_steps": 3,
    "few": 1,
    "neighbours": 2,
    "released": 0,
    "sizes": (10, 30),
    "methods": ("grad", "eg", "loo", "greedy_as_irrelevant", "random"),
    "workers": 1,
}
FLAGS = " ".join(
    f"--{name.replace('_', '-')} {','.join(map(str, value)) if isinstance(value, tuple) else value}"
    for name, value in TINY.items()
)
TIMED = ("seconds", "explained", "released")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def found(store):
    return robustness.run(Settings(**TINY), store)


@pytest.fixture
def run(tmp_path, monkeypatch, command_line):
    """Run a command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    return command_line


def same(a, b):
    """Whether two runs found the same bits, times aside."""
    assert a.numbers.keys() == b.numbers.keys()
    for key, n in a.numbers.items():
        if key[0] not in TIMED:
            other = b.numbers[key]
            np.testing.assert_array_equal(n.values, other.values, err_msg=str(key))
            assert (n.curve is None) == (other.curve is None)
            if n.curve is not None:
                np.testing.assert_array_equal(n.curve, other.curve)


# ---------------------------------------------------------------- a run


def test_a_killed_run_goes_on_and_finds_the_same_bits(found, store):
    there = sorted(store.rglob("*.npz"))
    assert len(there) > found.made > 40  # pieces, and what was explained on the dark object
    again = robustness.run(Settings(**TINY), store)
    assert again.made == 0
    same(found, again)
    gone = [path for path in there if "dark" not in path.name][::5]
    for path in gone[1:]:
        path.unlink()
    gone[0].write_bytes(gone[0].read_bytes()[:50])  # cut off
    said = []
    resumed = robustness.run(Settings(**TINY), store, None, said.append)
    assert resumed.made == len(gone) - 1
    assert f"{len(gone) - 1} pieces to make" in said[0]
    same(found, resumed)


def test_more_digits_and_other_few_find_the_pieces_of_fewer(store, found):
    fewer = Settings(**TINY)
    assert Settings(**TINY | {"examples": 9, "few": 0, "workers": 2, "methods": None}).spec() == fewer.spec()
    assert Settings(**TINY | {"subsets": 9}).spec() != fewer.spec()
    assert Settings(**TINY | {"seed": 1}).spec() != fewer.spec()


def test_the_command_writes_a_page_and_tables(run, store, found, tmp_path):
    code, out, err = run(f"benchmark robustness --out made --store {store} {FLAGS}")
    assert code == 0, err
    assert "0 pieces to make" in err
    assert "does not hold" not in out  # of two digits nothing can be said
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == sorted(writing.files(Settings(**TINY)))
    page = (tmp_path / "made" / "index.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "<script" not in page
    assert "url(http" not in page
    assert len(page) < 1e6
    summary = pd.read_csv(tmp_path / "made" / "summary.csv")
    grad = summary[(summary.criterion == "robustness_irrelevant") & (summary.method == "Grad")].iloc[0]
    assert grad["paper"] == 88.0
    assert grad["mean"] == pytest.approx(found.get("robustness_irrelevant", "grad").values.mean(), rel=1e-5)
    assert not grad["matched"]
    zero = summary[summary.matched]
    assert set(zero.method) == {"Greedy-AS S̄r", "LOO"}
    assert set(zero[zero.method == "LOO"].criterion) == {"insertion/0", "deletion/0"}
    each = pd.read_csv(tmp_path / "made" / "rows.csv")
    assert set(each[each.criterion == "planted"].row) == {0, 1}
    assert set(each[each.criterion == "sensitivity"].row) == {0}


def test_the_page_escapes_what_it_is_told(found):
    page = writing.written(found, "pellucid <script>alert(1)</script>")[writing.PAGE]
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page


def test_areas_are_trapezoids_in_percent_points(found):
    n = found.get("deletion/0.5", "grad")
    np.testing.assert_allclose(n.values, n.curve.mean(1) * 20, rtol=1e-6)  # 10 % to 30 %
    assert found.get("randomised", "random") is None


def test_random_draws_are_the_whole_sensitivity_of_a_random_order(found):
    moved, still = (found.get(name, "random").values for name in ("sensitivity", "floor"))
    assert moved == still
    assert found.get("sensitivity", "grad").values < moved


@pytest.mark.slow
def test_processes_find_the_same_bits(found, tmp_path):
    same(found, robustness.run(Settings(**TINY | {"workers": 2}), tmp_path))


# ---------------------------------------------------------------- blindness


def test_features_that_equal_their_reference(found):
    b = found.blindness
    assert 0.05 < b.share < 0.3
    exactly = {m.label for m in b.methods if m.largest == 0}
    assert {"Integrated gradients", "Gradient x input", "Leaving one out", "Mean of (x - x') times gradient"} <= exactly
    assert {m.theorem for m in b.methods if m.blind} == {"A.1", "A.2", "A.3"}
    sees = {m.label for m in b.methods if not m.blind}
    assert {"Gradient", "Integrated gradients from white", "Expected gradients, mean of references = x"} <= sees
    assert "Baseline Shapley values, kernel estimate" in sees  # noise of the regression
    assert {m.label for m in b.metrics if m.blind} == {"insertion, 0 reference", "deletion, 0 reference"}
    assert all(m.change == 0 for m in b.metrics if m.blind)


# ---------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": "cats"}, "one of digits, photos, text"),
        ({"examples": 1}, "at least 2"),
        ({"examples": 1001}, "at most 1,000"),
        ({"subsets": 1.5}, "whole number"),
        ({"workers": 0}, "at least 1"),
        ({"ablation": -1}, "at least 0"),
        ({"sizes": (30, 10)}, "rise between 0 and 100"),
        ({"sizes": (30,)}, "two or more"),
        ({"sizes": (0, 50)}, "rise between 0 and 100"),
        ({"methods": ("grad", "nobody")}, "'nobody' is not there"),
        ({"methods": ()}, "nothing is named"),
    ],
    ids=range(11),
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(BadInput, match=message):
        Settings(**wrong)


def test_the_place_is_checked_before_the_work(run):
    code, _, err = run(f"benchmark robustness --out gone/made {FLAGS}")
    assert code == 2
    assert "'gone' does not exist" in err
    assert run("benchmark calibration")[0] == 2


def test_names_of_methods_are_those_of_the_contestants():
    made = contestants(Settings(), digits.digits(2, 0).background)
    assert tuple(c.key for c in made) == METHODS
    names = {c.paper for c in made}
    for criterion, figures in FIGURES.items():
        assert set(figures) <= names, criterion


def test_what_runs_on_fewer_digits():
    s = Settings(examples=5, few=2, ablation=1, released=1)
    kinds = [{(p.key, p.kind) for p in pieces(s, row)} for row in range(3)]
    assert ("released", "seconds") in kinds[0] - kinds[1]
    assert ("greedy_irrelevant", "irrelevant") in kinds[0] - kinds[1]
    assert ("greedy_irrelevant", "relevant") not in kinds[0]
    assert ("greedy_as_irrelevant", "sensitivity") in kinds[1] - kinds[2]
    assert ("greedy_as_relevant", "sensitivity") not in kinds[0]


# ---------------------------------------------------------------- words that follow from numbers


def invented(values, examples=20):
    """A run whose numbers are given: {(criterion, key): values}."""
    settings = Settings(examples=examples)
    made = contestants(settings, np.zeros((1, 1, 28, 28)))
    empty = np.full(examples, np.nan)
    numbers = {
        (criterion, key): Numbers(criterion, key, np.arange(len(v)), np.asarray(v), None, empty, empty)
        for (criterion, key), v in values.items()
    }
    there = {key for _, key in numbers}
    dark = Blindness(np.zeros((28, 28)), np.zeros((28, 28), dtype=bool), 0, (), ())
    return Found(settings, numbers, tuple(c for c in made if c.key in there), "", 1.0, 0, 0.0, (), dark)


def test_win_draw_and_loss():
    noise = np.random.default_rng(0).normal(size=20)
    own = 50 + noise
    criterion = "deletion/uniform"  # lower is better
    found = invented(
        {
            (criterion, "greedy_as_irrelevant"): own,
            (criterion, "grad"): own + 3 + 0.1 * noise,
            (criterion, "ig"): own - 3 + 0.1 * noise,
            (criterion, "random"): own + np.where(np.arange(20) % 2, 5, -5),
        }
    )
    made = {t.other.key: t for t in tables.tests(found)}
    assert {key: t.outcome for key, t in made.items()} == {"grad": "win", "ig": "loss", "random": "draw"}
    assert made["grad"].difference.mean > 0
    assert made["grad"].paper == "win"
    assert made["random"].paper is None
    assert [line.rank for line in tables.lines(found, criterion)] == [1, 2, 2, 4]  # of equal means
    assert tables.lines(found, criterion)[0].who.key == "ig"


def test_few_rows_decide_nothing():
    values = {("planted", key): np.full(3, level) for key, level in (("greedy_as_irrelevant", 0.9), ("grad", 0.1))}
    assert [t.outcome for t in tables.tests(invented(values, 3))] == ["too few"]


@pytest.mark.parametrize(("ahead", "outcome"), [(3.0, findings.HOLDS), (-3.0, findings.FAILS), (0.0, findings.OPEN)])
def test_a_claim_holds_fails_or_is_open(ahead, outcome):
    noise = np.random.default_rng(1).normal(size=(3, 20))
    found = invented(
        {
            ("robustness_irrelevant", "greedy_as_irrelevant"): 100 + ahead + noise[0],
            ("robustness_irrelevant", "grad"): 100 + noise[1],
            ("robustness_irrelevant", "random"): 90 + noise[2],
        }
    )
    claim = findings.claims(found)[0]
    assert "which it optimises" in claim.text
    assert claim.outcome == outcome
    assert "Grad" in claim.reason


def test_the_headline_names_who_cannot_be_told_apart():
    noise = np.random.default_rng(2).normal(size=20)
    found = invented(
        {
            ("planted", "eg"): 0.9 + 0.001 * noise,
            ("planted", "bbmp"): 0.9 - 0.001 * noise,
            ("planted", "greedy_as_irrelevant"): 0.2 + 0.001 * noise,
        }
    )
    (said,) = findings.headline(found)
    assert "EG is best" in said or "BBMP is best" in said
    assert "not told apart from it: " in said
    assert "Greedy-AS S̄r is 3rd" in said


def test_the_mean_over_references_that_are_nobody_s_own_leaves_out_zero():
    values = {(f"insertion/{name}", "ig"): np.full(20, 1e9 if name == "0" else i) for i, name in enumerate(REFERENCES)}
    assert tables.numbers(invented(values), "insertion/foreign", "ig").values.tolist() == [3.0] * 20
