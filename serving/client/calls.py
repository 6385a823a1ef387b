"""Lists of items as generators of steps: recommend, similar and rank.

The clients are thin shells over this class: one does the steps over gRPC, one over asyncio, one
over HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.client import inputs as fill
from serving.client.core import Core, Fallback
from serving.client.errors import (
    BadAnswerError,
    BadInputError,
    DeadlineExceededError,
    UnavailableError,
)
from serving.client.results import Prediction, Recommendation, Signature
from serving.client.steps import Call, ModelRef, Retry

logger = logging.getLogger("serving.client")

_AWAY = (UnavailableError, DeadlineExceededError)


class Calls(Core):
    """Typed calls on a recommender. Its arguments are those of `Core`."""

    @classmethod
    def on(
        cls,
        model: str,
        version: int | None,
        version_label: str | None,
        rank_model: str | None,
        timeout: float,
        retries: int | Retry,
        fallback: Fallback | None,
    ) -> Calls:
        """Of the arguments that every client is built with."""
        ranker = None if rank_model is None else ModelRef(rank_model)
        return cls(ModelRef(model, version, version_label), ranker, timeout, retries, fallback)

    def ref(self, model: str | None) -> ModelRef:
        """The model that a call names, or the client's own."""
        return self.model if model is None else ModelRef(model)

    def recommend_one_or_many(
        self,
        user_id: str | Sequence[str],
        k: int,
        history: Any,
        exclude: Any,
        features: Mapping[str, Any] | None,
        timeout: float | None,
    ) -> Call[Any]:
        """`recommend` where a single id, with lists and features of its own, gets a single list."""
        if not isinstance(user_id, str):
            return (yield from self.recommend(user_id, k, history, exclude, features, timeout))
        past = None if history is None else [history]
        barred = None if exclude is None else [exclude]
        lists = yield from self.recommend([user_id], k, past, barred, _one_row(features), timeout)
        return lists[0]

    def similar_to_one_or_many(
        self, item_id: str | Sequence[str], k: int, timeout: float | None
    ) -> Call[Any]:
        """`similar`, likewise."""
        if not isinstance(item_id, str):
            return (yield from self.similar(item_id, k, timeout))
        return (yield from self.similar([item_id], k, timeout))[0]

    def recommend(
        self,
        users: Sequence[str],
        k: int,
        history: Sequence[Sequence[str]] | None,
        exclude: Sequence[Sequence[str]] | None,
        features: Mapping[str, Any] | None,
        timeout: float | None,
    ) -> Call[list[list[Recommendation]]]:
        _check_ids("user_id", users)
        for name, rows in (("history", history), ("exclude", exclude)):
            _check_rows(name, rows, len(users))

        def build(signature: Signature) -> dict[str, NDArray[Any]]:
            given: dict[str, Any] = {"user_id": users, **dict(features or {})}
            if len(given) != 1 + len(features or {}) or {"k", "history", "exclude"} & set(given):
                raise BadInputError(
                    "user_id, k, history and exclude are arguments of their own, not features; "
                    f"got features {sorted(features or {})}."
                )
            lists = (("history", history), ("exclude", exclude))
            wanted = [name for name, rows in lists if rows and any(rows)]
            fill.unknown([*given, *wanted], signature)
            ready = {n: fill.as_array(n, v, signature.inputs[n]) for n, v in given.items()}
            for name, rows in lists:
                if name in signature.inputs:
                    spec = signature.inputs[name]
                    ready[name] = fill.padded(name, rows or [[]] * len(users), spec)
            _check_batch(ready, len(users), "users")
            return fill.complete(_with_k(ready, k, len(users), signature), len(users), signature)

        return (yield from self._lists("recommend", users, k, build, exclude, timeout))

    def similar(
        self, items: Sequence[str], k: int, timeout: float | None
    ) -> Call[list[list[Recommendation]]]:
        _check_ids("item_id", items)

        def build(signature: Signature) -> dict[str, NDArray[Any]]:
            ready = {"item_id": fill.texts(items)}
            return fill.complete(_with_k(ready, k, len(items), signature), len(items), signature)

        own = [[item] for item in items]
        return (yield from self._lists("similar", items, k, build, own, timeout))

    def _lists(
        self,
        name: str,
        keys: Sequence[str],
        k: int,
        build: Callable[[Signature], dict[str, NDArray[Any]]],
        exclude: Sequence[Sequence[str]] | None,
        timeout: float | None,
    ) -> Call[list[list[Recommendation]]]:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise BadInputError(f"k must be an integer of at least 1; got {k!r}.")
        if not keys:
            return []
        deadline = self.deadline(timeout)
        try:
            answer = yield from self.predict_built(self.model, name, build, deadline)
        except _AWAY as error:
            if self.fallback is None:
                raise
            logger.warning("%s answers the fallback list: %s", name, error)
            barred = exclude or [()] * len(keys)
            return [self._own_list(key, k, set(out)) for key, out in zip(keys, barred, strict=True)]
        return _to_lists(answer, len(keys), k)

    def _own_list(self, key: str, k: int, barred: set[str]) -> list[Recommendation]:
        assert self.fallback is not None
        ids = self.fallback(key, k) if callable(self.fallback) else self.fallback
        kept = [item for item in ids if item not in barred][:k]
        return [Recommendation(item, 0.0, n, from_fallback=True) for n, item in enumerate(kept)]

    def rank(
        self,
        user: str,
        items: Sequence[str],
        features: Mapping[str, Any] | None,
        item_features: Mapping[str, Any] | None,
        timeout: float | None,
    ) -> Call[list[Recommendation]]:
        _check_ids("user_id", [user])
        _check_ids("item_id", items)
        if not items:
            return []
        both = set(features or {}) & set(item_features or {})
        if both or {"user_id", "item_id"} & {*(features or {}), *(item_features or {})}:
            raise BadInputError(
                "A feature must be given once, and ids as arguments; got "
                f"features {sorted(features or {})}, item_features {sorted(item_features or {})}."
            )

        def build(signature: Signature) -> dict[str, NDArray[Any]]:
            count = len(items)
            fill.unknown([*(features or {}), *(item_features or {})], signature)
            ready: dict[str, NDArray[Any]] = {"item_id": fill.texts(items)}
            ready["user_id"] = np.full(count, user, object)
            for name, value in (item_features or {}).items():
                ready[name] = fill.as_array(name, value, signature.inputs[name])
            for name, value in (features or {}).items():
                one = fill.tensors.to_array(value)
                rows = np.broadcast_to(one, (count, *one.shape))
                ready[name] = fill.as_array(name, rows, signature.inputs[name])
            _check_batch(ready, count, "items")
            return fill.complete(ready, count, signature)

        deadline = self.deadline(timeout)
        try:
            answer = yield from self.predict_built(self.rank_model, "rank", build, deadline)
        except _AWAY as error:
            if self.fallback is None:
                raise
            logger.warning("rank answers the items in the caller's order: %s", error)
            return [Recommendation(i, 0.0, n, from_fallback=True) for n, i in enumerate(items)]
        scores = _output(answer, "score")
        if scores.size != len(items):
            raise BadAnswerError(
                f"rank must answer one score an item, {len(items)}; got shape {scores.shape}."
            )
        scores = scores.reshape(-1).astype(np.float64)
        order = np.argsort(-scores, kind="stable").tolist()
        return [
            Recommendation(items[place], float(scores[place]), n, answer.version)
            for n, place in enumerate(order)
        ]


