"""Encoded data: what every model trains on and every evaluation reads.

Ids are indices here: 0 is padding, 1..n the vocabulary. The arrays are NumPy; batches are cut from
them by vectorised gathers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp

from tfrec.schema import HISTORY, HISTORY_WEIGHT, USER_ID, FeatureTable


@dataclass(frozen=True)
class Interactions:
    """Events sorted by user, then time.

    Attributes:
        user: int32 [event], user index, 1..n_users.
        item: int32 [event], item index, 1..n_items.
        timestamp: int64 [event], seconds.
        weight: float32 [event], e.g. a rating or a quantity.
        n_users, n_items: sizes of the vocabularies without padding.
        context: encoded context features by name, each [event, ...].
        labels: labels of a multi-task ranker by objective, float32 [event], NaN where there is
            none; see ``tfrec.data.objectives``.
        indptr: int64 [n_users + 2]; events of user ``u`` are ``indptr[u]:indptr[u + 1]``.
    """

    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    weight: np.ndarray
    n_users: int
    n_items: int
    context: dict[str, np.ndarray] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    indptr: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        for name in ("user", "item"):
            values, size = getattr(self, name), getattr(self, f"n_{name}s")
            if len(values) and not (values.min() >= 1 and values.max() <= size):
                raise ValueError(
                    f"{name} indices lie in 1..{size}; got {values.min()}..{values.max()}; "
                    f"encode the ids with the vocabulary first"
                )
        if len(self.user) > 1 and (np.diff(self.user) < 0).any():
            raise ValueError("events are sorted by user; build with Interactions.from_arrays")
        counts = np.bincount(self.user, minlength=self.n_users + 1)
        object.__setattr__(
            self, "indptr", np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        )

    @classmethod
    def from_arrays(
        cls,
        user: np.ndarray,
        item: np.ndarray,
        n_users: int,
        n_items: int,
        timestamp: np.ndarray | None = None,
        weight: np.ndarray | None = None,
        context: dict[str, np.ndarray] | None = None,
        labels: dict[str, np.ndarray] | None = None,
    ) -> Interactions:
        """Sorts events by user, then time (equal times keep their order); see the attributes."""
        n = len(user)
        timestamp = np.arange(n) if timestamp is None else timestamp
        weight = np.ones(n, np.float32) if weight is None else weight
        order = np.lexsort((np.arange(n), timestamp, user))
        return cls(
            np.asarray(user, np.int32)[order],
            np.asarray(item, np.int32)[order],
            np.asarray(timestamp, np.int64)[order],
            np.asarray(weight, np.float32)[order],
            n_users,
            n_items,
            {k: np.asarray(v)[order] for k, v in (context or {}).items()},
            {k: np.asarray(v, np.float32)[order] for k, v in (labels or {}).items()},
        )

    def __len__(self) -> int:
        return len(self.user)

    def select(self, mask: np.ndarray) -> Interactions:
        """The events where ``mask`` (bool [event]) is True."""
        return Interactions(
            self.user[mask],
            self.item[mask],
            self.timestamp[mask],
            self.weight[mask],
            self.n_users,
            self.n_items,
            {k: v[mask] for k, v in self.context.items()},
            {k: v[mask] for k, v in self.labels.items()},
        )

    def join(self, other: Interactions) -> Interactions:
        """Both sets of events, sorted anew."""
        return Interactions.from_arrays(
            np.concatenate([self.user, other.user]),
            np.concatenate([self.item, other.item]),
            self.n_users,
            self.n_items,
            np.concatenate([self.timestamp, other.timestamp]),
            np.concatenate([self.weight, other.weight]),
            {k: np.concatenate([v, other.context[k]]) for k, v in self.context.items()},
            {k: np.concatenate([v, other.labels[k]]) for k, v in self.labels.items()},
        )

    def matrix(self, binary: bool = True) -> sp.csr_matrix:
        """Users by items, float32 [n_users, n_items]; index ``i`` lies at row or column ``i - 1``.

        Repeated events count once where ``binary``, else their weights add up.
        """
        values = np.ones(len(self), np.float32) if binary else self.weight
        shape = (self.n_users, self.n_items)
        matrix = sp.csr_matrix((values, (self.user - 1, self.item - 1)), shape=shape)
        matrix.sum_duplicates()
        if binary:
            matrix.data[:] = 1.0
        return matrix

    def item_counts(self) -> np.ndarray:
        """Events of each item, int64 [n_items + 1]; entry 0 (padding) is 0."""
        return np.bincount(self.item, minlength=self.n_items + 1)

    def user_counts(self) -> np.ndarray:
        """Events of each user, int64 [n_users + 1]."""
        return np.diff(self.indptr)

    def histories(
        self, users: np.ndarray, length: int, values: np.ndarray | None = None
    ) -> np.ndarray:
        """The last ``length`` items of each user, oldest first, padded with 0 behind.

        Args:
            users: int [batch], user indices; 0 and unknown ones (> n_users) have no history.
            length: H.
            values: other per-event values to gather in place of ``item``, e.g. ratings.

        Returns:
            [batch, H], dtype of ``item`` (or of ``values``).
        """
        source = self.item if values is None else values
        known = np.where(np.asarray(users) <= self.n_users, users, 0)
        end = self.indptr[known + 1]
        start = np.maximum(self.indptr[known], end - length)
        at = start[:, None] + np.arange(length)[None, :]
        inside = at < end[:, None]
        out = np.zeros(at.shape, source.dtype)
        out[inside] = source[at[inside]]
        return out

    def seen(self, users: np.ndarray) -> np.ndarray:
        """All items of each user, padded with 0 to the longest, int32 [batch, longest]."""
        known = np.where(np.asarray(users) <= self.n_users, users, 0)
        longest = int((self.indptr[known + 1] - self.indptr[known]).max(initial=0))
        return self.histories(users, max(longest, 1))


@dataclass(frozen=True)
class RetrievalData:
    """One encoded data set with its splits.

    Attributes:
        train, validation, test: events of each split over one vocabulary.
        users: encoded user features by name, each [n_users + 1 + oov, ...]; row 0 is padding and
            the rows behind ``n_users`` are the hashed unknown users.
        items: encoded item features by name, likewise; the catalogue.
        features: the feature table.
        sizes: number of encoded indices (padding and tail included) of each lookup feature.
        user_ids, item_ids: raw ids, str [n + 1]; entry 0 is "".
    """

    train: Interactions
    validation: Interactions
    test: Interactions
    users: dict[str, np.ndarray]
    items: dict[str, np.ndarray]
    features: FeatureTable
    sizes: dict[str, int]
    user_ids: np.ndarray
    item_ids: np.ndarray

    @property
    def n_users(self) -> int:
        return self.train.n_users

    @property
    def n_items(self) -> int:
        return self.train.n_items

    def user_inputs(
        self, users: np.ndarray, known: Interactions, history_length: int
    ) -> dict[str, np.ndarray]:
        """What a model is told about users at the time when ``known`` is all that has happened.

        Args:
            users: int [batch], user indices.
            known: the events that may be seen.
            history_length: H, most recent items given.

        Returns:
            ``user_id`` int64 [batch], ``history`` int64 [batch, H] (oldest first, 0 behind),
            ``history_weight`` float32 [batch, H] (the weights of those events) and the encoded
            user features [batch, ...].
        """
        users = np.asarray(users)
        inputs = {name: values[users] for name, values in self.users.items()}
        inputs[USER_ID] = users.astype(np.int64)
        inputs[HISTORY] = known.histories(users, history_length).astype(np.int64)
        inputs[HISTORY_WEIGHT] = known.histories(users, history_length, known.weight)
        return inputs

    def refit(self) -> RetrievalData:
        """The same data with validation events moved into training (for the final fit)."""
        empty = self.validation.select(np.zeros(len(self.validation), bool))
        return replace(self, train=self.train.join(self.validation), validation=empty)
