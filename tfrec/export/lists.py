"""Lists of a SavedModel for many users: how a model is measured as it will be asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec.data.encoded import HISTORY_WEIGHT, RetrievalData
from tfrec.evaluation.protocol import HeldOut, blocks
from tfrec.export.raw import EXCLUDE, K
from tfrec.schema import HISTORY, ITEM_ID, USER_ID

HISTORY_LENGTH = 200  # items of history sent; a model takes the last it can use


def saved_lists(
    folder: str | Path,
    data: RetrievalData,
    questions: HeldOut,
    k: int,
    raw_users: Mapping[str, np.ndarray],
    batch: int = 256,
) -> np.ndarray:
    """Asks the signature ``recommend`` for every tested user.

    Args:
        folder: the SavedModel; it may have been trained on other data.
        data: gives the ids of users and items.
        questions: who is asked, what was known before, whether that is excluded.
        k: list length.
        raw_users: raw user and context features, [user, ...], in the order of
            ``questions.users``; what the model does not take is left out, what it takes beyond
            them is sent as missing.
        batch: users a call.

    Returns:
        int32 [user, k] item indices of ``data``, best first, 0 behind a short list; items that
        ``data`` does not know are left out.
    """
    module = tf.saved_model.load(str(folder))
    recommend = module.signatures["recommend"]
    specs: dict[str, tf.TensorSpec] = recommend.structured_input_signature[1]
    users, known = questions.users, questions.known
    user_ids = data.user_ids.astype(object)
    item_ids = data.item_ids.astype(object)
    catalogue = pa.array([str(i) for i in item_ids], pa.string()).cast(pa.binary())
    out = np.zeros((len(users), k), np.int32)
    for start, stop in blocks(len(users), batch):
        asked = users[start:stop]
        seen = known.seen(asked)
        given: dict[str, Any] = {
            USER_ID: user_ids[asked],
            HISTORY: item_ids[known.histories(asked, HISTORY_LENGTH)],
            HISTORY_WEIGHT: known.histories(asked, HISTORY_LENGTH, known.weight),
            EXCLUDE: item_ids[seen if questions.exclude_seen else seen[:, :0]],
            K: np.int32(k),
            **{name: values[start:stop] for name, values in raw_users.items()},
        }
        inputs = {n: _tensor(given.get(n), s, stop - start) for n, s in specs.items()}
        answered = recommend(**inputs)[ITEM_ID].numpy()
        place = pc.fill_null(pc.index_in(pa.array(answered.ravel(), pa.binary()), catalogue), 0)
        out[start:stop] = _packed(place.to_numpy(zero_copy_only=False).reshape(answered.shape), k)
    return out


def _tensor(values: Any, spec: tf.TensorSpec, rows: int) -> tf.Tensor:
    """A signature's input; missing ('' or NaN) where there are no values."""
    if values is None:
        shape = [rows, *(size or 0 for size in spec.shape[1:])]
        missing: Any = "" if spec.dtype == tf.string else float("nan")
        return tf.fill(shape, tf.constant(missing, spec.dtype))
    if spec.dtype == tf.string:
        return tf.constant(np.asarray(values, object), tf.string)
    return tf.cast(tf.constant(values), spec.dtype)


def _packed(indices: np.ndarray, k: int) -> np.ndarray:
    """Moves zeros behind, keeping the order of the rest; int [row, k]."""
    order = np.argsort(indices == 0, axis=1, kind="stable")
    packed = np.take_along_axis(indices, order, axis=1)[:, :k]
    return np.pad(packed, ((0, 0), (0, k - packed.shape[1])))
