"""Proves a grown catalogue before it is served, and records requests about what is new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.export.golden import TOLERANCE, load_golden, record, save_golden
from tfrec.schema import HISTORY, ITEM_ID

EXTRA = Path("assets.extra")
WARM_UP = EXTRA / "tf_serving_warmup_requests"
GOLDEN = EXTRA / "golden.json"
MOST_RECORDS = 1000  # TensorFlow Serving refuses a version with more
ASKED = 64  # items of either kind that are asked about
BY_EXAMPLES = "recommend_examples"


def check_and_record(
    folder: Path, before: Any, new: Sequence[str], updated: Sequence[str] = ()
) -> None:
    """Loads the grown model and asks it.

    What was there must score as it did; what is new must have a score, be found by ``recommend``
    and leave the list when it is in the history. Then requests about new items join the warm-up
    records and the golden requests that lie in ``assets.extra``.

    Args:
        folder: the grown SavedModel.
        before: the model it was made of, loaded.
        new: ids that were added.
        updated: ids that have new features; they may score otherwise.

    Raises:
        ValueError: the grown model answers otherwise; it must not be served.
    """
    after = tf.saved_model.load(str(folder))
    changed = {i.encode() for i in updated}
    old = [i for i in before.item_ids.numpy()[1:].tolist() if i not in changed][:ASKED]
    _same(_scores(before, old), _scores(after, old), "items that were there")
    if not new:
        return
    asked = [i.encode() for i in new[:ASKED]]
    scores = _scores(after, asked)
    if not np.isfinite(scores).all():
        raise ValueError(f"new items have a score; {int((~np.isfinite(scores)).sum())} have none")
    everything = _examples(old[:1]), _examples([*old[:1], *asked])
    size = len(after.item_ids.numpy()) - 1
    listed = _all(after, size)
    if not set(asked) <= listed:
        raise ValueError("new items are recommended; some are missing from the whole list")
    if set(asked) & _all(after, size, exclude=asked):
        raise ValueError("an excluded item never comes back; some new ones did")
    batches = [[example] for example in everything]
    _record_golden(folder, after, batches)
    _record_warm_up(folder, batches)


def answer_anew(folder: Path) -> None:
    """Asks the golden requests of a version again, where it has some; its lists may be others."""
    if (folder / GOLDEN).is_file():
        _record_golden(folder, tf.saved_model.load(str(folder)), [])


def _same(old: np.ndarray, new: np.ndarray, what: str) -> None:
    far = np.abs(old - new) / (1 + np.abs(old))
    if far.size and far.max() > TOLERANCE:
        raise ValueError(f"{what} score as before; one differs by {far.max():.3g}")


def _missing(spec: tf.TensorSpec, rows: int) -> tf.Tensor:
    shape = [rows, *(size or 0 for size in spec.shape[1:])]
    return tf.fill(shape, tf.constant("" if spec.dtype == tf.string else np.nan, spec.dtype))


def _scores(loaded: Any, items: Sequence[bytes]) -> np.ndarray:
    """Scores of items for somebody of whom nothing is known."""
    call = loaded.signatures["score"]
    specs = call.structured_input_signature[1]
    inputs = {n: _missing(s, len(items)) for n, s in specs.items()}
    inputs[ITEM_ID] = tf.constant(list(items), tf.string)
    return call(**inputs)["score"].numpy()


def _all(loaded: Any, k: int, exclude: Sequence[bytes] = ()) -> set[bytes]:
    """The whole catalogue as recommended to somebody unknown."""
    call = loaded.signatures["recommend"]
    specs = call.structured_input_signature[1]
    inputs = {n: _missing(s, 1) for n, s in specs.items() if n != "k"}
    inputs["exclude"] = tf.constant([list(exclude)], tf.string)
    inputs["k"] = tf.constant(k, tf.int32)
    return set(call(**inputs)[ITEM_ID].numpy()[0].tolist())


def _examples(history: Sequence[bytes]) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=list(history)))
    features = tf.train.Features(feature={HISTORY: feature})
    return tf.train.Example(features=features).SerializeToString()


def _record_golden(folder: Path, after: Any, batches: list[list[bytes]]) -> None:
    """Golden requests of the export answer anew: the catalogue has grown."""
    path = folder / GOLDEN
    kept = load_golden(path) if path.is_file() else []
    batches = [*(list(r.examples) for r in kept if r.signature == BY_EXAMPLES), *batches]

    def ask(rows: Sequence[bytes]) -> dict[str, np.ndarray]:
        answer = after.signatures[BY_EXAMPLES](examples=tf.constant(list(rows), tf.string))
        return {name: value.numpy() for name, value in answer.items()}

    others = [r for r in kept if r.signature != BY_EXAMPLES]
    save_golden([*others, *record(ask, BY_EXAMPLES, batches)], path)


def _record_warm_up(folder: Path, batches: list[list[bytes]]) -> None:
    """Adds the requests to those that a server replays before it answers."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = folder / WARM_UP
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) if path.exists() else []
    for rows in batches:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "retrieval"
        request.model_spec.signature_name = BY_EXAMPLES
        tensor = tf.make_tensor_proto(np.array(rows, object), tf.string)
        request.inputs["examples"].CopyFrom(tensor)
        log = prediction_log_pb2.PredictionLog(
            predict_log=prediction_log_pb2.PredictLog(request=request)
        )
        records.append(log.SerializeToString())
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for each in records[:MOST_RECORDS]:
            writer.write(each)
