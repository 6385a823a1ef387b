"""New items in an exported catalogue: placed by their features, found, excluded, served."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tests.tables import small_data
from tfrec.export.batch import ModelFolderError
from tfrec.export.golden import load_golden
from tfrec.export.index_add import add_items
from tfrec.export.new_items import read_new_items
from tfrec.export.retrieval import export_retrieval, title_table
from tfrec.models.registry import build

MODELS = {
    "two_tower": {"dim": 8, "history_length": 8, "history_encoder": "mean"},
    "gmf": {"factors": 4, "history_length": 8, "fold_in_steps": 3},
    "item2vec": {"dim": 4, "attributes": True, "match": "similar"},
}
NEW = pa.table(
    {
        "item_id": ["n1", "n2", "n3"],
        "title": ["Thing 1 of kind 2", None, "Thing 9 of kind 2"],
        "genres": [["g1"], ["g0", "g2"], None],
        "price": pa.array([5.0, None, 40.0], pa.float32()),
        "style": [[1.0, 1.0, -1.0], [5.0, 1.0, -1.0], [2.0, 0.0, 0.0]],
    }
)


# Exporting and loading takes the time: one model in each run of the tests, the others in slow ones.
PARAMS = [name if name == "gmf" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]


@pytest.fixture(scope="module", params=PARAMS)
def grown(request, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp(request.param)
    data, encoder = small_data(folder / "statistics")
    model = build(request.param, data, MODELS[request.param])
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    export_retrieval(
        model, data, encoder, folder / "models" / "1", title_table(data.item_ids, {"i3": "Third"})
    )
    shutil.rmtree(folder / "statistics")
    added = add_items(folder / "models", NEW)
    old = tf.saved_model.load(str(added.source))
    return model, data, old, tf.saved_model.load(str(added.folder)), added


def ask(loaded, name: str, **given: object) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
    """Calls a signature; what is not given is missing."""
    call = loaded.signatures[name]
    rows = len(next(v for v in given.values() if isinstance(v, list)))
    inputs = {}
    for key, spec in call.structured_input_signature[1].items():
        if key in given:
            inputs[key] = tf.constant(given[key], spec.dtype)
        else:
            shape = [rows, *(d or 0 for d in spec.shape[1:])]
            inputs[key] = tf.fill(shape, "" if spec.dtype == tf.string else float("nan"))
    return {key: value.numpy() for key, value in call(**inputs).items()}


def everything(loaded, **given: object) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
    return ask(loaded, "recommend", **{"user_id": ["u1"], "exclude": [[""]], "k": 23, **given})


def test_a_version_is_added_and_the_graph_stays(grown) -> None:  # type: ignore[no-untyped-def]
    added = grown[4]
    assert (added.folder.name, added.source.name) == ("2", "1")
    assert added.added == ("n1", "n2", "n3")
    assert (added.items, added.updated, added.absent) == (23, (), ())
    assert filecmp.cmp(added.source / "saved_model.pb", added.folder / "saved_model.pb", False)
    assert sorted(p.name for p in added.folder.parent.iterdir()) == ["1", "2"]


def test_old_items_score_as_before_and_new_ones_lie_where_their_features_say(grown) -> None:  # type: ignore[no-untyped-def]
    _, _, old, new, _ = grown
    history = [["i1", "i3", ""]]
    before, after = everything(old, history=history), everything(new, history=history)
    scores = dict(zip(after["item_id"][0], after["score"][0], strict=True))
    assert {b"n1", b"n2", b"n3"} < set(scores)
    for item, score in zip(before["item_id"][0, :20], before["score"][0, :20], strict=True):
        assert scores[item] == pytest.approx(score, abs=1e-4)
    described = {
        "title": NEW.column("title").to_pylist(),
        "genres": [["g1", ""], ["g0", "g2"], ["", ""]],
        "price": [5.0, np.nan, 40.0],
        "style": NEW.column("style").to_pylist(),
    }
    described["title"][1] = ""
    by_features = ask(
        old, "score_features", user_id=["u1"] * 3, history=history * 3, item_id=[""] * 3,
        **described,
    )["score"]  # fmt: skip
    np.testing.assert_allclose([scores[b"n1"], scores[b"n2"], scores[b"n3"]], by_features,
                               atol=1e-4)  # fmt: skip
    pairs = ask(new, "score", user_id=["u1"] * 3, history=history * 3, item_id=["n1", "n2", "n3"])
    np.testing.assert_allclose(pairs["score"], by_features, atol=1e-4)
    np.testing.assert_allclose(
        ask(new, "embed_item", item_id=["n1", "n2", "n3"])["embedding"],
        ask(old, "embed_item_features", **described)["embedding"],
        atol=1e-5,
    )


def test_exclusions_titles_and_neighbours(grown) -> None:  # type: ignore[no-untyped-def]
    _, _, _, new, _ = grown
    found = everything(new, exclude=[["n2", "i4", "not an item"]])
    ids = found["item_id"][0].tolist()
    assert b"n2" not in ids
    assert b"i4" not in ids
    assert ids[-2:] == [b"", b""]
    shown = dict(zip(ids, found["title"][0].tolist(), strict=True))
    assert (shown[b"n1"], shown[b"i3"]) == (b"Thing 1 of kind 2", b"Third")
    assert (
        dict(zip(*[everything(new)[k][0].tolist() for k in ("item_id", "title")], strict=True))[
            b"n2"
        ]
        == b"n2"
    )
    similar = ask(new, "similar", item_id=["n1"], k=22)["item_id"][0].tolist()
    assert b"n1" not in similar
    assert set(similar) == {*(f"i{i}".encode() for i in range(20)), b"n2", b"n3"}


def test_a_new_item_counts_in_the_history(grown) -> None:  # type: ignore[no-untyped-def]
    _, _, _, new, _ = grown
    nobody = {"user_id": ["stranger"]}
    empty = everything(new, **nobody, history=[[""]])
    told = everything(new, **nobody, history=[["n1"]])
    assert np.abs(np.sort(empty["score"]) - np.sort(told["score"])).max() > 1e-4


def test_add_again_then_update(grown) -> None:  # type: ignore[no-untyped-def]
    _, _, _, new, added = grown
    again = NEW.slice(0, 1).set_column(0, "item_id", pa.array(["n4"]))
    third = add_items(added.folder, again)
    assert (third.folder.name, third.items) == ("3", 24)
    with pytest.raises(ValueError, match=r"1 of 1 items are in the catalogue already.*n4"):
        add_items(third.folder, again)
    moved = pa.table({"item_id": ["n4", "i2"], "genres": [["g2"], ["g2"]]})
    fourth = add_items(third.folder, moved, update=True)
    assert (fourth.updated, fourth.added, fourth.items) == (("n4", "i2"), (), 24)
    assert set(fourth.absent) == {"title", "price", "style"}
    loaded = tf.saved_model.load(str(fourth.folder))
    vectors = ask(loaded, "embed_item", item_id=["n4", "n1", "i5"])["embedding"]
    before = ask(new, "embed_item", item_id=["n1", "n1", "i5"])["embedding"]
    assert np.abs(vectors[0] - before[0]).max() > 1e-3
    np.testing.assert_allclose(vectors[1:], before[1:], atol=1e-6)
    titles = everything(loaded, k=24)
    shown = dict(zip(titles["item_id"][0].tolist(), titles["title"][0].tolist(), strict=True))
    assert shown[b"n4"] == b"Thing 1 of kind 2"  # a file without titles leaves them


def test_requests_about_new_items_are_recorded(grown) -> None:  # type: ignore[no-untyped-def]
    from serving.warmup import FILE, read_records

    folder = grown[4].folder
    assert len(list(read_records(folder / FILE))) == 2
    golden = load_golden(folder / "assets.extra" / "golden.json")
    loaded = grown[3]
    for request in golden:
        answer = loaded.signatures[request.signature](examples=tf.constant(list(request.examples)))
        np.testing.assert_array_equal(answer["item_id"], request.answer["item_id"])


def test_a_running_server_takes_the_new_version(grown, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from serving.client import Client
    from serving.options import Options
    from serving.server import Server

    base = tmp_path / "retrieval"
    shutil.copytree(grown[4].source, base / "1")
    options = Options(
        model_name="retrieval", model_base_path=str(base), file_system_poll_wait_seconds=0.05
    )
    with Server(options) as server:
        server.wait_until_available("retrieval", timeout=120)
        with Client(server.grpc_address, "retrieval", timeout=60) as client:
            features = {"age": "a1", "device": "desk"}
            before = {r.item_id for r in client.recommend("u1", 30, features=features)}
            assert len(before) == 20
            add_items(base, NEW)
            server.wait_until_available("retrieval", timeout=120, version=2)
            after = client.recommend("u1", 30, exclude=["n3"], features=features)
            assert {r.item_id for r in after} == before | {"n1", "n2"}


def test_files_and_their_faults(grown, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    specs = grown[2].signatures["item_rows"].structured_input_signature[1]
    pq.write_table(NEW, tmp_path / "new.parquet")
    assert read_new_items(tmp_path / "new.parquet", specs).equals(NEW)
    (tmp_path / "new.csv").write_text("item_id,title,genres,price\n007,A thing,g1|g2,\n008,,,3\n")
    table = read_new_items(tmp_path / "new.csv", specs)
    assert table.column("item_id").to_pylist() == ["007", "008"]
    assert table.column("genres").to_pylist() == ["g1|g2", None]
    added = add_items(grown[4].source, tmp_path / "new.csv", tmp_path / "out", version=7)
    assert (added.folder, added.absent) == (tmp_path / "out" / "7", ("style",))
    for text, message in (
        ("name\nx\n", "needs a column 'item_id'"),
        ("item_id\na\na\n", r"listed twice: \['a'\]"),
        ("item_id,price\n,3\n", "every item has an id; 1 of 1"),
        ("item_id\n", "holds at least one item"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_new_items(tmp_path / "bad.csv", specs)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_new_items(tmp_path / "none.csv", specs)
    with pytest.raises(ValueError, match="column 'price' is a float32"):
        add_items(grown[4].source, pa.table({"item_id": ["x"], "price": ["dear"]}), tmp_path)
    with pytest.raises(ValueError, match="is there already; pass another version"):
        add_items(grown[4].source, tmp_path / "new.csv", tmp_path / "out", version=7)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["7"]


def test_a_model_of_ids_alone_cannot_grow(tmp_path: Path) -> None:
    data, encoder = small_data(tmp_path / "statistics")
    model = build("mf_bpr", data, {"dim": 4})
    export_retrieval(model, data, encoder, tmp_path / "model")
    with pytest.raises(ModelFolderError, match="knows items by their ids alone"):
        add_items(tmp_path / "model", NEW, tmp_path / "out")
