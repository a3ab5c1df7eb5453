"""The command line: every command on small models, what it prints and writes, and how it fails."""

import functools
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import torch

import pellucid
from pellucid import Run, comparing, methods, metrics, removal
from pellucid.app import arguments, cli, flags, loading
from pellucid.core.verdict import Check

TOYS = """
import torch

def table():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Softplus(), torch.nn.Linear(8, 3)).eval()

def picture():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(4, 3)).eval()

net = table()

def predict(x):
    return x[:, :2] * 2

def broken(x):
    raise RuntimeError("boom\\nand more")

def sick():
    raise OSError("no weights")

def loud():
    print("loading the weights")
    return table()

def touched():
    open("touched", "w").close()
    return table()

def careless():
    return table().train()
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with toy models and inputs, as a user has it."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("desk")
    draws = np.random.default_rng(0)
    (folder / "desk_toys.py").write_text(TOYS)
    (folder / "desk_ill.py").write_text("import a_package_that_nobody_has\n")
    np.save(folder / "x.npy", draws.normal(size=(12, 4)).astype(np.float32))
    np.save(folder / "one.npy", draws.normal(size=(1, 4)).astype(np.float32))
    np.save(folder / "words.npy", np.array(["a", "b"], dtype=object), allow_pickle=True)
    rows = [",".join(f"{v:.3f}" for v in row) for row in draws.normal(size=(6, 4))]
    (folder / "x.csv").write_text("\n".join(["size,weight,age,price", *rows]))
    (folder / "empty.csv").write_text("")
    (folder / "labels.txt").write_text("cat\ndog\n\nowl\n")
    for name in ("photos", "nothing", "kept"):
        (folder / name).mkdir()
    for i in range(3):
        pixels = draws.integers(0, 255, (12, 16 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"p{i}.png")
    (folder / "cut.png").write_bytes((folder / "photos" / "p0.png").read_bytes()[:150])
    (folder / "text.jpg").write_text("not a picture")
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 and then nothing")
    return folder


@pytest.fixture
def here(desk, tmp_path, monkeypatch):
    """An empty working directory beside the user's files, and an unchanged process afterwards."""
    for path in desk.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("desk_")]:
        del sys.modules[name]


@pytest.fixture
def run(here, command_line):
    """Run a command line in an empty folder: exit code, stdout, stderr."""
    return command_line


def made(folder):
    """What is in the folder beside the user's own files, hidden leftovers included."""
    return sorted(path.name for path in folder.iterdir() if not path.is_symlink() and path.name != "__pycache__")


# ---------------------------------------------------------------- start


def python(*line):
    """Another Python that finds the package as this one does."""
    source = str(Path(pellucid.__file__).parents[1])
    found = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": found}
    return subprocess.run(
        [sys.executable, *line], capture_output=True, text=True, timeout=120, check=False, env=environment
    )


def test_help_is_quick_because_it_loads_neither_torch_nor_pandas():
    ended = python(
        "-c",
        "import sys\nfrom pellucid.app import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)",
    )
    assert ended.returncode == 0, ended.stderr
    for command in cli.COMMANDS:
        assert command.__name__ in ended.stdout


