"""States of chunks on disk: a folder a job, named by its spec's hash; a file a chunk, written whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import BadInput, Unsupported

_META = "state.json"
_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, ImportError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclasses.dataclass(frozen=True)
class Store:
    """A job's folder."""

    folder: Path

    @classmethod
    @contextlib.contextmanager
    def opened(
        cls, root: str | Path | None, spec: Mapping[str, Any], temporary: bool, resume: bool
    ) -> Iterator[Store | None]:
        """The folder of this spec under ``root``; a passing one where workers need a place to meet; else None."""
        if root is None and not temporary:
            yield None
            return
        if root is None:
            with tempfile.TemporaryDirectory(prefix="pellucid-") as passing:
                yield cls(Path(passing))
            return
        text = json.dumps(spec, sort_keys=True)
        folder = Path(root) / hashlib.sha256(text.encode()).hexdigest()[:32]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"run: cannot make the store {str(folder)!r} ({error}); name a folder that can be written"
            ) from error
        store = cls(folder)
        if not resume:
            for old in folder.glob("*.npz"):
                old.unlink(missing_ok=True)
        for left in folder.glob(".*.part"):  # what a killed process had begun
            left.unlink(missing_ok=True)
        store.write("spec.json", lambda file: file.write(text.encode()))
        yield store

    def has(self, key: str) -> bool:
        """Whether a chunk is there."""
        return self._path(key).is_file()

    def load(self, key: str) -> tuple[Any, dict[str, int]] | None:
        """The state of a chunk and what it cost; None where it is not there or damaged (it is then made again)."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            meta = json.loads(arrays.pop(_META).tobytes().decode())
            return _join(meta["state"], arrays), {name: int(meta["cost"][name]) for name in ("forwards", "backwards")}
        except _DAMAGED:
            path.unlink(missing_ok=True)
            return None

    def save(self, key: str, state: Any, cost: Mapping[str, int]) -> None:
        """Write the state of a chunk."""
        arrays: dict[str, Any] = {}
        text = json.dumps({"state": _split(state, "s", arrays), "cost": dict(cost)})
        arrays[_META] = np.frombuffer(text.encode(), dtype=np.uint8)
        self.write(self._path(key).name, lambda file: np.savez(file, **arrays))

    def write(self, name: str, fill: Any) -> None:
        """Write one file so that it is there whole or not at all, also after a loss of power."""
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=f".{name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self.folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"


def _split(value: Any, place: str, arrays: dict[str, Any]) -> Any:
    """A state as JSON, with its tensors moved to ``arrays`` under their place."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu()
        arrays[place] = plain.view(torch.int16).numpy() if plain.dtype == torch.bfloat16 else plain.numpy()
        return {"tensor": place, "bfloat16": plain.dtype == torch.bfloat16, "device": str(value.device)}
    if isinstance(value, np.ndarray):
        arrays[place] = value
        return {"array": place}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: _split(getattr(value, f.name), f"{place}/{f.name}", arrays)
            for f in dataclasses.fields(value)
            if f.init
        }
        return {"state": f"{type(value).__module__}:{type(value).__qualname__}", "fields": fields}
    if isinstance(value, dict):
        return {"dict": {name: _split(entry, f"{place}/{name}", arrays) for name, entry in value.items()}}
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_split(entry, f"{place}/{i}", arrays) for i, entry in enumerate(value)]}
    if isinstance(value, frozenset):
        return {"frozenset": sorted(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    if isinstance(value, np.generic):
        return {"value": value.item()}
    raise Unsupported(
        f"store: a state holds a {type(value).__name__}, which has no stored form; "
        "use tensors, numbers, text and dataclasses"
    )


def _join(node: Any, arrays: dict[str, Any]) -> Any:
    (kind, content) = next(iter(node.items()))
    if kind == "tensor":
        tensor = torch.from_numpy(np.array(arrays[content]))
        return (tensor.view(torch.bfloat16) if node["bfloat16"] else tensor).to(node["device"])
    if kind == "array":
        return arrays[content]
    if kind == "state":
        module, name = content.split(":")
        cls = getattr(sys.modules.get(module), name, None)  # loaded code only: a file never makes us import
        if not isinstance(cls, type) or not dataclasses.is_dataclass(cls):
            raise TypeError(f"{content} is not a state that this process knows")
        return cls(**{field: _join(entry, arrays) for field, entry in node["fields"].items()})
    if kind == "dict":
        return {name: _join(entry, arrays) for name, entry in content.items()}
    if kind in ("tuple", "list"):
        entries = [_join(entry, arrays) for entry in content]
        return tuple(entries) if kind == "tuple" else entries
    return frozenset(content) if kind == "frozenset" else content
