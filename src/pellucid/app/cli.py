"""The command line: explain, compare, evaluate, check, methods, report, demo, benchmark.

Exit codes: 0 done, 1 something unexpected (the model raised), 2 a mistake in what was asked, 3 something that cannot be
done right.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid import __version__
from pellucid.app import arguments, benchmarks, loading, summaries
from pellucid.app.console import Console, jsonable
from pellucid.app.flags import From, expand
from pellucid.app.outputs import Outputs
from pellucid.core.errors import BadInput, listing

if TYPE_CHECKING:
    from pellucid.core.explanation import Explanation

PLOTS = (".png", ".svg", ".pdf", ".jpg")

ModelText = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="package.module:factory, or a .onnx, .pt or .pt2 file. Naming a factory runs its code."
    ),
]
InputTexts = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUTS...", help="Images, folders of images, .npy or .csv files (first row: column names)."
    ),
]
MetricTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", "--metrics", help="As insertion:reference=uniform,grid=7; may be repeated. All by default."
    ),
]
Read = Annotated[loading.Reading, From(loading.Reading, "Inputs")]
Wrapping = Annotated[dict[str, Any], From("pellucid.models:wrap", "Model", without=("net",))]
Running = Annotated[dict[str, Any], From("pellucid.core.budget:Run", "Run", without=("progress",))]
Target = Annotated[dict[str, Any], From("pellucid.core.target:Target", "Question", only=("read",))]


def explain(
    model: ModelText,
    inputs: InputTexts,
    console: Console,
    reading: Read,
    wrapping: Wrapping,
    running: Running,
    asking: Annotated[
        dict[str, Any], From("pellucid.api:explain", "Question", only=("target", "space", "players", "seed"))
    ],
    reads: Target,
    method: Annotated[
        str, typer.Option("--method", "-m", help="As integrated_gradients:steps=128; see `pellucid methods`.")
    ] = "integrated_gradients",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the numbers go (.npz).")] = Path("explanation.npz"),
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw it (.png, .svg, .pdf).")] = None,
    top: Annotated[int, typer.Option("--top", help="How many features to print for each row.", min=0)] = 5,
) -> None:
    """Why does the model give this output at each input? One method's numbers, kept in a file."""
    outputs = Outputs(out, html, plot)
    if plot is not None and plot.suffix.lower() not in PLOTS:
        raise BadInput(f"--plot: expected a file that ends in {', '.join(PLOTS)}, got {str(plot)!r}")
    import pellucid

    chosen = _one_method(method)
    wrapped, batch = loading.model(model, wrapping), loading.inputs(inputs, reading)
    asking["target"] = _target(asking.get("target"), reads)
    e = pellucid.explain(wrapped, batch.x, chosen, run=pellucid.Run(**running, progress=console.progress), **asking)
    with outputs.staged() as (numbers, page, figure):
        if numbers is not None:
            e.save(numbers)
        if page is not None:
            _page(page, [e], [batch.names], None)
        if figure is not None:
            e.plot().savefig(figure)
    shown = e.top(top)
    shown["row"] = [batch.names[row] for row in shown["row"]]
    written = [str(path) for path in outputs.targets if path is not None]
    console.result(
        {**summaries.described(e), "rows": batch.names, "top": shown, "files": written},
        summaries.heading(e),
        shown,
        *map(summaries.wrote, written),
    )


