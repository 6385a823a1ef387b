"""The section ``recommender``: one call that retrieves, filters, ranks and re-ranks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tfrec.config.base import Frozen
from tfrec.config.exploration import ExplorationConfig

SourceName = Literal["retrieval", "similar", "popular"]


class RecommenderConfig(Frozen):
    """What is retrieved, and how much of it is ranked.

    Attributes:
        enabled: whether training and the pipeline assemble the recommender.
        retrieval: candidates of the retrieval model; 0 leaves it out.
        similar: candidates near the last items of the history, each item's share of them; 0 for
            none. Needs a model whose score is an inner product.
        popular: candidates that most users had; 0 for none.
        recent: items of the history that ``similar`` starts from.
        candidates: most candidates that are ranked, in the order of the sources.
        list_length: of ``recommend_examples``, and where a request gives no ``k``.
        among: item features by which a request may narrow the answer (``among_<feature>``); None
            takes every item feature of kind ``categorical`` and ``multi``.
        strict: filters that never give way. The others do, last of all rules, where nothing passes
            them: an answer is not left empty.
        exclude_seen: items of the history are not recommended; None: as ``gate.exclude_seen``
            says, so that it is measured as it serves.
        exploration: whether lists now and then try something.
    """

    enabled: bool = False
    retrieval: int = Field(default=300, ge=0)
    similar: int = Field(default=100, ge=0)
    popular: int = Field(default=100, ge=0)
    recent: int = Field(default=5, ge=1)
    candidates: int = Field(default=500, ge=1)
    list_length: int = Field(default=10, ge=1)
    among: tuple[str, ...] | None = None
    strict: tuple[str, ...] = ()
    exclude_seen: bool | None = None
    exploration: ExplorationConfig = ExplorationConfig()

    @model_validator(mode="after")
    def _check(self) -> RecommenderConfig:
        if not (self.retrieval or self.similar or self.popular):
            raise ValueError(
                "a recommender has a source; give retrieval, similar or popular a number above 0"
            )
        return self

    @property
    def sources(self) -> dict[SourceName, int]:
        """Candidates by source, those of 0 left out, first come first."""
        named: dict[SourceName, int] = {
            "retrieval": self.retrieval,
            "similar": self.similar,
            "popular": self.popular,
        }
        return {name: count for name, count in named.items() if count}
