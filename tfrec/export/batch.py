"""Answers for many users at once, from a SavedModel and canonical tables, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf

from tfrec.data.encoded import HISTORY_WEIGHT
from tfrec.data.progress import progress
from tfrec.export.log import Log
from tfrec.export.raw import EXCLUDE, SCORE, TITLE, K
from tfrec.schema import HISTORY, ITEM_ID, USER_ID

HISTORY_GIVEN = 1000  # most recent items handed to the model; it reads the last it was built for
CELLS = 1 << 21  # most strings in the padded history and exclusions of one batch


class ModelFolderError(ValueError):
    """The folder holds no retrieval SavedModel of ours; the message says what is missing."""


def latest_version(folder: str | Path) -> Path:
    """The SavedModel in a folder: itself, or its highest numbered version.

    Raises:
        ModelFolderError: neither is a SavedModel.
    """
    folder = Path(folder)
    if (folder / "saved_model.pb").exists():
        return folder
    versions = [p for p in folder.glob("*") if p.name.isdigit() and (p / "saved_model.pb").exists()]
    if not versions:
        raise ModelFolderError(
            f"{folder} holds no SavedModel (no saved_model.pb, no version folder with one); pass "
            f"the folder that 'tfrec train' or the pipeline's Pusher wrote"
        )
    return max(versions, key=lambda p: int(p.name))


def read_users(path: str | Path) -> list[str]:
    """User ids of a file: Parquet with a column ``user_id``, or text with one id a line.

    Raises:
        ValueError: the file names no user.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        users = pq.read_table(path, columns=[USER_ID]).column(USER_ID).cast(pa.string()).to_pylist()
    else:
        users = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    users = [user for user in users if user]
    if not users:
        raise ValueError(f"{path} names at least one user, one id a line; it is empty")
    return users


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