def test_it_runs_as_a_module(here):
    ended = python("-m", "pellucid", "explain", "desk_toys:net", "x.npy", "-m", "saliency", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["files"] == ["explanation.npz"]
    assert made(here) == ["explanation.npz"]


def test_version_and_unknown_command(run):
    assert run("--version")[:2] == (0, f"pellucid {pellucid.__version__}\n")
    assert run("explian x")[0] == 2


@pytest.mark.parametrize("command", [command.__name__ for command in cli.COMMANDS])
def test_every_command_explains_itself(run, command):
    code, out, _ = run(f"{command} --help")
    assert code == 0
    assert "--json" in out
    assert "--debug" in out


# ---------------------------------------------------------------- flags


def test_flags_are_the_fields_of_run_and_the_arguments_of_wrap():
    flat = set(inspect.signature(flags.expand(cli.explain)).parameters)
    assert {f.name for f in fields(Run)} - {"progress"} <= flat
    assert set(inspect.signature(pellucid.wrap).parameters) - {"net"} <= flat
    assert "progress" not in flat
    assert "net" not in flat


@dataclass(frozen=True)
class Colours:
    """Colours of something.

    ``paper``: what is drawn on; ``ink`` is the colour of lines (none: black).
    ``many``: how many, at least one.
    """

    paper: str = "white"
    ink: str | None = None
    many: int = 3
    dry: bool = False
    range: tuple[float, float] | None = None


def test_a_new_field_is_a_flag_with_its_help_type_and_default():
    group = flags.From(Colours, "Colours")
    made = {p.name: p for p in group.flags()}
    option = {name: p.annotation.__metadata__[0] for name, p in made.items()}
    assert option["paper"].help == "what is drawn on (default: white)"
    assert option["ink"].help == "colour of lines (none: black)"
    assert option["many"].help == "how many, at least one (default: 3)"
    assert made["many"].annotation.__origin__ == int | None
    given = {"paper": None, "ink": "none", "many": 4, "dry": True, "range": "-1,1", "other": 1}
    assert group.collect(given) == {"ink": None, "many": 4, "dry": True, "range": (-1.0, 1.0)}
    assert given == {"other": 1}


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("labels", "cat", ("cat",)),
        ("labels", "1,none", ("1", "none")),
        ("labels", "labels.txt", ("cat", "dog", "owl")),
        ("mean", "0.5", 0.5),
        ("mean", "0.5,0.4,0.3", (0.5, 0.4, 0.3)),
        ("bounds", "-1,1", (-1.0, 1.0)),
        ("scale", "prob", "prob"),
        ("axis", -1, -1),
    ],
)
def test_options_of_the_model(here, flag, text, value):
    group = flags.From("pellucid.models:wrap", "Model", without=("net",))
    given = dict.fromkeys(group.parameters()) | {flag: text}
    assert group.collect(given) == {flag: value}


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("3,1", (3, 1)), ("cat,2", ("cat", 2)), ("crane(bird)", "crane(bird)"), ("all", "all")],
)
def test_a_target_is_a_column_or_a_label_or_one_a_row(text, value):
    assert arguments.target(text, "--target") == value
    assert flags.From("pellucid.api:explain", "", only=("target",)).collect({"target": text}) == {"target": value}


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("128", int, 128),
        ("1e-3", float | None, 1e-3),
        ("none", float | None, None),
        ("none", str, "none"),
        ("left", str, "left"),
        ("0,.5,1", tuple[float, ...], (0.0, 0.5, 1.0)),
        ("(0, .5)", tuple[float, ...], (0.0, 0.5)),
        ("0.5", "Any", 0.5),
        ("7", "Any", 7),
        ("uniform", "Any", "uniform"),
        ("none", "Any", None),
        ("1,2.5,a", "Any", (1, 2.5, "a")),
        ("blur(3)", "Any", removal.blur(3)),
        ("blur(sigma=3)", "Any", removal.blur(3)),
        ("mean()", "Any", removal.mean()),
    ],
)
def test_a_text_means_what_its_annotation_says(text, hint, value):
    from typing import Any

    found = arguments.convert(text, Any if hint == "Any" else hint, "here")
    assert found == value
    assert type(found) is type(value)


