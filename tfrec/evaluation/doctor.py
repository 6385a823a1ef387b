"""The doctor: looks at data and lists for the usual illnesses of recommenders, names the cures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.encoded import RetrievalData
from tfrec.data.tables import TITLE
from tfrec.evaluation.protocol import HeldOut
from tfrec.features.counts import FeatureCount, count_features
from tfrec.schema import ITEM_ID, TIMESTAMP, USER_ID

Severity = Literal["ok", "warning", "critical"]

SAME_LIST = 0.8  # mean overlap of two users' lists above which they are called the same
POPULAR_ONLY = 0.8  # mean overlap with the user's most-popular list
OUT_OF_VOCABULARY = 0.05  # share of held-out values unknown to the vocabulary
COLD_EVENTS = 5  # an item with fewer training events is cold
COLD_SHARE = 0.3  # share of cold items above which content features matter
MISSING = 0.5  # share of rows without a value above which a feature is mostly a guess
CLIPPED = 0.01  # share of numbers cut at the bound above which the scale is wrong
PAIRS = 20_000  # random pairs of users compared


@dataclass(frozen=True)
class Finding:
    """One check's answer.

    Attributes:
        check: its name.
        severity: ``ok``, ``warning`` or ``critical``.
        found: what was measured.
        cure: what to do; '' where nothing is wrong.
    """

    check: str
    severity: Severity
    found: str
    cure: str = ""


def _graded(check: str, bad: bool, severity: Severity, found: str, cure: str) -> Finding:
    return Finding(check, severity, found, cure) if bad else Finding(check, "ok", found)


def same_list(lists: np.ndarray, n_items: int, seed: int = 0) -> Finding:
    """Whether everybody gets the same list.

    Args:
        lists: int32 [user, k], 0 behind short lists.
        n_items: size of the catalogue.
        seed: of the pairs compared.
    """
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, len(lists), (2, PAIRS))
    left, right = left[left != right], right[left != right]
    if not len(left):
        return Finding("same list for everybody", "ok", "one user only; nothing to compare")
    common = (lists[left][:, :, None] == lists[right][:, None, :]) & (lists[left] > 0)[:, :, None]
    overlap = float(common.sum((1, 2)).mean() / lists.shape[1])
    distinct = len(np.unique(lists[lists > 0]))
    return _graded(
        "same list for everybody",
        overlap > SAME_LIST,
        "critical",
        f"two users share {overlap:.0%} of their top {lists.shape[1]} on average; "
        f"{distinct:,} of {n_items:,} items are recommended to anybody",
        "turn the logQ correction on (retrieval.params.logq), lower retrieval.params.temperature, "
        "train longer, and check that user features and history reach the model",
    )


def popular_only(lists: np.ndarray, counts: np.ndarray, seen: HeldOut) -> Finding:
    """Whether lists are nothing but the most popular items.

    Args:
        lists: int32 [user, k], in the order of ``seen.users``.
        counts: int64 [n_items + 1], training events of each item.
        seen: tells what each user had before.
    """
    k = lists.shape[1]
    ranked = np.argsort(-counts[1:], kind="stable") + 1
    shares = []
    for start in range(0, len(lists), 1024):
        stop = min(start + 1024, len(lists))
        allowed = np.ones((stop - start, len(counts)), bool)
        if seen.exclude_seen:
            rows, items = seen.seen(start, stop)
            allowed[rows, items] = False
        order = allowed[:, ranked]
        popular = order & (np.cumsum(order, axis=1) <= k)
        is_popular = np.zeros_like(allowed)
        is_popular[:, ranked] = popular
        chosen = np.take_along_axis(is_popular, lists[start:stop], axis=1) & (lists[start:stop] > 0)
        shares.append(chosen.sum(1) / k)
    overlap = float(np.concatenate(shares).mean())
    return _graded(
        "popularity-only lists",
        overlap > POPULAR_ONLY,
        "critical",
        f"{overlap:.0%} of each list are the user's {k} most popular unseen items",
        "turn the logQ correction on (retrieval.params.logq), add uniform negatives "
        "(retrieval.params.uniform_negatives) and compare with the 'popular' baseline",
    )


def leaks(splits: Mapping[str, pa.Table]) -> list[Finding]:
    """Whether held-out events, or a user's later events, are among the training ones.

    Args:
        splits: canonical interactions of ``train``, ``eval`` and ``test``.
    """
    keys = [USER_ID, ITEM_ID]
    train, test = splits["train"].select([*keys, TIMESTAMP]), splits["test"]
    pairs = train.group_by(keys).aggregate([])
    both = test.select(keys).join(pairs, keys=keys, join_type="inner").num_rows
    last = train.group_by(USER_ID).aggregate([(TIMESTAMP, "max")])
    later = test.select([USER_ID, TIMESTAMP]).join(last, keys=USER_ID, join_type="inner")
    behind = pc.sum(pc.less(later.column(TIMESTAMP), later.column(f"{TIMESTAMP}_max"))).as_py() or 0
    share = both / max(test.num_rows, 1)
    return [
        _graded(
            "test items in training",
            both > 0,
            "critical" if share > 0.5 else "warning",
            f"{both:,} of {test.num_rows:,} test events are pairs the user trained on",
            "repeated purchases are no test of discovery: keep each pair's first event "
            "(data.repeats: first), or count them on purpose (gate.exclude_seen: false)",
        ),
        _graded(
            "training after test",
            behind > 0,
            "warning",
            f"{behind:,} test events are older than their user's last training event",
            "use split.method last_out or time; a random split lets the model see the future",
        ),
    ]


def out_of_vocabulary(
    data: RetrievalData, splits: Mapping[str, pa.Table], name: str = "test"
) -> list[Finding]:
    """Share of held-out values that training never saw, by column.

    Args:
        data: encoded data.
        splits: canonical interactions.
        name: of the split looked at.
    """
    findings = []
    trained = {
        USER_ID: data.user_ids[np.flatnonzero(data.train.user_counts())],
        ITEM_ID: data.item_ids[np.flatnonzero(data.train.item_counts())],
    }
    for column, known in trained.items():
        values = splits[name].column(column)
        inside = pc.sum(pc.is_in(values, pa.array(known, pa.string()))).as_py() or 0
        share = 1 - inside / max(len(values), 1)
        findings.append(_oov(column, share, name))
    for side, rows in (("user", data.users), ("item", data.items)):
        for feature in data.features.of(side, ids=False):  # type: ignore[arg-type]
            if feature.is_lookup:
                values = rows[feature.name][
                    1 : (data.n_users if side == "user" else data.n_items) + 1
                ]
                size = data.sizes[feature.name] - feature.oov_buckets
                share = float((values >= size).sum() / max((values > 0).sum(), 1))
                findings.append(_oov(feature.name, share, "attributes"))
    return findings


def _oov(column: str, share: float, where: str) -> Finding:
    return _graded(
        f"out of vocabulary: {column}",
        share > OUT_OF_VOCABULARY,
        "warning",
        f"{share:.1%} of the values ({where}) were never trained",
        f"raise max_vocabulary or lower min_count of {column!r}; for ids: more oov_buckets, "
        f"id_dropout with content features, or retrain more often",
    )


def feature_values(data: RetrievalData) -> list[Finding]:
    """What encoding had to mend, feature by feature: missing, unseen and clipped values."""
    return [_values(count) for count in count_features(data)]


def _values(count: FeatureCount) -> Finding:
    cures = []
    if count.missing_share > MISSING:
        cures.append("most rows lack it: check the column map, or leave it out")
    if count.unseen_share > OUT_OF_VOCABULARY:
        cures.append("many values are unseen: raise max_vocabulary or lower min_count")
    if count.clipped_share > CLIPPED:
        cures.append("many numbers are clipped: try transform: log, or raise clip")
    return _graded(
        f"values of {count.feature}", bool(cures), "warning", count.line(), "; ".join(cures)
    )


def duplicate_candidates(items: pa.Table) -> Finding:
    """Whether the catalogue holds an item twice: equal titles under different ids."""
    if TITLE not in items.column_names:
        return Finding("duplicate candidates", "ok", "items have no title to compare")
    titles = [" ".join((t or "").lower().split()) for t in items.column(TITLE).to_pylist()]
    counts = Counter(t for t in titles if t)
    twice = {t: n for t, n in counts.items() if n > 1}
    extra = sum(twice.values()) - len(twice)
    example = f", e.g. {max(twice, key=lambda t: twice[t])!r}" if twice else ""
    return _graded(
        "duplicate candidates",
        extra > 0,
        "warning",
        f"{extra:,} of {items.num_rows:,} items repeat another's title{example}",
        "merge the ids of one product before training; two ids share its events and fill lists",
    )


def cold_items(data: RetrievalData, lists: np.ndarray) -> Finding:
    """Share of items with few training events, in the catalogue and in the lists."""
    counts = data.train.item_counts()
    cold = counts < COLD_EVENTS
    share = float(cold[1:].mean())
    listed = float(cold[lists[lists > 0]].mean()) if (lists > 0).any() else 0.0
    return _graded(
        "cold items",
        share > COLD_SHARE,
        "warning",
        f"{share:.1%} of the catalogue has fewer than {COLD_EVENTS} training events; "
        f"they fill {listed:.1%} of the lists",
        "give items content features (title, categories, price) and set "
        "retrieval.params.id_dropout (and min_id_events of two_tower) so that content alone can "
        "place them",
    )


def examine(
    data: RetrievalData,
    splits: Mapping[str, pa.Table],
    items: pa.Table,
    questions: HeldOut,
    lists: np.ndarray,
) -> list[Finding]:
    """All checks.

    Args:
        data: encoded data.
        splits: canonical interactions of ``train``, ``eval`` and ``test``.
        items: canonical items.
        questions: whose lists they are.
        lists: int32 [user, k] item indices, seen items left out.
    """
    return [
        same_list(lists, data.n_items),
        popular_only(lists, data.train.item_counts(), questions),
        *leaks(splits),
        *out_of_vocabulary(data, splits),
        *feature_values(data),
        duplicate_candidates(items),
        cold_items(data, lists),
    ]