class BatchRecommender:
    """Recommends for many users from a SavedModel.

    Args:
        model: folder of a SavedModel, or of its versions (the highest is taken).
        interactions: what has happened, as canonical interactions or their ``Log``.
        users: canonical users, with their attributes; None where questions tell them.

    Raises:
        ModelFolderError: no retrieval SavedModel there.
    """

    def __init__(
        self, model: str | Path, interactions: pa.Table | Log, users: pa.Table | None = None
    ) -> None:
        self.folder = latest_version(model)
        self._loaded = tf.saved_model.load(str(self.folder))
        if "recommend" not in self._loaded.signatures:
            raise ModelFolderError(
                f"{self.folder} has no signature 'recommend', only "
                f"{sorted(self._loaded.signatures)}; pass the retrieval model's folder"
            )
        self._call = self._loaded.signatures["recommend"]
        self._specs: dict[str, tf.TensorSpec] = self._call.structured_input_signature[1]
        if isinstance(interactions, Log):
            self.log = interactions
        else:
            self.log = Log.from_table(interactions)
        self._users = pa.table({USER_ID: pa.array([], pa.string())}) if users is None else users

    def batches(
        self,
        users: Sequence[str] | np.ndarray,
        k: int,
        batch_size: int,
        exclude_seen: bool,
        context: pa.Table | None = None,
    ) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
        """Answers in order.

        Args:
            users: raw ids.
            k: list length.
            batch_size: most users at once; fewer where their histories are long.
            exclude_seen: whether items of a user's past are left out.
            context: what each asks (a column ``query``), one row a user; it goes before the
                users' attributes. What neither tells is sent as missing.

        Yields:
            start, stop and the answer: ``item_id`` object [batch, k] of bytes, ``score`` float32
            [batch, k], ``title`` where the model has titles.
        """
        codes = self.log.codes(users)
        counts = np.maximum(self.log.counts(codes), 1)
        position = pc.index_in(pa.array(users, pa.string()), self._users.column(USER_ID))
        rows = pc.fill_null(position, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        start = 0
        while start < len(users):
            widths = np.maximum.accumulate(counts[start : start + batch_size])
            fits = int(np.sum(widths * np.arange(1, len(widths) + 1) <= CELLS))
            stop = start + max(fits, 1)
            yield (
                start,
                stop,
                self._answer(
                    users[start:stop],
                    codes[start:stop],
                    rows[start:stop],
                    k,
                    exclude_seen,
                    None if context is None else context.slice(start, stop - start),
                ),
            )
            start = stop

    def _answer(
        self,
        users: Sequence[str] | np.ndarray,
        codes: np.ndarray,
        rows: np.ndarray,
        k: int,
        exclude_seen: bool,
        context: pa.Table | None,
    ) -> dict[str, np.ndarray]:
        width = int(max(self.log.counts(codes).max(initial=1), 1))
        given = min(width, HISTORY_GIVEN)
        banned = self.log.last(codes, width) if exclude_seen else np.full((len(codes), 1), "")
        inputs: dict[str, Any] = {
            USER_ID: tf.constant(list(users), tf.string),
            HISTORY: tf.constant(self.log.last(codes, given), tf.string),
            EXCLUDE: tf.constant(banned, tf.string),
            K: tf.constant(k, tf.int32),
        }
        if HISTORY_WEIGHT in self._specs:
            inputs[HISTORY_WEIGHT] = tf.constant(self.log.last_weights(codes, given))
        for name, spec in self._specs.items():
            if name in inputs:
                continue
            if context is not None and name in context.column_names:
                inputs[name] = feature_rows(context, np.arange(len(codes)), spec, name)
            else:
                inputs[name] = feature_rows(self._users, rows, spec, name)
        return {name: value.numpy() for name, value in self._call(**inputs).items()}

    def lists(
        self,
        users: Sequence[str] | np.ndarray,
        k: int,
        batch_size: int = 1024,
        context: pa.Table | None = None,
    ) -> np.ndarray:
        """Raw item ids, str object [user, k], seen items left out; '' where there are no more.

        ``context`` as in ``batches``.
        """
        parts = []
        with progress("recommending", total=len(users)) as advance:
            for start, stop, answer in self.batches(users, k, batch_size, True, context):
                parts.append(np.char.decode(answer[ITEM_ID].astype(bytes), "utf-8"))
                advance(stop - start)
        return np.concatenate(parts) if parts else np.zeros((0, k), object)

    def write(
        self,
        users: Sequence[str] | np.ndarray,
        k: int,
        out: str | Path,
        *,
        exclude_seen: bool = True,
        batch_size: int = 1024,
    ) -> int:
        """Writes one row a user and rank: ``user_id, rank, item_id, score`` and ``title``.

        The file is written beside its place and renamed at the end.

        Returns:
            Number of rows.

        Raises:
            ValueError: ``k`` below 1, or no users.
        """
        if k < 1 or not len(users):
            raise ValueError(f"k is from 1 and there is at least one user; got {k}, {len(users)}")
        out = Path(out)
        temporary = out.with_name(out.name + ".part")
        writer: pq.ParquetWriter | None = None
        written = 0
        try:
            with progress("recommending", total=len(users)) as advance:
                for start, stop, answer in self.batches(users, k, batch_size, exclude_seen):
                    table = _rows(users[start:stop], answer)
                    writer = writer or pq.ParquetWriter(temporary, table.schema)
                    writer.write_table(table)
                    written += table.num_rows
                    advance(stop - start)
        finally:
            if writer is not None:
                writer.close()
        temporary.replace(out)
        return written


def _rows(users: Sequence[str] | np.ndarray, answer: dict[str, np.ndarray]) -> pa.Table:
    """An answer as a long table; empty places at the end of a list are left out."""
    k = answer[SCORE].shape[1]
    there = np.isfinite(answer[SCORE]).ravel()
    columns = {
        USER_ID: pa.array(np.repeat(np.asarray(users, object), k)[there], pa.string()),
        "rank": pa.array(np.tile(np.arange(1, k + 1, dtype=np.int32), len(users))[there]),
    }
    for name in (ITEM_ID, TITLE):
        if name in answer:
            flat = pa.array(answer[name].ravel()[there], pa.binary())
            columns[name] = pc.cast(flat, pa.string())
    columns[SCORE] = pa.array(answer[SCORE].ravel()[there])
    return pa.table(columns)
