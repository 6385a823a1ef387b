"""The feature store: features, vectors and histories by key, embedded (LMDB) or in Redis.

Neither ``lmdb`` nor ``redis`` is imported before a store of that kind is opened.
"""

from __future__ import annotations

from tfrec.config.store import StoreConfig
from tfrec.store.errors import StoreError, StoreUnavailable
from tfrec.store.interface import FeatureStore, Load, Rows, Status
from tfrec.store.keys import HISTORIES, ITEM_VECTORS, ITEMS, USER_VECTORS, USERS
from tfrec.store.layout import RowSchema
from tfrec.store.recent import HISTORY_SCHEMA

__all__ = [
    "HISTORIES",
    "HISTORY_SCHEMA",
    "ITEMS",
    "ITEM_VECTORS",
    "USERS",
    "USER_VECTORS",
    "FeatureStore",
    "Load",
    "RowSchema",
    "Rows",
    "Status",
    "StoreError",
    "StoreUnavailable",
    "open_store",
]


def open_store(config: StoreConfig) -> FeatureStore:
    """Opens the store that a configuration names.

    Raises:
        StoreError: it cannot be opened, or its package is not installed.
    """
    try:
        if config.kind == "redis":
            import redis  # noqa: F401

            from tfrec.store.redis_store import RedisStore

            return RedisStore(config)
        import lmdb  # noqa: F401

        from tfrec.store.lmdb_store import LmdbStore

        return LmdbStore(config)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"a store of kind {config.kind!r} needs the package {error.name!r}; "
            f"pip install 'tfrec[store]'"
        ) from None
