"""A Keras callback: whole-catalogue validation, early stopping, best weights put back."""

from __future__ import annotations

import math
from pathlib import Path

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.evaluation.metrics import parse_metric
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.ranker import NoNumberError, Ranker
from tfrec.training.best import BestEpoch

FEW = 4


class Validate(BestEpoch):
    """Measures the model on ``data.validation`` as it trains.

    Adds ``val_<metric>`` to the epoch's logs. One trace serves all epochs. Does nothing where there
    are no validation events. A model whose scores have become NaN ends training; its value is NaN.

    Args:
        data: encoded data.
        metric: the deciding metric, as ``'ndcg@10'``; larger is better.
        every: epochs between measurements; the last epoch is measured too.
        patience: epochs without a rise before training stops; 0 never stops.
        exclude_seen: see ``held_out``.
        max_memory_mb: bound on the memory of a measurement.
        folder: see ``BestEpoch``.

    Raises:
        ValueError: a bad metric, ``every`` below 1, a negative patience, or validation events of
            which none is a new item of its user (see ``held_out``).
    """

    def __init__(
        self,
        data: RetrievalData,
        metric: str = "ndcg@10",
        *,
        every: int = 1,
        patience: int = 3,
        exclude_seen: bool = True,
        max_memory_mb: float = 512,
        folder: str | Path | None = None,
    ) -> None:
        super().__init__(rises=True, patience=patience, folder=folder)
        if every < 1:
            raise ValueError(f"evaluate_every is from 1; got {every}")
        _, self.k = parse_metric(metric)
        self.data, self.metric, self.every = data, metric, every
        self.max_memory_mb = max_memory_mb
        self._ranker: Ranker | None = None
        self._questions = None
        if len(data.validation):
            self._questions = held_out(data, "validation", exclude_seen)

    @property
    def _keeps_weights(self) -> bool:
        return bool(self.model.needs_validation)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        super().on_train_begin(logs)
        if self._questions is not None:
            self._ranker = Ranker(
                self.model, self.data, self._questions, self.k, max_memory_mb=self.max_memory_mb
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self._ranker is None or self._last % self.every:
            return
        value = self._measure()
        if logs is not None:
            logs[f"val_{self.metric}"] = value
        if self.over:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._ranker is not None and self._last and self._last % self.every:
            self._measure()
        super().on_train_end(logs)

    def _measure(self) -> float:
        assert self._ranker is not None
        try:
            self.model.refresh()
            result = evaluate(
                self.model,
                self.data,
                "validation",
                (self.k,),
                ranker=self._ranker,
                progress=False,
                # Counting ranks is cheaper than making lists as long as users have few of them.
                lists=int(self._ranker.questions.relevant.max()) > FEW,
            )
            value = result[self.metric]
        except NoNumberError:
            # Weights that are no numbers stay so: an earlier epoch is the best there will be.
            value = math.nan
            self.model.stop_training = True
        self.note(value)
        return value
