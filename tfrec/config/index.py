"""The section ``retrieval.index``: how an exported retrieval model finds the nearest items."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tfrec.config.base import Frozen


class IndexConfig(Frozen):
    """The index inside the exported retrieval model.

    Attributes:
        kind: ``brute_force`` scores every item; ``ivf`` looks into some cells of an inverted file,
            for models whose score is an inner product (``tfrec.models.dot_product``).
        cells: of the inverted file; ``auto`` takes ``4 sqrt(items)``.
        probes: cells a request looks into; ``auto`` takes the fewest that reach ``min_recall``.
        min_recall: share of brute force's best ``at`` items that is to be found.
        at: list length of ``min_recall``.
        quantised: 8-bit integers in the cells, the best re-scored exactly.
        sample: users whose queries choose the probes and measure recall, half each.
        init, passes, seed: of k-means.
    """

    kind: Literal["brute_force", "ivf"] = "brute_force"
    cells: int | Literal["auto"] = "auto"
    probes: int | Literal["auto"] = "auto"
    min_recall: float = Field(default=0.95, gt=0, le=1)
    at: int = Field(default=100, ge=1)
    quantised: bool = False
    sample: int = Field(default=512, ge=2)
    init: Literal["plus_plus", "random"] = "plus_plus"
    passes: int = Field(default=6, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> IndexConfig:
        for name in ("cells", "probes"):
            value = getattr(self, name)
            if value != "auto" and value < 1:
                raise ValueError(f"{name} is 'auto' or a whole number from 1; got {value}")
        return self
