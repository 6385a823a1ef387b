"""The store over Redis, single or cluster.

One request is one round trip: MGET of all rows and, behind it on the same connection, the live
versions. If these changed meanwhile, the rows are asked for again, so an answer is never of two
versions. In a cluster the rows come from several nodes at once, and the live versions in a second
round trip after them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pyarrow as pa

from tfrec.config.store import StoreConfig
from tfrec.store.base import BaseStore, Fetched, split_live
from tfrec.store.errors import StoreError, StoreUnavailable
from tfrec.store.keys import HISTORIES, redis_keys, redis_meta, redis_tails
from tfrec.store.recent import APPEND_LUA

BATCH = 2000  # commands in a pipeline, keys in a MSET
ATTEMPTS = 5
SLOW_S = 60.0  # patience of loads and deletes, which are long and have no user waiting

CHANGE_LUA = """
local at, n = 2, tonumber(ARGV[1])
for _ = 1, n do
  if redis.call('HGET', KEYS[1], ARGV[at]) ~= ARGV[at + 1] then return 0 end
  at = at + 2
end
n = tonumber(ARGV[at]); at = at + 1
for _ = 1, n do redis.call('HDEL', KEYS[1], ARGV[at]); at = at + 1 end
while at < #ARGV do redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]); at = at + 2 end
return 1
"""


class RedisStore(BaseStore):
    """See :class:`tfrec.store.interface.FeatureStore`.

    Args:
        config: ``url``, ``cluster``, ``namespace`` and ``timeout_ms`` say where and how.
        clock: seconds since 1970.
    """

    def __init__(self, config: StoreConfig, clock: Any = time.time) -> None:
        super().__init__(config, clock)
        self._name = config.namespace
        self._key = redis_meta(config.namespace)
        self._live: dict[str, str | None] = {}
        self._quick: Any = None
        self._slow: Any = None

    @property
    def place(self) -> str:
        head, _, tail = self.config.url.rpartition("@")
        scheme = f"{head.partition('://')[0]}://" if head else ""
        return f"{scheme}{tail} ({self._name})"  # without the password

    def _connect(self, seconds: float) -> Any:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        settings: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        if self.config.cluster:
            return redis.RedisCluster.from_url(self.config.url, **settings)
        # one more try at once: a connection that the server had closed in silence costs no answer
        again = Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,))
        return redis.Redis.from_url(self.config.url, retry=again, **settings)

    @contextmanager
    def _told(self) -> Iterator[None]:
        import redis

        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise StoreUnavailable(f"{self.place}: {error}") from error
        except redis.exceptions.RedisClusterException as error:
            raise StoreUnavailable(f"{self.place}: {error}") from error
        except redis.ResponseError as error:
            raise StoreError(f"{self.place}: {error}") from error

    def _reader(self) -> Any:
        if self._quick is None:
            self._quick = self._connect(self.config.timeout_ms / 1000)
        return self._quick

    def _writer(self) -> Any:
        if self._slow is None:
            self._slow = self._connect(max(SLOW_S, self.config.timeout_ms / 1000))
        return self._slow

    def _fetch(self, keys: Mapping[str, Sequence[str]]) -> dict[str, Fetched]:
        with self._told():
            known = {n: self._live[n] for n in keys if n in self._live}
            for _ in range(ATTEMPTS):
                found, live = self._ask(keys, known)
                self._live.update(live)
                if known == live:
                    return found
                known = live
        raise StoreUnavailable(f"{self.place}: the live version changed {ATTEMPTS} times meanwhile")

    def _ask(
        self, keys: Mapping[str, Sequence[str]], known: Mapping[str, str | None]
    ) -> tuple[dict[str, Fetched], dict[str, str | None]]:
        """Rows of the versions thought live, and the versions that are."""
        names: list[bytes] = []
        if len(known) == len(keys):
            for namespace, ids in keys.items():
                version, _ = split_live(known[namespace])
                if version is not None:
                    names += redis_keys(self._name, namespace, version, ids)
                if namespace == HISTORIES:
                    names += redis_tails(self._name, ids)
        client = self._reader()
        fields = [f"live:{n}" for n in keys]
        if self.config.cluster:
            values = _get_each(client, names)
            answered = client.hmget(self._key, fields)
        else:
            pipe = client.pipeline(transaction=False)
            pipe.mget(names or [self._key + b"-"])  # MGET of nothing is an error
            pipe.hmget(self._key, fields)
            values, answered = pipe.execute()
        live = {n: None if v is None else v.decode() for n, v in zip(keys, answered, strict=True)}
        rest = iter(values)
        found = {}
        if live == known:
            for namespace, ids in keys.items():
                (version, columns), n = split_live(live[namespace]), len(ids)
                rows = [None] * n if version is None else list(islice(rest, n))
                recent = list(islice(rest, n)) if namespace == HISTORIES else []
                found[namespace] = Fetched(version, columns, rows, recent)
        return found, live

    def _write(
        self,
        namespace: str,
        version: str,
        keys: Sequence[str],
        rows: pa.LargeBinaryArray,
        expires: int,
        meta: Mapping[str, str],
    ) -> None:
        pairs = zip(redis_keys(self._name, namespace, version, keys), rows.to_pylist(), strict=True)
        with self._told():
            client = self._writer()
            while batch := dict(islice(pairs, BATCH)):
                if expires or self.config.cluster:
                    _set_each(client, batch, expires)
                else:
                    client.mset(batch)
            if meta:
                client.hset(self._key, mapping=dict(meta))

    def _append(self, events: Mapping[str, list[bytes]], expires: int) -> None:
        names = redis_tails(self._name, list(events))
        with self._told():
            client = self._writer()
            script = client.register_script(APPEND_LUA)
            for name, new in zip(names, events.values(), strict=True):
                script(keys=[name], args=[self.config.history_length, expires, *new])

    def _meta(self) -> dict[str, str]:
        with self._told():
            found = self._writer().hgetall(self._key)
        return {k.decode(): v.decode() for k, v in found.items()}

    def _change(self, expect: Mapping[str, str], put: Mapping[str, str], drop: list[str]) -> bool:
        arguments: list[Any] = [len(expect)]
        for field, value in expect.items():
            arguments += [field, value]
        arguments += [len(drop), *drop]
        for field, value in put.items():
            arguments += [field, value]
        with self._told():
            done = self._writer().register_script(CHANGE_LUA)(keys=[self._key], args=arguments)
        return bool(done)

    def _delete(self, namespace: str, version: str) -> None:
        (pattern,) = redis_keys(self._name, namespace, version, ["*"])
        with self._told():
            client = self._writer()
            names = client.scan_iter(match=pattern, count=BATCH)
            while batch := list(islice(names, BATCH)):
                if self.config.cluster:
                    pipe = client.pipeline()
                    for name in batch:
                        pipe.unlink(name)
                    pipe.execute()
                else:
                    client.unlink(*batch)

    def _count(self, namespace: str, version: str) -> int | None:
        return None  # only by a scan over all keys

    def ping(self) -> None:
        with self._told():
            self._reader().ping()

    def close(self) -> None:
        for client in (self._quick, self._slow):
            if client is not None:
                client.close()
        self._quick = self._slow = None


def _get_each(client: Any, names: Sequence[bytes]) -> list[bytes | None]:
    """GET a key at a time, in one pipeline to every node at once."""
    pipe = client.pipeline()
    for name in names:
        pipe.get(name)
    return pipe.execute() if names else []


def _set_each(client: Any, pairs: Mapping[bytes, bytes], expires: int) -> None:
    """SET a key at a time, in one pipeline: MSET knows no time to live, nor several nodes."""
    pipe = client.pipeline() if _is_cluster(client) else client.pipeline(transaction=False)
    for name, value in pairs.items():
        pipe.set(name, value, exat=expires or None)
    pipe.execute()


def _is_cluster(client: Any) -> bool:
    import redis

    return isinstance(client, redis.RedisCluster)
