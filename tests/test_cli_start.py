"""The command line: what it prints before it works, and flags made from signatures."""

import inspect
import json
import os
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest

import pellucid
from pellucid import Run, methods, metrics, removal
from pellucid.app import arguments, cli, flags
from tests.reference.desk import made


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
