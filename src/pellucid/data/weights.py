"""Weights kept between runs in the user's cache folder."""

from __future__ import annotations

import os
import pickle
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
from torch import nn

_BROKEN = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def cache_folder() -> Path:
    """``PELLUCID_CACHE`` if set, else ``pellucid`` in ``XDG_CACHE_HOME`` or in ``~/.cache``."""
    own = os.environ.get("PELLUCID_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "pellucid"


def load(name: str, net: nn.Module) -> bool:
    """Fill ``net`` from the cached file ``name``; False, with ``net`` unchanged, if there is none that can be used."""
    try:
        path = cache_folder() / name
        if not path.is_file():
            return False
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch.load takes damaged tensors as they come
                raise ValueError("its checksum is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
        expected = {key: (value.shape, value.dtype) for key, value in net.state_dict().items()}
        if {key: (value.shape, value.dtype) for key, value in state.items()} != expected:
            raise ValueError("it holds other tensors than this network has")
        net.load_state_dict(state)
    except _BROKEN as error:
        warnings.warn(f"cached weights {name} cannot be read and are made again: {error}", UserWarning, stacklevel=4)
        return False
    return True


def save(name: str, net: nn.Module) -> None:
    """Keep the weights of ``net`` as ``name``: a reader sees the whole file or none. Failing only costs a warning."""
    temporary: Path | None = None
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=name, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            torch.save(net.state_dict(), file)
        temporary.replace(folder / name)
    except (OSError, RuntimeError) as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        text = f"weights {name} are not kept for the next time (set PELLUCID_CACHE to a folder to write to): {error}"
        warnings.warn(text, UserWarning, stacklevel=4)
