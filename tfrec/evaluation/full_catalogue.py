"""Evaluation on the whole catalogue: every item is scored, nothing is sampled.

Sampled metrics do not keep the order of models (Krichene & Rendle, KDD 2020); these are the numbers
that decide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.metrics import check_cutoffs, list_metrics
from tfrec.evaluation.protocol import HeldOut, Split, blocks, held_out, table_rows
from tfrec.evaluation.ranker import Ranker
from tfrec.evaluation.result import Evaluation


def _hits(questions: HeldOut, lists: np.ndarray, n_items: int) -> np.ndarray:
    """Bool [n, k]: which recommended items are held out."""
    hits = np.zeros(lists.shape, bool)
    block = table_rows(n_items, min(1024, max(len(lists), 1)))
    relevant = np.zeros((block, n_items + 1), bool)
    for start, stop in blocks(len(lists), block):
        at = questions.pairs(start, stop)
        relevant[at] = True
        hits[start:stop] = np.take_along_axis(relevant[: stop - start], lists[start:stop], axis=1)
        relevant[at] = False
    return hits


def _hits_of_ranks(questions: HeldOut, ranks: np.ndarray, k: int) -> np.ndarray:
    """Bool [n, k]: the ranks at which held-out items stand."""
    hits = np.zeros((len(questions.users), k), bool)
    rows, _ = questions.pairs(0, len(questions.users))
    inside = ranks <= k
    hits[rows[inside], ranks[inside] - 1] = True
    return hits


def _evaluation(
    name: str,
    questions: HeldOut,
    hits: np.ndarray,
    lists: np.ndarray,
    ks: tuple[int, ...],
    n_items: int,
) -> Evaluation:
    return Evaluation(
        name=name,
        split=questions.split,
        ks=ks,
        users=questions.users,
        relevant=questions.relevant,
        candidates=questions.candidates,
        per_user=list_metrics(hits, questions.relevant, questions.candidates, ks),
        lists=lists,
        held_user=questions.user,
        held_item=questions.item,
        n_items=n_items,
        dropped=questions.dropped,
    )


def _finish(
    evaluation: Evaluation,
    beyond: Callable[[Evaluation], Mapping[str, float]] | None,
    started: float,
) -> Evaluation:
    seconds = time.perf_counter() - started
    extra = dict(beyond(evaluation)) if beyond else {}
    return replace(evaluation, seconds=seconds, beyond=extra)


def evaluate(
    model: Any,
    data: RetrievalData,
    split: Split = "test",
    ks: Sequence[int] = (10, 20, 100),
    *,
    exclude_seen: bool = True,
    users: np.ndarray | None = None,
    questions: HeldOut | None = None,
    ranker: Ranker | None = None,
    lists: bool = True,
    block: int | None = None,
    max_memory_mb: float = 512,
    progress: bool | None = None,
    name: str = "",
    beyond: Callable[[Evaluation], Mapping[str, float]] | None = None,
) -> Evaluation:
    """Measures a model on the whole catalogue.

    The model is told what was known before the split (training events, with validation events for
    ``test``) and never recommends what the user had, unless ``exclude_seen`` is False.

    Args:
        model: a ``Recommender``.
        data: encoded data; its ``split`` is held out.
        split: ``test`` or ``validation``.
        ks: cut-offs of the metrics.
        exclude_seen: see ``held_out``.
        users: int [m], where given only these are tested.
        questions: ``held_out(...)`` made before, to ask the same of several models; it stands in
            for ``split``, ``exclude_seen`` and ``users``.
        ranker: of this model, made before, to measure it again without a new trace; it brings its
            own questions, block and list length (at least the largest cut-off).
        lists: False counts only the ranks of the held-out items: the same metrics for less
            work where users have few of them, but no lists (nor ``beyond``, nor item slices).
        block: users at once; by default what ``max_memory_mb`` allows.
        max_memory_mb: bound on the working memory.
        progress: a progress bar; None shows one where there is a terminal.
        name: of the model in tables; by default its class.
        beyond: further figures of the lists, e.g. ``tfrec.evaluation.beyond.Beyond(data)``.

    Raises:
        ValueError: nothing is held out, bad cut-offs, a bound too small for one user,
            ``beyond`` without lists, or scores that are NaN (``NoNumberError``).
    """
    ks = check_cutoffs(ks)
    if beyond is not None and not lists:
        raise ValueError("figures beyond accuracy are read off the lists; pass lists=True")
    name = name or type(model).__name__
    started = time.perf_counter()
    if ranker is None:
        questions = questions or held_out(data, split, exclude_seen, users)
        ranker = Ranker(model, data, questions, ks[-1], block=block, max_memory_mb=max_memory_mb)
    questions, label = ranker.questions, f"evaluating {name}"
    if lists:
        found = ranker.lists(progress, label)[:, : ks[-1]]
        hits = _hits(questions, found, data.n_items)
    else:
        found = np.zeros((len(questions.users), 0), np.int32)
        hits = _hits_of_ranks(questions, ranker.ranks(progress, label), ks[-1])
    result = _evaluation(name, questions, hits, found, ks, data.n_items)
    return _finish(result, beyond, started)


def evaluate_lists(
    lists: np.ndarray,
    users: np.ndarray,
    data: RetrievalData,
    split: Split = "test",
    ks: Sequence[int] = (10, 20, 100),
    *,
    exclude_seen: bool = True,
    name: str = "lists",
    beyond: Callable[[Evaluation], Mapping[str, float]] | None = None,
) -> Evaluation:
    """Measures lists made elsewhere (a served model, another library).

    Args:
        lists: int [m, K] item indices, best first, 0 behind a short list.
        users: int [m], whose lists they are; each user once. Users without held-out items are
            skipped; users with held-out items but without a list are an error.
        data, split, ks, exclude_seen, name, beyond: as in ``evaluate``.

    Raises:
        ValueError: shapes that do not fit, indices outside the catalogue, an item twice in a list,
            a seen item in a list although ``exclude_seen``, or users without a list.
    """
    ks = check_cutoffs(ks)
    started = time.perf_counter()
    lists, users = np.asarray(lists), np.asarray(users)
    if lists.ndim != 2 or lists.shape[1] < ks[-1] or users.shape != lists.shape[:1]:
        raise ValueError(
            f"lists are [users, K] with K >= {ks[-1]} and users [users]; got {lists.shape} and "
            f"{users.shape}; ask for longer lists or pass smaller ks"
        )
    if lists.size and not (lists.min() >= 0 and lists.max() <= data.n_items):
        raise ValueError(
            f"lists hold item indices 0..{data.n_items}; got {lists.min()}..{lists.max()}; "
            f"encode raw ids with data.item_ids first"
        )
    if len(np.unique(users)) != len(users):
        raise ValueError("users stand once each in evaluate_lists; drop the repeated rows")
    questions = held_out(data, split, exclude_seen)
    order = np.argsort(users)
    at = np.searchsorted(users, questions.users, sorter=order)
    at = order[np.minimum(at, len(users) - 1)] if len(users) else np.zeros(0, np.int64)
    missing = questions.users[users[at] != questions.users] if len(users) else questions.users
    if len(missing):
        raise ValueError(
            f"{len(missing)} users with held-out items have no list (first: {missing[:5]}); make "
            f"lists for questions.users of tfrec.evaluation.held_out(data, {split!r})"
        )
    mine = lists[at, : ks[-1]].astype(np.int32)
    ranked = np.sort(mine, axis=1)
    if ((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] > 0)).any():
        raise ValueError("an item stands at most once in a list; some lists repeat one")
    if exclude_seen:
        width = data.n_items + 1
        code = questions.users[:, None].astype(np.int64) * width + mine
        known = questions.known
        seen = np.isin(code, known.user.astype(np.int64) * width + known.item)
        if seen.any():
            raise ValueError(
                f"{int(seen.sum())} recommended items were seen by their user before the split; "
                f"exclude them when making the lists, or pass exclude_seen=False"
            )
    hits = _hits(questions, mine, data.n_items)
    result = _evaluation(name, questions, hits, mine, ks, data.n_items)
    return _finish(result, beyond, started)


def evaluate_models(
    models: Mapping[str, Any],
    data: RetrievalData,
    split: Split = "test",
    ks: Sequence[int] = (10, 20, 100),
    **options: Any,
) -> dict[str, Evaluation]:
    """``evaluate`` for several models on the same questions; ``options`` as there."""
    asked = {key: options.pop(key) for key in ("exclude_seen", "users") if key in options}
    options.setdefault("questions", held_out(data, split, **asked))
    return {
        name: evaluate(model, data, split, ks, name=name, **options)
        for name, model in models.items()
    }
