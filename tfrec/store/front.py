"""The store in front of a model server: from a user id to all the inputs a signature has.

``serving.filling`` calls :class:`StoreFiller` for what a request leaves out; the command
``tfrec serve --store`` puts it there. One round trip reads everything, repeated ids are read once,
and a store that is down or slow costs an answer its features, never the answer itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tfrec.config.store import StoreConfig
from tfrec.schema import HISTORY, HISTORY_WEIGHT, ITEM_ID, USER_ID
from tfrec.store.breaker import Breaker
from tfrec.store.errors import StoreUnavailable
from tfrec.store.inputs import as_input
from tfrec.store.interface import FeatureStore, Request, Rows
from tfrec.store.keys import HISTORIES, ITEM_VECTORS, ITEMS, USER_VECTORS, USERS
from tfrec.store.recent import ITEM, WEIGHT

EXCLUDE, K = "exclude", "k"
FILLED, UNKNOWN, DEFAULTS = "filled", "unknown", "defaults"
Arrays = Mapping[str, NDArray[Any]]


class Spec(Protocol):
    """What is told of a missing input; see ``serving.filling.Spec``."""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def shape(self) -> tuple[int | None, ...] | None: ...


class StoreFiller:
    """Fills in histories, features and vectors of the users and items in a request.

    ``history_weight``, the ratings that a history's items were given, comes with the stored history
    and never beside a history that the request itself brings; nor does a stored history come beside
    the request's own ratings.

    Args:
        store: where they are.
        k: length of the list where a request does not say.
        exclude_history: a request that names nothing to exclude gets nothing of its history.
        breaker: guards the store; made here if None.
    """

    keys = frozenset({USER_ID, ITEM_ID})

    def __init__(
        self,
        store: FeatureStore,
        k: int = 10,
        exclude_history: bool = True,
        breaker: Breaker | None = None,
    ) -> None:
        self._store = store
        self._k = k
        self._exclude_history = exclude_history
        self._breaker = breaker or Breaker(store.ping)

    def fill(
        self, given: Arrays, missing: Mapping[str, Spec], batch: int
    ) -> tuple[dict[str, NDArray[Any]], str, str]:
        """Values of missing inputs.

        Args:
            given: inputs of the request; ``user_id`` or ``item_id`` bytes [batch].
            missing: dtype and shape of the others, by name.
            batch: rows of the request.

        Returns:
            What is known, [batch, ...]; ``filled``, ``unknown`` (some id has nothing stored) or
            ``defaults`` (the store did not answer); and why it did not.
        """
        constant = self._constants(missing, batch)
        open_ = {name: spec for name, spec in missing.items() if name not in constant}
        for one, other in ((HISTORY, HISTORY_WEIGHT), (HISTORY_WEIGHT, HISTORY)):
            if one in given:
                open_.pop(other, None)
        asked = {key: _ids(given[key]) for key in (USER_ID, ITEM_ID) if key in given}
        requests = self._requests(asked, open_)
        if not requests:
            return constant, UNKNOWN if open_ else FILLED, ""
        try:
            rows = self._breaker.call(lambda: self._store.get_groups(requests))
        except StoreUnavailable as error:
            return constant, DEFAULTS, str(error)
        values = _values(rows, asked, open_)
        if self._exclude_history and EXCLUDE in open_ and HISTORIES in rows:
            _, inverse = asked[USER_ID]
            items = rows[HISTORIES].columns[ITEM]
            spec, own = open_[EXCLUDE], open_.get(HISTORY)
            if own is not None and HISTORY in values and own.shape == spec.shape:
                values[EXCLUDE] = values[HISTORY]
            elif (found := as_input(items, inverse, spec.dtype, spec.shape)) is not None:
                values[EXCLUDE] = found
        return {**constant, **values}, _outcome(rows, asked), ""

    def _constants(self, missing: Mapping[str, Spec], batch: int) -> dict[str, NDArray[Any]]:
        if K not in missing or missing[K].dtype.kind not in "iu":
            return {}
        scalar = not missing[K].shape
        return {K: np.full(() if scalar else (batch,), self._k, missing[K].dtype)}

    def _requests(
        self, asked: Mapping[str, tuple[list[str], NDArray[np.int64]]], missing: Mapping[str, Spec]
    ) -> dict[str, Request]:
        """What to read: only namespaces that may hold something missing."""
        requests: dict[str, Request] = {}
        pasts = (HISTORY, HISTORY_WEIGHT, EXCLUDE)
        features = [name for name in missing if name not in pasts]
        if USER_ID in asked:
            users = asked[USER_ID][0]
            if HISTORY in missing or (EXCLUDE in missing and self._exclude_history):
                rated = HISTORY_WEIGHT in missing
                requests[HISTORIES] = (users, [ITEM, WEIGHT] if rated else [ITEM])
            if features:
                requests[USERS] = (users, None)
                requests[USER_VECTORS] = (users, None)
        if ITEM_ID in asked and features:
            items = asked[ITEM_ID][0]
            requests[ITEMS] = (items, None)
            requests[ITEM_VECTORS] = (items, None)
        return {n: r for n, r in requests.items() if r[0]}

    def close(self) -> None:
        self._breaker.close()
        self._store.close()


def _ids(values: NDArray[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """Different ids that are not empty, and each row's place among them (-1 for an empty one)."""
    places: dict[bytes, int] = {}
    flat = values.ravel().tolist()
    inverse = [places.setdefault(v, len(places)) if v else -1 for v in flat]
    ids = [v.decode("utf-8", "surrogateescape") for v in places]
    return ids, np.array(inverse, np.int64)


def _values(
    rows: Mapping[str, Rows],
    asked: Mapping[str, tuple[list[str], NDArray[np.int64]]],
    missing: Mapping[str, Spec],
) -> dict[str, NDArray[Any]]:
    """Columns that were asked for, as inputs; of two namespaces with one, the first has it."""
    out: dict[str, NDArray[Any]] = {}
    for namespace, found in rows.items():
        _, inverse = asked[ITEM_ID if namespace in (ITEMS, ITEM_VECTORS) else USER_ID]
        columns: Mapping[str, pa.Array] = found.columns
        if namespace == HISTORIES:
            named = {ITEM: HISTORY, WEIGHT: HISTORY_WEIGHT}
            columns = {named[name]: column for name, column in found.columns.items()}
        for name, column in columns.items():
            if name in missing and name not in out:
                value = as_input(column, inverse, missing[name].dtype, missing[name].shape)
                if value is not None:
                    out[name] = value
    return out


def _outcome(
    rows: Mapping[str, Rows], asked: Mapping[str, tuple[list[str], NDArray[np.int64]]]
) -> str:
    """Whether every id has something in some namespace."""
    for key, (ids, inverse) in asked.items():
        own = (ITEMS, ITEM_VECTORS) if key == ITEM_ID else (HISTORIES, USERS, USER_VECTORS)
        masks = [rows[n].found for n in own if n in rows]
        if masks and ((inverse < 0).any() or not np.logical_or.reduce(masks)[: len(ids)].all()):
            return UNKNOWN
    return FILLED


def open_filler(options: Mapping[str, Any]) -> StoreFiller:
    """The factory that ``tfrec serve --store`` names to the server.

    Args:
        options: ``store``, the fields of StoreConfig; ``k`` and ``exclude_history`` where they
            differ from the defaults.

    Raises:
        ValueError: the store cannot be opened. A Redis that is down can.
    """
    from tfrec.store import open_store

    rest = {k: v for k, v in options.items() if k != "store"}
    return StoreFiller(open_store(StoreConfig.model_validate(options.get("store", {}))), **rest)
