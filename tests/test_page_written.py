"""The report on disk, the plots and the view in a notebook."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import pellucid
from pellucid import methods
from pellucid.core.scores import Scores
from pellucid.reporting import html as reports
from pellucid.reporting import (
    page,
    palette,
    plot,
    surfaces,
)
from tests.reference.comparisons import Reader, photo_comparison, photos, small_net, table_comparison


def test_write_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(pellucid.BadInput, match="does not exist"):
        reports.write(tmp_path / "missing" / "report.html", [table_comparison()])
    with pytest.raises(pellucid.BadInput, match="is a folder"):
        reports.write(tmp_path, [table_comparison()])
    with pytest.raises(pellucid.BadInput, match="nothing to show"):
        reports.write(path, [])
    with pytest.raises(pellucid.BadInput, match="expected comparisons, got str"):
        reports.write(path, ["x"])

    def fail(self, target):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            reports.write(path, [table_comparison()])
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert table_comparison().report(path) == str(path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_report_of_explanations_and_scores(tmp_path):
    c = photo_comparison()
    each = [c.explanations["saliency"], c.explanations["integrated_gradients"]]
    pellucid.report(tmp_path / "a.html", explanations=each)
    alone = Reader((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "Saliency" in alone.text
    assert "Nothing was scored" in alone.text
    assert len(alone.all("img")) >= 8
    pellucid.report(tmp_path / "b.html", explanations=each, scores=c.scores, title="Both")
    both = Reader((tmp_path / "b.html").read_text(encoding="utf-8"))
    assert "Nothing was scored" not in both.text
    assert "Both" in both.text
    mixed = reports.loose([*each, each[0], table_comparison().explanations["smooth_grad"]])
    assert [list(comparison.explanations) for comparison in mixed] == [
        ["saliency", "integrated_gradients", "saliency 2"],
        ["smooth_grad"],
    ]
    with pytest.raises(pellucid.BadInput, match="expected explanations"):
        pellucid.report(tmp_path / "c.html", explanations=["saliency"])


# ---------------------------------------------------------------- plots and notebooks


def drawn(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=60)
    return np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))


def test_plots_draw():
    c, table = photo_comparison(), table_comparison()
    metric = "insertion, uniform reference, 7 x 7 patches"
    each = [
        plot.explanation(c.explanations["grad_cam"]),
        plot.explanation(c.explanations["saliency"], row=1, overlay=False),
        plot.explanation(table.explanations["smooth_grad"]),
        plot.maps(c.explanations, rows=(0, 2)),
        plot.bars(table.explanations["smooth_grad"], row=1, count=4),
        plot.curves(c.scores, metric),
        plot.curves(photo_comparison(1).scores),
        plot.matrix(c.agreement),
        plot.matrix(c.agreement, "overlap"),
        plot.leaderboard(c.scores),
        c.explanations["saliency"].plot(row=0),
    ]
    for figure in each:
        assert drawn(figure).std() > 3
    assert each[0]._repr_png_().startswith(b"\x89PNG")
    grey = [line for line in each[5].axes[0].lines if line.get_color() == palette.CONTROL]
    assert len(grey) == 1
    assert len(each[5].axes[0].lines) == 6
    assert len(each[5].axes[0].collections) == 6  # a band for each, the control included
    assert each[4].axes[0].patches[0].get_width() == surfaces.bars(table.explanations["smooth_grad"], 1).values[0]


def test_plotted_map_has_the_signed_colours():
    e = photo_comparison().explanations["input_x_gradient"]
    figure = plot.explanation(e, row=0, overlay=False)
    pixels = np.asarray(figure.axes[1].images[0].get_array())
    values = e[0].map()[0]
    strongest = np.unravel_index(np.argmax(values), values.shape)
    assert pixels[strongest].tolist() == list(palette.POSITIVE)
    quiet = np.abs(values) < palette.limit(values) / (2 * palette.STEPS + 1)
    assert (pixels[quiet] == palette.ZERO).all()


def test_plots_refuse_with_words():
    c, table = photo_comparison(), table_comparison()
    with pytest.raises(pellucid.BadInput, match="row 9 is out of range"):
        plot.explanation(c.explanations["saliency"], row=9)
    with pytest.raises(pellucid.BadInput, match=r"use plot\.bars"):
        plot.maps(table.explanations)
    with pytest.raises(pellucid.BadInput, match="have 'insertion"):
        plot.curves(c.scores, "nonsense")
    with pytest.raises(pellucid.BadInput, match="no metric here has a curve"):
        plot.curves(Scores(()))
    with pytest.raises(pellucid.BadInput, match="measure must be"):
        plot.matrix(c.agreement, "cosine")
    with pytest.raises(pellucid.BadInput, match="not found"):
        plot.leaderboard(c.scores, ["nonsense"])


def test_no_pyplot_and_no_model_is_needed():
    code = (
        "import sys, pellucid.reporting.html, pellucid.reporting.plot\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "above = ('pellucid.methods', 'pellucid.metrics', 'pellucid.models', 'pellucid.api')\n"
        "assert not [m for m in sys.modules if m.startswith(above)]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=page.TEMPLATES.parents[2])
    before = sys.modules.get("matplotlib.pyplot")
    drawn(plot.explanation(photo_comparison().explanations["saliency"], row=0))
    assert sys.modules.get("matplotlib.pyplot") is before


def test_notebook_fragment_is_small_and_whole():
    e = photo_comparison().explanations["integrated_gradients"]
    text = e._repr_html_()
    reader = Reader(text)
    assert len(text) < 60_000
    assert len(reader.all("img")) == 8
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in reader.all("img"))
    assert "residual at most" in reader.text
    table = Reader(plot.notebook_html(table_comparison().explanations["smooth_grad"]))
    assert "4 of 5 rows shown" in table.text
    assert "bmi" in table.text


@pytest.mark.parametrize("shape", [(2, 3, 40), (2, 2, 3, 4, 5)])
def test_series_and_odd_shapes_have_a_page(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    e = pellucid.explain(lambda batch: batch.reshape(len(batch), -1)[:, :3] ** 2, torch.tensor(x), "saliency")
    reader = Reader(page.page(reports.loose(e)))
    assert "Saliency" in reader.text
    assert "Saliency" in Reader(plot.notebook_html(e)).text
    assert drawn(plot.explanation(e, row=0)).std() > 1


def test_players_and_several_outputs_have_a_page():
    net, x = small_net(3), photos(2)
    by_grid = pellucid.explain(net, x, "feature_ablation", players=pellucid.players.grid(3))
    everything = pellucid.explain(net, x, "saliency", target="all")
    assert surfaces.flat_map(by_grid, 0).shape == (48, 48)
    largest = int(np.argmax(everything.outputs[0]))
    np.testing.assert_array_equal(surfaces.flat_map(everything, 0), everything[0].map()[0, ..., largest])
    assert f"class {largest}" in Reader(page.page(reports.loose(everything))).text
    assert len(Reader(page.page(reports.loose(by_grid))).all("img")) >= 2


def test_every_method_and_metric_has_a_name_for_readers():
    from pellucid import metrics
    from pellucid.reporting.references import KNOWN

    recipes = [*methods.CATALOGUE, *metrics.CATALOGUE]
    assert not [recipe.__name__ for recipe in recipes if recipe.__name__ not in KNOWN]
