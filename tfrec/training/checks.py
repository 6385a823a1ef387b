"""What a configuration asks of the models, looked at before anything runs."""

from __future__ import annotations

from tfrec.config import Config
from tfrec.config.models import OF_TRAINING
from tfrec.models import registry
from tfrec.training.metric import check_gate


def check_models(config: Config) -> None:
    """Whether the models of a configuration exist, are of the kind asked and take its parameters.

    Args:
        config: sections ``retrieval``, ``ranking`` where it is enabled, and ``gate``.

    Raises:
        KeyError: no such model; the message names the nearest.
        TypeError: a parameter, or a range of the search, that the model does not take.
        ValueError: a model of another kind, or a gate that cannot measure it.
    """
    retrieval, ranking = config.retrieval, config.ranking
    registry.check_kind("retrieval.model", retrieval.model, "retrieval", "rating")
    registry.check_params(retrieval.model, retrieval.params)
    tuned = [name for name in retrieval.search.space if not name.startswith(OF_TRAINING)]
    registry.check_params(retrieval.model, tuned, "retrieval.search.space")
    for name in config.gate.baselines:
        registry.check_kind("gate.baselines", name, "retrieval", "rating")
    if ranking.enabled:
        registry.check_kind("ranking.model", ranking.model, "ranking")
        registry.check_params(ranking.model, ranking.params)
    check_gate(retrieval.model, config.gate)