def _one_row(features: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Features of a single user with the batch's axis in front: `[...]` to `[1, ...]`."""
    if features is None:
        return None
    return {name: fill.tensors.to_array(value)[None] for name, value in features.items()}


def _with_k(
    ready: dict[str, NDArray[Any]], k: int, batch: int, signature: Signature
) -> dict[str, NDArray[Any]]:
    if "k" in signature.inputs:
        ready["k"] = fill.batched("k", k, batch, signature.inputs["k"])
    return ready


def _output(answer: Prediction, name: str) -> NDArray[Any]:
    if name not in answer.outputs:
        raise BadAnswerError(
            f"The answer must have the output {name!r}; got {sorted(answer.outputs)}."
        )
    return np.asarray(answer.outputs[name])


def _to_lists(answer: Prediction, batch: int, k: int) -> list[list[Recommendation]]:
    ids, scores = _output(answer, "item_id"), _output(answer, "score")
    if ids.shape != scores.shape or ids.ndim != 2 or len(ids) != batch:
        raise BadAnswerError(
            f"item_id and score must both have shape ({batch}, k); got {ids.shape}, {scores.shape}."
        )
    try:
        rows = [[_text(one) for one in row] for row in ids[:, :k].tolist()]
    except UnicodeDecodeError as error:
        raise BadAnswerError(f"An item_id must be UTF-8: {error}.") from None
    lists = []
    for row, values, names in zip(rows, scores[:, :k].tolist(), _titles(answer, rows), strict=True):
        # An empty id fills up the list where fewer than k items were left to recommend.
        kept = [one for one in zip(row, values, names, strict=True) if one[0]]
        lists.append(
            [
                Recommendation(item, float(score), n, answer.version, title=title)
                for n, (item, score, title) in enumerate(kept)
            ]
        )
    return lists


def _titles(answer: Prediction, rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Display names of a batch of lists; '' where the model answers none."""
    titles = np.asarray(answer.outputs.get("title", ""))
    if titles.ndim != 2 or len(titles) != len(rows):
        return [[""] * len(row) for row in rows]
    names = [row[: len(ids)] for row, ids in zip(titles.tolist(), rows, strict=True)]
    return [
        [n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in row]
        for row in names
    ]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _check_ids(name: str, ids: Sequence[str]) -> None:
    odd = next((one for one in ids if not isinstance(one, str)), None)
    if odd is not None:
        raise BadInputError(f"{name} must be text; got {type(odd).__name__} {odd!r}.")


def _check_rows(name: str, rows: Sequence[Sequence[str]] | None, batch: int) -> None:
    if rows is None:
        return
    if len(rows) != batch:
        raise BadInputError(f"{name} must have one list a user, {batch}; got {len(rows)}.")
    for row in rows:
        if isinstance(row, str):
            raise BadInputError(f"{name} must be a list of ids; got the text {row!r}.")
        _check_ids(name, row)


def _check_batch(ready: Mapping[str, NDArray[Any]], batch: int, what: str) -> None:
    for name, array in ready.items():
        if array.ndim and len(array) != batch:
            raise BadInputError(
                f"Input {name!r} must have one row for each of the {batch} {what}; "
                f"got {len(array)} rows."
            )
