"""What a model is watched and judged by: its lists, or the ratings it predicts."""

from __future__ import annotations

from tfrec.config import GateConfig
from tfrec.config.run import RATING_METRICS
from tfrec.models import registry


def predicts_ratings(name: str) -> bool:
    """Whether a registry name is of kind ``rating``.

    Raises:
        KeyError: no such model.
    """
    return registry.spec(name).kind == "rating"


def validation_metric(name: str, metric: str) -> str:
    """What decides on the validation split where the gate goes by ``metric``.

    A model that predicts ratings is trained for them: it is watched by ``rmse`` where the gate
    measures lists.

    Args:
        name: registry name.
        metric: of lists, as ``recall@10``, or ``rmse`` or ``mae``.

    Raises:
        KeyError: no such model.
        ValueError: the model predicts no ratings, and they are to be measured.
    """
    if predicts_ratings(name):
        return metric if metric in RATING_METRICS else RATING_METRICS[0]
    if metric in RATING_METRICS:
        raise ValueError(
            f"{name!r} predicts no ratings, which {metric!r} measures; take a metric of lists, as "
            f"'recall@10', or one of the models {rating_models()}"
        )
    return metric


def check_gate(model: str, gate: GateConfig) -> None:
    """Whether the gate can measure a model and its baselines.

    Args:
        model: registry name of the retrieval model.
        gate: the section.

    Raises:
        KeyError: no such model.
        ValueError: ratings are judged, and the model or a baseline predicts none.
    """
    if not gate.of_ratings:
        return
    if not predicts_ratings(model):
        raise ValueError(
            f"gate.metric {gate.metric!r} measures predicted ratings, and retrieval.model "
            f"{model!r} predicts none; take a metric of lists, as 'recall@10', or one of the "
            f"models {rating_models()}"
        )
    others = [name for name in gate.baselines if not predicts_ratings(name)]
    if others:
        raise ValueError(
            f"gate.baselines {others} predict no ratings, which gate.metric {gate.metric!r} "
            f"measures; name some of {rating_models()}, or leave gate.baselines out for "
            f"'biased_mf'"
        )


def rating_models() -> list[str]:
    """Registry names of the models that predict ratings."""
    return [name for name, spec in registry.MODELS.items() if spec.kind == "rating"]
