"""The assembler joins what was pushed, and its golden requests hold over gRPC and REST."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from pipelines.artifacts import Tables as TablesArtifact
from pipelines.blessing import Verdict, read_verdict
from pipelines.components.golden_requests import MODEL, Ask, replay, served
from pipelines.components.recommender_assembler import SECTIONS, Executor
from pipelines.pipeline import create_pipeline, local_settings
from pipelines.trainers import GOLDEN_FILE
from serving.client import Client, RestClient
from tests.export.recommender_parts import config, write_models
from tests.tables import small_tables
from tfrec.data.tables import Tables, write_tables
from tfrec.export.golden import TOLERANCE, load_golden


def folder_of(kind: type, path: Path):  # type: ignore[no-untyped-def]
    path.mkdir(parents=True, exist_ok=True)
    artifact = kind()
    artifact.uri = str(path)
    return artifact


def write_examples(folder: Path) -> None:
    """Raw rows of the split ``test``, as ExampleGen writes them."""

    def text(*values: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))

    split = folder / "Split-test"
    split.mkdir(parents=True)
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(split / "data_tfrecord-00000-of-00001.gz"), options) as writer:
        for row in range(8):
            history = [f"i{(row + step) % 20}" for step in range(row)]
            features = {"user_id": text(f"u{row}"), "age": text("a1"), "history": text(*history)}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def test_assembles_what_was_pushed(tmp_path: Path) -> None:
    write_models(tmp_path / "models")
    serving = tmp_path / "serving"
    for name in ("retrieval", "ranking"):
        (serving / name).mkdir(parents=True)
        (serving / name / "7").symlink_to(tmp_path / "models" / name)
    splits, users, items = small_tables()
    events = splits["train"].append_column("event", [["purchase"] * splits["train"].num_rows])
    write_tables(Tables(events, users, items), tmp_path / "tables")
    write_examples(tmp_path / "examples")
    inputs = {
        "retrieval_pushed": [folder_of(standard_artifacts.PushedModel, tmp_path / "pushed")],
        "ranking_pushed": [folder_of(standard_artifacts.PushedModel, tmp_path / "pushed")],
        "tables": [folder_of(TablesArtifact, tmp_path / "tables")],
        "raw_examples": [folder_of(standard_artifacts.Examples, tmp_path / "examples")],
    }
    outputs = {
        "model": [folder_of(standard_artifacts.Model, tmp_path / "model")],
        "model_run": [folder_of(standard_artifacts.ModelRun, tmp_path / "run")],
        "verdict": [folder_of(Verdict, tmp_path / "verdict")],
    }
    properties = {
        "config": config().model_dump_json(include=SECTIONS),
        "retrieval": str(serving / "retrieval"),
        "ranking": str(serving / "ranking"),
    }
    Executor().Do(inputs, outputs, properties)
    assert read_verdict(outputs["verdict"][0])["measured"]["items"] == 20
    model = tmp_path / "model" / "Format-Serving"
    requests = load_golden(tmp_path / "run" / GOLDEN_FILE)
    assert sum(len(r.examples) for r in requests) == 8 + 1
    # One more asks for a genre that no item has: the filter gives way, and the answer says so.
    odd = requests[-1]
    assert b"among_genres" in odd.examples[0]
    assert (odd.answer["item_id"] != b"").any()
    assert odd.answer["fallback"].tolist() == [1.0]
    given_up = odd.answer["relaxed"][odd.answer["rule"] == b"among_genres"]
    assert given_up.tolist() == [(odd.answer["item_id"] != b"").sum()]
    with (
        served(model) as server,
        Client(server.grpc_address, MODEL, timeout=60) as grpc,
        RestClient(str(server.rest_address), MODEL, timeout=60) as rest,
    ):

        def over(client: Client | RestClient) -> Ask:
            return lambda r: client.predict({"examples": np.array(r.examples, object)}, r.signature)

        assert replay(requests, {"grpc": over(grpc), "rest": over(rest)}, TOLERANCE) == []

    nothing = {**properties, "ranking": str(tmp_path / "nowhere")}
    with pytest.raises(RuntimeError, match=r"\['ranking'\] no version was ever pushed"):
        Executor().Do(inputs, outputs, nothing)


def test_pipeline_has_it_behind_both_pushers_where_asked(tmp_path: Path) -> None:
    settings = config(pipeline={"root": str(tmp_path)})
    ids = [n.id for n in create_pipeline(settings, local_settings(settings)).components]
    assert not [i for i in ids if "Recommender" in i]
    asked = config(pipeline={"root": str(tmp_path)}, recommender={"enabled": True})
    nodes = {n.id: n for n in create_pipeline(asked, local_settings(asked)).components}
    assembler = nodes["RecommenderAssembler"]
    upstream = {n.id for n in assembler.upstream_nodes}
    assert {"RetrievalPusher", "RankingPusher"} <= upstream
    assert {"RecommenderInfraValidator", "RecommenderGoldenRequests"} <= {
        n.id for n in nodes["RecommenderPusher"].upstream_nodes
    }
