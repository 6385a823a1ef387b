"""An index in front of an exported model: the same answers, its report, refreshed in place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.tables import small_data
from tfrec.config.index import IndexConfig
from tfrec.export.index import Loaded, index_model, index_report, refresh_index
from tfrec.export.raw import excludes_seen
from tfrec.export.retrieval import export_retrieval, title_table
from tfrec.models.registry import build

EVERYWHERE = IndexConfig(kind="ivf", cells=4, probes=4, at=5)
USERS, HISTORY = ["u1", "u2", "nobody"], [["i1", "i3"], ["i5", ""], ["", ""]]


def user_inputs() -> dict[str, tf.Tensor]:
    return {
        "user_id": tf.constant(USERS),
        "age": tf.constant(["a1", "", "a9"]),
        "device": tf.constant(["desk", "phone", ""]),
        "history": tf.constant(HISTORY),
    }


def ask(loaded: Any, k: int, exclude: list[list[str]] | None = None) -> dict[str, np.ndarray]:
    out = loaded.signatures["recommend"](
        **user_inputs(), exclude=tf.constant(exclude or [[""]] * 3), k=tf.constant(k)
    )
    return {name: value.numpy() for name, value in out.items()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray]:
    """A plain model, the same with an index, and sample queries."""
    folder = tmp_path_factory.mktemp("index")
    data, encoder = small_data(folder / "statistics")
    model = build("two_tower", data, {"dim": 8, "history_length": 8})
    titles = title_table(data.item_ids, {"i3": "Third thing"})
    export_retrieval(model, data, encoder, folder / "plain", titles)
    plain = tf.saved_model.load(str(folder / "plain"))
    samples = plain.signatures["query_vector"](**user_inputs())["query"].numpy()
    index_model(folder / "plain", folder / "indexed", EVERYWHERE, samples)
    return folder / "plain", folder / "indexed", samples


@pytest.fixture(scope="module")
def both(exported: tuple[Path, Path, np.ndarray]) -> tuple[Any, Any]:
    """The plain and the indexed one, loaded."""
    return tf.saved_model.load(str(exported[0])), tf.saved_model.load(str(exported[1]))


@pytest.mark.parametrize("k", [1, 5, 20, 25])
def test_lists_equal_the_plain_model_where_all_cells_are_probed(
    both: tuple[Any, Any], k: int
) -> None:
    plain, indexed = both
    exclude = [["i1", "i3"], ["i5", "no such item"], ["", ""]]
    want, got = ask(plain, k, exclude), ask(indexed, k, exclude)
    np.testing.assert_array_equal(got["item_id"], want["item_id"])
    np.testing.assert_array_equal(got["title"], want["title"])
    np.testing.assert_allclose(got["score"], want["score"], atol=1e-5)


def test_query_and_item_vectors_make_the_score(both: tuple[Any, Any]) -> None:
    plain, indexed = both
    items = tf.constant(["i7", "i2", "unknown"])
    for model in (plain, indexed):
        query = model.signatures["query_vector"](**user_inputs())["query"].numpy()
        vector = model.signatures["item_vector"](item_id=items)["vector"].numpy()
        score = model.signatures["score"](**user_inputs(), item_id=items)["score"].numpy()
        np.testing.assert_allclose((query * vector).sum(axis=1)[:2], score[:2], atol=1e-5)
        assert (vector[2] == 0).all()
        assert np.isneginf(score[2])
        similar = model.signatures["similar"](item_id=items, k=tf.constant(3))
        assert similar["item_id"].shape == (3, 3)
        assert (similar["item_id"][2].numpy() == b"").all()


def test_other_signatures_are_those_of_the_model(both: tuple[Any, Any]) -> None:
    plain, indexed = both
    assert set(indexed.signatures) == set(plain.signatures)
    embedded = [m.signatures["embed_user"](**user_inputs())["embedding"] for m in (plain, indexed)]
    np.testing.assert_allclose(*embedded, atol=1e-6)
    one = tf.constant(["i7", "i9"])
    items = [m.signatures["embed_item"](item_id=one)["embedding"] for m in (plain, indexed)]
    np.testing.assert_allclose(*items, atol=1e-6)


def test_examples_exclude_the_history(both: tuple[Any, Any]) -> None:
    def text(*values: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    features = {"user_id": text(b"u1"), "history": text(b"i1", b"i3")}
    example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    answers = [m.signatures["recommend_examples"](examples=tf.constant([example])) for m in both]
    np.testing.assert_array_equal(answers[0]["item_id"], answers[1]["item_id"])
    assert not {b"i1", b"i3"} & set(answers[1]["item_id"][0].numpy())


def test_where_buying_again_counts_the_history_comes_again(tmp_path: Path) -> None:
    """The model, an index around it and a refresh of that: ``gate.exclude_seen`` goes along."""
    data, encoder = small_data(tmp_path / "statistics")
    model = build("mf_bpr", data, {"dim": 4, "fold_in_steps": 2})
    folders = [tmp_path / name for name in ("plain", "indexed", "refreshed")]
    export_retrieval(model, data, encoder, folders[0], exclude_seen=False)
    inside = Loaded(folders[0])
    samples = inside.signatures["query_vector"](**user_inputs())["query"].numpy()
    index_model(folders[0], folders[1], EVERYWHERE, samples)
    refresh_index(folders[1], inside.item_ids[1:], inside.vectors(), folders[2], EVERYWHERE)
    had = [f"i{i}" for i in range(12)]  # of 20: a list of ten without them is short
    values = tf.train.BytesList(value=[i.encode() for i in had])
    features = tf.train.Features(feature={"history": tf.train.Feature(bytes_list=values)})
    example = tf.train.Example(features=features).SerializeToString()
    for folder in folders:
        loaded = tf.saved_model.load(str(folder))
        assert not excludes_seen(loaded)
        found = loaded.signatures["recommend_examples"](examples=tf.constant([example]))
        plain = loaded.signatures["recommend"](
            user_id=tf.constant([""]),
            age=tf.constant([""]),
            device=tf.constant([""]),
            history=tf.constant([had]),
            exclude=tf.constant([[""]]),
            k=tf.constant(10),
        )
        np.testing.assert_array_equal(found["item_id"], plain["item_id"])
        assert b"" not in found["item_id"].numpy()


def test_recall_is_kept_with_the_model(
    exported: tuple[Path, Path, np.ndarray], both: tuple[Any, Any]
) -> None:
    report = index_report(exported[1])
    assert report is not None
    assert report.recall["5"] == 1.0
    inside = json.loads(both[1].report.numpy())
    assert inside == report.as_dict()
    assert index_report(exported[0]) is None


def test_refresh_takes_new_items_and_drops_old_ones(
    exported: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    loaded = Loaded(exported[1])
    query = loaded.signatures["query_vector"](**user_inputs())["query"].numpy()
    vectors = loaded.vectors()
    new = query[2] / np.linalg.norm(query[2]) * 3 * np.linalg.norm(vectors[0])
    ids = [*loaded.item_ids[2:], "brand new"]
    refreshed = refresh_index(
        exported[1], ids, np.vstack([vectors[1:], new]), tmp_path / "2", EVERYWHERE
    )
    assert refreshed.n_items == 20
    first = tf.saved_model.load(str(tmp_path / "2"))
    answer = ask(first, 25)
    assert answer["item_id"][2, 0] == answer["title"][2, 0] == b"brand new"
    gone = loaded.item_ids[1].encode()
    assert not (answer["item_id"] == gone).any()
    assert "embed_item" not in first.signatures
    # Again, from the refreshed one: the old indexes are not carried along.
    refresh_index(tmp_path / "2", ids, np.vstack([vectors[1:], new]), tmp_path / "3", EVERYWHERE)
    second = ask(tf.saved_model.load(str(tmp_path / "3")), 25)
    np.testing.assert_array_equal(second["item_id"], answer["item_id"])
    sizes = [
        sum(f.stat().st_size for f in (tmp_path / v / "variables").glob("*")) for v in ("2", "3")
    ]
    assert sizes[1] <= sizes[0] * 1.01


def test_a_tower_is_written_once(exported: tuple[Path, Path, np.ndarray]) -> None:
    """Writing and loading take as long as there are operations."""
    for folder in exported[:2]:
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        names = [f.signature.name for f in saved.meta_graphs[0].graph_def.library.function]
        # Of users as they come, and twice of a history alone: ``fold_in``'s list and its vector.
        assert len([n for n in names if "_user_embedding_" in n]) == 3
        assert len([n for n in names if "_embed_described_" in n]) == 1


def test_loads_with_tensorflow_alone(exported: tuple[Path, Path, np.ndarray]) -> None:
    code = """
