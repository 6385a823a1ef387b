"""New items in a model with an inverted file: added, measured, refreshed, started from."""

from __future__ import annotations

import filecmp
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from tests.export.test_index_add import NEW, ask, everything
from tests.tables import small_data
from tfrec import cli
from tfrec.config.index import IndexConfig
from tfrec.export.batch import ModelFolderError
from tfrec.export.feature_table import read_features
from tfrec.export.golden import load_golden
from tfrec.export.index import Loaded, index_model, index_report
from tfrec.export.index_add import Added, add_items
from tfrec.export.index_refresh import read_vectors, refresh
from tfrec.export.retrieval import export_retrieval, title_table
from tfrec.models.registry import build
from tfrec.training.warm_start import Earlier, named_weights

EVERYWHERE = IndexConfig(kind="ivf", cells=4, probes=4, at=5)
runner = CliRunner()


@dataclass
class Grown:
    """A plain model and the same with an index, both with the new items."""

    model: Any
    plain: Added
    indexed: Added


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    folder = tmp_path_factory.mktemp("grow")
    data, encoder = small_data(folder / "statistics")
    model = build("two_tower", data, {"dim": 8, "history_length": 8, "history_encoder": "mean"})
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    titles = title_table(list(data.item_ids), {"i3": "Third"})
    plain = folder / "plain" / "1"
    export_retrieval(model, data, encoder, plain, titles)
    asked = ask(
        tf.saved_model.load(str(plain)), "query_vector", user_id=[f"u{i}" for i in range(12)]
    )
    (folder / "indexed").mkdir()
    index_model(plain, folder / "indexed" / "1", EVERYWHERE, asked["query"])
    return Grown(model, add_items(plain, NEW), add_items(folder / "indexed", NEW))


