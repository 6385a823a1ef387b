"""Small raw files, and configurations around them."""

from __future__ import annotations

import gzip
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
