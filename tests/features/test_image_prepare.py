"""Preparation of image columns: pixels, quarantine, limits, the cache; encoding of the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.pictures import LOOK, items_with_looks, picture, shop
from tfrec.data.quarantine import BadDataError
from tfrec.data.tables import DataError
from tfrec.export.inputs import feature_rows
from tfrec.features import image_prepare
from tfrec.features.counts import count_features
from tfrec.features.encode import decode_prepared
from tfrec.features.fit import fit_encoder
from tfrec.features.image_prepare import prepare_items
from tfrec.features.tft_analyzer import preprocessing_fn
from tfrec.schema import FeatureTable


def table(**changed: object) -> FeatureTable:
    return FeatureTable.model_validate({"features": [{**LOOK, **changed}]})


def damaged(n: int = 30) -> pa.Table:
    """Item 3 is no image, item 4 has none, item 5 is cut short."""
    items = items_with_looks(n, lacking=(4,))
    looks = items.column("look").to_pylist()
    looks[3], looks[5] = b"nonsense", looks[5][:-60]
    return items.set_column(1, "look", pa.array(looks, pa.binary()))


def test_the_item_stays_and_the_bad_image_is_quarantined(tmp_path: Path) -> None:
    prepared, found = prepare_items(damaged(), table(max_bad=0.1), tmp_path)
    assert found == {
        "look": {"decoded": 27, "missing": 1, "bad:unknown_format": 1, "bad:truncated": 1}
    }
    assert prepared.column("item_id").to_pylist() == [f"i{i}" for i in range(30)]
    rows = prepared.column("look").to_pylist()
    assert [len(r) for r in rows[2:7]] == [192, 0, 0, 0, 192]
    assert rows[6] == picture(0, 6).tobytes()
    lines = [json.loads(x) for x in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert [(x["line"], x["reason"]) for x in lines] == [(4, "unknown_format"), (6, "truncated")]
    assert "item i3" in lines[0]["raw"]


def test_too_many_bad_images_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"'look'.*5\.00%.*2 of 29.*max_bad"):
        prepare_items(damaged(), table(), tmp_path)


def test_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, found = prepare_items(items_with_looks(10), table(), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(image_prepare, "decode_image", None)  # any call fails
        again, same = prepare_items(items_with_looks(10), table(), tmp_path)
    assert again.equals(first)
    assert same == found
    # Another size, or another image, is prepared anew.
    other, _ = prepare_items(items_with_looks(10), table(height=16), tmp_path)
    assert len(other.column("look")[0].as_py()) == 16 * 8 * 3
    _, counted = prepare_items(items_with_looks(10, lacking=(2,)), table(), tmp_path)
    assert counted["look"]["missing"] == 1


def test_a_column_without_bytes_is_named(tmp_path: Path) -> None:
    items = pa.table({"item_id": ["i1"], "look": ["poster.jpg"]})
    with pytest.raises(DataError, match=r"'look'.*column of bytes; got string.*image_files"):
        prepare_items(items, table(), tmp_path)


def test_encoded_pixels_and_presence(tmp_path: Path) -> None:
    data, encoder = shop(tmp_path, n_users=12, n_items=30, n_cold=8, lacking=(7,))
    index = {str(v): i for i, v in enumerate(data.item_ids)}
    assert data.items["look"].dtype == np.uint8
    np.testing.assert_array_equal(data.items["look"][index["i5"]], picture(1, 5))
    assert data.items["look_present"].tolist()[index["i5"]] == 1
    assert data.items["look_present"][[0, index["i7"], -1]].tolist() == [0, 0, 0]
    assert not data.items["look"][index["i7"]].any()
    # Bytes of another length are no image.
    out = encoder({"look": tf.constant([picture(0, 1).tobytes(), b"short", b""])})
    assert out["look_present"].numpy().tolist() == [1, 0, 0]
    np.testing.assert_array_equal(out["look"].numpy()[0], picture(0, 1))


def test_transform_hands_on_what_encoding_then_decodes(tmp_path: Path) -> None:
    """Transform's graph keeps bytes; decoded they equal the notebook's encoding."""
    _, encoder = shop(tmp_path, n_users=12, n_items=30, n_cold=8)
    prepared = tf.constant([picture(1, 3).tobytes(), b""])
    graph = tf.function(preprocessing_fn(table(), 0))
    outputs = graph({"look": tf.sparse.from_dense(prepared[:, tf.newaxis])})
    assert outputs["look"].dtype == tf.string
    mine = decode_prepared(table()["look"], outputs["look"])
    theirs: dict[str, Any] = encoder({"look": prepared})
    assert set(mine) == set(theirs) == {"look", "look_present"}
    for name, values in mine.items():
        np.testing.assert_array_equal(values, theirs[name])


def test_counts_and_signature_inputs_of_images(tmp_path: Path) -> None:
    data, _ = shop(tmp_path, n_users=12, n_items=30, n_cold=8, lacking=(7, 9))
    count = next(c for c in count_features(data) if c.feature == "look")
    assert (count.rows, count.missing, count.values) == (30, 2, 28)
    items, _ = prepare_items(items_with_looks(3, lacking=(1,)), table(), tmp_path / "more")
    spec = tf.TensorSpec([None], tf.string)
    rows = feature_rows(items, np.array([2, 1, -1]), spec, "look")
    assert rows.numpy().tolist() == [picture(0, 2).tobytes(), b"", b""]


def test_unprepared_images_are_refused(tmp_path: Path) -> None:
    events = pa.table({"user_id": ["u"], "item_id": ["i0"], "timestamp": [1]})
    users = pa.table({"user_id": ["u"]})
    from tfrec.features.fit import retrieval_data

    encoder = fit_encoder(events, users, items_with_looks(2), table(), tmp_path, 4)
    with pytest.raises(ValueError, match=r"a prepared image has 192 bytes.*prepare_items first"):
        retrieval_data(
            dict.fromkeys(("train", "eval", "test"), events), users, items_with_looks(2), encoder
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"role": "user"}, "belongs to an item"),
        ({"application": "MobileNetV2"}, "comes with its weights"),
        ({"weights": "x.h5"}, "comes with its weights"),
        ({"application": "NoNet", "weights": "random"}, "application is one of"),
        ({"kind": "text", "application": "VGG16", "weights": "random"}, "are for kind 'image'"),
    ],
)
def test_bad_features_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(**fields)
