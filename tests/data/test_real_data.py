"""Counts on the published sets that anybody can check; skipped where they are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tfrec.config import Config, SplitConfig, load_config, parse_config
from tfrec.data import assign, prepare, read_tables

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def config_of(name: str, path: Path) -> Config:
    """A bundled configuration that reads from ``path``."""
    config = load_config(CONFIGS / f"{name}.yaml")
    return config.model_copy(update={"data": config.data.model_copy(update={"path": str(path)})})


def features_are_columns(config: Config, folder: Path) -> bool:
    tables = read_tables(folder)
    columns = {
        "user": tables.users.column_names,
        "item": tables.items.column_names,
        "context": tables.interactions.column_names,
    }
    return all(f.name in columns[f.role] for f in config.feature_table)


def test_movielens_1m(shared_data: Path, tmp_path: Path) -> None:
    config = config_of("movielens_1m", shared_data / "ml-1m")
    summary = prepare(config, tmp_path / "out")
    assert (summary.rows_in, summary.rows_out) == (1_000_209, 1_000_209)
    assert (summary.users, summary.items) == (6_040, 3_706)
    assert summary.dropped_attributes == {"items": 3_883 - 3_706}
    assert summary.quarantined == {}
    assert features_are_columns(config, tmp_path / "out")
    tables = read_tables(tmp_path / "out")
    assert tables.items.column("title").null_count == 0
    assert tables.users.column("age").null_count == 0
    counts = pc.value_counts(assign(tables.interactions, SplitConfig())).to_pylist()
    by_name = {row["values"]: row["counts"] for row in counts}
    assert by_name == {"train": 1_000_209 - 2 * 6_040, "eval": 6_040, "test": 6_040}


def test_movielens_100k(shared_data: Path, tmp_path: Path) -> None:
    config = parse_config(
        {
            "name": "t",
            "data": {"format": "movielens_100k", "path": str(shared_data / "ml-100k")},
        }
    )
    summary = prepare(config, tmp_path / "out")
    assert (summary.rows_out, summary.users, summary.items) == (100_000, 943, 1_682)
    assert summary.quarantined == {}


def test_ncf(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ml-1m" / "ncf"
    config = parse_config({"name": "t", "data": {"format": "ncf", "path": str(folder)}})
    summary = prepare(config, tmp_path / "out")
    assert summary.rows_in == summary.rows_out == 994_169 + 6_040
    assert (summary.users, summary.items) == (6_040, 3_706)
    log = read_tables(tmp_path / "out").interactions
    split = assign(log, config.split)
    tested = log.filter(pc.equal(split, "test")).select(["user_id", "item_id"]).to_pylist()
    negatives = pq.read_table(tmp_path / "out" / "ncf_negatives.parquet")
    assert tested == negatives.select(["user_id", "item_id"]).to_pylist()
    assert set(pc.list_value_length(negatives["negatives"]).to_pylist()) == {99}
    # As published: 156 candidate lists hold the test item itself.
    lists = np.array(negatives["negatives"].to_pylist())
    assert (lists == np.array(negatives["item_id"].to_pylist())[:, None]).sum() == 156


def test_online_retail(shared_data: Path, tmp_path: Path) -> None:
    config = config_of("online_retail", shared_data / "online-retail")
    summary = prepare(config, tmp_path / "out")
    assert summary.rows_in == 541_909
    counts = summary.quarantined["online_retail.csv.gz"]
    # 135,080 is the number published with the set.
    # The others are counted by a plain reader below.
    assert counts == {
        "missing_customer": 135_080,
        "cancelled_invoice": 8_905,
        "duplicate": 5_228,
        "odd_stock_code": 1_543,
        "no_price": 44,
    }
    lost = sum(counts.values()) + sum(summary.filtered.values())
    assert summary.rows_out == summary.rows_in - lost
    with (tmp_path / "out" / "quarantine.jsonl").open(encoding="utf-8") as stream:
        assert sum(1 for _ in stream) == sum(counts.values())
    assert features_are_columns(config, tmp_path / "out")


def test_online_retail_counts_against_a_plain_reader(shared_data: Path, tmp_path: Path) -> None:
    """The same rules, written out line by line with the csv module."""
    import csv
    import gzip
    import re
    from collections import Counter

    config = config_of("online_retail", shared_data / "online-retail")
    found: Counter[str] = Counter()
    seen = set()
    with gzip.open(shared_data / "online-retail" / "online_retail.csv.gz", "rt") as stream:
        for row in csv.DictReader(stream):
            if not row["CustomerID"]:
                found["missing_customer"] += 1
            elif row["InvoiceNo"].startswith("C"):
                found["cancelled_invoice"] += 1
            elif float(row["Quantity"]) < 1:
                found["returned"] += 1
            elif float(row["UnitPrice"]) < 0.01:
                found["no_price"] += 1
            elif not re.fullmatch(r"\d{5}[A-Za-z]{0,2}", row["StockCode"]):
                found["odd_stock_code"] += 1
            else:
                names = ("CustomerID", "StockCode", "InvoiceDate", "Quantity", "UnitPrice")
                key = tuple(row[name] for name in names)
                found["duplicate"] += key in seen
                seen.add(key)
    summary = prepare(config, tmp_path / "out")
    assert summary.quarantined["online_retail.csv.gz"] == {k: n for k, n in found.items() if n}


def test_complete_journey(shared_data: Path, tmp_path: Path) -> None:
    config = config_of("completejourney", shared_data / "completejourney")
    summary = prepare(config, tmp_path / "out")
    assert summary.rows_in == 75_000
    assert set(summary.quarantined["transactions_sample.csv.gz"]) == {
        "nothing_bought",
        "sold_by_volume",
        "no_price",
    }
    assert features_are_columns(config, tmp_path / "out")


@pytest.mark.parametrize("name", ["sample", "movielens_1m", "online_retail", "completejourney"])
def test_bundled_configurations_are_valid(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.name == name
