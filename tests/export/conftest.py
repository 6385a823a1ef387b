"""What several files of tests ask: made once a process, since making it trains a ranker."""

from __future__ import annotations

import pytest

from tests.export.objective_parts import Shop, write_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Clicks and purchases, a multi-task ranker; see ``objective_parts``. Nobody changes it."""
    return write_shop(tmp_path_factory.mktemp("shop"))
