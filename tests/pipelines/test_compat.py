"""The stand-in for a module that the old TFDV wheel wants: only where it is wanted."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import sys
from types import ModuleType

import pytest

from pipelines import compat


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Sets what is installed: TFDV's version, and whether tfx-bsl has the module."""
    monkeypatch.delitem(sys.modules, compat.SQL_UTIL, raising=False)

    def set_to(tfdv: str | None, has_module: bool) -> None:
        def version(name: str) -> str:
            assert name == "tensorflow-data-validation"
            if tfdv is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return tfdv

        spec = importlib.util.spec_from_loader(compat.SQL_UTIL, None) if has_module else None
        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)

    return set_to


@pytest.mark.parametrize(
    ("tfdv", "has_module", "needed"),
    [
        ("1.16.1", False, True),
        ("1.16.1", True, False),
        ("1.17.0", False, False),
        ("1.21.0", False, False),
        (None, False, False),
    ],
)
def test_it_is_registered_only_where_needed(
    versions, tfdv: str | None, has_module: bool, needed: bool
) -> None:
    versions(tfdv, has_module)
    assert compat.needs_stand_in() is needed
    compat.install()
    assert (compat.SQL_UTIL in sys.modules) is needed


def test_a_module_that_is_there_stays(versions, monkeypatch: pytest.MonkeyPatch) -> None:
    versions("1.16.1", False)
    own = ModuleType(compat.SQL_UTIL)
    monkeypatch.setitem(sys.modules, compat.SQL_UTIL, own)
    compat.install()
    assert sys.modules[compat.SQL_UTIL] is own


def test_sql_slices_are_refused_with_a_cure() -> None:
    with pytest.raises(NotImplementedError, match="slice by feature"):
        compat.RecordBatchSQLSliceQuery("SELECT 1", None)


def test_only_the_harmless_message_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("absl")
    logger.propagate = True
    with caplog.at_level(logging.WARNING):
        logger.warning("ArtifactQuery.property_predicate is not supported.")
        logger.warning("something that matters")
    assert "something that matters" in caplog.text
    assert "property_predicate" not in caplog.text


@pytest.mark.parametrize("name", ["absl", "tensorflow"])
def test_what_tfx_repeats_is_not_said_and_all_else_is(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger(name)
    logger.addHandler(caplog.handler)
    try:
        logger.warning("Tables initialized inside a tf.function  will be re-initialized")
        logger.warning("Examples artifact does not have payload_format custom property.")
        logger.warning("the disk is full")
    finally:
        logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"the disk is full"}
