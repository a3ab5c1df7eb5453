"""Who may import whom: every import in src/pellucid, also the lazy ones, keeps to the layers."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "pellucid"

# Lowest first. A component imports from the layers below its own; within a layer, only itself.
LAYERS = (
    {"core"},
    {"models", "games", "gradients", "attack", "spaces", "run", "reporting", "data"},
    {"methods", "metrics", "generative", "audits", "concepts", "influence", "intrinsic", "recourse"},
    {"api"},
    {"aggregation", "auditing", "averaging", "evaluating", "playing", "traversing"},
    {"judging"},
    {"comparing"},
    {"checking"},
    {"__init__"},  # the public names
    {"experiments"},
    {"app"},
    {"__main__"},
)
LEVEL = {component: level for level, layer in enumerate(LAYERS) for component in layer}

# Within a layer: importer → imported.
SIDEWAYS = {
    ("games", "attack"),  # the robustness game asks for radii
    ("data", "models"),  # the example networks come wrapped
    ("spaces", "models"),  # the space of a layer is that of a wrapped model
}
# Upwards, and only inside a function: file → imported. Users expect plot(), report() and the notebook view on a result.
# minimal_radius is a question of its own, which only api and models can ask of what a user passes.
UPWARDS = {
    ("core/explanation.py", "reporting"),
    ("core/comparison.py", "reporting"),
    ("attack/radius.py", "api"),
    ("attack/radius.py", "models"),
}
# Free for all: a constant that the package sets before anything else.
CONSTANTS = {"pellucid.__version__"}

# What core may load when it is imported; anything else it imports inside a function or for type checking only.
CORE_LOADS = {"pellucid", "torch", "numpy", *sys.stdlib_module_names}

# Slow to load or optional: at most one file each loads it when imported; the others import it inside a function.
HEAVY = {"captum", "matplotlib", "mlxtend", "onnxruntime", "pandas", "shap", "skimage", "sklearn", "transformers"}


@dataclass(frozen=True)
class Import:
    """One imported module: in which file, at which line, and whether it loads together with that file."""

    file: str
    line: int
    module: str
    eager: bool

    @property
    def importer(self) -> str:
        return component(self.file.removesuffix(".py").replace("/", "."))

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def component(dotted: str) -> str:
    return dotted.partition(".")[0]


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(body: list[ast.stmt], eager: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """Every statement with whether it runs when its file is imported."""
    for node in body:
        yield node, eager
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                inner = eager and not lazy and not (is_type_checking(node) and name == "body")
                for part in value:
                    if isinstance(part, ast.stmt):
                        yield from statements([part], inner)
                    elif isinstance(part, ast.ExceptHandler | ast.match_case):
                        yield from statements(part.body, inner)


def imports(source: Path) -> list[Import]:
    """All imports under a source tree; `from pellucid import metrics` counts as `pellucid.metrics`."""
    found = []
    for path in sorted(source.rglob("*.py")):
        file = path.relative_to(source).as_posix()
        for node, eager in statements(ast.parse(path.read_text(encoding="utf-8")).body, eager=True):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "pellucid":
                modules = [f"pellucid.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = ["." * node.level + (node.module or "")]
            else:
                continue
            found += [Import(file, node.lineno, module, eager) for module in modules]
    return found


def refused(found: Import) -> str | None:
    """Why this import breaks the layers, or None."""
    if found.package not in {"pellucid", ""} or found.module in CONSTANTS:
        return None
    if found.importer not in LEVEL:
        return f"{found}, and LAYERS does not name {found.importer}"
    if found.package == "":
        return f"{found}: write it in full"
    wanted = component(found.module.removeprefix("pellucid").removeprefix("."))
    if wanted not in LEVEL:
        wanted = "__init__"  # `from pellucid import explain`
    if wanted == found.importer or LEVEL[wanted] < LEVEL[found.importer] or (found.importer, wanted) in SIDEWAYS:
        return None
    if (found.file, wanted) in UPWARDS and not found.eager:
        return None
    return f"{found}: {found.importer} may not import {wanted}"


def broken_layers(source: Path) -> list[str]:
    return [reason for found in imports(source) if (reason := refused(found))]


def heavy_core(source: Path) -> list[str]:
    return [
        str(found)
        for found in imports(source)
        if found.eager and found.importer == "core" and found.package not in CORE_LOADS
    ]


def shared_heavies(source: Path) -> list[str]:
    files = defaultdict(set)
    for found in imports(source):
        if found.eager and found.package in HEAVY:
            files[found.package].add(found.file)
    return [f"{package} is loaded by {', '.join(sorted(names))}" for package, names in files.items() if len(names) > 1]


CHECKS = {"layers": broken_layers, "core": heavy_core, "heavy": shared_heavies}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_source_keeps_to_the_layers(check):
    assert check(SOURCE) == []


@pytest.mark.parametrize(
    ("check", "files"),
    [
        ("layers", {"core/a.py": "from pellucid.methods import x"}),
        ("layers", {"core/a.py": "def f():\n    import pellucid.run.job"}),
        ("layers", {"core/a.py": "class A:\n  def f(self):\n    try: x\n    except E: from pellucid import metrics"}),
        ("layers", {"core/a.py": "if TYPE_CHECKING:\n    from pellucid.api import explain"}),
        ("layers", {"core/explanation.py": "from pellucid.reporting import plot"}),
        ("layers", {"attack/a.py": "from pellucid.games import engine"}),
        ("layers", {"metrics/a.py": "from pellucid.methods import saliency"}),
        ("layers", {"methods/a.py": "from pellucid import explain"}),
        ("layers", {"methods/a.py": "import pellucid"}),
        ("layers", {"api.py": "from pellucid.app import cli"}),
        ("layers", {"__init__.py": "def f():\n    from pellucid.app import cli"}),
        ("layers", {"models/a.py": "from . import torch"}),
        ("layers", {"models/a.py": "from ..core import torch"}),
        ("layers", {"helpers/a.py": "import pellucid.core"}),
        ("core", {"core/a.py": "import pandas"}),
        ("core", {"core/a.py": "class A:\n    from scipy import stats"}),
        ("core", {"core/a.py": "if TYPE_CHECKING:\n    pass\nelse:\n    import scipy"}),
        ("heavy", {"reporting/a.py": "import shap", "app/b.py": "try:\n    import shap.plots\nexcept E:\n    pass"}),
    ],
)  # fmt: skip
def test_violation_is_found(tmp_path, check, files):
    plant(tmp_path, files)
    assert len(CHECKS[check](tmp_path)) == 1


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_allowed_imports_pass(tmp_path, check):
    plant(
        tmp_path,
        {
            "__init__.py": "from pellucid.api import explain",
            "comparing.py": "from pellucid import evaluating, methods\nimport pellucid.core",
            "app/cli.py": "from pellucid import explain, methods\nimport rich",
            "core/budget.py": "def f():\n    from pellucid import __version__",
            "core/archive.py": "if TYPE_CHECKING:\n    import pandas",
            "core/explanation.py": "def plot():\n    import shap\n    from pellucid.reporting import plot",
            "games/a.py": "from pellucid.attack import pgd\nfrom pellucid.games.b import x\nimport numpy",
            "methods/a.py": "def f():\n    import matplotlib",
            "reporting/a.py": "import matplotlib",
        },
    )
    assert check(tmp_path) == []


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
