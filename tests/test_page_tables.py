"""Checks, tables and rankings of the report, and what it says of few rows."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import methods
from pellucid.core.scores import Cell, Scores
from pellucid.reporting import (
    belief,
    contradictions,
    features,
    figures,
    gallery,
    page,
    ranking,
    references,
    sentences,
    surfaces,
    trust,
)
from tests.reference.comparisons import Reader, judged, photo_comparison, photos, small_net, whole


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
