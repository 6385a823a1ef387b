from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tfrec.config import Config
from tfrec.data import DataError, assign, prepare, read_tables

TRAIN = "0\t5\t4\n1\t6\t3\n0\t6\t2\n0\t7\t1\n1\t5\t5\n"
TEST = "0\t8\t5\t978824351\n1\t7\t4\t978300174\n"
NEGATIVE = "(0,8)\t1\t2\t3\n(1,7)\t2\t3\t4\n"


def write_all(
    write: Callable[..., Path], gz: str = "", prefix: str = "ncf/ml-1m.", train: str = TRAIN
) -> None:
    write(f"{prefix}train.rating{gz}", train)
    write(f"{prefix}test.rating{gz}", TEST)
    write(f"{prefix}test.negative{gz}", NEGATIVE)


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("prefix", ["ncf/ml-1m.", "ncf/"])
def test_row_order_is_time_order_and_the_test_row_is_last(
    write: Callable[..., Path],
    configure: Callable[..., Config],
    tmp_path: Path,
    gz: str,
    prefix: str,
) -> None:
    write_all(write, gz, prefix)
    config = configure(format="ncf", path=str(tmp_path / "ncf"))
    summary = prepare(config, tmp_path / "out")
    log = read_tables(tmp_path / "out").interactions
    assert summary.rows_in == summary.rows_out == 7
    assert log.column("user_id").to_pylist() == ["0", "1", "0", "0", "1", "0", "1"]
    assert log.column("timestamp").to_pylist() == [0, 0, 1, 2, 1, 3, 2]
    split = assign(log, config.split).to_pylist()
    assert split == ["train", "train", "train", "eval", "eval", "test", "test"]
    negatives = pq.read_table(tmp_path / "out" / "ncf_negatives.parquet").to_pylist()
    assert negatives == [
        {"user_id": "0", "item_id": "8", "negatives": ["1", "2", "3"]},
        {"user_id": "1", "item_id": "7", "negatives": ["2", "3", "4"]},
    ]


def test_times_of_the_fourth_column_are_kept_and_the_test_row_never_earlier(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    train = "0\t5\t4\t978824360\n0\t6\t4\t978824300\n0\t7\t4\t978824310\n1\t9\t1\t5\n"
    write_all(write, train=train)
    config = configure(format="ncf", path=str(tmp_path / "ncf"))
    prepare(config, tmp_path / "out")
    log = read_tables(tmp_path / "out").interactions
    # The published test time of user 0 (978824351) lies before a training event.
    assert log.column("timestamp").to_pylist() == [
        978824360,
        978824300,
        978824310,
        5,
        978824360,
        978300174,
    ]
    assert assign(log, config.split).to_pylist()[4] == "test"


def test_times_and_attributes_come_from_the_published_ratings_above(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write_all(write)
    write("ncf/item_map.csv", "ncf,movie\n5,50\n6,60\n7,70\n8,80\n")
    ratings = [(1, 50, 300), (1, 60, 100), (1, 70, 200), (1, 80, 400)]
    ratings += [(2, 60, 20), (2, 50, 10), (2, 70, 30)]
    write("ratings.dat", "".join(f"{u}::{m}::3::{t}\n" for u, m, t in ratings))
    write("users.dat", "1::F::1::10::48067\n2::M::56::16::70072\n")
    write("movies.dat", "50::Heat (1995)::Crime\n")
    config = configure(format="ncf", path=str(tmp_path / "ncf"))
    summary = prepare(config, tmp_path / "out")
    tables = read_tables(tmp_path / "out")
    assert summary.rows_in == 7
    assert tables.interactions.column("timestamp").to_pylist() == [300, 20, 100, 200, 10, 400, 30]
    assert tables.interactions.column("weight").to_pylist() == [4, 3, 2, 1, 5, 5, 4]
    assert tables.users.column("gender").to_pylist() == ["female", "male"]
    assert tables.items.to_pylist()[0]["title"] == "Heat"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("ncf/ml-1m.train.rating", "0\t1\n", "3 or 4 columns"),
        ("ncf/ml-1m.test.negative", "0,8\t1\t2\n", "begins with"),
    ],
)
def test_other_files_are_refused(
    write: Callable[..., Path],
    configure: Callable[..., Config],
    tmp_path: Path,
    name: str,
    content: str,
    words: str,
) -> None:
    write_all(write)
    write(name, content)
    with pytest.raises(DataError, match=words):
        prepare(configure(format="ncf", path=str(tmp_path / "ncf")), tmp_path / "out")
