"""What a SavedModel is told of many users: ids, histories, attributes; all else as missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec.data.encoded import HISTORY_WEIGHT
from tfrec.export.log import Log
from tfrec.schema import HISTORY, USER_ID

CELLS = 1 << 21  # most strings in the padded histories of one call


class Told:
    """Inputs of a signature for a sequence of questions, each of a user.

    Args:
        specs: the signature's inputs by name.
        log: what has happened.
        users: raw id of each question, [question]; they may repeat.
        attributes: canonical users; None where ``context`` tells them.
        context: what each question tells (a column ``query``), one row a question; it goes before
            the users' attributes.
    """

    def __init__(
        self,
        specs: Mapping[str, tf.TensorSpec],
        log: Log,
        users: Sequence[str] | np.ndarray,
        attributes: pa.Table | None = None,
        context: pa.Table | None = None,
    ) -> None:
        self.specs, self.log = specs, log
        self.users = np.asarray(users, object)
        self.codes = log.codes(users)
        self.counts = np.maximum(log.counts(self.codes), 1)
        self._context = pa.table({}) if context is None else context
        self._attributes = (
            pa.table({USER_ID: pa.array([], pa.string())}) if attributes is None else attributes
        )
        position = pc.index_in(pa.array(users, pa.string()), self._attributes.column(USER_ID))
        self._rows = pc.fill_null(position, -1).to_numpy(zero_copy_only=False).astype(np.int64)

    def blocks(self, batch_size: int, order: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Questions that are asked at once, int64 [batch]; fewer where histories are long.

        Args:
            batch_size: most of them.
            order: int [question], which comes first; None as they are.
        """
        order = np.arange(len(self.users)) if order is None else order
        start = 0
        while start < len(order):
            widths = np.maximum.accumulate(self.counts[order[start : start + batch_size]])
            fits = int(np.sum(widths * np.arange(1, len(widths) + 1) <= CELLS))
            yield order[start : start + max(fits, 1)]
            start += max(fits, 1)

    def inputs(self, rows: np.ndarray, **given: Any) -> dict[str, tf.Tensor]:
        """All inputs of the signature for some questions.

        Args:
            rows: int [batch], which questions.
            given: further inputs by name.
        """
        codes, back = np.unique(self.codes[rows], return_inverse=True)
        width = int(self.counts[rows].max(initial=1))
        inputs: dict[str, Any] = {
            USER_ID: tf.constant(self.users[rows].tolist(), tf.string),
            HISTORY: tf.gather(tf.constant(self.log.last(codes, width), tf.string), back),
            **given,
        }
        if HISTORY_WEIGHT in self.specs:
            inputs[HISTORY_WEIGHT] = tf.constant(self.log.last_weights(codes, width)[back])
        for name, spec in self.specs.items():
            if name in inputs:
                continue
            if name in self._context.column_names:
                inputs[name] = feature_rows(self._context, rows, spec, name)
            else:
                inputs[name] = feature_rows(self._attributes, self._rows[rows], spec, name)
        return inputs


def feature_rows(users: pa.Table, rows: np.ndarray, spec: tf.TensorSpec, name: str) -> tf.Tensor:
    """One raw user column for a signature input.

    Args:
        users: the users table.
        rows: int64 [batch]; -1 for users that are not in it.
        spec: the signature's input: string [None], string [None, None], float32 [None, ...] or
            int64 [None].
        name: of the column; a column that is not there is missing for all.

    Returns:
        [batch, ...]; '', NaN and 0 where nothing is known.
    """
    if spec.dtype.is_integer:
        if name not in users.column_names:
            return tf.zeros([len(rows), *(d or 1 for d in spec.shape[1:])], spec.dtype)
        whole = pa.array(np.where(rows >= 0, rows, 0), pa.int64(), mask=rows < 0)
        taken = pc.fill_null(users.column(name).combine_chunks().take(whole), 0)
        return tf.constant(taken.to_numpy(zero_copy_only=False), spec.dtype)
    number = spec.dtype == tf.float32
    if name not in users.column_names:
        shape = [len(rows), *(d or 1 for d in spec.shape[1:])]
        return tf.fill(shape, tf.constant(float("nan") if number else "", spec.dtype))
    index = pa.array(np.where(rows >= 0, rows, 0), pa.int64(), mask=rows < 0)
    column = users.column(name).combine_chunks().take(index)
    if number and spec.shape.rank == 1:
        values = pc.cast(column, pa.float32()).to_numpy(zero_copy_only=False)
        return tf.constant(values.astype(np.float32))
    if number:
        empty = [float("nan")] * int(spec.shape[1])
        return tf.constant([v if v is not None else empty for v in column.to_pylist()], tf.float32)
    if spec.shape.rank == 1 and pa.types.is_binary(column.type):  # a prepared image
        return tf.constant(pc.fill_null(column, b"").to_pylist(), tf.string)
    if spec.shape.rank == 1:
        return tf.constant(pc.fill_null(pc.cast(column, pa.string()), "").to_pylist(), tf.string)
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        # One text with a separator is a list of one: the model cuts it.
        texts = pc.fill_null(pc.cast(column, pa.string()), "").to_pylist()
        return tf.constant(texts, tf.string)[:, tf.newaxis]
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    flat = pc.fill_null(pc.cast(pc.list_flatten(column), pa.binary()), b"")
    values = tf.constant(flat.to_numpy(zero_copy_only=False), tf.string)
    return tf.RaggedTensor.from_row_lengths(values, lengths).to_tensor(default_value="")
