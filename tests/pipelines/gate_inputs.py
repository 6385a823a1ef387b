"""What the retrieval gate reads, made without a pipeline, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import tensorflow as tf
from tfx.types import standard_artifacts

from pipelines.blessing import Verdict
from pipelines.components.retrieval_evaluator import Executor
from tests.tables import FEATURES
from tfrec.config import GateConfig, RankingConfig


def text(value: str) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))


def number(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def write_raw(table: pa.Table, users: pa.Table, folder: Path) -> None:
    """Rows of ExampleGen: each event, and behind it an item that nobody had."""
    age = dict(zip(users["user_id"].to_pylist(), users["age"].to_pylist(), strict=True))
    folder.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / "part-0")) as writer:
        for order, row in enumerate(table.to_pylist()):
            for item in (row["item_id"], f"nobody had {order}"):
                feature = {
                    "user_id": text(row["user_id"]),
                    "item_id": text(item),
                    "timestamp": number(row["timestamp"]),
                    "log_order": number(order),
                    "age": text(age[row["user_id"]]),
                    "device": text(row["device"]),
                }
                features = tf.train.Features(feature=feature)
                writer.write(tf.train.Example(features=features).SerializeToString())


def artifact(kind: Any, path: Path) -> list[Any]:
    """One artifact at a path, as TFX hands it over."""
    found = kind()
    found.uri = str(path)
    return [found]


def judged(model: Path, root: Path, gate: GateConfig, out: Path) -> dict[str, Any]:
    """The evaluator's report about a model; what is live lies in ``out / "live"``.

    Args:
        model: the artifact's folder.
        root: holds ``raw``; the transformed examples are the caller's to put in place.
        gate: the section.
        out: gets the verdict.
    """
    inputs = {
        "model": artifact(standard_artifacts.Model, model),
        "examples": artifact(standard_artifacts.Examples, root / "transformed"),
        "raw_examples": artifact(standard_artifacts.Examples, root / "raw"),
        "transform_graph": artifact(standard_artifacts.TransformGraph, root / "graph"),
    }
    properties = {
        "features": FEATURES.model_dump_json(),
        "ranking": RankingConfig().model_dump_json(),
        "gate": gate.model_dump_json(),
        "serving": str(out / "live"),
    }
    Executor().Do(inputs, {"verdict": artifact(Verdict, out / "verdict")}, properties)
    return json.loads((out / "verdict" / "report.json").read_text())
