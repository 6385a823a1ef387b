"""The ranking SavedModel answers as the Keras model does, with TensorFlow alone installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tfrec.config import RankingConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.export.ranking import export_ranking
from tfrec.features.encoder import FittedEncoder
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.schema import Feature, FeatureTable
from tfrec.training.ranking import fit_ranking
from tfrec.training.ranking_rows import RankingRows

FEATURES = FeatureTable(
    features=(
        Feature(name="gender", role="user", kind="categorical", dim=4),
        Feature(name="genres", role="item", kind="multi", dim=4, max_length=3),
        Feature(name="title", role="item", kind="text", dim=4, max_length=4),
        Feature(name="price", role="item", kind="numeric", transform="log", buckets=4),
        Feature(name="device", role="context", kind="categorical", dim=4),
    )
)
RANKING = RankingConfig(
    label="rating",
    threshold=4,
    history_length=3,
    crosses=(("gender", "genres"), ("history", "item_id")),
    params={"hidden": [16], "history_pooling": "attention", "dots": True, "l1": 0.01},
    train=TrainConfig(epochs=2, batch_size=64, learning_rate=0.05),
)


def _tables() -> tuple[dict[str, pa.Table], pa.Table, pa.Table]:
    rng = np.random.default_rng(0)
    users = pa.table(
        {
            "user_id": [f"u{i}" for i in range(20)],
            "gender": [["F", "M", None][i % 3] for i in range(20)],
        }
    )
    items = pa.table(
        {
            "item_id": [f"i{i}" for i in range(15)],
            "genres": [[["a"], ["b", "c"], []][i % 3] for i in range(15)],
            "title": [f"The film number {i}" for i in range(15)],
            "price": pa.array([None if i == 4 else 1.5 * i for i in range(15)], pa.float32()),
        }
    )

    def events(n: int, start: int) -> pa.Table:
        return pa.table(
            {
                "user_id": [f"u{u}" for u in rng.integers(0, 20, n)],
                "item_id": [f"i{i}" for i in rng.integers(0, 15, n)],
                "timestamp": pa.array(np.arange(n) + start),
                "weight": pa.array(rng.integers(1, 6, n), pa.float32()),
                "device": [["web", "app"][d] for d in rng.integers(0, 2, n)],
            }
        )

    splits = {"train": events(400, 0), "eval": events(60, 1000), "test": events(60, 2000)}
    return splits, users, items


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, RetrievalData, Path]:
    splits, users, items = _tables()
    vocabularies = tmp_path_factory.mktemp("vocabularies")
    encoder = fit_encoder(splits["train"], users, items, FEATURES, vocabularies, 3)
    data = retrieval_data(splits, users, items, encoder)
    model = fit_ranking(RANKING, data).model
    folder = tmp_path_factory.mktemp("export") / "1"
    export_ranking(model, data, encoder, folder)
    for file in vocabularies.iterdir():  # the SavedModel carries its own copy
        file.unlink()
    return model, data, folder


def _example(**values: list[bytes] | list[float]) -> bytes:
    feature = {}
    for name, value in values.items():
        if value and isinstance(value[0], float):
            feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=value))
        else:
            feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _raw(data: RetrievalData, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Decodes encoded rows into the raw tensors of ``rank``."""
    splits, users, _ = _tables()
    by_user = dict(zip(users["user_id"].to_pylist(), users["gender"].to_pylist(), strict=True))
    ids = data.user_ids[inputs["user_id"]]
    gender = [by_user[i] or "" for i in ids]
    counted = splits["train"]["device"].to_pylist()
    order = sorted(("web", "app"), key=lambda d: (-counted.count(d), d))
    device = ["", *order]
    return {
        "user_id": np.array(ids, object),
        "item_id": np.array(data.item_ids[inputs["item_id"]], object),
        "history": np.array(data.item_ids[inputs["history"]], object),
        "gender": np.array(gender, object),
        "device": np.array([device[d] for d in inputs["device"]], object),
    }


def test_rank_equals_the_keras_model(trained: tuple[object, RetrievalData, Path]) -> None:
    model, data, folder = trained
    rows = RankingRows(data, "test", RANKING)
    inputs, _ = next(iter(rows.dataset(1000, 0, shuffle=False)))
    expected = model(inputs, training=False).numpy()  # type: ignore[operator]
    raw = _raw(data, {k: v.numpy() for k, v in inputs.items()})
    rank = tf.saved_model.load(str(folder)).signatures["rank"]
    score = rank(**{k: tf.constant(v) for k, v in raw.items()})["score"].numpy()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(score, expected, atol=1e-5)


