"""How a row lies in bytes: the columns of a namespace and the layout that follows from them.

A row is one value of the store, little-endian:

    format  u8      1
    schema  u32     CRC-32 of the columns' JSON: a row is never read with another row's columns
    expires u32     seconds since 1970; 0 is never
    nulls   u8 x ceil(columns / 8)      bit j of byte i: column 8 i + j is missing
    one fixed part a column, in order:
        float f32, int i64, vector:d f32 x d
        string, bytes    u32 length
        floats, ints     u32 number of values
        strings          u32 number of values, u32 length of all their bytes
    one variable part a column, in order:
        string, bytes    the bytes
        floats, ints     f32 or i64, one behind the other
        strings          u32 length of each, then the bytes of all

The fixed parts of many rows are one NumPy structured array, so hundreds of rows are read and
written without Python for each of them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from tfrec.store.errors import StoreError

FORMAT = 1
HEADER: list[tuple[str, str]] = [("format", "u1"), ("schema", "<u4"), ("expires", "<u4")]

_ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "float": pa.float32(),
    "int": pa.int64(),
    "strings": pa.list_(pa.string()),
    "floats": pa.list_(pa.float32()),
    "ints": pa.list_(pa.int64()),
}
_FIXED: dict[str, list[tuple[str, str]]] = {
    "string": [("size", "<u4")],
    "bytes": [("size", "<u4")],
    "float": [("value", "<f4")],
    "int": [("value", "<i8")],
    "strings": [("count", "<u4"), ("size", "<u4")],
    "floats": [("count", "<u4")],
    "ints": [("count", "<u4")],
}


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: of the column.
        kind: ``string``, ``bytes``, ``float``, ``int``, ``strings``, ``floats``, ``ints`` or
            ``vector:d`` (always d floats).
    """

    name: str
    kind: str

    @property
    def dim(self) -> int:
        """Length of a vector; 0 for other kinds."""
        return int(self.kind[7:]) if self.kind.startswith("vector:") else 0

    @property
    def arrow(self) -> pa.DataType:
        """Its type in Arrow."""
        return pa.list_(pa.float32(), self.dim) if self.dim else _ARROW[self.kind]


@dataclass(frozen=True)
class RowSchema:
    """The columns of one version of a namespace, in the order of the row."""

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = self.names
        if not names or len(set(names)) != len(names):
            raise StoreError(f"a namespace has columns, each named once; got {list(names)}")

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @cached_property
    def json(self) -> str:
        """The columns as text; :meth:`parse` reads it."""
        return json.dumps([[c.name, c.kind] for c in self.columns], separators=(",", ":"))

    @cached_property
    def fingerprint(self) -> int:
        """What each row carries of its schema, uint32."""
        return zlib.crc32(self.json.encode())

    @cached_property
    def arrow(self) -> pa.Schema:
        return pa.schema([(c.name, c.arrow) for c in self.columns])

    @cached_property
    def fixed(self) -> np.dtype[Any]:
        """The fixed part of a row; column i is field ``c<i>``, a structure or a vector."""
        parts: list[tuple[Any, ...]] = [*HEADER, ("nulls", "u1", (-(-len(self.columns) // 8),))]
        for i, column in enumerate(self.columns):
            if column.dim:
                parts.append((f"c{i}", "<f4", (column.dim,)))
            else:
                parts.append((f"c{i}", np.dtype(_FIXED[column.kind])))
        return np.dtype(parts)

    @classmethod
    def parse(cls, text: str | bytes) -> RowSchema:
        """Reads what :attr:`json` wrote."""
        return cls(tuple(Column(name, kind) for name, kind in json.loads(text)))

    @classmethod
    def of(cls, types: pa.Schema | Mapping[str, str]) -> RowSchema:
        """Columns from Arrow types, or from kinds by name.

        Raises:
            StoreError: a type that a row cannot hold.
        """
        if isinstance(types, pa.Schema):
            return cls(tuple(Column(f.name, kind_of(f.type, f.name)) for f in types))
        for name, kind in types.items():
            dim = kind.removeprefix("vector:")
            if kind not in _ARROW and not (dim != kind and dim.isdigit() and int(dim) > 0):
                raise StoreError(
                    f"a column is one of {sorted(_ARROW)} or vector:d; got {name!r} as {kind!r}"
                )
        return cls(tuple(Column(name, kind) for name, kind in types.items()))


def kind_of(given: pa.DataType, name: str = "") -> str:
    """The kind that holds an Arrow type: numbers become float32 or int64.

    Raises:
        StoreError: there is none.
    """
    t = pa.types
    if t.is_dictionary(given):
        return kind_of(given.value_type, name)
    if t.is_string(given) or t.is_large_string(given):
        return "string"
    if t.is_binary(given) or t.is_large_binary(given):
        return "bytes"
    if t.is_floating(given):
        return "float"
    if t.is_integer(given) or t.is_boolean(given):
        return "int"
    if t.is_fixed_size_list(given) and kind_of(given.value_type) == "float":
        return f"vector:{given.list_size}"
    if t.is_list(given) or t.is_large_list(given) or t.is_fixed_size_list(given):
        inner = kind_of(given.value_type, name)
        if inner in ("string", "float", "int"):
            return f"{inner}s"
    raise StoreError(
        f"a stored column holds text, bytes, numbers, lists of text or numbers, or vectors; got "
        f"{name!r} as {given}; cast it or leave it out"
    )
