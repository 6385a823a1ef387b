"""What a configuration asks of the models, looked at before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from tfrec.config import Config
from tfrec.models import registry
from tfrec.training.metric import check_gate

OF_TRAINING = "train."  # a range of ``search.space`` that is not a parameter of the model


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
    lists: tuple[registry.ModelKind, ...] = ("retrieval", "rating")
    _check_kind("retrieval.model", retrieval.model, lists)
    registry.check_params(retrieval.model, retrieval.params)
    tuned = [name for name in retrieval.search.space if not name.startswith(OF_TRAINING)]
    registry.check_params(retrieval.model, tuned, "retrieval.search.space")
    for name in config.gate.baselines:
        _check_kind("gate.baselines", name, lists)
    if ranking.enabled:
        _check_kind("ranking.model", ranking.model, ("ranking",))
        registry.check_params(ranking.model, ranking.params)
    check_gate(retrieval.model, config.gate)


def _check_kind(where: str, name: str, kinds: Iterable[registry.ModelKind]) -> None:
    kind = registry.spec(name).kind
    if kind not in kinds:
        there = sorted(n for n, spec in registry.MODELS.items() if spec.kind in kinds)
        raise ValueError(f"{where} {name!r} is a {kind} model; there are {there}")
