from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfrec.data import (
    DataError,
    Tables,
    canonical,
    open_interactions,
    read_tables,
    titles,
    write_tables,
)
from tfrec.data.tables import INTERACTION_SCHEMA, ITEM_SCHEMA, write_interactions


def small() -> Tables:
    return Tables(
        pa.table(
            {
                "query": ["red mug", None],
                "user_id": ["a", "b"],
                "item_id": ["x", "y"],
                "event": ["purchase", "purchase"],
                "weight": [1, 2],
                "timestamp": [10, 20],
            }
        ),
        pa.table({"user_id": ["a", "b"], "age": [30, None]}),
        pa.table(
            {
                "item_id": ["x", "y"],
                "title": ["Mug", None],
                "genres": [["p", "q"], []],
                "image": [b"\x89PNG", None],
            }
        ),
    )


def test_write_and_read_give_the_same_rows_in_canonical_types(tmp_path: Path) -> None:
    write_tables(small(), tmp_path)
    back = read_tables(tmp_path)
    assert back.interactions.column_names == [*INTERACTION_SCHEMA.names, "query"]
    assert back.interactions.schema.field("weight").type == pa.float32()
    assert back.interactions.to_pylist()[0] == {
        "user_id": "a",
        "item_id": "x",
        "event": "purchase",
        "weight": 1.0,
        "timestamp": 10,
        "query": "red mug",
    }
    assert back.users.to_pylist() == [{"user_id": "a", "age": 30.0}, {"user_id": "b", "age": None}]
    assert back.items.to_pylist() == small().items.to_pylist()


def test_titles_fall_back_to_the_id() -> None:
    assert titles(small().items) == ["Mug", "y"]
    assert titles(pa.table({"item_id": ["x"]})) == ["x"]


def test_parts_are_cut_and_read_as_one(tmp_path: Path) -> None:
    part = canonical(small().interactions, INTERACTION_SCHEMA)
    for _ in write_interactions((part for _ in range(5)), tmp_path, rows_per_part=4):
        pass
    assert len(list((tmp_path / "interactions").iterdir())) == 3
    dataset = open_interactions(tmp_path)
    assert dataset.count_rows() == 10
    assert sum(batch.num_rows for batch in dataset.to_batches(batch_size=3)) == 10


def test_large_whole_numbers_and_dictionaries_become_canonical() -> None:
    table = pa.table(
        {
            "item_id": pa.array(["x", "y"]).dictionary_encode(),
            "code": pa.array([2**40 + 1, 1]),
            "vector": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2)),
            "new": pa.array([True, None]),
        }
    )
    result = canonical(table, ITEM_SCHEMA)
    assert result.schema.types == [
        pa.string(),
        pa.float32(),
        pa.list_(pa.float32()),
        pa.string(),
    ]
    assert result.column("new").to_pylist() == ["true", None]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda log: log.drop(["weight"]), "'weight'.*missing"),
        (lambda log: log.slice(0, 0), "at least one row"),
        (
            lambda log: log.set_column(1, "user_id", pa.array(["a", None])),
            "'user_id' is never null; got 1",
        ),
        (
            lambda log: log.append_column("day", pa.array(np.array([1, 2], "M8[D]"))),
            "'day' as date32",
        ),
    ],
)
def test_bad_tables_are_refused(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], words: str
) -> None:
    tables = small()
    changed = Tables(change(tables.interactions), tables.users, tables.items)
    with pytest.raises(DataError, match=words):
        write_tables(changed, tmp_path)


def test_an_id_twice_among_attributes_is_refused(tmp_path: Path) -> None:
    tables = small()
    twice = pa.concat_tables([tables.users, tables.users.slice(0, 1)])
    with pytest.raises(DataError, match="3 rows for 2 ids"):
        write_tables(Tables(tables.interactions, twice, tables.items), tmp_path)


def test_a_folder_without_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"part-\*.parquet"):
        read_tables(tmp_path)
    write_tables(small(), tmp_path)
    (tmp_path / "items.parquet").unlink()
    with pytest.raises(DataError, match=r"items.parquet: no such file"):
        read_tables(tmp_path)


def test_a_wrong_type_in_the_folder_is_named(tmp_path: Path) -> None:
    write_tables(small(), tmp_path)
    part = next((tmp_path / "interactions").iterdir())
    table = pq.read_table(part)
    at = table.column_names.index("timestamp")
    pq.write_table(table.set_column(at, "timestamp", pa.array([1.0, 2.0])), part)
    with pytest.raises(DataError, match="'timestamp' is int64; got double"):
        open_interactions(tmp_path)
