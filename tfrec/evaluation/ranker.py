"""Ranks the catalogue for users, block by block: the engine below every whole-catalogue number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.progress import track
from tfrec.evaluation.protocol import HeldOut, block_size, blocks

NEVER = float("-inf")


class NoNumberError(ValueError):
    """A model gave scores that are no numbers: NaN stands in no order, so no list is right."""


def without_number(scores: tf.Tensor) -> tf.Tensor:
    """Which rows of scores [batch, n] hold NaN, bool [batch]; one pass, a sum, tells."""
    return tf.math.is_nan(tf.reduce_sum(scores, axis=1))


def refuse_no_number(bad: np.ndarray, name: str) -> None:
    """Raises where a user's scores are no numbers; ``bad`` bool [user].

    Raises:
        NoNumberError: some are True.
    """
    if bad.any():
        raise NoNumberError(
            f"{name} gives finite scores; those of {int(bad.sum())} of {len(bad)} users hold NaN: "
            f"its training has diverged; lower its learning rate"
        )


class Traced:
    """A function traced at its first call, for one signature.

    Unlike a ``tf.function`` it does not count towards TensorFlow's warnings about retracing: a new
    trace for every model that is measured is meant. As in an export nothing is rewritten by
    autograph: loops over tensors are ``tf.while_loop``.

    Args:
        function: of tensors.
        signature: one ``TensorSpec`` (or a dict of them) an argument.
    """

    def __init__(self, function: Callable[..., Any], signature: Sequence[Any]) -> None:
        self._function = tf.function(function, input_signature=signature, autograph=False)
        self._concrete: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self._concrete is None:
            self._concrete = self._function.get_concrete_function()
        return self._concrete(*tf.nest.map_structure(tf.convert_to_tensor, arguments))


class Ranker:
    """Ranks the catalogue for every asked user; may be called again as the model learns.

    ``model.score_catalogue`` is traced once, whatever the number of blocks and of calls: all blocks
    have the same shape (the last is padded with user 0), and what was seen arrives as coordinates.
    (``lists`` and ``ranks`` have a trace each.)

    Args:
        model: a ``Recommender``, or anything with ``score_catalogue`` and ``history_length``.
        data: supplies the user features.
        questions: see ``held_out``.
        k: list length.
        block: users at once; by default as many as ``max_memory_mb`` allows.
        max_memory_mb: bound on the scores, their masked copy and the inputs held at a time.
    """

    def __init__(
        self,
        model: Any,
        data: RetrievalData,
        questions: HeldOut,
        k: int,
        *,
        block: int | None = None,
        max_memory_mb: float = 512,
    ) -> None:
        self.model, self.data, self.questions, self.k = model, data, questions, k
        self.length = int(model.history_length)
        example = questions.inputs(data, np.zeros(0, np.int64), self.length, 1)
        row = sum(int(v[0].nbytes) for v in example.values()) + 3 * 4 * data.n_items + 8 * k
        row += int(getattr(model, "bytes_per_user", 0))
        self.block = block or block_size(2 * row, max_memory_mb, len(questions.users))
        spec = {n: tf.TensorSpec((self.block, *v.shape[1:]), v.dtype) for n, v in example.items()}
        # Equal blocks: the last is hardly padded.
        count = max(len(questions.users), 1)
        self.block = -(-count // -(-count // self.block))
        self.width = min(k, data.n_items)
        self._positives = max(int(questions.relevant.max(initial=1)), 1)
        spec = {n: tf.TensorSpec((self.block, *v.shape[1:]), v.dtype) for n, v in example.items()}
        seen = tf.TensorSpec([None, 2], tf.int32)
        held = tf.TensorSpec([self.block, self._positives], tf.int32)
        whole = tf.TensorSpec([], tf.int32)
        self._best = Traced(self._trace_best, [spec, seen])
        self._places = Traced(self._trace_places, [spec, seen, held, whole])

    # -- graphs -------------------------------------------------------------------------------

    def _scores(
        self, users: Mapping[str, tf.Tensor], seen: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores [block, n_items], -inf at what was seen; bool [block], whose are no numbers."""
        scores = self.model.score_catalogue(users)
        bad = without_number(scores)
        if not self.questions.exclude_seen:
            return scores, bad
        never = tf.fill([tf.shape(seen)[0]], NEVER)
        return tf.tensor_scatter_nd_update(scores, seen, never), bad

    def _trace_best(self, users: Mapping[str, tf.Tensor], seen: tf.Tensor) -> tuple[tf.Tensor, ...]:
        scores, bad = self._scores(users, seen)
        best = tf.math.top_k(scores, k=self.width, sorted=True)
        return tf.where(best.values == NEVER, 0, best.indices + 1), bad

    def _trace_places(
        self, users: Mapping[str, tf.Tensor], seen: tf.Tensor, held: tf.Tensor, longest: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        scores, bad = self._scores(users, seen)
        columns = tf.range(1, int(self.data.n_items) + 1, dtype=tf.int32)

        def count(mask: tf.Tensor) -> tf.Tensor:
            return tf.cast(tf.reduce_sum(tf.cast(mask, tf.float32), axis=1), tf.int32)

        def place(at: tf.Tensor) -> tf.Tensor:
            item = held[:, at]
            score = tf.gather(scores, tf.maximum(item - 1, 0), batch_dims=1)[:, tf.newaxis]
            above, not_below = count(scores > score), count(scores >= score)

            def ties_before() -> tf.Tensor:
                return count((scores == score) & (columns < item[:, tf.newaxis]))

            tied = tf.reduce_any((not_below - above > 1) & (item > 0))
            return above + 1 + tf.cond(tied, ties_before, lambda: tf.zeros_like(above))

        places = tf.TensorArray(tf.int32, size=longest, element_shape=[self.block])
        _, places = tf.while_loop(
            lambda at, _: at < longest,
            lambda at, out: (at + 1, out.write(at, place(at))),
            (0, places),
        )
        return tf.transpose(places.stack()), bad

    # -- answers ------------------------------------------------------------------------------

    def _blocks(
        self, progress: bool | None, label: str
    ) -> Iterator[tuple[int, int, dict[str, np.ndarray], np.ndarray]]:
        """``(start, stop, inputs, seen)`` of each block."""
        if hasattr(self.model, "refresh"):
            self.model.refresh()
        count = len(self.questions.users)
        for start, stop in track(list(blocks(count, self.block)), label, progress):
            rows = np.arange(start, stop)
            inputs = self.questions.inputs(self.data, rows, self.length, self.block)
            seen = np.zeros((0, 2), np.int32)
            if self.questions.exclude_seen:
                rows, items = self.questions.seen(start, stop)
                seen = np.stack([rows, items - 1], axis=1).astype(np.int32)
            yield start, stop, inputs, seen

    def lists(self, progress: bool | None = None, label: str = "evaluating") -> np.ndarray:
        """The best items of every asked user under the model as it is now.

        Args:
            progress: a bar on the terminal; None shows one where there is a terminal.
            label: of the bar.

        Returns:
            int32 [n, k] item indices, equal scores by lower index, 0 where fewer than k are
            allowed.

        Raises:
            NoNumberError: scores that are NaN.
        """
        out = np.zeros((len(self.questions.users), self.k), np.int32)
        for start, stop, inputs, seen in self._blocks(progress, label):
            best, bad = (part.numpy()[: stop - start] for part in self._best(inputs, seen))
            refuse_no_number(bad, type(self.model).__name__)
            out[start:stop, : self.width] = best
        return out

    def ranks(self, progress: bool | None = None, label: str = "evaluating") -> np.ndarray:
        """The rank of every held-out item under the model as it is now.

        Counting what scores higher is some three times cheaper than sorting out the best 100,
        where users have few held-out items.

        Args:
            progress, label: see ``lists``.

        Returns:
            int32 [pair], from 1, in the order of ``questions.item``; equal scores by lower index.

        Raises:
            NoNumberError: scores that are NaN, above which nothing stands.
        """
        counts, indptr = self.questions.relevant, self.questions.indptr
        out = np.zeros(len(self.questions.item), np.int32)
        for start, stop, inputs, seen in self._blocks(progress, label):
            rows, items = self.questions.pairs(start, stop)
            at = np.arange(len(items)) + indptr[start] - indptr[start:stop][rows]
            held = np.zeros((self.block, self._positives), np.int32)
            held[rows, at] = items
            longest = np.int32(counts[start:stop].max())
            places, bad = (part.numpy() for part in self._places(inputs, seen, held, longest))
            refuse_no_number(bad[: stop - start], type(self.model).__name__)
            out[indptr[start] : indptr[stop]] = places[rows, at]
        return out
