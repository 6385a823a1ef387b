"""Verdicts of our own gates: an artifact with a yes or no and the reasons in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx.types.artifact import Artifact

from pipelines.artifacts import REPORT_FILE

BLESSED = "blessed"
JUDGED = "current_model_id"  # the model a verdict is about, named as in TFX's ModelBlessing


class Verdict(Artifact):
    """A gate's answer; ``report.json`` holds ``blessed``, ``reasons`` and what was measured."""

    TYPE_NAME = "tfrec.Verdict"


def write_verdict(
    artifact: Artifact, gate: str, reasons: Sequence[str], measured: Mapping[str, Any]
) -> None:
    """Keeps a verdict and says it aloud; no reasons against it is a yes.

    Args:
        artifact: the ``Verdict``.
        gate: named in what is printed.
        reasons: why the model may not be pushed.
        measured: figures that led there.
    """
    artifact.set_int_custom_property(BLESSED, int(not reasons))
    report = {"gate": gate, BLESSED: not reasons, "reasons": list(reasons), "measured": measured}
    folder = Path(artifact.uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=1))
    print(f"  {gate}: {'blessed' if not reasons else 'REFUSED'}", flush=True)
    for reason in reasons:
        print(f"    {reason}", flush=True)


def read_verdict(artifact: Artifact) -> dict[str, Any]:
    """What ``write_verdict`` kept."""
    return json.loads((Path(artifact.uri) / REPORT_FILE).read_text())