import sys, tensorflow as tf
m = tf.saved_model.load(sys.argv[1])
out = m.signatures["recommend"](user_id=tf.constant(["u1"]), age=tf.constant([""]),
    device=tf.constant([""]), history=tf.constant([["i1"]]), exclude=tf.constant([["i1"]]),
    k=tf.constant(3))
assert not [n for n in sys.modules if n.split(".")[0] in ("tfrec", "tensorflow_recommenders")]
print(out["item_id"].shape)
"""
    run = subprocess.run(
        [sys.executable, "-I", "-c", code, str(exported[1])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "(1, 3)"


def test_bad_requests_are_refused(exported: tuple[Path, Path, np.ndarray], tmp_path: Path) -> None:
    plain, indexed, samples = exported
    with pytest.raises(FileExistsError, match="name a new version"):
        index_model(plain, indexed, EVERYWHERE, samples)
    vectors = np.ones((2, samples.shape[1]), np.float32)
    with pytest.raises(ValueError, match="has no index"):
        refresh_index(plain, ["a", "b"], vectors, tmp_path / "x", EVERYWHERE)
    with pytest.raises(ValueError, match="one distinct, non-empty id a vector"):
        refresh_index(indexed, ["a", "a"], vectors, tmp_path / "x", EVERYWHERE)
    with pytest.raises(ValueError, match="same model"):
        refresh_index(indexed, ["a", "b"], vectors[:, :2], tmp_path / "x", EVERYWHERE)
