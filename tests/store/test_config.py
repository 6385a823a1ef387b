"""The section ``store`` of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfrec.config import StoreConfig, load_config
from tfrec.config.base import ConfigError
from tfrec.store import StoreError, open_store


def written(folder: Path, section: str) -> Path:
    file = folder / "c.yaml"
    file.write_text(f"name: t\ndata: {{format: synthetic}}\nstore: {section}\n")
    return file


def test_the_path_is_taken_from_the_files_folder(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "{path: sub/s.lmdb}")).store
    assert config.path == str(tmp_path / "sub" / "s.lmdb")
    with pytest.raises(StoreError, match="the store's folder is there"):
        open_store(config)


def test_one_word_names_a_store() -> None:
    assert StoreConfig.at("a/b.lmdb").kind == "lmdb"
    found = StoreConfig.at("rediss://u:p@h:1/2", timeout_ms=9)
    assert (found.kind, found.url, found.timeout_ms) == ("redis", "rediss://u:p@h:1/2", 9)
    store = open_store(found)
    assert "u:p" not in store.status.__self__.place  # type: ignore[attr-defined]
    store.close()


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("{kind: redis, url: 'http://h'}", "url is redis://, rediss:// or unix://"),
        ("{cluster: true}", "'cluster' is for kind 'redis'"),
        ("{namespace: 'a{b}'}", "store.namespace"),
        ("{timeout_ms: 0}", "store.timeout_ms"),
        ("{history_lenght: 5}", "did you mean 'history_length'"),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, section: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_config(written(tmp_path, section))