def compare(
    model: ModelText,
    inputs: InputTexts,
    console: Console,
    reading: Read,
    wrapping: Wrapping,
    running: Running,
    asking: Annotated[dict[str, Any], From("pellucid.comparing:compare", "Question", only=("target", "truth", "seed"))],
    grouping: Annotated[dict[str, Any], From("pellucid.api:explain", "Question", only=("players",))],
    reads: Target,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "--methods",
            "-m",
            help="As saliency,smooth_grad:samples=20; may be repeated. What applies, by default.",
        ),
    ] = None,
    metrics: MetricTexts = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the report goes (.html).")] = Path("comparison.html"),
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the summary as a table.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Title of the report.")] = None,
) -> None:
    """Which explanation can be believed? Several methods side by side, judged with error bars and a verdict, in one
    page.

    With --players, methods that take features away use these players; the others explain every entry.
    """
    outputs = Outputs(out, csv)
    import pellucid

    chosen = None if not methods else _methods(methods)
    scores = None if not metrics else _metrics(metrics)
    wrapped, batch = loading.model(model, wrapping), loading.inputs(inputs, reading)
    run = pellucid.Run(**running, progress=console.progress)
    asking["target"] = _target(asking.get("target"), reads)
    if grouping:
        if chosen is None:
            raise BadInput("--players needs --methods: name those that take features away, such as feature_ablation")
        chosen = [
            pellucid.explain(
                wrapped, batch.x, m, target=asking["target"], seed=asking.get("seed", 0), run=run, **grouping
            )
            if m.access == "predictions" and not m.control
            else m
            for m in chosen
        ]
    about = {"data": ", ".join(inputs), "command": _command()} | ({"title": title} if title else {})
    found = pellucid.compare(wrapped, batch.x, chosen, scores, run=run, about=about, **asking)
    found = dataclasses.replace(found, names=batch.names)
    with outputs.staged() as (page, table):
        if page is not None:
            found.report(page)
        if table is not None:
            found.summary().to_csv(table, index=False)
    written = [str(path) for path in outputs.targets if path is not None]
    console.result(
        {**summaries.compared(found), "files": written}, summaries.verdicts(found), *map(summaries.wrote, written)
    )


def evaluate(
    model: ModelText,
    explanations: Annotated[
        list[Path],
        typer.Argument(metavar="EXPLANATIONS...", help="Files that `pellucid explain` wrote, of the same inputs."),
    ],
    console: Console,
    wrapping: Wrapping,
    running: Running,
    asking: Annotated[dict[str, Any], From("pellucid.evaluating:evaluate", "Question", only=("seed",))],
    metrics: MetricTexts = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the table to a file.")] = None,
) -> None:
    """How good is an explanation? Scores of explanations that were made before."""
    outputs = Outputs(csv)
    import pellucid

    chosen = None if not metrics else _metrics(metrics)
    loaded = _loaded(explanations)
    wrapped = loading.model(model, wrapping)
    scores = pellucid.evaluate(
        wrapped, loaded, chosen, run=pellucid.Run(**running, progress=console.progress), **asking
    )
    with outputs.staged() as (table,):
        if table is not None:
            scores.table.to_csv(table, index=False)
    written = [str(path) for path in outputs.targets if path is not None]
    shown = scores.summary()[["metric", "method", "rank", "mean", "low", "high", "direction", "status"]]
    console.result(
        {"table": scores.table, "cost": scores.cost, "files": written}, shown, *map(summaries.wrote, written)
    )


def check(model: ModelText, inputs: InputTexts, console: Console, reading: Read, wrapping: Wrapping) -> None:
    """Which methods apply to this model, which do not and why; what is odd about it; what a comparison would cost."""
    import pellucid

    found = pellucid.check(loading.model(model, wrapping), loading.inputs(inputs, reading).x)
    console.result(found.to_dict(), str(found))


def methods(
    console: Console,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A method or metric to read about.")] = None,
) -> None:
    """The methods and metrics there are: what each needs, what it promises, and how its values are ranked."""
    from pellucid.app import catalogue

    if name is not None:
        found = catalogue.entry(name)
        console.result(found, f"{found['call']}\n\n{found['text']}")
        return
    every = {"methods": catalogue.methods(), "metrics": catalogue.metrics()}
    import pandas as pd

    tables = [pd.DataFrame(jsonable(rows)).drop(columns="call") for rows in every.values()]
    console.result(
        every, *(table.map(lambda entry: ", ".join(entry) if isinstance(entry, list) else entry) for table in tables)
    )


def report(
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="Where the page goes.")],
    explanations: Annotated[
        list[Path], typer.Argument(metavar="EXPLANATIONS...", help="Files that `pellucid explain` wrote.")
    ],
    console: Console,
    title: Annotated[str | None, typer.Option("--title", help="Title of the page.")] = None,
) -> None:
    """One page from explanations that were made before; it needs no model."""
    outputs = Outputs(out)
    loaded = _loaded(explanations)
    with outputs.staged() as (page,):
        if page is not None:
            _page(page, loaded, None, title)
    console.result(
        {"report": str(out), "explanations": [summaries.described(e) for e in loaded]}, summaries.wrote(str(out))
    )


