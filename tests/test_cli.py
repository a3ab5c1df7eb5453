"""The command line: every command on small models, what it prints and writes, and how it fails."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pellucid
from pellucid import comparing, methods, metrics
from pellucid.core.verdict import Check
from tests.reference.desk import made


def test_explain_writes_what_explain_returns(run, here):
    code, out, _ = run(
        "explain desk_toys:net x.npy -m integrated_gradients:steps=8 --target 1 --seed 3 -o e.npz --top 2"
    )
    assert code == 0
    e = pellucid.load("e.npz")
    net = sys.modules["desk_toys"].net
    assert e.seed == 3
    assert np.array_equal(e.values, pellucid.explain(net, np.load("x.npy"), methods.integrated_gradients(8), 1).values)
    assert "wrote e.npz" in out
    assert out.count("row 0 ") == 2
    assert made(here) == ["e.npz"]


SLOW = """
import time, torch

class Slow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = torch.nn.Linear(4, 2)

    def forward(self, x):
        time.sleep(0.02)
        with open("calls", "a") as calls:
            calls.write("x")
        return torch.tanh(self.inner(x))

def slow():
    return Slow().eval()
"""


def test_a_killed_explain_goes_on_where_it_was_and_ends_with_the_same_bits(run, here):
    Path("desk_slow.py").write_text(SLOW)
    line = "explain desk_slow:slow x.npy -m smooth_grad:samples=96 --target 1 --batch-size 16 --quiet"
    killed = [sys.executable, "-m", "pellucid.app.cli", *line.split(), "--store", "store", "-o", "e.npz"]
    source = os.pathsep.join([str(Path(pellucid.__file__).parents[1]), "."])
    running = subprocess.Popen(killed, env={**os.environ, "PYTHONPATH": source})
    until = time.monotonic() + 60
    while len(list(Path("store").rglob("*.npz"))) < 3 and time.monotonic() < until and running.poll() is None:
        time.sleep(0.01)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert not Path("e.npz").exists()
    kept, before = len(list(Path("store").rglob("*.npz"))), calls()
    assert run(f"{line} --store store -o e.npz")[0] == 0
    resumed = calls() - before
    assert 3 <= kept < len(list(Path("store").rglob("*.npz")))
    assert run(f"{line} --store other -o f.npz")[0] == 0
    assert resumed < calls() - before - resumed
    found, expected = pellucid.load("e.npz"), pellucid.load("f.npz")
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.std_error, expected.std_error)
    assert found.cost["backwards"] == expected.cost["backwards"]


def calls():
    """How often the slow model was called."""
    return len(Path("calls").read_text())


def test_explain_a_table_by_its_columns_and_labels(run):
    line = "explain desk_toys:table x.csv -m saliency --labels labels.txt --target dog,cat,owl,dog,dog,2 --json"
    code, out, _ = run(line)
    found = json.loads(out)
    assert code == 0
    assert found["target"]["index"] == [1, 0, 2, 1, 1, 2]
    assert {row["feature"] for row in found["top"]} == {"size", "weight", "age", "price"}
    assert [row["output"] for row in found["top"]][::4] == ["dog", "cat", "owl", "dog", "dog", "owl"]


def test_explain_pictures_with_a_page_and_a_plot(run, here):
    line = "explain desk_toys:picture photos --size 8 -m grad_cam -o e.npz --html e.html --plot e.png"
    code, out, err = run(line)
    assert code == 0, err
    assert made(here) == ["e.html", "e.npz", "e.png"]
    assert pellucid.load("e.npz").data.max() <= 1
    assert "p2.png" in out
    assert Path("e.png").read_bytes().startswith(b"\x89PNG")
    assert Path("e.html").read_text().lstrip().lower().startswith("<!doctype html")


def test_explain_players(run):
    line = "explain desk_toys:picture photos --size 8 -m feature_ablation:removal=mean --players grid:2 --json"
    code, out, err = run(line)
    assert code == 0, err
    assert json.loads(out)["shape"] == [3, 4]


def test_explain_in_a_space(run):
    line = "explain desk_toys:picture photos --size 8 -m integrated_gradients --space fourier:bins=3 --json"
    code, out, err = run(line)
    assert code == 0, err
    found = json.loads(out)
    assert found["shape"] == [3, 3]
    assert found["top"][0]["feature"] == "0.000 to 0.236"
    code, _, err = run(line.replace("fourier", "cosines"))
    assert code == 2
    assert "space 'cosines' not found" in " ".join(err.split())


def test_json_is_all_of_stdout_and_has_no_nan(run):
    code, out, err = run("explain desk_toys:loud x.npy -m saliency --json")
    found = json.loads(out, parse_constant=pytest.fail)
    assert code == 0
    assert found["method"]["name"] == "saliency"
    assert found["residual_relative"] is None
    assert found["top"][0]["std_error"] is None
    assert "loading the weights" in err


def test_quiet_shows_no_progress_and_otherwise_it_is_on_stderr(run):
    assert run("explain desk_toys:net x.npy -m saliency --quiet")[2] == ""
    _, out, err = run("explain desk_toys:net x.npy -m saliency")
    assert err == "  saliency: done\n"
    assert "done" not in out


def test_a_warning_is_one_line_and_in_the_json(run):
    code, out, err = run("explain desk_toys:careless x.npy -m saliency --json --quiet")
    assert code == 0
    (warning,) = json.loads(out)["warnings"]
    assert "train mode" in warning
    assert err == f"pellucid: warning: {warning}\n"


def test_nothing_is_half_written_when_the_last_file_fails(run, here, monkeypatch):
    def fails(path, chapters, title=None):
        Path(path).write_text("half")
        raise OSError("disk full")

    Path("e.npz").write_text("before")
    monkeypatch.setattr("pellucid.reporting.html.write", fails)
    code, _, err = run("explain desk_toys:net x.npy -m saliency -o e.npz --html e.html")
    assert code == 1
    assert "disk full" in err
    assert made(here) == ["e.npz"]
    assert Path("e.npz").read_text() == "before"


def test_the_output_folder_is_checked_before_the_model_is_loaded(run, here):
    assert run("explain desk_toys:touched x.npy -o gone/e.npz")[0] == 2
    assert not Path("touched").exists()
    assert run("explain desk_toys:touched x.npy -m saliency")[0] == 0
    assert Path("touched").exists()


# ---------------------------------------------------------------- the other commands


def test_compare_writes_the_report_and_the_summary(run, here, monkeypatch):
    unasked = Check("finds a planted tag", 0.0, 0.0, 0.0, 0.5, None, "a network would have to be trained", False)
    monkeypatch.setattr("pellucid.judging.finds_tag", lambda *_: unasked)
    line = "compare desk_toys:net x.npy -m saliency,integrated_gradients:steps=8 --title Toys"
    code, out, err = run(f"{line} --metrics completeness,insertion:reference=0 -o c.html --csv c.csv --json")
    assert code == 0, err
    found = json.loads(out)
    words = {row["method"]: row["verdict"] for row in found["verdicts"]}
    assert set(words) == {"saliency", "integrated_gradients", "random_attribution"}
    assert words["random_attribution"] == "control"
    assert found["about"]["data"] == "x.npy"
    assert len(Path("c.csv").read_text().splitlines()) == 1 + len(found["summary"]) == 1 + 3 * 2
    assert "Toys" in Path("c.html").read_text()
    assert made(here) == ["c.csv", "c.html"]


def test_compare_gives_players_to_methods_that_take_features_away(run, monkeypatch):
    asked = {}

    @functools.wraps(comparing.compare)  # the flags are made from its signature
    def compare(model, x, chosen, metrics, **options):
        asked.update(options, chosen=chosen)
        raise pellucid.Unsupported("enough")

    monkeypatch.setattr("pellucid.comparing.compare", compare)
    line = "compare desk_toys:picture photos --size 8 -m saliency,feature_ablation:removal=mean,random_attribution"
    code, _, err = run(f"{line} --players grid:2 --truth 0,1,2 --seed 5")
    assert (code, "enough" in err) == (3, True)
    saliency, ablation, control = asked["chosen"]
    assert (saliency, control) == (methods.saliency(), methods.random_attribution())
    assert ablation.values.shape == (3, 4)
    assert ablation.seed == asked["seed"] == 5
    assert asked["truth"] == (0, 1, 2)


def test_evaluate_and_report_read_what_explain_wrote(run, here):
    for method in ("saliency", "input_x_gradient"):
        assert run(f"explain desk_toys:net x.npy -m {method} -o {method}.npz")[0] == 0
    files = "saliency.npz input_x_gradient.npz"
    code, out, _ = run(f"evaluate desk_toys:net {files} --metrics insertion:reference=0 --csv s.csv --json")
    assert code == 0
    each = [pellucid.load(file) for file in files.split()]
    expected = pellucid.evaluate(sys.modules["desk_toys"].net, each, metrics.insertion(0.0)).table
    found = json.loads(out)["table"]
    assert [row["mean"] for row in found] == expected["mean"].tolist()
    assert len(Path("s.csv").read_text().splitlines()) == 3
    code, out, _ = run(f"evaluate desk_toys:net {files} --metrics insertion:reference=0,deletion:reference=1")
    assert code == 0
    assert "insertion, 0 reference, features" in out
    code, out, _ = run(f"report r.html {files}", "--title", "Two of them <b>")
    assert (code, out) == (0, "wrote r.html\n")
    assert "Two of them &lt;b&gt;" in Path("r.html").read_text()
    assert made(here) == ["input_x_gradient.npz", "r.html", "s.csv", "saliency.npz"]


def test_check_says_which_methods_apply(run, monkeypatch):
    code, out, _ = run("check desk_toys:net x.npy --json")
    found = json.loads(out)
    applies = {row["method"]: row["applies"] for row in found["methods"]}
    assert code == 0
    assert applies["saliency"] is True
    assert applies["grad_cam"] is False

    class Found:
        def to_dict(self):
            return {}

        def __str__(self):
            return "in words"

    monkeypatch.setattr("pellucid.checking.check", lambda model, x: Found())
    assert run("check desk_toys:predict x.npy")[:2] == (0, "in words\n")


def test_methods_lists_the_catalogues(run):
    code, out, _ = run("methods --json")
    found = json.loads(out)
    assert code == 0
    assert [row["name"] for row in found["methods"]] == [recipe.__name__ for recipe in methods.CATALOGUE]
    assert [row["name"] for row in found["metrics"]] == [recipe.__name__ for recipe in metrics.CATALOGUE]
    row = next(row for row in found["methods"] if row["name"] == "integrated_gradients")
    assert (row["scope"], row["access"], row["stage"]) == ("local", "gradients", "post-hoc")
    assert row["promise"] == "completeness"
    assert row["call"].startswith("integrated_gradients(steps=64, baseline=0.0")
    code, out, _ = run("methods")
    assert all(row["name"] in out for row in found["methods"] + found["metrics"])
    code, out, _ = run("methods smooth_grad")
    assert code == 0
    assert "samples" in out
    assert ">>>" not in out
