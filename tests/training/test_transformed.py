"""Raw rows of held-out events out of ExampleGen's examples: the gate asks with these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.builders import retrieval_data
from tfrec.data.encoded import Interactions
from tfrec.evaluation.protocol import held_out
from tfrec.export.context import held_out_context
from tfrec.schema import Feature, FeatureTable
from tfrec.training import transformed
from tfrec.training.transformed import read_raw_events

FEATURES = FeatureTable(
    features=(
        Feature(name="age", role="user", kind="numeric"),
        Feature(name="query", role="context", kind="categorical"),
        Feature(name="tags", role="context", kind="multi"),
        Feature(name="price", role="item", kind="numeric"),
    )
)
# user, item, time, place in the log, query, tags; u1 had i1 and buys it again, u2 buys i3 twice.
ROWS = [
    ("u1", "i1", 10, 0, "again", []),
    ("u1", "i4", 12, 5, "later", ["x", "y", "z"]),
    ("u1", "i3", 11, 2, "first new", ["a"]),
    ("u1", "i9", 11, 2, "", []),  # sampled: nobody had it
    ("u2", "i3", 10, 4, "same second, later in the log", ["b", "b"]),
    ("u2", "i3", 10, 3, "same second", []),
    ("u2", "i3", 30, 6, "much later", ["long", "list", "of", "tags"]),
    ("u7", "i3", 1, 1, "nobody we know", []),
]


def example(row: tuple[str, str, int, int, str, list[str]]) -> bytes:
    user, item, time, order, query, tags = row

    def texts(*values: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))

    def number(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    age = tf.train.Feature(float_list=tf.train.FloatList(value=[float(user[1:])]))
    feature = {
        "user_id": texts(user),
        "item_id": texts(item),
        "timestamp": number(time),
        "log_order": number(order),
        "age": age,
        "query": texts(query),
        "tags": texts(*tags),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.mark.parametrize("block", [1, 2, 100])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_a_question_is_told_what_its_own_event_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, exclude_seen: bool
) -> None:
    folder = tmp_path / "Split-test"
    folder.mkdir()
    order = np.random.default_rng(block).permutation(len(ROWS))
    with tf.io.TFRecordWriter(str(folder / "part-0")) as writer:
        for at in order:
            writer.write(example(ROWS[at]))
    real = transformed.read_records
    monkeypatch.setattr(transformed, "read_records", lambda files: real(files, block))
    data = retrieval_data([(1, 1), (2, 2)], n_users=2, n_items=9)
    test = Interactions.from_arrays(
        np.array([1, 1, 1, 2, 2, 2]),
        np.array([1, 3, 4, 3, 3, 3]),
        2,
        9,
        timestamp=np.array([10, 11, 12, 10, 10, 30]),
    )
    data = type(data)(**{**vars(data), "test": test})
    questions = held_out(data, "test", exclude_seen)
    table = read_raw_events(tmp_path, "test", FEATURES, data, data.test)
    assert table.num_rows == 6
    told = held_out_context(table, data, questions)
    first = ("first new", ["a"]) if exclude_seen else ("again", [])
    queries = [v.decode() for v in told.column("query").to_pylist()]
    tags = [[t.decode() for t in row if t] for row in told.column("tags").to_pylist()]
    assert queries == [first[0], "same second"]
    assert tags == [first[1], []]
    assert told.column("age").to_pylist() == [1.0, 2.0]
    assert set(told.column_names) == {"age", "query", "tags"}


def test_without_features_there_is_nothing_to_tell(tmp_path: Path) -> None:
    (tmp_path / "Split-test").mkdir()
    with tf.io.TFRecordWriter(str(tmp_path / "Split-test" / "part-0")) as writer:
        writer.write(example(ROWS[2]))
    data = retrieval_data([(1, 1)], test=[(1, 3)], n_users=1, n_items=9)
    data = replace(data, test=replace(data.test, timestamp=np.array([11])))
    table = read_raw_events(tmp_path, "test", FeatureTable(), data, data.test)
    assert held_out_context(table, data, held_out(data, "test")).column_names == []