def demo(
    console: Console,
    settings: Annotated[dict[str, Any], From("pellucid.app.demo:Settings", "Demo")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the report.")] = Path("pellucid-demo"),
) -> None:
    """Real photos and real digits explained and judged: writes one page, in at most three minutes on two cores."""
    from pellucid.app import demo as demonstration

    chosen = demonstration.Settings(**settings)
    found = demonstration.write(out, chosen, console)
    console.result(found, found["report"])


def benchmark(
    console: Console,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which: robustness or semantic.")],
    settings: Annotated[dict[str, Any], From("pellucid.experiments.settings:Settings", "Benchmark")],
    semantic: Annotated[
        dict[str, Any],
        From("pellucid.experiments.semantic.settings:Settings", "Semantic", without=("examples", "seed")),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the pages and their tables (none: NAME).")
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder of finished pieces (none: OUT/store); a killed run resumes.")
    ] = None,
) -> None:
    """The experiments of a paper run again, beside its own figures: pages and tables, in pieces that resume."""
    if name not in BENCHMARKS:
        raise BadInput(f"benchmark: {name!r} is not there; have {', '.join(BENCHMARKS)}")
    shared = {key: settings[key] for key in ("examples", "seed") if key in settings}
    foreign = semantic if name == "robustness" else {key: v for key, v in settings.items() if key not in shared}
    if foreign:
        other = next(one for one in BENCHMARKS if one != name)
        raise BadInput(f"--{next(iter(foreign)).replace('_', '-')} belongs to benchmark {other}, not to {name}")
    place = Path(name) if out is None else out
    if name == "robustness":
        benchmarks.robustness(console, settings, place, store, _command())
    else:
        benchmarks.semantic(console, shared | semantic, place, store, _command())


BENCHMARKS = ("robustness", "semantic")


COMMANDS = (explain, compare, evaluate, check, methods, report, demo, benchmark)


def application(wanted: Sequence[str] = ()) -> typer.Typer:
    """The Typer application; the flags are made of the commands ``wanted`` only, since that loads what they are made
    from."""
    app = typer.Typer(
        name="pellucid",
        help="Explain any model's prediction, and measure how far each explanation can be trusted.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in COMMANDS:
        app.command()(expand(command) if command.__name__ in wanted else _named(command))

    @app.callback()
    def about(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
        ] = False,
    ) -> None:
        """Explain any model's prediction, and measure how far each explanation can be trusted."""

    return app


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # Before torch is loaded: threads that wait sleep instead of spinning, or a busy machine becomes many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = list(sys.argv[1:] if argv is None else argv)
    application([word for word in given if not word.startswith("-")][:1])(args=given, prog_name="pellucid")


def _named(command: Callable[..., None]) -> Callable[..., None]:
    def stands() -> None:
        """Only listed."""

    stands.__name__, stands.__doc__ = command.__name__, command.__doc__
    return stands


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"pellucid {__version__}\n")
        raise typer.Exit


def _methods(texts: Sequence[str]) -> list[Any]:
    from pellucid import methods as known

    return arguments.recipes(texts, known.CATALOGUE, "method")


def _metrics(texts: Sequence[str]) -> list[Any]:
    from pellucid import metrics as known

    return arguments.recipes(texts, known.CATALOGUE, "metric")


def _one_method(text: str) -> Any:
    chosen = _methods([text])
    if len(chosen) != 1:
        raise BadInput(
            f"--method: expected one method, got {listing(m.name for m in chosen)}; `pellucid compare` takes several"
        )
    return chosen[0]


def _target(index: Any, reads: dict[str, Any]) -> Any:
    from pellucid.core.target import Target

    return Target(index, **reads)


def _loaded(paths: Sequence[Path]) -> list[Explanation]:
    from pellucid import load

    return [load(path) for path in paths]


def _page(
    path: Path, explanations: list[Explanation], names: Sequence[tuple[str, ...]] | None, title: str | None
) -> None:
    from pellucid.reporting import html

    chapters = html.loose(explanations)
    if names is not None:
        chapters = [dataclasses.replace(chapter, names=each) for chapter, each in zip(chapters, names, strict=True)]
    html.write(path, chapters, title)


def _command() -> str:
    """What was typed."""
    import shlex

    return shlex.join(["pellucid", *sys.argv[1:]])


if __name__ == "__main__":
    main()
