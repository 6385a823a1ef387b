"""How likely a recommender would have shown what another one showed: the ``target`` of a log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec.data.progress import progress
from tfrec.export.batch import latest_version
from tfrec.export.inputs import feature_rows
from tfrec.schema import ITEM_ID

PROPENSITY, SHOWN, SEED, EXPLORE, TARGET = "propensity", "shown", "seed", "explore", "target"
OWN = (SEED, EXPLORE)  # the logging policy's; the one that is judged has its own


def judge(
    log: pa.Table,
    model: str | Path,
    settings: Mapping[str, float] | None = None,
    batch_size: int = 256,
) -> pa.Table:
    """Asks a recommender for its chances of the lists of a log.

    Every input of the recommender that the log has a column for is asked with it, as the request
    was; others take the recommender's own defaults. ``seed`` and ``explore`` of the log are those
    of the policy that wrote it and are not handed on.

    Args:
        log: one row a request; ``item_id`` list of string, what was shown, and the inputs of the
            requests by name: ``user_id``, ``history``, features, ``now`` ...
        model: folder of a recommender, or of its versions.
        settings: numbers for inputs of all requests, as ``{"weight_revenue": 0.3}``; they go before
            the log's.
        batch_size: requests asked at a time.

    Returns:
        The log with the column ``target``, list of float64; replaced where it was there.

    Raises:
        ValueError: no recommender, a setting that it does not take, or no lists.
    """
    settings = dict(settings or {})
    folder = latest_version(model)
    loaded: Any = tf.saved_model.load(str(folder))
    if PROPENSITY not in loaded.signatures:
        raise ValueError(
            f"{folder} has no signature 'propensity', only {sorted(loaded.signatures)}; pass a "
            f"one-call recommender (section recommender), assembled by this version"
        )
    call = loaded.signatures[PROPENSITY]
    specs: dict[str, tf.TensorSpec] = call.structured_input_signature[1]
    numbers = [n for n, s in specs.items() if s.dtype != tf.string and s.shape.rank == 1]
    wrong = sorted(set(settings) - set(numbers))
    if wrong:
        raise ValueError(f"a recommender's settings are {sorted(numbers)}; got {wrong}")
    if ITEM_ID not in log.column_names or not pa.types.is_list(log.schema.field(ITEM_ID).type):
        raise ValueError(
            f"a log of lists has the column 'item_id', a list of ids a row; it has "
            f"{log.schema.names}"
        )
    parts = []
    with progress("judging", total=log.num_rows) as advance:
        for start in range(0, log.num_rows, batch_size):
            rows = np.arange(start, min(start + batch_size, log.num_rows))
            given = {n: _input(log, rows, s, n, settings) for n, s in specs.items()}
            chances = call(**given)[PROPENSITY].numpy().astype(np.float64)
            lengths = _lengths(log, rows)
            parts.append(chances[np.arange(chances.shape[1]) < lengths[:, None]])
            advance(len(rows))
    lengths = _lengths(log, np.arange(log.num_rows))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    flat = np.concatenate(parts) if parts else np.zeros(0)
    kept = log.drop_columns([TARGET]) if TARGET in log.column_names else log
    return kept.append_column(TARGET, pa.ListArray.from_arrays(offsets, pa.array(flat)))


def _lengths(log: pa.Table, rows: np.ndarray) -> np.ndarray:
    lists = log.column(ITEM_ID).combine_chunks().take(pa.array(rows))
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)


def _input(
    log: pa.Table,
    rows: np.ndarray,
    spec: tf.TensorSpec,
    name: str,
    settings: Mapping[str, float],
) -> tf.Tensor:
    """One input of the signature for some rows of the log."""
    if name == SHOWN:
        return feature_rows(log, rows, spec, ITEM_ID)
    if name in settings:
        return tf.fill([len(rows)], tf.cast(settings[name], spec.dtype))
    if name == SEED:
        # Not the log's: draws that made the lists would say too much of them.
        return tf.constant(-1 - rows, spec.dtype)
    return feature_rows(log, rows, spec, "" if name in OWN else name)
