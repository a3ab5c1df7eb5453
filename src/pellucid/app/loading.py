"""Models and inputs from what a user names on the command line: importable objects and files."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core.errors import BadInput, listing

if TYPE_CHECKING:
    import pandas as pd

MODEL_FILES = (".onnx", ".pt", ".pt2")
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Reading:
    """How inputs are read.

    ``size``: side in pixels; pictures are resized to cover a square of it and cropped to its middle.
    ``grey``: read pictures as one channel of grey instead of RGB.
    ``tensors``: give a plain function torch tensors instead of numpy arrays, so that gradients can flow.
    """

    size: int | None = None
    grey: bool = False
    tensors: bool = False


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs (B, ...), with the name of each row: a file's, or its number."""

    x: Any
    names: tuple[str, ...]


def model(text: str, options: dict[str, Any]) -> Any:
    """The wrapped model that ``package.module:factory`` or a file names; ``options`` are those of ``pellucid.wrap``.

    Importing a module and calling a factory runs the user's own code, and so may opening a .pt or .pt2 file.
    """
    from pellucid.models import wrap

    return wrap(_found(text), **options)


def _found(text: str) -> Any:
    path = Path(text)
    if path.suffix.lower() in MODEL_FILES:
        if not path.is_file():
            raise BadInput(f"model: there is no file {text!r}")
        return str(path)
    module, _, name = text.partition(":")
    if module.endswith(".py"):
        dotted = ".".join(Path(module).with_suffix("").parts)
        raise BadInput(
            f"model: expected package.module:factory, got {text!r}; did you mean {dotted}:{name or 'factory'}?"
        )
    if not name or not all(part.isidentifier() for part in module.split(".")):
        raise BadInput(f"model: expected package.module:factory or a file ({', '.join(MODEL_FILES)}), got {text!r}")
    return built(_attribute(imported(module), name))


def imported(module: str) -> Any:
    """A module, looked for in the current directory first; a missing one is the user's mistake, an error inside it is
    its own."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise BadInput(f"model: there is no module {module!r}, neither installed nor in {here}") from None


def _attribute(module: Any, dotted: str) -> Any:
    found = module
    for name in dotted.split("."):
        if not hasattr(found, name):
            public = [
                entry for entry, value in vars(module).items() if not (entry.startswith("_") or inspect.ismodule(value))
            ]
            raise BadInput(f"model: module {module.__name__!r} has no {dotted!r}; have {listing(public)}")
        found = getattr(found, name)
    return found


def built(found: Any) -> Any:
    """What a factory makes: a function or class that needs no argument is called; anything else is the model itself."""
    if not (inspect.isroutine(found) or inspect.isclass(found) or isinstance(found, functools.partial)):
        return found
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):  # it needs arguments, such as a batch, or cannot be asked
        return found
    return found()


def inputs(texts: Sequence[str], how: Reading) -> Batch:
    """One batch from image files, folders of images, .npy and .csv files, all of one kind."""
    if how.size is not None and how.size < 1:
        raise BadInput(f"--size must be at least 1 pixel, got {how.size}")
    files = [file for text in texts for file in _files(Path(text))]
    kinds = {"pictures" if file.suffix.lower() in PICTURES else file.suffix.lower() for file in files}
    if len(kinds) > 1:
        raise BadInput(
            f"inputs: expected files of one kind, got {', '.join(sorted(kinds))}; run the command once for each"
        )
    (kind,) = kinds
    if kind == "pictures":
        x: Any = np.stack(_same_size([picture(file, how) for file in files], files))
        names = tuple(file.name for file in files)
    else:
        x = _joined([table(file) if kind == ".csv" else _array(file) for file in files], files)
        names = tuple(f"row {row}" for row in range(len(x)))
    if how.tensors and kind != ".csv":
        import torch

        x = torch.from_numpy(x)
    return Batch(x, names)


def picture(path: Path, how: Reading) -> np.ndarray[Any, Any]:
    """A picture as (channel, height, width) uint8, which is read as [0, 1], or over the bounds given for the model."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("L" if how.grey else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"inputs: the image {str(path)!r} cannot be read ({type(error).__name__}); is the file whole?"
        ) from None
    if how.size is not None:
        image = ImageOps.fit(image, (how.size, how.size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if how.grey else pixels.transpose(2, 0, 1))


def table(path: Path) -> pd.DataFrame:
    """A .csv file whose first row names the columns."""
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own errors of parsing are ValueErrors
        raise BadInput(
            f"inputs: {str(path)!r} cannot be read as a table ({str(error).strip().splitlines()[0]})"
        ) from None


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES and file.is_file())
        if not found:
            raise BadInput(f"inputs: the folder {str(path)!r} holds no image ({', '.join(PICTURES)})")
        return found
    if not path.exists():
        raise BadInput(f"inputs: there is no file or folder {str(path)!r}")
    if path.suffix.lower() not in (*PICTURES, ".npy", ".csv"):
        raise BadInput(f"inputs: expected images, folders of images, .npy or .csv files, got {str(path)!r}")
    return [path]


def _array(path: Path) -> np.ndarray[Any, Any]:
    from pellucid.app.arguments import array

    found: np.ndarray[Any, Any] = array(path, "inputs")
    return found


def _same_size(pictures: list[np.ndarray[Any, Any]], files: list[Path]) -> list[np.ndarray[Any, Any]]:
    for pixels, file in zip(pictures, files, strict=True):
        if pixels.shape != pictures[0].shape:
            sizes = [
                f"{files[0].name}: {pictures[0].shape[2]} x {pictures[0].shape[1]}",
                f"{file.name}: {pixels.shape[2]} x {pixels.shape[1]}",
            ]
            raise BadInput(f"inputs: pictures of one batch must have one size, got {listing(sizes)}; give --size")
    return pictures


def _joined(parts: list[Any], files: list[Path]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1:
            raise BadInput(f"inputs: rows of one batch must have one shape, got {listing(shapes)} in {listing(files)}")
        return np.concatenate(parts)
    import pandas as pd

    columns = {tuple(part.columns) for part in parts}
    if len(columns) > 1:
        raise BadInput(f"inputs: tables of one batch must have the same columns; those of {listing(files)} differ")
    return pd.concat(parts, ignore_index=True)