def test_methods_and_metrics_from_text(here):
    many = ["saliency, integrated_gradients:steps=128,baseline=0.5 smooth_grad", "feature_ablation:removal=blur(5)"]
    assert arguments.recipes(many, methods.CATALOGUE, "method") == [
        methods.saliency(),
        methods.integrated_gradients(steps=128, baseline=0.5),
        methods.smooth_grad(),
        methods.feature_ablation(removal.blur(5)),
    ]
    rows = np.load("x.npy")
    (nested,) = arguments.recipes(["feature_ablation:removal=marginal(x.npy,draws=3)"], methods.CATALOGUE, "method")
    assert nested.describe() == methods.feature_ablation(removal.marginal(rows, draws=3)).describe()
    (expected,) = arguments.recipes(["expected_gradients:background=x.npy,samples=7"], methods.CATALOGUE, "method")
    assert expected.describe() == methods.expected_gradients(rows, samples=7).describe()
    texts = ["insertion:reference=uniform,grid=7,fractions=0,.5,1;completeness"]
    assert arguments.recipes(texts, metrics.CATALOGUE, "metric") == [
        metrics.insertion("uniform", grid=7, fractions=(0, 0.5, 1)),
        metrics.completeness(),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gradcam", "have 'saliency'"),
        ("integrated_gradients:step=5", "have steps=64, baseline=0.0, rule='gauss_legendre', tolerance=None"),
        ("integrated_gradients:steps=5,steps=6", "twice"),
        ("integrated_gradients:steps=many", "steps must be a whole number, got 'many'"),
        ("integrated_gradients:tolerance=low", "tolerance must be a number or none"),
        ("integrated_gradients:rule=simpson", "gauss_legendre"),
        ("integrated_gradients:baseline=gone.npy", "there is no file 'gone.npy'"),
        ("integrated_gradients:baseline=words.npy", "words.npy"),
        ("expected_gradients", "expected_gradients:background=rows.npy"),
        ("saliency:steps=3", "have none"),
        ("feature_ablation:removal=blurred(3)", "'blurred' is not a removal"),
        ("saliency:x=__import__('os').system('touch-hacked')", "not one of its options"),
    ],
)
def test_a_bad_method_is_refused_before_any_work(run, here, text, said):
    code, out, err = run("explain desk_toys:touched x.npy -m", text)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert made(here) == []


# ---------------------------------------------------------------- models and inputs


class Callback:
    def __call__(self, x):
        return x


def needs(x):
    return x


def makes():
    return "made"


@pytest.mark.parametrize(
    ("found", "result"),
    [
        (makes, "made"),
        (functools.cache(makes), "made"),
        (functools.partial(needs, "bound"), "bound"),
        (Callback, Callback),
        (needs, needs),
        (functools.partial(needs), needs),
    ],
)
def test_a_factory_is_called_and_an_object_is_used_as_it_is(found, result):
    got = loading.built(found)
    if isinstance(found, functools.partial) and result is needs:
        assert got is found
    elif result is Callback:
        assert isinstance(got, Callback)
    else:
        assert got == result


def test_a_module_is_not_called():
    net = torch.nn.Linear(2, 2)
    instance = Callback()
    assert loading.built(net) is net
    assert loading.built(instance) is instance


def test_pictures_are_rgb_or_grey_rows_of_channels(here):
    batch = loading.inputs(["photos"], loading.Reading(size=8))
    assert batch.x.shape == (3, 3, 8, 8)
    assert batch.x.dtype == np.uint8
    assert batch.names == ("p0.png", "p1.png", "p2.png")
    assert loading.inputs(["photos/p1.png"], loading.Reading(grey=True)).x.shape == (1, 1, 12, 17)
    assert isinstance(loading.inputs(["x.npy"], loading.Reading(tensors=True)).x, torch.Tensor)


def test_the_middle_of_a_picture_is_kept_and_not_distorted(tmp_path):
    from PIL import Image

    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = (255, 128, 0)  # the middle third is one colour
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = loading.picture(tmp_path / "wide.png", loading.Reading(size=10))
    assert found.shape == (3, 10, 10)
    assert (found == np.array([255, 128, 0]).reshape(3, 1, 1)).all()


