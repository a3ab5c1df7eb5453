"""The result: labelled numbers with their provenance, and nothing that needs the model again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pellucid.core.errors import BadInput, Unsupported
from pellucid.core.players import Players, feature_names

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
POSITIONS = ("height", "width", "time", "token", "feature")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What one method says about B rows, in numpy, with raw sign and scale.

    - ``values`` (B, *dims) or (B, n) for players; a last axis J when several outputs are explained;
    - ``std_error`` like values, or None; ``details["std_error_covers"]`` says which randomness it counts;
    - ``base_values`` (B,) or (B, J): where the values add up from, or None; ``outputs`` likewise: f at x;
    - ``residual`` likewise: |sum of values - (outputs - base_values)|, None where the method promises nothing;
    - ``data`` (B, ...) the inputs; ``dims`` the axes of a row of values; ``players`` the label array, or None;
    - ``method`` {name, fields}, ``target``, ``seed``, ``cost``, ``versions``, ``schema``, and ``details`` (JSON values
      and named arrays).
    """

    values: Array
    outputs: Array
    data: Array
    dims: tuple[str, ...]
    method: Mapping[str, Any]
    target: Mapping[str, Any]
    seed: int
    feature_names: tuple[str, ...] | None = None
    output_names: tuple[str, ...] | None = None
    std_error: Array | None = None
    base_values: Array | None = None
    residual: Array | None = None
    players: Array | None = None
    cost: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int | slice) -> Explanation:
        """Some of the rows; one row keeps its batch axis."""
        rows = len(self)
        if isinstance(row, (int, np.integer)):
            if not -rows <= row < rows:
                raise IndexError(f"row {row} is out of range; the explanation has {rows} rows")
            row = slice(int(row) % rows, int(row) % rows + 1)
        start, stop, step = row.indices(rows)
        if step != 1:
            raise BadInput("an explanation is cut into consecutive rows only; use e[a:b]")
        per_row = ("values", "outputs", "data", "std_error", "base_values", "residual")
        cut: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[start:stop] for name in per_row
        }
        if self.players is not None and self.details.get("players_by_row"):
            cut["players"] = self.players[start:stop]
        index = self.target.get("index")
        if isinstance(index, (list, tuple)):
            cut["target"] = {**self.target, "index": list(index[start:stop])}
        by_row = self.details.get("by_row", [])
        cut["details"] = {
            name: value[start:stop] if name in by_row else value for name, value in self.details.items()
        } | {"first_row": int(self.details.get("first_row", 0)) + start}
        return replace(self, **cut)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Explanation):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        residual = self.residual_relative
        known = residual is not None and bool(np.isfinite(residual).any())
        note = f", residual {float(np.nanmax(residual)):.1e} relative" if residual is not None and known else ""
        return f"Explanation({self.method['name']}, {len(self)} rows, values {self.values.shape}{note})"

    @property
    def several(self) -> bool:
        """Whether several outputs are explained, on a last axis J."""
        return self.outputs.ndim == 2

    @property
    def pairs(self) -> bool:
        """Whether values are of pairs of players, (B, n, n), with what each does alone on the diagonal."""
        return self.dims == ("player", "player")

    @property
    def residual_relative(self) -> Array | None:
        """The residual divided by |outputs - base_values|; None where there is no residual, NaN where that is zero."""
        if self.residual is None or self.base_values is None:
            return None
        gap = np.abs(self.outputs - self.base_values)
        exact = np.where(self.residual == 0, 0.0, np.nan)
        relative: Array = np.divide(self.residual, gap, out=exact, where=gap > 0)
        return relative

    def map(self) -> Array:
        """Values at input size: (B, H, W), (B, T) or (B, F), with a last axis J if several outputs are explained.

        Signed, channels summed, never normalised. A player's value is spread evenly over its entries, so that the map
        sums to the values; a layer's map is resized bilinearly, which keeps heights, not sums. An interaction is shared
        equally by its two players (of the index k-SII this makes Shapley values).
        """
        each = self.values
        if self.pairs:
            each = (np.einsum("bii...->bi...", each) + each.sum(2)) / 2
        values = torch.from_numpy(np.ascontiguousarray(each))
        dims = self.dims
        if dims and dims[0] == "player":
            if self.players is None:
                return each
            labels = torch.from_numpy(np.ascontiguousarray(self.players))
            count = self.values.shape[1]
            by_row = bool(self.details.get("players_by_row"))
            values = Players(labels, tuple(map(str, range(count))), by_row).scatter(values)
            dims = tuple(self.details["axes"])
        if any(dim.startswith("layer_") for dim in dims):
            return self._resized(values)
        drop = [axis + 1 for axis, dim in enumerate(dims) if dim not in POSITIONS and not dim.startswith("axis")]
        return np.asarray(values.sum(drop) if drop else values)

    def _resized(self, values: torch.Tensor) -> Array:
        axes = tuple(self.details["axes"])
        size = [self.data.shape[1 + i] for i, dim in enumerate(axes) if dim in POSITIONS]
        if len(size) != len(self.dims):
            raise Unsupported(
                f"map: positions {self.dims} of the layer have no counterpart among the axes {axes} of the input; "
                "use values"
            )
        j = values.shape[-1] if self.several else 1
        stack = torch.movedim(values.reshape(*values.shape[: 1 + len(self.dims)], j), -1, 1)
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(self.dims)]
        large = torch.movedim(torch.nn.functional.interpolate(stack, size=size, mode=mode, align_corners=False), 1, -1)
        return np.asarray(large if self.several else large[..., 0])

    def top(self, count: int = 5) -> pd.DataFrame:
        """The features with the largest absolute value in each row: columns row, output, feature, value, std_error."""
        frame = self.to_dataframe()
        order = frame["value"].abs().sort_values(ascending=False, kind="stable").index
        return (
            frame.loc[order]
            .groupby(["row", "output"], sort=False)
            .head(count)
            .sort_values(["row", "output"], kind="stable")
            .reset_index(drop=True)
        )

    def to_dataframe(self) -> pd.DataFrame:
        """One line for each row, output and feature: columns row, output, feature, value, std_error.

        Of interactions every pair comes once, as "a × b".
        """
        import pandas as pd

        rows = len(self)
        flat = self.values.reshape(rows, -1, self.outputs.shape[1] if self.several else 1)
        errors = np.full_like(flat, np.nan) if self.std_error is None else self.std_error.reshape(flat.shape)
        shape = tuple(self.values.shape[1 : 1 + len(self.dims)])
        names = feature_names(shape[:1] if self.pairs else shape, self.feature_names)
        if self.pairs:
            first, second = np.triu_indices(shape[0])
            flat, errors = (array[:, first * shape[0] + second] for array in (flat, errors))
            names = tuple(
                names[a] if a == b else f"{names[a]} × {names[b]}" for a, b in zip(first, second, strict=True)
            )
        j = flat.shape[2]
        outputs = np.array([self._output_name(i, k) for i in range(rows) for k in range(j)]).reshape(rows, 1, j)
        return pd.DataFrame(
            {
                "row": np.repeat(np.arange(rows), flat.shape[1] * j),
                "output": np.broadcast_to(outputs, flat.shape).reshape(-1),
                "feature": np.broadcast_to(np.array(names)[None, :, None], flat.shape).reshape(-1),
                "value": flat.reshape(-1),
                "std_error": errors.reshape(-1),
            }
        )

    def _output_name(self, row: int, output: int) -> str:
        index = self.target.get("index")
        column = output if self.several else index[row] if isinstance(index, (list, tuple)) else None
        if column is None:
            return str(self.target.get("read", "output"))
        return str(self.output_names[column]) if self.output_names is not None else f"output {column}"

    def plot(self, **options: Any) -> Any:
        """A matplotlib figure of the explanation (see ``pellucid.reporting.plot.explanation``)."""
        from pellucid.reporting import plot

        return plot.explanation(self, **options)

    def _repr_html_(self) -> str:
        from pellucid.reporting import plot

        return str(plot.notebook_html(self))

    def to_shap(self) -> Any:
        """The same numbers as a ``shap.Explanation``, for shap's plots; needs the extra ``pellucid[shap]``."""
        try:
            import shap
        except ImportError:
            raise Unsupported("to_shap: shap is not installed; run pip install 'pellucid[shap]'") from None
        base = np.zeros_like(self.outputs) if self.base_values is None else self.base_values
        names = list(self.feature_names) if self.feature_names is not None else None
        data = self.data if self.data.shape == self.values.shape[: self.data.ndim] else None
        return shap.Explanation(values=self.values, base_values=base, data=data, feature_names=names)

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to one .npz file (arrays and JSON, no pickle); the file appears whole or not at all."""
        from pellucid.core import archive

        archive.save(self, path)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.shape != b.shape or a.dtype != b.dtype:
            return False
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and np.isnan(a) and np.isnan(b))
