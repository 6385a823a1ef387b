"""Section about the feature store: where it is, and how long anything stays in it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tfrec.config.base import Frozen


class StoreConfig(Frozen):
    """The feature store.

    Attributes:
        kind: ``lmdb`` (one file, no server) or ``redis``.
        path: the LMDB file, relative to the configuration's folder.
        url: of Redis, as ``redis://host:6379/0``, ``rediss://...`` or ``unix:///socket``.
        cluster: the url is a node of a Redis cluster.
        namespace: what every key in Redis begins with, so that several stores share a server.
        ttl: seconds after which a loaded row counts as absent; None keeps it.
        history_ttl: seconds that a history's online events stay after the newest of them.
        timeout_ms: longest wait for an answer of Redis.
        history_length: items of a history that are kept and given out.
        map_size_gib: address space of the LMDB file; the file itself is as large as what it holds.
    """

    kind: Literal["lmdb", "redis"] = "lmdb"
    path: str = "store.lmdb"
    url: str = "redis://localhost:6379/0"
    cluster: bool = False
    namespace: str = Field(default="tfrec", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    ttl: float | None = Field(default=None, gt=0)
    history_ttl: float | None = Field(default=30 * 86400, gt=0)
    timeout_ms: float = Field(default=50, gt=0)
    history_length: int = Field(default=200, ge=1, le=100_000)
    map_size_gib: float = Field(default=64, gt=0)

    @model_validator(mode="after")
    def _check(self) -> StoreConfig:
        if not self.url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError(f"url is redis://, rediss:// or unix://; got {self.url!r}")
        if self.cluster and self.kind != "redis":
            raise ValueError(f"'cluster' is for kind 'redis', not for {self.kind!r}")
        return self

    @classmethod
    def at(cls, place: str, **settings: object) -> StoreConfig:
        """Settings from one word: a Redis URL, or the path of an LMDB file."""
        if "://" in place:
            return cls.model_validate({"kind": "redis", "url": place, **settings})
        return cls.model_validate({"kind": "lmdb", "path": place, **settings})
