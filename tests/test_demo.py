"""The demonstration: the chapters ask for what the page must show, alone and side by side, and leave nothing behind."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import pellucid
from pellucid import data, metrics
from pellucid.app import chapters, demo, tumours
from pellucid.app.console import Console, Voice
from pellucid.core.comparison import Comparison
from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.scores import Scores


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    return tmp_path


@pytest.fixture
def run(here, command_line):
    """Run a command line in an empty folder: exit code, stdout, stderr."""
    return command_line


def made(folder):
    return sorted(path.name for path in folder.iterdir())


def tiny(settings, progress):
    """A chapter that costs nothing."""
    torch.manual_seed(settings.seed)
    net = torch.nn.Linear(4, 2).eval()
    x = torch.rand(settings.photos, 4)
    each = [pellucid.explain(net, x, method, seed=settings.seed) for method in ("saliency", "random_attribution")]
    return pellucid.compare(net, x, each, [metrics.insertion(0.0)], seed=settings.seed, about={"title": "Tiny"})


def other(settings, progress):
    """Another one, that says how far it is and warns."""
    if progress is not None:
        progress("thinking", 1, 1)
    warnings.warn("a doubt", pellucid.Unreliable, stacklevel=1)
    return tiny(settings, progress)


def left_out(settings, progress):
    return None


def refused(settings, progress):
    raise Unsupported("it cannot be done")


def stopped(settings, progress):
    os._exit(9)


def absent(settings, progress):
    message = 'data.photos needs the package "foolbox": pip install "pellucid[demo]"'
    raise ModuleNotFoundError(message, name="foolbox")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_page_and_how_long_each_part_took(run, here, monkeypatch, workers):
    monkeypatch.setattr(demo, "CHAPTERS", (tiny, left_out, other))
    code, out, err = run(f"demo --photos 3 --workers {workers}")
    assert (code, out) == (0, "pellucid-demo/index.html\n")
    assert "tiny: " in err
    assert "page: " in err
    assert "left_out" not in err
    assert made(here) == ["pellucid-demo"]
    code, out, _ = run(f"demo --photos 3 --json --out pellucid-demo --workers {workers}")  # once more, over the first
    found = json.loads(out)
    assert found["report"] == "pellucid-demo/index.html"
    assert found["command"] == "pellucid demo --photos 3 --digits 100 --tumours 48 --seed 0"
    assert list(found["seconds"]) == ["tiny", "other", "page"]
    assert any("a doubt" in warning for warning in found["warnings"])
    assert [path.name for path in Path("pellucid-demo").iterdir()] == ["index.html"]


def test_side_by_side_gives_the_same_numbers():
    settings, quiet = demo.Settings(photos=3), Console(Voice(quiet=True))
    alone = demo._made((tiny, tiny), settings, quiet)["tiny"].comparison
    chapters_in_processes = demo._side_by_side((tiny, left_out, tiny), settings, 2, quiet)
    assert sorted(chapters_in_processes) == [0, 1, 2]
    assert chapters_in_processes[1].comparison is None
    shared = chapters_in_processes[2].comparison
    for label, e in alone.explanations.items():
        assert np.array_equal(e.values, shared.explanations[label].values)
    assert alone.scores.cells[0].mean == shared.scores.cells[0].mean


@pytest.mark.parametrize("workers", [1, 2])
def test_the_extra_that_is_missing_is_named_and_nothing_left(run, here, monkeypatch, workers):
    monkeypatch.setattr(demo, "CHAPTERS", (absent, tiny))
    code, out, err = run(f"demo --photos 3 --workers {workers}")
    assert (code, out) == (3, "")
    assert 'pip install "pellucid[demo]"' in err
    assert made(here) == []


def test_what_goes_wrong_in_a_process_is_said(run, here, monkeypatch):
    monkeypatch.setattr(demo, "CHAPTERS", (tiny, refused))
    code, _, err = run("demo --photos 3 --workers 2")
    assert code == 3
    assert "it cannot be done" in err
    monkeypatch.setattr(demo, "CHAPTERS", (stopped, tiny))
    code, _, err = run("demo --photos 3 --workers 2")
    assert code == 1
    assert "'stopped'" in err
    assert made(here) == []


def test_nothing_is_left_when_the_page_fails(run, here, monkeypatch):
    def fails(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(demo, "CHAPTERS", (tiny,))
    monkeypatch.setattr("pellucid.reporting.html.write", fails)
    assert run("demo --photos 3")[0] == 1
    assert made(here) == []


def test_settings_are_checked():
    with pytest.raises(BadInput, match="tumours must be 0, or between 2 and 200"):
        demo.Settings(tumours=1)
    with pytest.raises(BadInput, match="nothing to show"):
        demo.Settings(photos=0, digits=0, tumours=0)
    with pytest.raises(BadInput, match="workers must be at least 1"):
        demo.Settings(workers=0)


def examples(shape, count):
    draws = torch.rand(count, *shape)
    return data.Examples(
        draws, torch.arange(count) % 3, ("a", "b", "c"), tuple(f"n{i}" for i in range(count)), "made up"
    )


@pytest.fixture
def asked(monkeypatch):
    """What a chapter asks ``compare`` for, on tiny networks and with nothing compared."""
    found = {}

    def net(channels):
        layers = [torch.nn.Conv2d(channels, 2, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
        return torch.nn.Sequential(*layers, torch.nn.Linear(2, 3)).eval()

    def compare(model, x, **options):
        found.update(options, x=x, model=model)
        return Comparison({}, None, (), None, ())

    monkeypatch.setattr(data, "photos", lambda count: examples((3, 56, 56), count), raising=False)
    monkeypatch.setattr(data, "digits", lambda split, count, seed: examples((1, 28, 28), count), raising=False)
    monkeypatch.setattr(data, "efficientnet", lambda: pellucid.wrap(net(3), bounds=(0, 1)), raising=False)
    monkeypatch.setattr(data, "digits_cnn", lambda progress: net(1), raising=False)

    def evaluate(model, explanations, metrics, *_):
        found.update(further=metrics, scored=explanations)
        return Scores(())

    monkeypatch.setattr(chapters, "compare", compare)
    monkeypatch.setattr(chapters, "evaluate", evaluate)
    return found


@pytest.mark.parametrize("chapter", [chapters.photos, chapters.digits], ids=["photos", "digits"])
def test_chapters_of_pictures_ask_for_what_the_page_must_show(chapter, asked):
    found = chapter(demo.Settings(photos=3, digits=3, seed=4), None)
    assert found.names == ("n0", "n1", "n2")
    assert asked["about"]["command"] == "pellucid demo --photos 3 --digits 3 --tumours 48 --seed 4"
    assert asked["truth"].tolist() == [0, 1, 2]
    wanted = {"saliency", "input_x_gradient", "integrated_gradients", "smooth_grad", "grad_cam", "aggregate"}
    assert wanted | {"random_attribution"} <= set(asked["methods"])
    assert any(label.startswith("feature_ablation") for label in asked["methods"])
    labels = [metric.label for metric in asked["metrics"]]
    assert len({label for label in labels if "7 x 7" in label and "reference" in label}) == 4
    assert "completeness" in labels
    both = {metric.name for metric in asked["metrics"] if "robustness" in metric.name}
    assert both == (set() if chapter is chapters.photos else {"robustness_relevant", "robustness_irrelevant"})


def test_digits_are_ranked_under_six_references(asked):
    found = chapters.digits(demo.Settings(photos=3, digits=3), None)
    assert len(found.further) == 1
    known = {
        (metric.name, metric.reference_name)
        for metric in (*asked["metrics"], *asked["further"])
        if getattr(metric, "grid", None)
    }
    levels = {"0", "0.25", "0.5", "0.75", "1", "uniform"}
    assert known >= {(name, level) for name in ("insertion", "deletion") for level in levels}


def test_digits_that_are_confused_are_asked_about():
    said, truth = [1, 4, 3, 9, 8], [1, 4, 3, 3, 8]
    model = pellucid.wrap(lambda x: torch.eye(10)[x[:, 0].long()])
    x = torch.tensor(said, dtype=torch.float32).unsqueeze(1)
    rows = data.Examples(x, torch.tensor(truth), tuple("0123456789"), tuple("abcde"), "made up")
    assert chapters._confused(model, rows) == ([1, 2, 3], [9, 5, 3])
    assert chapters.contrast(demo.Settings(digits=0), None) is None


def test_two_photos_are_looked_at_closely_within_their_budget(asked):
    pytest.importorskip("skimage")
    found = chapters.closely(demo.Settings(photos=3), None)
    assert found.names == ("n0", "n1")
    assert {"rise", "lime", "occlusion"} <= set(asked["methods"])
    for label in ("rise", "lime", "occlusion"):
        assert asked["methods"][label].cost["forwards"] <= 2 * 800
    assert found.decided == ()
    assert {metric.fractions for metric in asked["further"]} == {(0.1, 0.2, 0.4)}
    assert {metric.name for metric in asked["further"]} == {"robustness_relevant", "robustness_irrelevant"}
    assert "Two photos" in asked["about"]["unjudged"]
    assert chapters.closely(demo.Settings(photos=0), None) is None


@pytest.mark.parametrize("chapter", [chapters.forest, chapters.network], ids=["forest", "network"])
def test_chapters_of_tables_ask_for_what_the_page_must_show(chapter, asked):
    pytest.importorskip("shap", reason="tree_shap is shown where shap is installed")
    found = chapter(demo.Settings(tumours=40), None)
    assert len(asked["x"]) == len(found.names) == len(asked["truth"]) == 40
    wanted = {"kernel_shap", "permutation_shapley", "lime_tabular", "feature_ablation", "random_attribution"}
    assert wanted < set(asked["methods"])
    assert ("tree_shap" in asked["methods"]) == (chapter is chapters.forest)
    assert {metric.name for metric in asked["metrics"]} == {"insertion", "deletion", "value_error", "completeness"}
    assert asked["target"] == 0
    assert asked["model"].labels[0] == "malignant"
    right = asked["model"](torch.tensor(asked["x"].to_numpy()).float()).argmax(1) == torch.tensor(asked["truth"])
    assert right.float().mean() > 0.9


def test_the_table_holds_rows_out_and_its_network_is_the_same_each_time():
    table = tumours.table(40, 0)
    assert not set(table.x.index) & set(table.train.index)
    assert set(table.background.index) <= set(table.train.index)
    before = torch.random.get_rng_state()
    one, two = table.network(), table.network()
    assert torch.equal(torch.random.get_rng_state(), before)
    x = torch.tensor(table.x.to_numpy()).float()
    assert torch.equal(one(x), two(x))


@pytest.mark.slow
def test_the_real_demo(run, here):
    code, out, err = run("demo --photos 2 --digits 12 --tumours 12")
    assert code == 0, err
    assert out == "pellucid-demo/index.html\n"
    assert Path("pellucid-demo/index.html").stat().st_size > 100_000
