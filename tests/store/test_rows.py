"""Rows of bytes: what is written comes back, whatever the values; torn rows are told."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.store.decode import decode
from tfrec.store.encode import encode
from tfrec.store.errors import StoreError
from tfrec.store.layout import RowSchema, kind_of
from tfrec.store.ragged import gather, positions

SCHEMA = RowSchema.of(
    {
        "text": "string",
        "raw": "bytes",
        "price": "float",
        "count": "int",
        "tags": "strings",
        "weights": "floats",
        "times": "ints",
        "vector": "vector:3",
        "late": "string",
    }
)
TEXT = st.text(max_size=8)
FLOAT = st.floats(width=32, allow_nan=False)
INT = st.integers(-(2**63), 2**63 - 1)


def row() -> st.SearchStrategy[dict[str, object]]:
    """Any row, each value perhaps missing."""
    kinds = {
        "text": TEXT,
        "raw": st.binary(max_size=8),
        "price": FLOAT,
        "count": INT,
        "tags": st.lists(TEXT, max_size=4),
        "weights": st.lists(FLOAT, max_size=4),
        "times": st.lists(INT, max_size=4),
        "vector": st.lists(FLOAT, min_size=3, max_size=3),
        "late": TEXT,
    }
    return st.fixed_dictionaries({name: st.none() | kind for name, kind in kinds.items()})


@settings(deadline=None, max_examples=150)
@given(st.lists(st.none() | row(), max_size=6))
def test_what_is_written_comes_back(rows: list[dict[str, object] | None]) -> None:
    there = [r for r in rows if r is not None]
    table = pa.Table.from_pylist(there, schema=SCHEMA.arrow)
    written = iter(encode(table, SCHEMA).to_pylist())
    values = [None if r is None else next(written) for r in rows]
    columns, found = decode(values, SCHEMA)
    assert found.tolist() == [r is not None for r in rows]
    for name in SCHEMA.names:
        assert columns[name].type == SCHEMA.arrow.field(name).type
        columns[name].validate(full=True)
        assert columns[name].to_pylist() == [None if r is None else r[name] for r in rows]


def test_a_row_is_the_bytes_the_layout_says() -> None:
    """Written out by hand, so that both directions cannot be wrong together."""
    schema = RowSchema.of({"a": "string", "b": "strings", "c": "float", "d": "ints"})
    table = pa.table({"a": ["hé"], "b": [["x", "", "yz"]], "c": pa.array([None], pa.float32())})
    by_hand = (
        struct.pack("<BII", 1, schema.fingerprint, 77)
        + bytes([0b1100])  # c and d are missing
        + struct.pack("<IIIfI", 3, 3, 3, 0.0, 0)
        + "hé".encode()
        + struct.pack("<III", 1, 0, 2)
        + b"xyz"
    )
    assert encode(table, schema, expires=77).to_pylist() == [by_hand]
    columns, found = decode([by_hand, None], schema, now=76.5)
    assert found.tolist() == [True, False]
    assert columns["b"].to_pylist() == [["x", "", "yz"], None]
    assert columns["d"].to_pylist() == [None, None]
    expired, gone = decode([by_hand], schema, now=77)
    assert (gone.tolist(), expired["a"].to_pylist()) == ([False], [None])


def test_slices_and_chunks_are_written_as_what_they_hold() -> None:
    table = pa.Table.from_pylist(
        [{"text": f"t{i}", "tags": [f"a{i}"] * (i % 3), "vector": [i, 1, 2]} for i in range(9)],
        schema=SCHEMA.arrow,
    )
    cut = pa.concat_tables([table.slice(2, 3), table.slice(6, 2)])
    columns, _ = decode(encode(cut, SCHEMA).to_pylist(), SCHEMA)
    for name in ("text", "tags", "vector"):
        assert columns[name].to_pylist() == cut.column(name).to_pylist()


def test_missing_values_inside_lists_and_other_number_types() -> None:
    schema = RowSchema.of({"tags": "strings", "floats": "floats", "v": "vector:2", "n": "int"})
    table = pa.table(
        {
            "tags": [["a", None]],
            "floats": pa.array([[1, None]], pa.list_(pa.int32())),
            "v": pa.array([[1.5, None]], pa.list_(pa.float64())),
            "n": pa.array([True]),
        }
    )
    columns, _ = decode(encode(table, schema).to_pylist(), schema)
    assert columns["tags"].to_pylist() == [["a", ""]]
    assert np.isnan(columns["floats"].to_pylist()[0][1])
    assert np.isnan(columns["v"].to_pylist()[0][1])
    assert columns["n"].to_pylist() == [1]


def test_only_the_wanted_columns_and_none_for_no_rows() -> None:
    columns, found = decode([None, None], SCHEMA, ["late", "price"])
    assert list(columns) == ["late", "price"]
    assert columns["price"].to_pylist() == [None, None]
    assert not found.any()
    with pytest.raises(StoreError, match="no column 'nonsense'; there are"):
        decode([], SCHEMA, ["nonsense"])


@pytest.mark.parametrize("cut", [1, 9, 40, -1])
def test_a_torn_row_is_never_read(cut: int) -> None:
    table = pa.table({"text": ["abc"], "tags": [["d", "ef"]]})
    (whole,) = encode(table, SCHEMA).to_pylist()
    with pytest.raises(StoreError, match="a stored value is a row"):
        decode([whole, whole[:cut]], SCHEMA)
    other = RowSchema.of(dict.fromkeys(("text", "tags"), "string"))
    with pytest.raises(StoreError, match="other columns"):
        decode([whole], other)


def test_bad_columns_say_what_is_wrong() -> None:
    with pytest.raises(StoreError, match="got also \\['colour'\\]"):
        encode(pa.table({"colour": ["red"]}), SCHEMA)
    with pytest.raises(StoreError, match="'vector' holds 3 numbers a row; got \\[2\\]"):
        encode(pa.table({"vector": [[1.0, 2.0]]}), SCHEMA)
    with pytest.raises(StoreError, match="column 'count' holds int; got string"):
        encode(pa.table({"count": ["many"]}), SCHEMA)
    with pytest.raises(StoreError, match="no missing one; got 1 in 'times'"):
        encode(pa.table({"times": [[1, None]]}), SCHEMA)
    with pytest.raises(StoreError, match="got 'when' as timestamp"):
        kind_of(pa.timestamp("s"), "when")
    with pytest.raises(StoreError, match="each named once"):
        RowSchema.of({})
    with pytest.raises(StoreError, match="got 'v' as 'vector:0'"):
        RowSchema.of({"v": "vector:0"})
    assert RowSchema.parse(SCHEMA.json) == SCHEMA


def test_ragged_positions_against_a_loop() -> None:
    starts, sizes = np.array([5, 0, 9, 9]), np.array([2, 0, 3, 1])
    slow = [s + i for s, n in zip(starts, sizes, strict=True) for i in range(n)]
    assert positions(starts, sizes).tolist() == slow
    assert gather(np.arange(20, dtype=np.uint8), starts, sizes).tolist() == slow
