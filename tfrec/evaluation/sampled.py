"""Leave-one-out with fixed negatives, the protocol of NCF (He et al., WWW 2017).

Kept to compare with published figures only: sampled metrics do not preserve the order of models
(Krichene & Rendle, KDD 2020). Report ``evaluate`` beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.metrics import check_cutoffs, list_metrics
from tfrec.evaluation.progress import track
from tfrec.evaluation.protocol import HeldOut, Split, block_size, blocks, events_of, held_out
from tfrec.evaluation.ranker import Traced, refuse_no_number
from tfrec.evaluation.result import Evaluation

Ties = Literal["against", "for"]


def sample_negatives(
    data: RetrievalData, split: Split = "test", count: int = 99, seed: int = 0
) -> np.ndarray:
    """Fixed negatives: uniform items that the user has in no split, each once.

    Args:
        data: encoded data.
        split: whose users are asked.
        count: negatives a user; fewer (0 behind) where a user has had nearly everything.
        seed: of the draw.

    Returns:
        int32 [n, count] item indices, rows as ``held_out(data, split, exclude_seen=False).users``:
        who bought an item again is asked about it, too.
    """
    random = np.random.default_rng(seed)
    users = held_out(data, split, exclude_seen=False).users
    out = np.zeros((len(users), count), np.int32)
    rows = max(1, (64 << 20) // (8 * data.n_items))
    for start, stop in blocks(len(users), rows):
        keys = random.random((stop - start, data.n_items), np.float32)
        for events in (data.train, data.validation, data.test):
            at, items = events_of(events, users[start:stop])
            keys[at, items - 1] = 2.0
        chosen = min(count, data.n_items)
        part = np.argpartition(keys, chosen - 1, axis=1)[:, :chosen]
        inside = np.take_along_axis(keys, part, axis=1) < 2.0
        drawn = np.where(inside, part + 1, 0)
        out[start:stop, :chosen] = np.take_along_axis(
            drawn, np.argsort(~inside, axis=1, kind="stable"), axis=1
        )
    return out


def _candidate_scores(
    model: Any,
    data: RetrievalData,
    questions: HeldOut,
    candidates: np.ndarray,
    block: int | None,
    max_memory_mb: float,
    progress: bool | None,
    label: str,
) -> np.ndarray:
    """Scores of the candidates, float32 [n, m]; -inf where the candidate is 0. One trace."""
    length = int(model.history_length)
    example = questions.inputs(data, np.zeros(0, np.int64), length, 1)
    row = sum(int(v[0].nbytes) for v in example.values()) + 4 * data.n_items
    row += int(getattr(model, "bytes_per_user", 0)) + 16 * candidates.shape[1]
    size = block or block_size(2 * row, max_memory_mb, len(candidates))
    spec = {n: tf.TensorSpec((size, *v.shape[1:]), v.dtype) for n, v in example.items()}
    shape = tf.TensorSpec((size, candidates.shape[1]), tf.int32)

    def scores(users: Mapping[str, tf.Tensor], items: tf.Tensor) -> tf.Tensor:
        rows = model.score_catalogue(users)
        found = tf.gather(rows, tf.maximum(items - 1, 0), batch_dims=1)
        return tf.where(items > 0, found, float("-inf"))

    step = Traced(scores, [spec, shape])
    if hasattr(model, "refresh"):
        model.refresh()
    out = np.zeros(candidates.shape, np.float32)
    for start, stop in track(list(blocks(len(candidates), size)), label, progress):
        items = np.zeros((size, candidates.shape[1]), np.int32)
        items[: stop - start] = candidates[start:stop]
        told = questions.inputs(data, np.arange(start, stop), length, size)
        out[start:stop] = step(told, items).numpy()[: stop - start]
    refuse_no_number(np.asarray(np.isnan(out).any(axis=1)), type(model).__name__)
    return out


def evaluate_sampled(
    model: Any,
    data: RetrievalData,
    negatives: np.ndarray,
    split: Split = "test",
    ks: Sequence[int] = (1, 5, 10),
    *,
    ties: Ties = "against",
    block: int | None = None,
    max_memory_mb: float = 512,
    progress: bool | None = None,
    name: str = "",
) -> Evaluation:
    """Ranks each user's one held-out item among its fixed negatives.

    A negative that equals the held-out item, or 0, is passed over (156 of ML-1M's published ones
    do). Equal scores count against the model by default, as in the published code, where the
    held-out item comes last; so a model that scores everything alike gets 0, not 1.

    Args:
        model: a ``Recommender``.
        data: encoded data with one held-out item a user in ``split``.
        negatives: int [n, m], item indices, rows as ``held_out(data, split,
            exclude_seen=False).users``.
        split, ks, block, max_memory_mb, progress, name: see ``evaluate``.
        ties: ``against`` or ``for`` the model.

    Raises:
        ValueError: several held-out items a user, negatives of the wrong shape or range, or
            scores that are NaN.
    """
    ks = check_cutoffs(ks)
    started = time.perf_counter()
    questions = held_out(data, split, exclude_seen=False)
    negatives = np.asarray(negatives, np.int32)
    if (questions.relevant != 1).any():
        raise ValueError(
            f"the sampled protocol holds out one item a user; some have "
            f"{int(questions.relevant.max())}; split by 'last_out' or use evaluate"
        )
    if negatives.ndim != 2 or len(negatives) != len(questions.users):
        raise ValueError(
            f"negatives are [n, m], one row for each of the {len(questions.users)} tested users; "
            f"got {negatives.shape}; see held_out(data, split, exclude_seen=False).users for their "
            f"order"
        )
    if negatives.size and not (negatives.min() >= 0 and negatives.max() <= data.n_items):
        raise ValueError(
            f"negatives are item indices 0..{data.n_items}; got "
            f"{negatives.min()}..{negatives.max()}; encode raw ids first"
        )
    positive = questions.item[:, None]
    negatives = np.where(negatives == positive, 0, negatives)
    name = name or type(model).__name__
    # The place of the held-out item decides ties, because the sort below is stable.
    order = (negatives, positive) if ties == "against" else (positive, negatives)
    candidates = np.concatenate(order, axis=1).astype(np.int32)
    scores = _candidate_scores(
        model, data, questions, candidates, block, max_memory_mb, progress, f"evaluating {name}"
    )
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, : ks[-1]]
    lists = np.zeros((len(candidates), ks[-1]), np.int32)
    lists[:, : ranked.shape[1]] = np.take_along_axis(candidates, ranked, axis=1)
    count = 1 + (negatives > 0).sum(axis=1)
    hits = lists == positive
    return Evaluation(
        name=name,
        split=split,
        ks=ks,
        users=questions.users,
        relevant=questions.relevant,
        candidates=count,
        per_user=list_metrics(hits, questions.relevant, count, ks),
        lists=lists,
        held_user=questions.user,
        held_item=questions.item,
        n_items=data.n_items,
        seconds=time.perf_counter() - started,
    )