def test_examples_equal_plain_tensors(trained: tuple[object, RetrievalData, Path]) -> None:
    _, _, folder = trained
    loaded = tf.saved_model.load(str(folder))
    rank, examples = loaded.signatures["rank"], loaded.signatures["serving_default"]
    assert list(examples.structured_outputs) == ["score"]
    plain = rank(
        user_id=tf.constant(["u1", "u2"]),
        item_id=tf.constant(["i4", "i7"]),
        history=tf.constant([["i1", "i2"], ["", ""]]),
        gender=tf.constant(["M", ""]),
        device=tf.constant(["web", "app"]),
    )["score"].numpy()
    serialized = [
        _example(
            user_id=[b"u1"],
            item_id=[b"i4"],  # i4 has no price
            history=[b"i1", b"i2"],
            gender=[b"M"],
            device=[b"web"],
            genres=[b"b", b"c"],
            title=[b"The film number 4"],
        ),
        _example(
            user_id=[b"u2"],
            item_id=[b"i7"],
            device=[b"app"],
            genres=[b"b", b"c"],
            title=[b"The film number 7"],
            price=[10.5],
        ),
    ]
    scored = examples(examples=tf.constant(serialized))["score"].numpy()
    assert plain.shape == scored.shape == (2,)
    np.testing.assert_allclose(scored, plain, atol=1e-6)


def test_unknown_and_missing_values_are_scored(
    trained: tuple[object, RetrievalData, Path],
) -> None:
    rank = tf.saved_model.load(str(trained[2])).signatures["rank"]
    unknown = {
        "user_id": tf.constant(["nobody", "u1", ""]),
        "item_id": tf.constant(["i1", "no such item", ""]),
        "history": tf.zeros([3, 0], tf.string),
        "gender": tf.constant(["", "?", ""]),
        "device": tf.constant(["", "toaster", ""]),
    }
    score = rank(**unknown)["score"].numpy()
    assert np.isfinite(score).all()
    assert ((score > 0) & (score < 1)).all()
    # An unknown item in the history is as if it had not been there; the oldest surplus is dropped.
    histories = [
        ["i1", "i2", "", "", ""],
        ["i1", "what", "i2", "", ""],
        ["i5", "i9", "i1", "i2", ""],
    ]
    row = {k: tf.repeat(v[:1], 3) for k, v in unknown.items() if k != "history"}
    same = rank(history=tf.constant(histories), **row)["score"].numpy()
    assert same[0] == pytest.approx(same[1], abs=1e-6)
    assert abs(same[2] - same[0]) > 1e-6
    longer = rank(history=tf.constant([["i3", *h] for h in histories]), **row)["score"].numpy()
    assert longer[2] == pytest.approx(same[2], abs=1e-6)


def test_loads_where_there_is_tensorflow_alone(trained: tuple[object, RetrievalData, Path]) -> None:
    code = f"""
import json, sys
import tensorflow as tf
rank = tf.saved_model.load({str(trained[2])!r}).signatures["rank"]
c = lambda *v: tf.constant(v)
out = rank(user_id=c("u1"), item_id=c("i1"), history=c(["i2"]), gender=c("M"), device=c("web"))
alien = [m for m in sys.modules if m.split(".")[0] in ("tfrec", "tensorflow_transform", "tfx")]
print(json.dumps([out["score"].numpy().tolist(), alien]))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        cwd="/tmp",
        check=True,
        timeout=300,
    )
    score, alien = json.loads(done.stdout.strip().splitlines()[-1])
    rank = tf.saved_model.load(str(trained[2])).signatures["rank"]
    here = rank(
        user_id=tf.constant(["u1"]),
        item_id=tf.constant(["i1"]),
        history=tf.constant([["i2"]]),
        gender=tf.constant(["M"]),
        device=tf.constant(["web"]),
    )["score"].numpy()
    assert alien == []
    np.testing.assert_allclose(score, here, atol=1e-6)


def test_a_foreign_encoder_is_refused(
    trained: tuple[object, RetrievalData, Path], tmp_path: Path
) -> None:
    model, data, _ = trained
    splits, users, items = _tables()
    features = FeatureTable(features=tuple(f for f in FEATURES if f.kind != "id"))
    fit_encoder(splits["train"].slice(0, 1), users, items.slice(0, 5), features, tmp_path / "v", 3)
    other = FittedEncoder(tmp_path / "v", features, 3)
    with pytest.raises(ValueError, match="share one catalogue"):
        export_ranking(model, data, other, tmp_path / "out")
