from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfrec.config import Config
from tfrec.data import BadDataError, DataError, prepare, read_tables
from tfrec.data import files as files_module

LOG = {
    "file": "log.csv",
    "columns": {"user_id": "u", "item_id": "i", "timestamp": "t", "weight": "w"},
}
GOOD = "".join(f"u{n},i{n % 7},{1000 + n},1\n" for n in range(60))
HEADER = "u,i,t,w\n"


def quarantine(folder: Path) -> list[dict]:
    lines = (folder / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda row: row["line"])


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"u1,i1,10", "wrong_arity"),
        (b"u1,i1,10,1,extra", "wrong_arity"),
        (b'u1,"i1,10,1', "unbalanced_quote"),
        (b"u\xff1,i1,10,1", "bad_encoding"),
        (b",i1,10,1", "missing_user_id"),
        (b"u1,,10,1", "missing_item_id"),
        (b"u1,nan,10,1", "missing_item_id"),
        (b"u1,i1,noon,1", "bad_time"),
        (b"u1,i1,,1", "bad_time"),
        (b"u1,i1,10,NaN", "not_a_number"),
        (b"u1,i1,10,inf", "not_a_number"),
        (b"u1,i1,10,", "not_a_number"),
        (b"u1,i1,1001,1", "duplicate"),
    ],
)
def test_each_kind_of_malformed_row_goes_to_the_quarantine(
    write: Callable[..., Path],
    configure: Callable[..., Config],
    tmp_path: Path,
    name: str,
    line: bytes,
    reason: str,
) -> None:
    rows = GOOD.encode().splitlines(keepends=True)
    rows.insert(40, line + b"\n")
    write(name, HEADER.encode() + b"".join(rows))
    config = configure(format="columns", interactions={**LOG, "file": name}, max_bad_rate=0.05)
    summary = prepare(config, tmp_path / "out")
    assert summary.quarantined == {name: {reason: 1}}
    assert (summary.rows_in, summary.rows_out) == (61, 60)
    (kept,) = quarantine(tmp_path / "out")
    assert kept == {
        "file": name,
        "line": 42,
        "reason": reason,
        "raw": line.decode("utf-8", "backslashreplace"),
    }
    tables = read_tables(tmp_path / "out")
    assert tables.interactions.column("user_id").to_pylist() == [f"u{n}" for n in range(60)]


