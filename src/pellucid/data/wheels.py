"""Files that other packages carry in their wheels, found without importing those packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def missing(package: str, purpose: str) -> ModuleNotFoundError:
    """The error for a package that is needed for ``purpose`` and is not installed."""
    return ModuleNotFoundError(
        f'{purpose} needs the package {package!r}, which is not installed: pip install "pellucid[demo]"',
        name=package,
    )


def folder(package: str, purpose: str) -> Path:
    """Where an installed package lives; the package itself is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise missing(package, purpose)
    return Path(next(iter(spec.submodule_search_locations)))


def file(package: str, path: str, purpose: str) -> Path:
    """One file of an installed package; a release that no longer carries it counts as not installed."""
    found = folder(package, purpose) / path
    if not found.is_file():
        raise missing(package, f"{purpose} (file {path})")
    return found
