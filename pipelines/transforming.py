"""What TFX Transform calls: ``tfrec.features`` under the configuration that came by value."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrec.features.tft_analyzer import preprocessing_fn as feature_code
from tfrec.schema import LABEL, TIMESTAMP, WEIGHT, FeatureTable
from tfrec.training.transformed import LOG_ORDER

PASSED = {LABEL: tf.float32, WEIGHT: tf.float32, TIMESTAMP: tf.int64, LOG_ORDER: tf.int64}


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Encodes the features; label, weight and timestamp go through as they are.

    Args:
        inputs: raw columns.
        custom_config: ``features`` (JSON of the feature table), ``history_length`` and, where there
            are objectives, ``passed``: their columns, which go through, too.
    """
    table = FeatureTable.model_validate_json(custom_config["features"])
    passed = {**PASSED, **dict.fromkeys(custom_config.get("passed", ()), tf.float32)}
    return feature_code(table, int(custom_config["history_length"]), passed)(inputs)
