"""Answers for many users at once, from a SavedModel and canonical tables, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf

from tfrec.data.progress import progress
from tfrec.export.inputs import Told
from tfrec.export.log import Log
from tfrec.export.raw import EXCLUDE, PREDICT, RATING, SCORE, TITLE, K, excludes_seen
from tfrec.schema import ITEM_ID, USER_ID


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
        self.log = interactions if isinstance(interactions, Log) else Log.from_table(interactions)
        self._users = users

    def batches(
        self,
        users: Sequence[str] | np.ndarray,
        k: int,
        batch_size: int,
        exclude_seen: bool,
        context: pa.Table | None = None,
    ) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
        """Answers in order.

        Histories are told whole: a model reads the most recent that it was built for, and some
        (EASE, ALS, item-kNN) all of them.

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
        specs = self._call.structured_input_signature[1]
        told = Told(specs, self.log, users, self._users, context)
        for rows in told.blocks(batch_size):
            width = int(told.counts[rows].max()) if exclude_seen else 0
            banned = self.log.last(told.codes[rows], width)
            beside = {EXCLUDE: tf.constant(banned, tf.string), K: tf.constant(k, tf.int32)}
            answer = self._call(**told.inputs(rows, **beside))
            found = {name: value.numpy() for name, value in answer.items()}
            yield int(rows[0]), int(rows[-1]) + 1, found

    @property
    def predicts_ratings(self) -> bool:
        """Whether the model has the signature ``predict``."""
        return PREDICT in self._loaded.signatures

    def ratings(
        self,
        users: Sequence[str] | np.ndarray,
        items: Sequence[str] | np.ndarray,
        batch_size: int = 1024,
        context: pa.Table | None = None,
    ) -> np.ndarray:
        """Predicted ratings of pairs.

        A model that predicts ratings is told the whole history: it reads what it was built for.

        Args:
            users, items: raw ids, [pair].
            batch_size: most pairs at once; fewer where histories are long.
            context: what is told with each pair, one row a pair; as in ``batches``.

        Returns:
            float32 [pair].

        Raises:
            ModelFolderError: the model predicts no ratings.
        """
        if not self.predicts_ratings:
            raise ModelFolderError(
                f"{self.folder} has no signature {PREDICT!r}, only "
                f"{sorted(self._loaded.signatures)}: its model predicts no ratings; pass one of "
                f"kind 'rating' (docs/ratings.md)"
            )
        call = self._loaded.signatures[PREDICT]
        items = np.asarray(items, object)
        specs = call.structured_input_signature[1]
        told = Told(specs, self.log, users, self._users, context)
        out = np.zeros(len(items), np.float32)
        # Histories of like length share a call, so that little of it is padding.
        order = np.lexsort((told.codes, told.counts))
        with progress("rating", total=len(items)) as advance:
            for rows in told.blocks(batch_size, order):
                asked = tf.constant(items[rows].tolist(), tf.string)
                out[rows] = call(**told.inputs(rows, **{ITEM_ID: asked}))[RATING].numpy()
                advance(len(rows))
        return out

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
        exclude_seen: bool | None = None,
        batch_size: int = 1024,
    ) -> int:
        """Writes one row a user and rank: ``user_id, rank, item_id, score`` and ``title``.

        The file is written beside its place and renamed at the end.

        Args:
            users: raw ids.
            k: list length.
            out: the file.
            exclude_seen: whether items of a user's past are left out; None: as the model was
                exported (``gate.exclude_seen``).
            batch_size: most users at once.

        Returns:
            Number of rows.

        Raises:
            ValueError: ``k`` below 1, or no users.
        """
        if k < 1 or not len(users):
            raise ValueError(f"k is from 1 and there is at least one user; got {k}, {len(users)}")
        exclude_seen = excludes_seen(self._loaded) if exclude_seen is None else exclude_seen
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
