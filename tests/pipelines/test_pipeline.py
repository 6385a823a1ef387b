"""The whole pipeline on a tiny shop: artifacts, gates, cache, kill and resume, anomaly, compile."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tensorflow as tf

from tests.pipelines.conftest import KILL_AT, Ran
from tfrec.config import SplitConfig
from tfrec.data.splits import assign
from tfrec.data.tables import read_tables
from tfrec.features.encoder import parse_examples
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.schema import FeatureTable
from tfrec.training.transformed import load_transformed, read_records, split_files

# The first test pays for all runs of the fixture; a busy machine needs patience.
pytestmark = pytest.mark.timeout(1800)

DATA = ("TablesGen", "ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform")
RANKING = ("RankingTrainer", "RankingEvaluator", "RankingInfraValidator", "RankingPusher")


def cached(report: dict) -> dict[str, bool]:
    return {c["name"]: c["cached"] for c in report["components"]}


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def rows(folder: Path, split: str, features: FeatureTable) -> dict[str, np.ndarray]:
    batches = list(read_records(split_files(folder, split), 100_000))
    assert len(batches) == 1
    return {k: v.numpy() for k, v in parse_examples(batches[0], features, True).items()}


@pytest.fixture(scope="module")
def features() -> FeatureTable:
    from tests.pipelines.drive import FEATURES

    return FeatureTable.model_validate({"features": FEATURES})


def test_a_killed_run_goes_on_from_the_cache(ran: Ran) -> None:
    assert KILL_AT in ran.before_kill
    assert "pushed" not in ran.before_kill
    taken = cached(ran.found["resumed"])
    assert all(taken[name] for name in (*DATA, "AnomalyGate"))
    assert not any(taken[name] for name in (*RANKING, "RetrievalTrainer", "RetrievalPusher"))


def test_blessed_models_are_pushed(ran: Ran) -> None:
    report = ran.found["resumed"]
    assert report["refused"] == {}
    assert set(report["pushed"]) == {"retrieval", "ranking"}
    for folder in report["pushed"].values():
        assert (Path(folder) / "saved_model.pb").is_file()
        assert Path(folder).name.isdigit()


def test_pushed_models_carry_warm_up_records(ran: Ran) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    for folder in ran.found["resumed"]["pushed"].values():
        path = Path(folder) / "assets.extra/tf_serving_warmup_requests"
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        assert len(records) == 16
        log = prediction_log_pb2.PredictionLog.FromString(records[0])
        assert list(log.predict_log.request.inputs) == ["examples"]


def test_a_second_run_does_nothing_anew(ran: Ran) -> None:
    again = ran.found["again"]
    taken = cached(again)
    assert all(taken.values()), taken
    assert again["pushed"] == ran.found["resumed"]["pushed"]


def test_a_model_worse_than_popularity_is_refused_and_the_live_one_stays(ran: Ran) -> None:
    report = ran.found["worse"]
    assert set(report["refused"]) == {"retrieval"}
    reasons = "\n".join(report["refused"]["retrieval"])
    assert "that of 'popular'" in reasons
    assert "the live model has" in reasons
    live = Path(ran.found["resumed"]["pushed"]["retrieval"])
    assert [p.name for p in live.parent.iterdir()] == [live.name]
    assert "NOTHING WAS PUSHED" in ran.output
    # What does not depend on the retrieval model came from the cache.
    taken = cached(report)
    assert all(taken[name] for name in (*DATA, *RANKING))
    assert not taken["RetrievalTrainer"]
    verdict = report_of(ran.artifact("RetrievalEvaluator", "verdict"))
    measured = verdict["measured"]
    assert measured["candidate"] < 0.9 * measured["baselines"]["popular"]
    assert measured["candidate"] < 0.98 * measured["live"]
    assert measured["live_version"] == live.name
    assert verdict["reasons"] == [
        r.removeprefix("retrieval evaluator: ") for r in report["refused"]["retrieval"]
    ]


def test_an_anomaly_stops_the_run_and_is_named(ran: Ran) -> None:
    message = ran.found["anomaly"]
    assert "nothing was trained" in message
    assert "shoe_size" in message
    assert "35-44" in message
    assert "pipeline.schema_file" in message


def test_golden_requests_agree_on_every_route(ran: Ran) -> None:
    for node in ("RetrievalGoldenRequests", "RankingGoldenRequests"):
        report = report_of(ran.artifact(node, "verdict", 0))
        assert report["blessed"]
        assert report["measured"]["differences"] == []
        assert report["measured"]["rows"] == 25
        assert report["measured"]["routes"] == ["saved_model", "grpc", "rest"]


def test_the_job_carries_every_component_and_the_configuration(ran: Ran) -> None:
    spec = ran.found["job"]["pipelineSpec"]
    tasks = set(spec["root"]["dag"]["tasks"])
    wanted = {c["name"] for c in ran.found["resumed"]["components"]} - {"BlessedRanker"}
    assert wanted <= tasks
    assert (ran.root / "job.json").is_file()
    given = spec["root"]["dag"]["tasks"]["RetrievalTrainer"]["inputs"]["parameters"]
    custom_config = json.loads(given["custom_config"]["runtimeValue"]["constant"])
    assert json.loads(custom_config["retrieval"])["model"] == "ease"


def test_spans_and_versions_are_found(ran: Ran) -> None:
    newest, first = ran.found["spans"]
    assert (newest["span"], newest["version"]) == (2, 3)
    assert newest["path"].endswith("span-02/v3")
    assert (first["span"], first["version"]) == (1, 1)
    assert newest["fingerprint"] != first["fingerprint"]
    assert "span 7" in ran.found["no_span"]


def test_examples_hold_every_event_once(ran: Ran, features: FeatureTable) -> None:
    tables = read_tables(ran.artifact("TablesGen", "tables"))
    split = np.array(assign(tables.interactions, SplitConfig()).to_pylist())
    folder = ran.artifact("ExampleGen", "examples")
    counts = json.loads((folder / "rows.json").read_text())
    assert counts["train"] == (split == "train").sum()
    assert counts["items"] == tables.items.num_rows
    for name in ("eval", "test"):
        got = rows(folder, name, features)
        labels = parse_labels(folder, name)
        events = tables.interactions.filter(pa.array(split == name))
        users, items = (events[key].to_pylist() for key in ("user_id", "item_id"))
        want = sorted(zip(users, items, strict=True))
        real = labels > 0
        have = zip(got["user_id"][real], got["item_id"][real], strict=True)
        assert sorted((u.decode(), i.decode()) for u, i in have) == want
        assert counts[name] == len(labels) == 3 * len(want)


def test_history_is_what_came_before(ran: Ran, features: FeatureTable) -> None:
    """Each test row's history ends with the user's last events before it, oldest first."""
    tables = read_tables(ran.artifact("TablesGen", "tables"))
    got = rows(ran.artifact("ExampleGen", "examples"), "test", features)
    labels = parse_labels(ran.artifact("ExampleGen", "examples"), "test")
    log = tables.interactions.select(["user_id", "item_id", "timestamp"]).to_pandas()
    for at in np.flatnonzero(labels > 0)[:50]:
        mine = log[log.user_id == got["user_id"][at].decode()]
        event = mine[mine.item_id == got["item_id"][at].decode()].iloc[0]
        before = mine[mine.timestamp < event.timestamp].sort_values("timestamp", kind="stable")
        want = list(before.item_id)[-5:]
        assert [i.decode() for i in got["history"][at] if i] == want


def test_transformed_data_equals_the_librarys_own_way(
    ran: Ran, features: FeatureTable, tmp_path: Path
) -> None:
    """Beam's vocabularies and Transform's graph against Arrow and the notebook's encoder."""
    tables = read_tables(ran.artifact("TablesGen", "tables"))
    split = assign(tables.interactions, SplitConfig())
    log = tables.interactions
    by_split = {n: log.filter(pc.equal(split, n)) for n in ("train", "eval", "test")}
    encoder = fit_encoder(
        by_split["train"], tables.users, tables.items, features, tmp_path / "stats", 5
    )
    want = retrieval_data(by_split, tables.users, tables.items, encoder)
    got, transformed = load_transformed(
        ran.artifact("Transform", "transformed_examples"),
        ran.artifact("Transform", "transform_graph"),
        features,
        history_length=5,
        sampled_negatives=True,
    )
    assert list(got.item_ids) == list(want.item_ids)
    assert sorted(got.user_ids) == sorted(want.user_ids)
    place = {user: at for at, user in enumerate(got.user_ids)}
    moved = np.array([place[user] for user in want.user_ids])
    for name in ("train", "validation", "test"):
        a, b = getattr(got, name), getattr(want, name)
        assert len(a) == len(b)
        for user in range(1, want.n_users + 1):
            mine = a.item[a.indptr[moved[user]] : a.indptr[moved[user] + 1]]
            theirs = b.item[b.indptr[user] : b.indptr[user + 1]]
            np.testing.assert_array_equal(mine, theirs)
    # Transform counts over events and the library over users and items: the order of a vocabulary
    # may differ, the values behind the indices may not.
    ours = transformed.vocabulary("age")[got.users["age"][moved[1:]]]
    theirs = encoder.vocabulary("age")[want.users["age"][1 : want.n_users + 1]]
    np.testing.assert_array_equal(ours, theirs)
    rows = slice(0, want.n_items + 1)
    ours = transformed.vocabulary("categories")[got.items["categories"][rows]]
    theirs = encoder.vocabulary("categories")[want.items["categories"][rows]]
    np.testing.assert_array_equal(ours, theirs)
    # Moments over events there, over items here: the same up to shift and scale.
    ours, theirs = got.items["price"][rows][1:], want.items["price"][rows][1:]
    assert np.corrcoef(ours, theirs)[0, 1] == pytest.approx(1, abs=1e-5)


def parse_labels(folder: Path, split: str) -> np.ndarray:
    serialized = next(iter(read_records(split_files(folder, split), 100_000)))
    spec = {"label": tf.io.FixedLenFeature([], tf.float32)}
    return tf.io.parse_example(serialized, spec)["label"].numpy()