def test_several_files_are_one_batch(here):
    twice = loading.inputs(["x.npy", "one.npy"], loading.Reading()).x
    assert np.array_equal(twice, np.concatenate([np.load("x.npy"), np.load("one.npy")]))
    tables = loading.inputs(["x.csv", "x.csv"], loading.Reading()).x
    assert len(tables) == 12
    assert list(tables.columns) == ["size", "weight", "age", "price"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("explain desk_toys:net gone.npy", "there is no file or folder 'gone.npy'"),
        ("explain desk_toys:net nothing", "holds no image"),
        ("explain desk_toys:net labels.txt", "expected images"),
        ("explain desk_toys:net x.npy x.csv", "one kind"),
        ("explain desk_toys:net words.npy", "cannot be read as an array"),
        ("explain desk_toys:net empty.csv", "cannot be read as a table"),
        ("explain desk_toys:picture cut.png", "'cut.png' cannot be read"),
        ("explain desk_toys:picture text.jpg", "'text.jpg' cannot be read"),
        ("explain desk_toys:picture photos", "p0.png: 16 x 12"),
        ("explain desk_toys:picture photos --size 0", "at least 1 pixel"),
        ("explain desk_toys:gone x.npy", "have 'table', 'picture', 'net'"),
        ("explain nobody_has_this:net x.npy", "no module 'nobody_has_this'"),
        ("explain desk_toys.py:net x.npy", "did you mean desk_toys:net?"),
        ("explain desk_toys x.npy", "expected package.module:factory"),
        ("explain gone.onnx x.npy", "no file 'gone.onnx'"),
        ("explain desk_toys:net x.npy --bounds low,high", "--bounds must be numbers"),
        ("explain desk_toys:net x.npy --bounds 1,0", "low < high"),
        ("explain desk_toys:net x.npy --labels gone.txt", "no file 'gone.txt'"),
        ("explain desk_toys:net x.npy --labels cat,dog", "2 labels"),
        ("explain desk_toys:net x.npy --target 3", "out of range"),
        ("explain desk_toys:net x.npy --labels labels.txt --target cow", "'cow' not found"),
        ("explain desk_toys:net x.npy --read nonsense", "read must be"),
        ("explain desk_toys:net x.npy --seed -1", "seed"),
        ("explain desk_toys:net x.npy --batch-size 0", "batch_size must be a positive"),
        ("explain desk_toys:net x.npy -m saliency,smooth_grad", "`pellucid compare` takes several"),
        ("explain desk_toys:net x.npy --plot e.txt", "--plot"),
        ("explain desk_toys:net x.npy --out gone/e.npz", "'gone' does not exist"),
        ("explain desk_toys:net x.npy --out kept", "is a folder"),
        ("explain desk_toys:net x.npy --out e.npz --html e.npz", "one name"),
        ("compare desk_toys:net one.npy", "at least two rows"),
        ("compare desk_toys:net x.npy --players grid:2", "--players needs --methods"),
        ("evaluate desk_toys:net broken.npz", "is not a pellucid explanation or is damaged"),
        ("evaluate desk_toys:net gone.npz", "no file 'gone.npz'"),
        ("report page.html broken.npz", "is not a pellucid explanation or is damaged"),
        ("report gone/page.html broken.npz", "'gone' does not exist"),
        ("methods nonsense", "neither a method nor a metric"),
        ("demo --photos 1", "--photos must be 0, or between 2 and 20"),
        ("demo --photos 0 --digits 0 --tumours 0", "nothing to show"),
        ("demo --out gone/demo", "'gone' does not exist"),
    ],
)
def test_a_mistake_ends_with_one_line_and_code_2_and_writes_nothing(run, here, line, said):
    code, out, err = run(line)
    assert (code, out) == (2, ""), err
    assert said in err
    assert err.startswith("pellucid: error: ")
    assert err.count("\n") == 1
    assert made(here) == []


@pytest.mark.parametrize("line", ["explain desk_toys:net", "explain desk_toys:net x.npy --seed one", "check", ""])
def test_a_wrong_call_ends_with_code_2(run, line):
    assert run(line)[0] == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("explain desk_toys:broken x.npy -m feature_ablation", "the model raised RuntimeError: boom and more"),
        ("check desk_toys:sick x.npy", "OSError: no weights"),
        ("explain desk_ill:net x.npy", "a_package_that_nobody_has"),
    ],
)
def test_what_the_users_code_raises_ends_with_one_line_and_code_1(run, here, line, said):
    code, out, err = run(line)
    assert (code, out) == (1, "")
    assert f"pellucid: error: {said}" in err or said in err
    assert "Traceback" not in err
    assert made(here) == []
    assert "Traceback" in run(line + " --debug")[2]


def test_what_cannot_be_done_right_ends_with_code_3(run, here):
    code, out, err = run("explain desk_toys:predict x.npy -m saliency")
    assert (code, out) == (3, "")
    assert "feature_ablation" in err
    assert made(here) == []
    assert run("explain desk_toys:predict x.npy -m saliency --tensors")[0] == 0


# ---------------------------------------------------------------- explain


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
