"""Every contract test runs on LMDB, on a Redis server and on a Redis cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.store.servers import RedisServer
from tfrec.config.store import StoreConfig
from tfrec.store.base import BaseStore
from tfrec.store.lmdb_store import LmdbStore
from tfrec.store.redis_store import RedisStore


@dataclasses.dataclass
class Clock:
    """Seconds since 1970 that a test can move."""

    now: float = 2_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("cluster"), cluster=True)
    yield server
    server.kill()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["lmdb", "redis", "cluster"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> StoreConfig:
    """An empty store's settings."""
    common = {"history_length": 5, "timeout_ms": 5000}
    if request.param == "lmdb":
        return StoreConfig(path=str(tmp_path / "store.lmdb"), map_size_gib=0.25, **common)
    name = "redis_server" if request.param == "redis" else "redis_cluster"
    server: RedisServer = request.getfixturevalue(name)
    server.flush()
    return StoreConfig(kind="redis", url=server.url, cluster=server.cluster, **common)


@pytest.fixture
def opened(config: StoreConfig, clock: Clock) -> Iterator[Callable[..., BaseStore]]:
    """Opens the store, as often as asked."""
    stores: list[BaseStore] = []

    def open_(**changes: object) -> BaseStore:
        kind = LmdbStore if config.kind == "lmdb" else RedisStore
        stores.append(kind(config.model_copy(update=changes), clock))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[..., BaseStore]) -> BaseStore:
    return opened()
