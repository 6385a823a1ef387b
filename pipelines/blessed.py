"""Which model the ranker is compared with: the last one blessed before it was trained."""

from __future__ import annotations

from typing import Any

from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types.artifact import Artifact

from pipelines.judging import blessed_before

MODEL, BLESSING, CANDIDATE = "model", "model_blessing", "candidate"


class BlessedBefore(ResolverStrategy):
    """``blessed_before`` as a node; inputs ``model``, ``model_blessing`` and ``candidate``."""

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        del store
        (candidate,) = input_dict[CANDIDATE]
        models, blessings = blessed_before(input_dict[MODEL], input_dict[BLESSING], candidate)
        return {MODEL: models, BLESSING: blessings, CANDIDATE: [candidate]}
