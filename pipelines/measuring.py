"""What the retrieval gate measures: lists over the whole catalogue, or predicted ratings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from pipelines.judging import coverage
from tfrec.config import GateConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.full_catalogue import evaluate, evaluate_lists
from tfrec.evaluation.metrics import parse_metric
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.rated import evaluate_ratings, held_out_ratings
from tfrec.export.batch import BatchRecommender
from tfrec.export.context import event_context, held_out_context
from tfrec.export.lists import saved_lists
from tfrec.export.log import Log
from tfrec.export.rated import saved_errors
from tfrec.models import registry
from tfrec.training.fit import fit_retrieval


@dataclass(frozen=True)
class Figure:
    """What was found of a model.

    Attributes:
        value: the deciding metric.
        covered: share of the catalogue in the lists; None where none were measured.
    """

    value: float
    covered: float | None = None


class Measure(Protocol):
    """Asks every model the same questions; ``asked`` says how many of what."""

    asked: dict[str, int]

    def saved(self, folder: str | Path, name: str) -> Figure:
        """Of an exported model."""

    def trained(self, model: Any, name: str) -> float:
        """Of a model in this process."""


class ByLists:
    """Metrics of the lists of all users with a held-out event.

    Args:
        data: encoded.
        gate: metric, and whether repeats count.
        events: raw events of the test split, with users' attributes and context.
    """

    def __init__(self, data: RetrievalData, gate: GateConfig, events: pa.Table) -> None:
        self._data, self._gate = data, gate
        _, self._k = parse_metric(gate.metric)
        self._questions = held_out(data, "test", gate.exclude_seen)
        self._context = held_out_context(events, data, self._questions)
        self._known = Log.from_encoded(data, self._questions.known)
        self.asked = {"users": len(self._questions.users)}

    def saved(self, folder: str | Path, name: str) -> Figure:
        recommender = BatchRecommender(folder, self._known)
        lists = saved_lists(recommender, self._data, self._questions, self._k, self._context)
        found = evaluate_lists(
            lists,
            self._questions.users,
            self._data,
            "test",
            (self._k,),
            exclude_seen=self._gate.exclude_seen,
            name=name,
        )
        return Figure(found[self._gate.metric], coverage(found))

    def trained(self, model: Any, name: str) -> float:
        ks, asked = (self._k,), self._questions
        found = evaluate(model, self._data, "test", ks, questions=asked, name=name, progress=False)
        return found[self._gate.metric]


class ByRatings:
    """Errors of the predicted ratings of the test split, told what was rated before.

    Args:
        data, gate, events: as of ``ByLists``.

    Raises:
        ValueError: the test split holds no ratings.
    """

    def __init__(self, data: RetrievalData, gate: GateConfig, events: pa.Table) -> None:
        self._data, self._gate = data, gate
        asked, known = held_out_ratings(data, "test")
        self._context = event_context(events, data, "test")
        self._known = Log.from_encoded(data, known)
        self.asked = {"ratings": len(asked)}

    def saved(self, folder: str | Path, name: str) -> Figure:
        del name
        recommender = BatchRecommender(folder, self._known)
        found = saved_errors(recommender, self._data, "test", self._context)
        return Figure(found[self._gate.metric])

    def trained(self, model: Any, name: str) -> float:
        del name
        return evaluate_ratings(model, self._data, "test")[self._gate.metric]


def measure_of(gate: GateConfig) -> Callable[[RetrievalData, GateConfig, pa.Table], Measure]:
    """The measure that ``gate.metric`` names."""
    return ByRatings if gate.of_ratings else ByLists


def baseline(name: str, data: RetrievalData, gate: GateConfig, measure: Measure) -> float:
    """The metric of a cheap model trained on the same events with its usual parameters."""
    trained = fit_retrieval(
        name,
        registry.spec(name).example,
        TrainConfig(),
        data,
        metric=gate.metric,
        exclude_seen=gate.exclude_seen,
    )
    return measure.trained(trained.model, name)