def test_lists_are_those_of_the_plain_model_with_the_items(grown: Grown) -> None:
    want, got = (tf.saved_model.load(str(a.folder)) for a in (grown.plain, grown.indexed))
    for given in (
        {"history": [["i1", "n1", ""]]},
        {"exclude": [["n2", "i4", "not an item"]]},
        {"user_id": ["stranger"], "history": [["n3"]], "k": 25},
    ):
        lists = [everything(model, **given) for model in (want, got)]
        np.testing.assert_array_equal(lists[0]["item_id"], lists[1]["item_id"])
        np.testing.assert_array_equal(lists[0]["title"], lists[1]["title"])
        np.testing.assert_allclose(lists[0]["score"], lists[1]["score"], atol=1e-5)
    assert {b"n1", b"n2", b"n3"} < set(everything(got)["item_id"][0].tolist())
    items = ["n1", "i5", "n3", "nothing"]
    for name, output in (("item_vector", "vector"), ("embed_item", "embedding")):
        values = [ask(m, name, item_id=items)[output] for m in (want, got)]
        np.testing.assert_allclose(values[0][:3], values[1][:3], atol=1e-5)
    scores = [ask(m, "score", user_id=["u1"] * 4, item_id=items)["score"] for m in (want, got)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
    alike = [ask(m, "similar", item_id=["n1"], k=22)["item_id"] for m in (want, got)]
    np.testing.assert_array_equal(alike[0], alike[1])


def test_the_graph_stays_and_the_report_is_anew(grown: Grown) -> None:
    added = grown.indexed
    assert filecmp.cmp(added.source / "saved_model.pb", added.folder / "saved_model.pb", False)
    assert (added.items, added.added) == (23, ("n1", "n2", "n3"))
    assert added.index == index_report(added.folder)
    assert added.index is not None
    assert (added.index.n_items, added.index.grown, added.index.recall["5"]) == (23, 3, 1.0)
    loaded = tf.saved_model.load(str(added.folder))
    assert json.loads(loaded.report.numpy()) == added.index.as_dict()
    golden = load_golden(added.folder / "assets.extra" / "golden.json")
    assert golden
    assert read_features(added.folder) == read_features(grown.plain.folder)


@pytest.mark.slow
def test_update_moves_an_item_to_another_cell(grown: Grown, tmp_path: Path) -> None:
    """In 8-bit cells, whose exact vectors move along."""
    coded = refresh(grown.indexed.folder, tmp_path / "coded", quantised=True, cells=3)
    assert coded.after.quantised
    moved = pa.table({"item_id": ["n1", "n4"], "style": [[-60.0, 1.0, 9.0], [2.0, 0.0, 0.0]]})
    results = [
        add_items(folder, moved, tmp_path / name, update=True)
        for name, folder in (("plain", grown.plain.folder), ("indexed", coded.folder))
    ]
    assert (results[1].added, results[1].updated, results[1].items) == (("n4",), ("n1",), 24)
    assert results[1].index is not None
    assert (results[1].index.grown, results[1].index.cells) == (2, 3)
    want, got = (tf.saved_model.load(str(r.folder)) for r in results)
    lists = [everything(m, k=24, history=[["n4"]]) for m in (want, got)]
    np.testing.assert_array_equal(lists[0]["item_id"], lists[1]["item_id"])
    np.testing.assert_allclose(lists[0]["score"], lists[1]["score"], atol=1e-5)


def run(*words: object, code: int = 0) -> str:
    result = runner.invoke(cli.app, [str(w) for w in words])
    assert result.exit_code == code, result.output + str(result.exception)
    return " ".join(result.output.split())


def test_refresh_makes_new_cells_of_the_same_items(grown: Grown, tmp_path: Path) -> None:
    printed = run(
        "index", "refresh", "--model", grown.indexed.folder, "--out", tmp_path, "--cells", 2
    )
    assert "23 items in 4 cells (3 of them added since)" in printed
    assert "23 items in 2 cells, " in printed
    folder = tmp_path / "3"
    report = index_report(folder)
    assert report is not None
    assert (report.cells, report.grown, report.at, report.min_recall) == (2, 0, 5, 0.95)
    before, after = (tf.saved_model.load(str(f)) for f in (grown.indexed.folder, folder))
    asked = {"history": [["i1", "n1"]], "k": 23}
    np.testing.assert_array_equal(
        everything(before, **asked)["item_id"], everything(after, **asked)["item_id"]
    )
    # Its catalogue grows on, by the command.
    (tmp_path / "more.csv").write_text("item_id,title,price\nn9,Thing 2 of kind 1,7\n")
    printed = run("index", "add", "--model", tmp_path, "--items", tmp_path / "more.csv")
    assert "1 items added, 0 updated; the catalogue holds 24" in printed
    assert "24 items in 2 cells (1 of them added since)" in printed
    last = tf.saved_model.load(str(tmp_path / "4"))
    assert b"n9" in everything(last, k=24)["item_id"][0].tolist()


def test_refresh_takes_vectors_from_a_file(grown: Grown, tmp_path: Path) -> None:
    loaded = Loaded(grown.indexed.folder)
    rows = loaded.vectors()[::-1]
    table = pa.table(
        {
            "item_id": ["brand new", *loaded.item_ids[:1:-1].tolist()],
            "vector": pa.array(rows.tolist(), pa.list_(pa.float64())),
        }
    )
    pq.write_table(table, tmp_path / "vectors.parquet")
    printed = run(
        "index", "refresh", "--model", grown.indexed.folder, "--out", tmp_path / "new",
        "--vectors", tmp_path / "vectors.parquet", "--version", 9, "--min-recall", 1.0,
    )  # fmt: skip
    assert "23 items in" in printed
    model = tf.saved_model.load(str(tmp_path / "new" / "9"))
    ids = everything(model)["item_id"][0].tolist()
    assert b"brand new" in ids
    assert loaded.item_ids[1].encode() not in ids
    # Nothing says where a new item lies among vectors from elsewhere.
    with pytest.raises(ModelFolderError, match=r"has an index.*index refresh --vectors"):
        add_items(tmp_path / "new", NEW.slice(0, 1).set_column(0, "item_id", pa.array(["n7"])))


def test_an_indexed_model_can_be_started_from(grown: Grown) -> None:
    """The manifest and the weights of the model inside are found behind the index."""
    earlier = Earlier(grown.indexed.folder)
    for name, (_, variable, _) in named_weights(grown.model).items():
        np.testing.assert_allclose(earlier.value(name), variable.numpy(), atol=1e-7)
    assert earlier.vocabulary("item_id").to_pylist()[0].startswith("i")


def test_refusals_name_the_rule(grown: Grown, tmp_path: Path) -> None:
    assert "train it with retrieval.index" in run(
        "index", "refresh", "--model", grown.plain.folder, code=2
    )
    with pytest.raises(ValueError, match="is there already; pass another version"):
        refresh(grown.indexed.folder, version=1)
    for table, message in (
        ({"item_id": ["a"]}, "needs a column 'vector'"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}, "lists of one length"),
        ({"item_id": ["a", "b"], "vector": [[1.0], None]}, "lists of one length"),
        ({"item_id": ["a"], "vector": [3.0]}, "list of numbers an item; got double"),
        ({"item_id": ["a", "a"], "vector": [[1.0], [1.0]]}, "listed twice"),
        ({"item_id": ["a"], "vector": [[1.0, 2.0]]}, "same model"),
    ):
        pq.write_table(pa.table(table), tmp_path / "bad.parquet")
        with pytest.raises(ValueError, match=message):
            refresh(
                grown.indexed.folder,
                tmp_path / "out",
                vectors=read_vectors(tmp_path / "bad.parquet"),
            )
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.isdigit()]
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_vectors(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("x")
    with pytest.raises(ValueError, match="not readable as Parquet"):
        read_vectors(tmp_path / "text.parquet")
