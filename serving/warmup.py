"""Warm-up: recorded requests run before a version is AVAILABLE, so no caller pays for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving import inference, predict
from serving.errors import Code, ServingError, invalid
from serving.servable import Servable

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000


def read_records(path: Path) -> Iterator[bytes]:
    """Records of a TFRecord file.

    Raises:
        ServingError: DATA_LOSS where the file ends in the middle of a record or is none.
    """
    try:
        yield from tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise ServingError(Code.DATA_LOSS, f"warm-up file {path}: {error.message}") from None


def replay(servable: Servable, log: prediction_log_pb2.PredictionLog) -> None:
    """Answers one recorded request and drops the answer.

    Raises:
        ServingError: what a caller would get; UNIMPLEMENTED for a session run.
    """
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        predict.predict(servable, log.predict_log.request)
    elif kind == "classify_log":
        inference.classify(servable, log.classify_log.request)
    elif kind == "regress_log":
        inference.regress(servable, log.regress_log.request)
    elif kind == "multi_inference_log":
        inference.multi_inference(servable, log.multi_inference_log.request)
    else:
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")


def warm_up(servable: Servable, path: Path) -> int:
    """Replays a version's warm-up records.

    Args:
        servable: the loaded version, not yet available.
        path: its directory.

    Returns:
        Number of records replayed; 0 where there is no file.

    Raises:
        ServingError: for a broken file, more than 1000 records, or a record that fails: the version
            must not be served then.
    """
    file = path / FILE
    if not file.is_file():
        return 0
    count = 0
    for record in read_records(file):
        count += 1
        if count > MAX_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}): {file}")
        try:
            replay(servable, prediction_log_pb2.PredictionLog.FromString(record))
        except DecodeError:
            raise ServingError(
                Code.DATA_LOSS, f"warm-up record {count} of {file} is no PredictionLog"
            ) from None
        except ServingError as error:
            raise ServingError(
                error.code, f"warm-up record {count} of {file} failed: {error.message}"
            ) from None
    return count
