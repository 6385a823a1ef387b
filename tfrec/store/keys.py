"""Names of namespaces and versions, and the keys of both kinds of store.

Redis: ``tfrec:{u:42}:users:v3``. The braces hold the hash tag: a cluster places a key by the text
between them, so everything of one user (features, vector, history) lies on one node.
LMDB: ``users\\0v3\\0`` and the id; an id that would not fit the key of 511 bytes is hashed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tfrec.store.errors import StoreError

USERS = "users"
ITEMS = "items"
USER_VECTORS = "user_vectors"
ITEM_VECTORS = "item_vectors"
HISTORIES = "histories"

_OF_USER = frozenset({USERS, USER_VECTORS, HISTORIES})
_OF_ITEM = frozenset({ITEMS, ITEM_VECTORS})
_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

_UTF8 = ("utf-8", "surrogateescape")  # bytes that are no UTF-8 come back as they were

SLOTS = 16384
MAX_LMDB_KEY = 511
HASHED = b"\xff"  # no UTF-8 text begins with this byte


def check_namespace(name: str) -> str:
    """The name itself.

    Raises:
        StoreError: it is no name of a namespace.
    """
    if not _NAMESPACE.fullmatch(name):
        raise StoreError(f"a namespace is lower-case letters, digits and _; got {name!r}")
    return name


def check_version(version: str) -> str:
    """The version itself.

    Raises:
        StoreError: it is no name of a version.
    """
    if not _VERSION.fullmatch(version):
        raise StoreError(
            f"a version is up to 64 letters, digits, '.', '_' and '-'; got {version!r}"
        )
    return version


def texts(keys: Iterable[object]) -> list[str]:
    """Raw ids as a list of text, from lists, NumPy or Arrow.

    Raises:
        StoreError: a key is null, empty or no text.
    """
    values = keys.tolist() if isinstance(keys, np.ndarray) else keys
    values = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    out: list[Any] = [
        v.decode("utf-8", "surrogateescape") if isinstance(v, bytes) else v for v in values
    ]
    for value in out:
        if not isinstance(value, str) or not value:
            raise StoreError(f"a key is text that is not empty; got {value!r}; drop those rows")
    return out


def raw(key: str) -> bytes:
    """An id as bytes."""
    return key.encode(*_UTF8)


def entity(namespace: str) -> str:
    """Whose rows a namespace holds: ``u``, ``i``, or its own name."""
    if namespace in _OF_USER:
        return "u"
    return "i" if namespace in _OF_ITEM else namespace


def redis_keys(store: str, namespace: str, version: str, keys: Sequence[str]) -> list[bytes]:
    """Keys of rows in Redis."""
    head = f"{store}:{{{entity(namespace)}:".encode()
    tail = f"}}:{namespace}:{version}".encode()
    return [head + raw(key) + tail for key in keys]


def redis_tails(store: str, users: Sequence[str]) -> list[bytes]:
    """Keys of the online part of histories in Redis."""
    head = f"{store}:{{{entity(HISTORIES)}:".encode()
    return [head + raw(user) + b"}:recent" for user in users]


def redis_meta(store: str) -> bytes:
    """The one key that says which versions are live; all its fields are in one slot."""
    return f"{store}:{{meta}}".encode()


def lmdb_prefix(namespace: str, version: str) -> bytes:
    """What all keys of one version of a namespace begin with."""
    return f"{namespace}\0{version}\0".encode()


def lmdb_keys(prefix: bytes, keys: Sequence[str]) -> list[bytes]:
    """Keys of rows in LMDB."""
    room = MAX_LMDB_KEY - len(prefix)
    return [
        prefix + (k if len(k) <= room else HASHED + hashlib.blake2b(k, digest_size=32).digest())
        for k in map(raw, keys)
    ]


def hash_tag(key: bytes) -> bytes:
    """The part of a key that decides its slot: between the first { and the } behind it."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    return key[start + 1 : end] if start >= 0 and end > start + 1 else key


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1) ^ 0x1021 if value & 0x8000 else value << 1
        table.append(value & 0xFFFF)
    return table


_CRC = _crc_table()


def slot(key: bytes) -> int:
    """Slot of a key in a Redis cluster, 0..16383: CRC-16 (XMODEM) of its hash tag."""
    value = 0
    for byte in hash_tag(key):
        value = (value << 8 & 0xFFFF) ^ _CRC[value >> 8 ^ byte]
    return value % SLOTS