def test_many_blocks_give_the_same_answer_as_one(
    write: Callable[..., Path],
    configure: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for n in range(400):
        kind = rng.integers(0, 10)
        lines.append(
            {
                0: f"u{n},i1,{n}",
                1: f'u{n},"i,{n}",{n},2',
                2: f'u{n},"i\n{n}",{n},2',
                3: f'u{n},"open,{n},2',
                4: "",
                5: f"u{n},i\xe9,{n},1",
            }.get(int(kind), f"u{n},i2,{n},1")
        )
    write("log.csv", (HEADER + "\n".join(lines)).encode("latin-1"))  # no line end at the end
    config = configure(format="columns", interactions=LOG, max_bad_rate=1)
    whole = prepare(config, tmp_path / "whole")
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(files_module, "BLOCK_BYTES", size)
        parts = prepare(config, tmp_path / f"parts{size}")
        assert parts.quarantined == whole.quarantined
        assert quarantine(tmp_path / f"parts{size}") == quarantine(tmp_path / "whole")
        one, other = (read_tables(tmp_path / d) for d in ("whole", f"parts{size}"))
        assert one.interactions == other.interactions
    kinds = {"wrong_arity", "unbalanced_quote", "bad_encoding"}
    assert set(whole.quarantined["log.csv"]) == kinds
    items = read_tables(tmp_path / "whole").items.column("item_id").to_pylist()
    assert any("\n" in item for item in items)
    # Every quarantined line is where it is said to be.
    raw = (tmp_path / "log.csv").read_bytes().decode("utf-8", "backslashreplace").split("\n")
    assert all(raw[row["line"] - 1] == row["raw"] for row in quarantine(tmp_path / "whole"))


def test_too_many_bad_rows_stop_with_counts_examples_and_the_file_kept(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", HEADER + GOOD + "broken\nu1,i1,noon,1\nu2,i2,dusk,1\n")
    config = configure(format="columns", interactions=LOG, max_bad_rate=0.04)
    with pytest.raises(BadDataError) as caught:
        prepare(config, tmp_path / "out")
    message = str(caught.value)
    assert "got 3 of 63 (4.76%)" in message
    assert "2 bad_time" in message
    assert "line 63: u1,i1,noon,1" in message
    assert "data.max_bad_rate" in message
    assert not (tmp_path / "out").exists()
    assert len((tmp_path / "out.quarantine.jsonl").read_text().splitlines()) == 3
    assert not list(tmp_path.glob(".out*"))


def test_rows_failed_by_a_rule_do_not_stop_the_run_and_the_first_rule_counts(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", HEADER + GOOD + ",i1,5,1\n" * 40 + "u1,i1,5,-3\n")
    rules = [
        {"column": "u", "pattern": ".+", "reason": "guest"},
        {"column": "w", "min": 0, "reason": "returned"},
    ]
    config = configure(format="columns", interactions={**LOG, "rules": rules}, max_bad_rate=0.0)
    summary = prepare(config, tmp_path / "out")
    assert summary.quarantined == {"log.csv": {"guest": 40, "returned": 1}}
    assert summary.rows_out == 60


def test_attributes_from_the_events_own_file_are_the_most_frequent_values(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write(
        "log.csv",
        "u,i,t,country,name,price\n"
        "1,a,1,DE,Mug,2.5\n1,a,2,FR,MUG,2.5\n1,b,3,DE,,9\n"
        "2,a,4,,MUG,3.0\n2,b,5,,,9\n2,c,6,,wrong,x\n3,c,bad,DE,Cup,1\n",
    )
    columns = {"user_id": "u", "item_id": "i", "timestamp": "t"}
    config = configure(
        [{"name": "price", "role": "item", "kind": "numeric"}],
        format="columns",
        interactions={"file": "log.csv", "columns": columns},
        users={"file": "log.csv", "columns": {"user_id": "u", "country": "country"}},
        items={"file": "log.csv", "columns": {"item_id": "i", "title": "name", "price": "price"}},
        max_bad_rate=1,
    )
    prepare(config, tmp_path / "out")
    tables = read_tables(tmp_path / "out")
    assert tables.users.to_pylist() == [
        {"user_id": "1", "country": "DE"},
        {"user_id": "2", "country": None},
    ]
    assert tables.items.to_pylist() == [
        {"item_id": "a", "title": "MUG", "price": 2.5},
        {"item_id": "b", "title": None, "price": 9.0},
        {"item_id": "c", "title": "wrong", "price": None},
    ]


def test_attribute_files_are_joined_and_their_bad_rows_quarantined(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", HEADER + GOOD)
    write("items.tsv.gz", "id\ttags\tcost\ni0\ta;b\t1\ni0\tz\t2\ni1\tc\tcheap\ncold\t\t3\n\tx\t1\n")
    config = configure(
        [
            {"name": "tags", "role": "item", "kind": "multi", "separator": ";"},
            {"name": "cost", "role": "item", "kind": "numeric"},
        ],
        format="columns",
        interactions=LOG,
        items={
            "file": "items.tsv.gz",
            "separator": "\t",
            "columns": {"item_id": "id", "tags": "tags", "cost": "cost"},
        },
        max_bad_rate=1,
    )
    summary = prepare(config, tmp_path / "out")
    rows = {row["item_id"]: row for row in read_tables(tmp_path / "out").items.to_pylist()}
    assert rows["i0"] == {"item_id": "i0", "tags": ["a", "b"], "cost": 1.0}
    assert rows["i1"] == {"item_id": "i1", "tags": None, "cost": None}
    assert set(rows) == {f"i{n}" for n in range(7)}
    assert summary.quarantined["items.tsv.gz"] == {
        "duplicate": 1,
        "not_a_number": 1,
        "missing_item_id": 1,
    }
    assert summary.dropped_attributes == {"items": 1}
    warm = config.model_copy(update={"data": config.data.model_copy(update={"keep_cold": True})})
    prepare(warm, tmp_path / "out")
    assert "cold" in read_tables(tmp_path / "out").items.column("item_id").to_pylist()


def test_parquet_with_true_types(configure: Callable[..., Config], tmp_path: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "who": pa.array([1, 2, None, 2]),
                "what": ["a", "b", "c", "b"],
                "when": pa.array(np.array([0, 60, 120, 60], "M8[s]").astype("M8[us]")),
                "stars": pa.array([5.0, float("nan"), 1.0, 4.0]),
                "tags": [["x"], None, ["y"], []],
            }
        ),
        tmp_path / "log.parquet",
    )
    columns = {
        "user_id": "who",
        "item_id": "what",
        "timestamp": "when",
        "weight": "stars",
        "tags": "tags",
    }
    config = configure(
        format="columns",
        interactions={"file": "log.parquet", "columns": columns},
        max_bad_rate=1,
    )
    summary = prepare(config, tmp_path / "out")
    assert summary.quarantined == {"log.parquet": {"missing_user_id": 1, "not_a_number": 1}}
    assert read_tables(tmp_path / "out").interactions.to_pylist() == [
        {
            "user_id": "1",
            "item_id": "a",
            "event": "purchase",
            "weight": 5.0,
            "timestamp": 0,
            "tags": ["x"],
        },
        {
            "user_id": "2",
            "item_id": "b",
            "event": "purchase",
            "weight": 4.0,
            "timestamp": 60,
            "tags": [],
        },
    ]
    assert [row["line"] for row in quarantine(tmp_path / "out")] == [2, 3]


def test_no_header_no_times_and_a_byte_order_mark(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.txt", "\ufeffa|x|view\r\nb|y|buy\r\na|x|view\r\n")
    columns = {"user_id": "c0", "item_id": "c1", "event": "c2"}
    config = configure(
        format="columns",
        interactions={
            "file": "log.txt",
            "separator": "|",
            "header": False,
            "columns": columns,
        },
    )
    prepare(config, tmp_path / "out")
    rows = read_tables(tmp_path / "out").interactions.to_pylist()
    # The order of the file is the time, so a repeat is an event of its own.
    assert [(r["user_id"], r["event"], r["timestamp"]) for r in rows] == [
        ("a", "view", 1),
        ("b", "buy", 2),
        ("a", "view", 3),
    ]


@pytest.mark.parametrize(
    ("content", "change", "words"),
    [
        ("", {}, "log.csv: at least one row is needed; the file holds none"),
        (HEADER, {}, "at least one row is needed"),
        ("x,y\n1,2\n", {}, r"the columns \['u', 'i', 't', 'w'\] are missing.*\['x', 'y'\]"),
        ("u,u\n1,2\n", {}, r"got twice: \['u'\]"),
        (HEADER + GOOD, {"file": "other.csv"}, "other.csv: no such file"),
        (HEADER + GOOD, {"columns": {"user_id": "u"}}, r"add \['item_id'\]"),
        (HEADER + GOOD, {"encoding": "utf-16"}, "keeps ASCII"),
    ],
)
def test_bad_files_and_maps_are_named(
    write: Callable[..., Path],
    configure: Callable[..., Config],
    tmp_path: Path,
    content: str,
    change: dict,
    words: str,
) -> None:
    write("log.csv", content)
    config = configure(format="columns", interactions={**LOG, **change})
    with pytest.raises(DataError, match=words):
        prepare(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_bad_rows_leave_nothing(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", HEADER + "u1,i1,noon,1\n")
    config = configure(format="columns", interactions=LOG, max_bad_rate=1)
    with pytest.raises(DataError, match=r"got none of 1 rows; quarantined: .*bad_time"):
        prepare(config, tmp_path / "out")


def test_a_gzip_file_cut_short_is_named(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    path = write("log.csv.gz", HEADER + GOOD)
    path.write_bytes(path.read_bytes()[:-20])
    config = configure(format="columns", interactions={**LOG, "file": "log.csv.gz"})
    with pytest.raises(DataError, match="damaged or cut short"):
        prepare(config, tmp_path / "out")


def test_one_user_one_item(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", HEADER + "u,i,1,1\n")
    summary = prepare(configure(format="columns", interactions=LOG), tmp_path / "out")
    assert (summary.users, summary.items, summary.rows_out) == (1, 1, 1)


def test_texts_that_stand_for_no_value(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    """Only the cell is missing: the row stays, and what else it tells."""
    write("log.csv", HEADER.replace("w", "d") + GOOD.replace(",1\n", ",NA\n", 30))
    write("users.csv", "id,age,pay\nu0,18,n/a\nu1, NA ,5\nu2,na,7\nNA,30,1\n")
    people = {"file": "users.csv", "columns": {"user_id": "id", "age": "age", "pay": "pay"}}
    events = {**LOG, "columns": {"user_id": "u", "item_id": "i", "timestamp": "t", "device": "d"}}
    features = [
        {"name": "age", "role": "user", "kind": "categorical"},
        {"name": "pay", "role": "user", "kind": "numeric"},
        {"name": "device", "role": "context", "kind": "categorical"},
    ]
    marks = ["NA", "n/a"]
    config = configure(
        features=features,
        format="columns",
        max_bad_rate=0.4,
        interactions={**events, "missing": marks},
        users={**people, "missing": marks},
    )
    summary = prepare(config, tmp_path / "out")
    assert summary.quarantined == {}
    tables = read_tables(tmp_path / "out")
    told = {r["user_id"]: (r["age"], r["pay"]) for r in tables.users.to_pylist()}
    # A marker is taken as it is written; ids are never missing for it.
    assert [told[u] for u in ("u0", "u1", "u2")] == [("18", None), (None, 5.0), ("na", 7.0)]
    assert tables.interactions.column("device").null_count == 30
    # Without them a text where a number is due puts its whole row aside.
    config = configure(
        features=features, format="columns", max_bad_rate=0.4, interactions=events, users=people
    )
    summary = prepare(config, tmp_path / "strict")
    assert summary.quarantined == {"users.csv": {"not_a_number": 1}}
    assert summary.lines() == ["put aside from users.csv: 1 not_a_number"]
    users = read_tables(tmp_path / "strict").users.to_pylist()
    assert next(r for r in users if r["user_id"] == "u0")["age"] is None
