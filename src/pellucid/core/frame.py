"""A DataFrame as numbers and back: columns by name, text and categories as codes."""

from __future__ import annotations

import hashlib
import json
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.core.errors import BadInput, listing

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]

_CATEGORIES = ("category", "ordered category")


@dataclass
class Column:
    """One column: its name, and for text, categories and bools the values that its codes 0, 1, .. stand for.

    ``values`` is None for a column of numbers. Codes are stable: values that come later (a background) get the next
    ones, unless the dtype is ``closed``, as categories and bools are. ``dtype`` is the pandas dtype to give back.
    """

    name: Any
    values: list[Any] | None = None
    dtype: Any = None
    closed: bool = False
    _codes: dict[Any, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._codes = {value: code for code, value in enumerate(self.values or ())}

    @property
    def text(self) -> bool:
        """Whether the codes are names, so that neither 0 nor a mean of codes means anything (of a bool, 0 is False)."""
        return self.values is not None and self.values != [False, True]

    def encode(self, series: pd.Series[Any]) -> Array:
        """Numbers, or codes, of a column with this name."""
        if self.values is None:
            return _numbers(series)
        return np.array([self._code(value) for value in series.tolist()], dtype=np.float64)

    def _code(self, value: Any) -> int:
        if value not in self._codes:
            if self.values is None or self.closed:
                raise BadInput(
                    f"column {self.name!r}: {value!r} is not among its values {listing(self.values or ())}; "
                    "give both frames the same categories"
                )
            self._codes[value] = len(self.values)
            self.values.append(value)
        return self._codes[value]

    def decode(self, codes: Array) -> Any:
        """The column as the model expects it."""
        if self.values is None:
            return codes
        import pandas as pd

        whole = np.rint(codes)
        wrong = (whole != codes) | (whole < 0) | (whole >= len(self.values))
        if wrong.any():
            raise BadInput(
                f"column {self.name!r} holds {listing(self.values)} as codes 0..{len(self.values) - 1}, and "
                "the method asked for "
                f"{float(codes[wrong][0]):g}, which stands for none of them; use a removal that takes values "
                "from data, "
                "such as removal.marginal(background)"
            )
        chosen = np.empty(len(codes), dtype=object)
        chosen[:] = [self.values[code] for code in whole.astype(np.int64)]
        return pd.Series(chosen).astype(self.dtype)


@dataclass(frozen=True, eq=False)
class Frame:
    """The columns of a batch that came as a DataFrame."""

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Frame:
        """The columns of a DataFrame; the codes of a text column number its values in sorted order."""
        names = list(frame.columns)
        twice = [name for i, name in enumerate(names) if name in names[:i]]
        if twice:
            raise BadInput(f"DataFrame: column {twice[0]!r} comes twice; give every column a name of its own")
        return cls(tuple(_column(name, frame[name]) for name in names))

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Frame:
        """The columns that ``to_dict`` wrote."""
        columns = tuple(Column(**entry) for entry in stored["columns"])
        for column in columns:
            if column.dtype in _CATEGORIES:
                import pandas as pd

                column.dtype = pd.CategoricalDtype(column.values, ordered=column.dtype == _CATEGORIES[True])
        return cls(columns)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, dtypes by name."""
        return {
            "columns": [
                {
                    "name": c.name if isinstance(c.name, (int, str)) else str(c.name),
                    "values": None if c.values is None else [_plain(value) for value in c.values],
                    "dtype": _CATEGORIES[bool(c.dtype.ordered)]
                    if hasattr(c.dtype, "categories")
                    else c.dtype and str(c.dtype),
                    "closed": c.closed,
                }
                for c in self.columns
            ]
        }

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, Frame) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.names)

    def digest(self) -> str:
        """A hash of the names and of what the codes stand for."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()[:16]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, as text."""
        return tuple(str(c.name) for c in self.columns)

    @property
    def text(self) -> tuple[str, ...]:
        """The names of the columns whose codes are names."""
        return tuple(str(c.name) for c in self.columns if c.text)

    def encode(self, frame: pd.DataFrame) -> Array:
        """Numbers (R, F) of a DataFrame with these columns, in whatever order; float64, or the columns' own float type
        if they share one."""
        names = [c.name for c in self.columns]
        missing = [name for name in names if name not in frame.columns]
        more = [name for name in frame.columns if name not in names]
        if missing or more:
            raise BadInput(
                f"DataFrame: expected the columns {listing(names)}; missing {listing(missing)}, not expected "
                f"{listing(more)}"
            )
        each = [c.encode(frame[c.name]) for c in self.columns]
        return np.stack(each, 1) if each else np.empty((len(frame), 0))

    def decode(self, rows: Array) -> pd.DataFrame:
        """The DataFrame that numbers (R, F) stand for."""
        import pandas as pd

        if all(c.values is None for c in self.columns):
            return pd.DataFrame(rows, columns=[c.name for c in self.columns], copy=True)
        return pd.DataFrame({c.name: c.decode(rows[:, i]) for i, c in enumerate(self.columns)})

    def recode(self, rows: Array, other: Frame) -> Array:
        """Rows (R, F) in the columns and codes of another frame, in those of this one."""
        if self.names == other.names and not any(c.values for c in (*self.columns, *other.columns)):
            return rows
        return self.encode(other.decode(rows))


def _column(name: Any, series: pd.Series[Any]) -> Column:
    dtype = series.dtype
    kind = getattr(dtype, "kind", "O")
    if hasattr(dtype, "categories"):
        column = Column(name, list(dtype.categories), dtype, closed=True)
    elif kind == "b":
        column = Column(name, [False, True], dtype, closed=True)
    elif kind in "iuf":
        return Column(name)
    elif kind in "mMc":
        raise BadInput(
            f"DataFrame: column {name!r} has dtype {dtype}; turn it into real numbers first, such as days since a date"
        )
    else:
        entries = series.tolist()
        if all(isinstance(entry, numbers.Number) and not isinstance(entry, (bool, complex)) for entry in entries):
            return Column(name)
        _present(name, series)
        values = set(entries)
        try:
            column = Column(name, sorted(values), dtype)
        except TypeError:  # values of several types have no order of their own
            column = Column(name, sorted(values, key=lambda value: (type(value).__name__, str(value))), dtype)
    _present(name, series)
    return column


def _present(name: Any, series: pd.Series[Any]) -> None:
    gone = series.isna().to_numpy()
    if gone.any():
        raise BadInput(
            f"DataFrame: column {name!r} has missing entries, first in row {int(gone.argmax())} "
            f"({int(gone.sum())} of {len(gone)} rows); "
            "remove or impute them"
        )


def _numbers(series: pd.Series[Any]) -> Array:
    dtype = series.dtype
    kept = dtype if isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize <= 8 else np.dtype(np.float64)
    try:
        return series.to_numpy(dtype=kept, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"DataFrame: column {series.name!r} was expected to hold numbers, got dtype {dtype} ({error})"
        ) from None


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (str, int, float)) else str(value)
