"""Quality by slice: who is served well and who is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.result import Evaluation


@dataclass(frozen=True)
class Slice:
    """One group of users.

    Attributes:
        by: what the groups are made by, e.g. ``activity``.
        value: the group's name, e.g. ``decile 1``.
        users: how many are in it.
        metrics: their mean metrics.
    """

    by: str
    value: str
    users: int
    metrics: dict[str, float]


def _slice(evaluation: Evaluation, by: str, value: str, mask: np.ndarray) -> Slice:
    means = {name: float(v[mask].mean()) for name, v in evaluation.per_user.items()}
    return Slice(by, value, int(mask.sum()), means)


def by_activity(evaluation: Evaluation, data: RetrievalData, groups: int = 10) -> list[Slice]:
    """Groups of equal size by the number of training events; decile 1 is the least active.

    Users with the same number of events are never parted, so groups may differ in size, and there
    are fewer where many share a number.
    """
    events = data.train.user_counts()[evaluation.users]
    edges = np.unique(np.quantile(events, np.linspace(0, 1, groups + 1)[1:-1], method="higher"))
    group = np.searchsorted(edges, events, side="right")
    out = []
    for number in np.unique(group):
        mask = group == number
        low, high = events[mask].min(), events[mask].max()
        name = f"{number + 1} ({low}-{high} events)"
        out.append(_slice(evaluation, "activity", name, mask))
    return out


def by_new_users(evaluation: Evaluation, data: RetrievalData, at_most: int = 0) -> list[Slice]:
    """Users with at most so many training events against the others; empty groups are left out."""
    new = data.train.user_counts()[evaluation.users] <= at_most
    return [
        _slice(evaluation, "new users", name, mask)
        for name, mask in (("new", new), ("known", ~new))
        if mask.any()
    ]


def by_user_feature(
    evaluation: Evaluation,
    data: RetrievalData,
    feature: str,
    names: Sequence[str] | None = None,
    largest: int = 20,
) -> list[Slice]:
    """Users by the value of an encoded feature with one index a user (categorical, a bucket).

    Args:
        feature: name in ``data.users``.
        names: words of the indices, index 0 first; the index itself where none are given.
        largest: only the groups with most users are kept.

    Raises:
        KeyError: there is no such user feature.
        ValueError: the feature has more than one value a user, or is a float.
    """
    if feature not in data.users:
        raise KeyError(f"no user feature {feature!r}; there are {sorted(data.users)}")
    values = data.users[feature]
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"slices need one index a user, int [user]; {feature!r} is {values.dtype} "
            f"{values.shape}; take a categorical feature, or '<name>_bucket' of a number"
        )
    mine = values[evaluation.users]
    found, counts = np.unique(mine, return_counts=True)
    out = []
    for value in found[np.argsort(-counts, kind="stable")][:largest]:
        name = names[value] if names is not None and value < len(names) else str(value)
        out.append(_slice(evaluation, feature, name or "(missing)", mine == value))
    return out


def _item_slices(evaluation: Evaluation, by: str, groups: Mapping[str, np.ndarray]) -> list[Slice]:
    """Recall and hit rate over the held-out items of a group.

    Args:
        groups: name -> bool [n_items + 1], which items belong to it.

    Only ``recall@k`` (share of the group's held-out items that were found) is given: the other
    metrics belong to a whole list.
    """
    if evaluation.lists.shape[1] == 0:
        raise ValueError("slices of items are read off the lists; evaluate with lists=True")
    row = np.repeat(np.arange(len(evaluation.users)), evaluation.relevant)
    rank = np.full(len(row), evaluation.lists.shape[1], np.int64)
    for at in range(evaluation.lists.shape[1]):
        rank[evaluation.lists[row, at] == evaluation.held_item] = at
    out = []
    for name, members in groups.items():
        mask = members[evaluation.held_item]
        if not mask.any():
            continue
        metrics = {f"recall@{k}": float((rank[mask] < k).mean()) for k in evaluation.ks}
        out.append(Slice(by, name, len(np.unique(row[mask])), metrics))
    return out


def by_cold_items(evaluation: Evaluation, data: RetrievalData, at_most: int = 4) -> list[Slice]:
    """Held-out items with at most so many training events against the others (recall only)."""
    cold = data.train.item_counts() <= at_most
    return _item_slices(evaluation, "items", {f"cold (<= {at_most})": cold, "warm": ~cold})


def by_popularity(evaluation: Evaluation, data: RetrievalData) -> list[Slice]:
    """Held-out items by band (recall only).

    The head are the most popular items that together hold a third of the training events, the
    middle those of the next third, the tail the rest.
    """
    counts = data.train.item_counts()
    order = np.argsort(-counts[1:], kind="stable") + 1
    before = np.cumsum(counts[order]) - counts[order]
    band = np.full(len(counts), 2)
    band[order] = np.minimum(3 * before // max(counts.sum(), 1), 2)
    groups = {name: band == i for i, name in enumerate(("head", "middle", "tail"))}
    return _item_slices(evaluation, "popularity", groups)


def all_slices(
    evaluation: Evaluation,
    data: RetrievalData,
    features: Sequence[str] = (),
    words: Mapping[str, Sequence[str]] | None = None,
) -> list[Slice]:
    """The usual slices, and those of the named user features, whose values ``words`` name."""
    out = [*by_activity(evaluation, data), *by_new_users(evaluation, data)]
    out += [*by_cold_items(evaluation, data), *by_popularity(evaluation, data)]
    for feature in features:
        out += by_user_feature(evaluation, data, feature, (words or {}).get(feature))
    return out
