"""Artifact types of our own, beside TFX's standard ones."""

from __future__ import annotations

from typing import Any, ClassVar

from tfx.types.artifact import Artifact, Property, PropertyType

REPORT_FILE = "report.json"


class Tables(Artifact):
    """A folder of canonical tables (``tfrec.data.tables``)."""

    TYPE_NAME = "tfrec.CanonicalTables"
    PROPERTIES: ClassVar[dict[str, Any]] = {
        "span": Property(type=PropertyType.INT),
        "version": Property(type=PropertyType.INT),
    }


class Report(Artifact):
    """A JSON file ``report.json`` that a component wrote for people and for later components."""

    TYPE_NAME = "tfrec.Report"
    PROPERTIES: ClassVar[dict[str, Any]] = {}
