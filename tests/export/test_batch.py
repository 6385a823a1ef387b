"""Batch answers from a SavedModel and canonical tables, against one question at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tests.tables import small_data, small_tables
from tfrec.data.tables import Tables, write_tables
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.export import inputs
from tfrec.export.batch import BatchRecommender, ModelFolderError, latest_version, read_users
from tfrec.export.log import Log
from tfrec.export.measure import evaluate_saved
from tfrec.export.retrieval import export_retrieval, title_table
from tfrec.features.fit import fit_encoder
from tfrec.models.registry import build


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("batch")
    splits, users, items = small_tables()
    events = pa.concat_tables(splits.values())
    events = events.append_column("event", pa.array(["buy"] * events.num_rows))
    data, encoder = small_data(folder / "statistics")
    tf.keras.utils.set_random_seed(0)  # a score near 0 has no five digits in common by itself
    model = build("two_tower", data, {"dim": 8, "history_length": 8})
    titles = title_table(data.item_ids, {f"i{i}": f"Thing {i}" for i in range(20)})
    export_retrieval(model, data, encoder, folder / "model" / "3", titles)
    write_tables(Tables(events, users, items), folder / "tables")
    return model, data, folder, splits, users


def test_log_groups_by_user_in_time_order() -> None:
    table = pa.table(
        {
            "user_id": ["b", "a", "b", "a", "b"],
            "item_id": ["1", "2", "3", "4", "5"],
            "timestamp": [9, 5, 1, 5, 2],
        }
    )
    log = Log.from_table(table)
    codes = log.codes(["a", "nobody", "b"])
    assert log.counts(codes).tolist() == [2, 0, 3]
    assert log.last(codes, 2).tolist() == [["2", "4"], ["", ""], ["5", "1"]]
    assert log.last(codes, 4).tolist()[2] == ["3", "5", "1", ""]


def test_rows_equal_single_questions(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model, data, folder, splits, users = made
    del model, data
    known = pa.concat_tables([splits["train"], splits["eval"]])
    recommender = BatchRecommender(folder / "model", known, users)
    wanted = ["u3", "stranger", "u0"]
    rows = recommender.write(wanted, 4, tmp_path / "out.parquet", batch_size=2)
    table = pq.read_table(tmp_path / "out.parquet").to_pandas()
    assert rows == len(table) == 12
    assert table.user_id.unique().tolist() == wanted
    call = tf.saved_model.load(str(folder / "model" / "3")).signatures["recommend"]
    for user in wanted:
        events = known.to_pandas()
        seen = events[events.user_id == user].sort_values("timestamp").item_id.tolist()
        age = users.to_pandas().set_index("user_id").age.get(user, "")
        one = call(
            user_id=tf.constant([user]),
            age=tf.constant([age]),
            device=tf.constant([""]),
            history=tf.constant([seen or [""]]),
            exclude=tf.constant([seen or [""]]),
            k=tf.constant(4),
        )
        mine = table[table.user_id == user]
        assert mine["rank"].tolist() == [1, 2, 3, 4]
        assert mine.item_id.tolist() == one["item_id"].numpy()[0].astype(str).tolist()
        np.testing.assert_allclose(mine.score, one["score"].numpy()[0], rtol=1e-5)
        assert mine.title.tolist() == [f"Thing {i[1:]}" for i in mine.item_id]
        assert not set(mine.item_id) & set(seen)


def test_short_lists_end_early_and_seen_may_be_asked_for(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _, _, folder, splits, users = made
    recommender = BatchRecommender(folder / "model", splits["train"], users)
    recommender.write(["u0"], 50, tmp_path / "a.parquet")
    seen = {r["item_id"] for r in splits["train"].to_pylist() if r["user_id"] == "u0"}
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 20 - len(seen)
    recommender.write(["u0"], 50, tmp_path / "b.parquet", exclude_seen=False)
    assert pq.read_table(tmp_path / "b.parquet").num_rows == 20


def test_what_was_seen_comes_as_the_model_was_exported(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model, data, folder, splits, users = made
    encoder = fit_encoder(
        splits["train"], users, small_tables()[2], data.features, tmp_path / "statistics", 8
    )
    export_retrieval(model, data, encoder, tmp_path / "again", exclude_seen=False)
    for source, rows in ((folder / "model", 10), (tmp_path / "again", 20)):
        BatchRecommender(source, splits["train"], users).write(["u0"], 50, tmp_path / "a.parquet")
        assert pq.read_table(tmp_path / "a.parquet").num_rows == rows
    again = BatchRecommender(tmp_path / "again", splits["train"], users)
    again.write(["u0"], 50, tmp_path / "b.parquet", exclude_seen=True)
    assert pq.read_table(tmp_path / "b.parquet").num_rows == 10


def test_batches_shrink_where_histories_are_long(made, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    _, data, folder, splits, users = made
    recommender = BatchRecommender(folder / "model", splits["train"], users)
    everyone = data.user_ids[1:]
    whole = recommender.lists(everyone, 5)
    monkeypatch.setattr(inputs, "CELLS", 35)  # three users of ten events each
    sizes = [stop - start for start, stop, _ in recommender.batches(everyone, 5, 1024, True)]
    assert set(sizes) == {3}
    np.testing.assert_array_equal(recommender.lists(everyone, 5), whole)


def test_histories_are_told_whole(made) -> None:  # type: ignore[no-untyped-def]
    """EASE and ALS read all of them, and are validated and compared with baselines so."""
    folder, count = made[2], 1300
    known = {"user_id": ["u0"] * count, "timestamp": list(range(count))}
    log = pa.table({**known, "item_id": [f"i{t % 20}" for t in range(count)]})
    recommender = BatchRecommender(folder / "model", log)
    call, told = recommender._call, []

    class Spy:
        structured_input_signature = call.structured_input_signature

        def __call__(self, **given: tf.Tensor) -> dict[str, tf.Tensor]:
            told.append(given["history"].shape)
            return call(**given)

    recommender._call = Spy()
    recommender.lists(["u0", "u1"], 3)
    assert told == [(2, count)]


def test_exported_model_measures_as_the_keras_model(made) -> None:  # type: ignore[no-untyped-def]
    model, data, folder, splits, users = made
    tables = Tables(pa.concat_tables(splits.values()), users, small_tables()[2])
    saved = evaluate_saved(folder / "model", tables, splits, (1, 5))
    live = evaluate(model, data, "test", (1, 5))
    for metric in ("recall@1", "recall@5", "ndcg@5"):
        assert saved[metric] == pytest.approx(live[metric], abs=1e-9)


def test_latest_version_and_wrong_folders(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = made[2]
    assert latest_version(folder / "model") == folder / "model" / "3"
    assert latest_version(folder / "model" / "3") == folder / "model" / "3"
    (tmp_path / "7").mkdir()
    with pytest.raises(ModelFolderError, match="holds no SavedModel"):
        latest_version(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "8"))
    with pytest.raises(ModelFolderError, match="no signature 'recommend'"):
        BatchRecommender(tmp_path, made[3]["train"], made[4])


def test_users_from_files(tmp_path: Path) -> None:
    (tmp_path / "u.txt").write_text("a\n\n b \n")
    assert read_users(tmp_path / "u.txt") == ["a", "b"]
    pq.write_table(pa.table({"user_id": ["x", None]}), tmp_path / "u.parquet")
    assert read_users(tmp_path / "u.parquet") == ["x"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="at least one user"):
        read_users(tmp_path / "empty.txt")
