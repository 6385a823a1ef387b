"""A small shop with images, and the page over it on a port of the system's choice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.explore.fake import FakeRecommender
from tfrec.config import DataConfig
from tfrec.data.synthetic import generate
from tfrec.data.tables import Tables, write_tables
from tfrec.explore.explorer import Explorer
from tfrec.explore.server import address_of, bind, make_server
from tfrec.explore.shop import Shop


@pytest.fixture(scope="session")
def tables() -> Tables:
    config = DataConfig(
        format="synthetic", rows=600, users_count=40, items_count=60, seed=3, images=True
    )
    return generate(config).tables()


@pytest.fixture(scope="session")
def folder(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explore") / "tables"
    write_tables(tables, path)
    return path


@pytest.fixture(scope="session")
def shop(folder: Path) -> Shop:
    return Shop(folder)


@pytest.fixture
def fake(tables: Tables) -> FakeRecommender:
    return FakeRecommender(tables)


@contextmanager
def serving(explorer: Explorer) -> Iterator[str]:
    """Serves an explorer in a thread; gives ``http://127.0.0.1:port``."""
    taken = bind("127.0.0.1", 0)
    server = make_server(explorer, "127.0.0.1")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield address_of(taken)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[[Explorer], str]]:
    """Serves explorers until the test ends."""
    with ExitStack() as stack:
        yield lambda explorer: stack.enter_context(serving(explorer))
