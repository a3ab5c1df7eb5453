"""Explanations on disk: one .npz with arrays and one JSON text, read without pickle, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core.errors import BadInput
from pellucid.core.explanation import SCHEMA, Explanation

_ARRAYS = ("values", "outputs", "data", "std_error", "base_values", "residual", "players")
_META, _LIST = "explanation.json", "arrays"
# What numpy, zipfile, zlib and json raise on bytes that were changed or cut off.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def save(explanation: Explanation, path: str | PathLike[str]) -> None:
    """See ``Explanation.save``."""
    target = Path(path)
    if not target.parent.is_dir():
        raise BadInput(f"save: the folder {str(target.parent)!r} does not exist")
    arrays = {name: value for name in _ARRAYS if (value := getattr(explanation, name)) is not None}
    meta: dict[str, Any] = {}
    for f in fields(explanation):
        if f.name not in _ARRAYS:
            meta[f.name] = _split(getattr(explanation, f.name), f.name, arrays)
    meta[_LIST] = sorted(arrays)  # a damaged file may lose some without a trace
    text = json.dumps(meta, allow_nan=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **{_META: np.frombuffer(text.encode(), dtype=np.uint8)}, **arrays)  # type: ignore[arg-type]
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: str | PathLike[str]) -> Explanation:
    """Read an explanation that ``Explanation.save`` wrote."""
    source = Path(path)
    if not source.is_file():
        raise BadInput(f"load: there is no file {str(source)!r}")
    try:
        with source.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(arrays.pop(_META).tobytes().decode())
        if not isinstance(meta, dict):
            raise TypeError("not a record")
        if meta["schema"] > SCHEMA:
            raise BadInput(
                f"load: {str(source)!r} has schema {meta['schema']}, this version reads up to {SCHEMA}; update pellucid"
            )
        if meta.pop(_LIST) != sorted(arrays):
            raise ValueError("arrays are missing")
        joined = {name: _join(value, arrays) for name, value in meta.items()}
        for name in ("dims", "feature_names", "output_names"):
            joined[name] = None if joined[name] is None else tuple(joined[name])
        whole: dict[str, Any] = {name: arrays.get(name) for name in _ARRAYS} | joined
        return Explanation(**whole)
    except BadInput:
        raise
    except _DAMAGED as error:
        raise BadInput(
            f"load: {str(source)!r} is not a pellucid explanation or is damaged ({type(error).__name__}); save it again"
        ) from error


def _split(value: Any, place: str, arrays: dict[str, Any]) -> Any:
    """JSON with every array moved out under its path."""
    if isinstance(value, np.ndarray):
        arrays[place] = value
        return {"__array__": place}
    if isinstance(value, dict):
        return {str(key): _split(entry, f"{place}/{key}", arrays) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_split(entry, f"{place}/{i}", arrays) for i, entry in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _join(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__array__"}:
            return arrays[value["__array__"]]
        return {key: _join(entry, arrays) for key, entry in value.items()}
    if isinstance(value, list):
        return [_join(entry, arrays) for entry in value]
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
