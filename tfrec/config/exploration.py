"""The section ``recommender.exploration``: whether lists now and then try something."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tfrec.config.base import Frozen


class ExplorationConfig(Frozen):
    """How the recommender explores; see docs/off-policy.md.

    Attributes:
        kind: ``none``; ``epsilon`` (each place is left to chance now and then); ``thompson`` (items
            are valued by one draw from the posterior of the ranker's last layer, which needs
            ``ranking.last_layer_prior``).
        epsilon: share of the places that are left to chance; a request may give its own.
        pool: chance chooses among the best so many candidates; None: among all.
        draws: from the posterior, by which ``thompson`` counts propensities.
    """

    kind: Literal["none", "epsilon", "thompson"] = "none"
    epsilon: float = Field(default=0.1, ge=0, le=1)
    pool: int | None = Field(default=None, ge=1)
    draws: int = Field(default=64, ge=2)
