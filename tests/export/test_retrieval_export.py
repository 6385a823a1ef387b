"""The retrieval SavedModel: the same answers as Keras, from raw ids, with tensorflow alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.tables import small_data
from tfrec.export.retrieval import export_retrieval, title_table
from tfrec.models.registry import build

USERS = ["u1", "u2", "nobody"]
HISTORY = [["i1", "i3", ""], ["", "i5", ""], ["", "", ""]]

CLEAN = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
out = model.signatures["recommend"](
    user_id=tf.constant(["u1"]), age=tf.constant(["a1"]), device=tf.constant([""]),
    history=tf.constant([["i1", "i3"]]), exclude=tf.constant([["i1", "i3"]]), k=tf.constant(3))
ours = ("tfrec", "pipelines", "serving", "tensorflow_recommenders", "tensorflow_transform")
assert not [m for m in sys.modules if m.split(".")[0] in ours]
items, scores = (out[name].numpy()[0] for name in ("item_id", "score"))
print(json.dumps([items.astype(str).tolist(), scores.tolist()]))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("export")
    data, encoder = small_data(folder / "statistics")
    model = build("two_tower", data, {"dim": 8, "history_length": 8})
    titles = title_table(data.item_ids, {"i3": "Third thing"})
    export_retrieval(model, data, encoder, folder / "model", titles)
    # The SavedModel carries its vocabularies: it must not need where they came from.
    shutil.rmtree(folder / "statistics")
    return model, data, tf.saved_model.load(str(folder / "model")), folder / "model"


def ask(loaded, k: int = 4, exclude: list[list[str]] | None = None) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
    out = loaded.signatures["recommend"](
        user_id=tf.constant(USERS),
        age=tf.constant(["a1", "", "a9"]),
        device=tf.constant(["desk", "phone", ""]),
        history=tf.constant(HISTORY),
        exclude=tf.constant(exclude or [[""]] * 3),
        k=tf.constant(k),
    )
    return {name: value.numpy() for name, value in out.items()}


def encoded(data) -> dict[str, tf.Tensor]:  # type: ignore[no-untyped-def]
    index = {value: i for i, value in enumerate(data.item_ids)}
    users = {value: i for i, value in enumerate(data.user_ids)}
    tail = len(data.user_ids)
    return {
        "user_id": tf.constant([users["u1"], users["u2"], tail], tf.int64),
        "history": tf.constant([[index["i1"], index["i3"]], [index["i5"], 0], [0, 0]], tf.int64),
    }


def test_answers_equal_the_keras_model(exported) -> None:  # type: ignore[no-untyped-def]
    model, data, loaded, _ = exported
    users = encoded(data)
    out = ask(loaded)
    vectors = loaded.signatures["embed_user"](
        user_id=tf.constant(USERS),
        age=tf.constant(["", "", ""]),
        device=tf.constant(["", "", ""]),
        history=tf.constant(HISTORY),
    )["embedding"]
    np.testing.assert_allclose(vectors, model.user_embedding(users), atol=1e-5)
    assert out["item_id"].shape == out["score"].shape == out["title"].shape == (3, 4)
    assert (np.diff(out["score"], axis=1) <= 0).all()


def test_titles_fall_back_to_ids(exported) -> None:  # type: ignore[no-untyped-def]
    out = ask(exported[2], k=20)
    names = dict(zip(out["item_id"].ravel(), out["title"].ravel(), strict=True))
    assert names[b"i3"] == b"Third thing"
    assert names[b"i4"] == b"i4"


def test_excluded_items_never_come_back(exported) -> None:  # type: ignore[no-untyped-def]
    loaded = exported[2]
    free = ask(loaded, k=3)["item_id"]
    out = ask(loaded, k=20, exclude=[[*row.astype(str), "not an item"] for row in free])
    for row, banned in zip(out["item_id"], free, strict=True):
        assert not set(row) & set(banned)
    # 3 of 20 items are excluded, so the list ends in 3 empty places.
    assert (out["item_id"][:, -3:] == b"").all()
    assert np.isneginf(out["score"][:, -3:]).all()


def test_k_may_be_one_a_row(exported) -> None:  # type: ignore[no-untyped-def]
    loaded = exported[2]
    one = loaded.signatures["similar"](item_id=tf.constant(["i7", "i2"]), k=tf.constant(3))
    rows = loaded.signatures["similar"](item_id=tf.constant(["i7", "i2"]), k=tf.constant([3, 2]))
    np.testing.assert_array_equal(one["item_id"], rows["item_id"])
    none = loaded.signatures["similar"](
        item_id=tf.constant([], tf.string), k=tf.constant([], tf.int32)
    )
    assert none["item_id"].shape == (0, 0)


def test_k_beyond_the_catalogue_is_padded(exported) -> None:  # type: ignore[no-untyped-def]
    out = ask(exported[2], k=25)
    assert (out["item_id"][:, 20:] == b"").all()
    assert len(set(out["item_id"][0, :20])) == 20


def test_examples_and_scores_agree_with_recommend(exported) -> None:  # type: ignore[no-untyped-def]
    loaded = exported[2]
    features = {
        "user_id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"u1"])),
        "age": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a1"])),
        "device": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"desk"])),
        "history": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"i1", b"i3"])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    by_example = loaded.signatures["recommend_examples"](
        examples=tf.constant([example.SerializeToString()])
    )
    plain = ask(loaded, k=10, exclude=[["i1", "i3"], ["", ""], ["", ""]])
    np.testing.assert_array_equal(by_example["item_id"][0], plain["item_id"][0])
    scores = loaded.signatures["score"](
        user_id=tf.constant(["u1"] * 3),
        age=tf.constant(["a1"] * 3),
        device=tf.constant(["desk"] * 3),
        history=tf.constant([["i1", "i3"]] * 3),
        item_id=tf.constant([*plain["item_id"][0, :2], b"unknown"]),
    )["score"].numpy()
    np.testing.assert_allclose(scores[:2], plain["score"][0, :2], atol=1e-5)
    assert np.isneginf(scores[2])


def test_similar_items_against_numpy(exported) -> None:  # type: ignore[no-untyped-def]
    model, data, loaded, _ = exported
    out = loaded.signatures["similar"](item_id=tf.constant(["i7", "unknown"]), k=tf.constant(3))
    vectors = model.item_embedding().numpy()
    mine = list(data.item_ids).index("i7")
    cosine = vectors @ vectors[mine - 1]
    cosine[mine - 1] = -np.inf
    best = np.argsort(-cosine)[:3]
    assert out["item_id"][0].numpy().astype(str).tolist() == data.item_ids[best + 1].tolist()
    assert (out["item_id"][1].numpy() == b"").all()


def test_loads_in_a_clean_interpreter(exported, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TF_USE_LEGACY_KERAS")
    }
    run = subprocess.run(
        [sys.executable, "-I", "-c", CLEAN, str(exported[3])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    items, scores = json.loads(run.stdout.strip().splitlines()[-1])
    assert len(items) == 3
    assert not {"i1", "i3"} & set(items)
    assert scores == sorted(scores, reverse=True)


def test_wrong_number_of_titles_is_refused(exported, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model, data, _, _ = exported
    _, encoder = small_data(tmp_path / "statistics")
    with pytest.raises(ValueError, match="one name an item index, 21"):
        export_retrieval(model, data, encoder, tmp_path / "model", ["a"])
