"""Keys of a cluster against Redis itself: everything of one user lies in one slot."""

from __future__ import annotations

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tests.store.servers import RedisServer
from tfrec.store.errors import StoreError
from tfrec.store.keys import (
    HISTORIES,
    ITEMS,
    MAX_LMDB_KEY,
    USER_VECTORS,
    USERS,
    hash_tag,
    lmdb_keys,
    lmdb_prefix,
    redis_keys,
    redis_meta,
    redis_tails,
    slot,
    texts,
)

IDS = ["u1", "", "a}b", "{x}", "}", "ü€", "a" * 700, "u:{", "1\0 2"]


def test_slots_are_those_of_redis(redis_server: RedisServer, redis_cluster: RedisServer) -> None:
    keys = [*redis_keys("tfrec", USERS, "v1", IDS), redis_meta("tfrec"), b"123456789", b"{}a", b"{"]
    with redis.Redis(port=redis_cluster.port) as client:
        asked = [client.execute_command("CLUSTER", "KEYSLOT", key) for key in keys]
    assert [slot(key) for key in keys] == asked
    assert slot(b"123456789") == 0x31C3  # the check value of CRC-16/XMODEM
    assert len(set(asked)) > 5


@given(st.text(min_size=1, max_size=20))
def test_all_of_one_user_lies_in_one_slot(user: str) -> None:
    keys = [
        *redis_keys("s", USERS, "v1", [user]),
        *redis_keys("s", USER_VECTORS, "v2", [user]),
        *redis_keys("s", HISTORIES, "v1", [user]),
        *redis_tails("s", [user]),
    ]
    assert len(set(keys)) == 4
    assert len({slot(key) for key in keys}) == 1
    assert hash_tag(keys[0]).startswith(b"u:")


@given(st.lists(st.text(max_size=6), min_size=2, max_size=2, unique=True))
def test_different_ids_have_different_keys(pair: list[str]) -> None:
    assert len(set(redis_keys("s", USERS, "v1", pair))) == 2
    assert len(set(lmdb_keys(lmdb_prefix(USERS, "v1"), pair))) == 2
    assert hash_tag(redis_keys("s", ITEMS, "v1", pair)[0])[:2] == b"i:"


def test_long_ids_fit_lmdb() -> None:
    prefix = lmdb_prefix(USERS, "v1")
    keys = lmdb_keys(prefix, ["x" * 502, "x" * 503, "x" * 504, "x" * 503 + "y"])
    assert len(set(keys)) == 4
    assert max(map(len, keys)) <= MAX_LMDB_KEY
    assert keys[0] == prefix + b"x" * 502


def test_ids_may_be_bytes_and_are_never_empty() -> None:
    odd = texts([b"\xff\xfe", "a"])
    assert redis_tails("s", odd)[0] == b"s:{u:\xff\xfe}:recent"
    for bad in ("", None, 3):
        with pytest.raises(StoreError, match="a key is text that is not empty"):
            texts([bad])
