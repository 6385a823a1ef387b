"""Small raw files and the real data sets, where this machine has them."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tfrec.config import Config, parse_config


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes bytes or text below the test's folder, gzipped where the name says so."""

    def _write(name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return _write


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Config]:
    """A configuration around a data section whose path is the test's folder."""

    def _configure(features: list[dict] | None = None, **data: object) -> Config:
        data.setdefault("path", str(tmp_path))
        return parse_config({"name": "test", "data": data, "features": features or []})

    return _configure


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data sets; skips where there is none."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    path = Path(os.environ.get("TFREC_SHARED_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set TFREC_SHARED_DATA to test on it")
    return path
