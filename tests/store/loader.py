"""A process that loads until it is killed: ``python loader.py CONFIG_JSON ROWS``.

It prints the rows written so far after every block, so that the test can kill it in the middle.
"""

from __future__ import annotations

import sys

from tfrec.config.store import StoreConfig
from tfrec.store import USERS, open_store

BLOCK = 500


def value(row: int, version: str) -> str:
    """What a row holds: long, so that it is written in several pages."""
    return f"{version}-{row}-" + "x" * 100


def load(config: StoreConfig, rows: int, version: str, mode: str = "new") -> None:
    """Loads ``rows`` users, from where an earlier load was."""
    store = open_store(config)
    one = store.begin(version, {USERS: {"age": "string"}}, mode)
    for at in range(one.done("rows"), rows, BLOCK):
        block = range(at, min(at + BLOCK, rows))
        ages = [value(i, version) for i in block]
        one.put_many(USERS, [f"u{i}" for i in block], {"age": ages}, source="rows", done=block.stop)
        print(block.stop, flush=True)
    one.commit()
    store.close()


if __name__ == "__main__":
    load(StoreConfig.model_validate_json(sys.argv[1]), int(sys.argv[2]), "v2")
