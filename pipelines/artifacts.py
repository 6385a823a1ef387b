"""Artifact types of our own, beside TFX's standard ones.

They have custom properties only: Kubeflow's compiler knows no declared ones of foreign types.
"""

from __future__ import annotations

from tfx.types.artifact import Artifact

REPORT_FILE = "report.json"


class Tables(Artifact):
    """A folder of canonical tables (``tfrec.data.tables``); ``span`` and ``version`` as in TFX."""

    TYPE_NAME = "tfrec.CanonicalTables"


class Report(Artifact):
    """A JSON file ``report.json`` that a component wrote for people and for later components."""

    TYPE_NAME = "tfrec.Report"
