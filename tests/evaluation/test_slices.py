"""Slices against masks made by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tests.builders import random_data
from tests.evaluation.stub import Fixed
from tfrec.evaluation import evaluate
from tfrec.evaluation.slices import (
    all_slices,
    by_activity,
    by_cold_items,
    by_new_users,
    by_popularity,
    by_user_feature,
)

DATA = random_data(60, 20, 7.0)
FOUND = evaluate(Fixed.random(DATA), DATA, ks=(3, 8))


def test_activity_groups_part_the_users_by_events() -> None:
    groups = by_activity(FOUND, DATA, 4)
    assert sum(g.users for g in groups) == len(FOUND.users)
    events = DATA.train.user_counts()[FOUND.users]
    low, high = groups[0].value.split("(")[1].split(" ")[0].split("-")
    mask = (events >= int(low)) & (events <= int(high))
    assert mask.sum() == groups[0].users
    assert groups[0].metrics["recall@3"] == pytest.approx(FOUND.per_user["recall@3"][mask].mean())
    bounds = [tuple(map(int, g.value.split("(")[1].split(" ")[0].split("-"))) for g in groups]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(bounds))


def test_equally_active_users_are_one_group() -> None:
    from tests.builders import checkerboard

    data = checkerboard(10)
    groups = by_activity(evaluate(Fixed.random(data), data, ks=(3,)), data)
    assert [g.users for g in groups] == [10]


def test_new_users() -> None:
    groups = {g.value: g for g in by_new_users(FOUND, DATA, at_most=4)}
    new = DATA.train.user_counts()[FOUND.users] <= 4
    assert groups["new"].users == new.sum()
    assert groups["known"].metrics["ndcg@8"] == pytest.approx(FOUND.per_user["ndcg@8"][~new].mean())
    assert [g.value for g in by_new_users(FOUND, DATA)] == ["known"]


def test_held_out_items_by_popularity_and_coldness() -> None:
    counts = DATA.train.item_counts()
    limit = int(np.median(counts[1:]))
    groups = {g.value.split(" ")[0]: g for g in by_cold_items(FOUND, DATA, limit)}
    hits, asked = 0, 0
    for user, item in zip(FOUND.held_user, FOUND.held_item, strict=True):
        if counts[item] <= limit:
            asked += 1
            hits += item in FOUND.lists[FOUND.users.tolist().index(user), :3]
    assert asked > 0
    assert groups["cold"].metrics["recall@3"] == pytest.approx(hits / asked)
    bands = by_popularity(FOUND, DATA)
    assert [b.value for b in bands] == ["head", "middle", "tail"]


def test_popularity_bands_hold_a_third_of_the_events_each() -> None:
    counts = DATA.train.item_counts()
    head: list[int] = []
    for item in np.argsort(-counts[1:], kind="stable") + 1:
        if 3 * sum(counts[i] for i in head) >= counts.sum():
            break
        head.append(item)
    mask = np.isin(FOUND.held_item, head)
    band = by_popularity(FOUND, DATA)[0]
    assert band.users == len(np.unique(FOUND.held_user[mask]))


def test_by_a_user_feature() -> None:
    group = np.arange(62) % 3
    data = replace(DATA, users={**DATA.users, "group": group, "age": group / 2})
    slices = by_user_feature(FOUND, data, "group", names=["", "young", "old"])
    assert {s.value for s in slices} == {"(missing)", "young", "old"}
    young = next(s for s in slices if s.value == "young")
    mask = group[FOUND.users] == 1
    assert young.users == mask.sum()
    assert young.metrics["mrr@3"] == pytest.approx(FOUND.per_user["mrr@3"][mask].mean())
    with pytest.raises(KeyError, match="no user feature 'grup'"):
        by_user_feature(FOUND, data, "grup")
    with pytest.raises(ValueError, match="one index a user"):
        by_user_feature(FOUND, data, "age")
    assert {"activity", "popularity", "group"} <= {s.by for s in all_slices(FOUND, data, ["group"])}
