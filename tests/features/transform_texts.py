"""Encodes the texts of ``test_text.py`` by Transform's graph; run by that test.

In a process of its own that ends without clean-up: Beam and Transform leave objects behind on which
the interpreter's last garbage collection crashes, and the tests' own process must end well.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from tests.features.test_text import NEW, TEXTS, WAYS_OF_BOTH, features, table
from tfrec.features.tft_analyzer import preprocessing_fn


def encoded(way: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The encoded columns of ``TEXTS`` and of ``NEW``, by a graph fitted on ``table``."""
    spec = {name: tf.io.VarLenFeature(tf.string) for name in ("title", "query")}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    rows = [{k: [v.encode()] if v else [] for k, v in row.items()} for row in table().to_pylist()]
    with beam.Pipeline("DirectRunner") as pipeline, tft_beam.Context(str(folder / "work")):
        raw = (pipeline | beam.Create(rows), metadata)
        graph = raw | tft_beam.AnalyzeDataset(preprocessing_fn(features(**way), 0))
        _ = graph | tft_beam.WriteTransformFn(str(folder / "graph"))
        _ = metadata | tft_beam.WriteMetadata(str(folder / "graph" / "metadata"), pipeline)
    layer = tft.TFTransformOutput(str(folder / "graph")).transform_features_layer()
    found = []
    for texts in (TEXTS, NEW):
        dense = tf.constant([[t.encode()] for t in texts])
        out = layer({name: tf.sparse.from_dense(dense) for name in spec})
        found.append({name: out[name].numpy().tolist() for name in spec})
    return found


if __name__ == "__main__":
    root = Path(sys.argv[1])
    answer = {name: encoded(way, root / f"transform-{name}") for name, way in WAYS_OF_BOTH.items()}
    (root / "found.json").write_text(json.dumps(answer))
    os._exit(0)
