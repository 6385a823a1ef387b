"""Sections about a run: when a model may replace the live one, and where the pipeline works."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from tfrec.config.base import Frozen

RATING_METRICS = ("rmse", "mae")  # of predicted ratings: the smaller the better


def default_baselines(given: dict[str, Any]) -> tuple[str, ...]:
    """What a model has to reach where the gate names nothing."""
    return ("biased_mf",) if given.get("metric") in RATING_METRICS else ("popular",)


class GateConfig(Frozen):
    """When a new model may replace the live one.

    Attributes:
        metric: what decides: a whole-catalogue metric, as ``recall@10``, or for a model that
            predicts ratings ``rmse`` or ``mae`` of the held-out ones, the smaller the better.
        exclude_seen: an item that a user had is neither recommended to them nor asked for, wherever
            lists are measured: validation, tuning, baselines, gate, report. False where buying
            again is what one predicts; the recommender then recommends it, too (see there).
        baselines: registry names of cheap models trained on the same split; ``popular``, for
            ``rmse`` and ``mae`` ``biased_mf``, where none are given.
        margin: the model must reach ``(1 + margin)`` times each baseline's metric; an error may be
            ``(1 - margin)`` times the baseline's at most.
        live_tolerance: share of the live model's metric that may be lost; of its error, added.
        min_coverage: least share of the catalogue in the lists; for metrics of lists alone.
        min_ranker_auc: threshold of the ranking evaluator (task ``binary``).
        max_ranker_rmse: threshold of the ranking evaluator (task ``rating``).
        slices: features by which the ranking evaluator reports.
    """

    metric: str = "recall@10"
    exclude_seen: bool = True
    baselines: tuple[str, ...] = Field(default_factory=default_baselines)
    margin: float = Field(default=0.0, ge=-1)
    live_tolerance: float = Field(default=0.02, ge=0, le=1)
    min_coverage: float = Field(default=0.0, ge=0, le=1)
    min_ranker_auc: float = Field(default=0.5, ge=0, le=1)
    max_ranker_rmse: float = Field(default=10.0, gt=0)
    slices: tuple[str, ...] = ()

    @field_validator("metric")
    @classmethod
    def _metric(cls, value: str) -> str:
        if value in RATING_METRICS:
            return value
        name, at, k = value.partition("@")
        if name not in ("recall", "ndcg", "hr", "mrr", "map", "precision") or not at:
            raise ValueError(
                "a metric is recall, ndcg, hr, mrr, map or precision, '@' and k; or, for models "
                "that predict ratings, rmse or mae"
            )
        if not k.isdigit() or int(k) < 1:
            raise ValueError("the cut-off after '@' is a whole number from 1")
        return value

    @model_validator(mode="after")
    def _check(self) -> GateConfig:
        if not self.of_ratings:
            return self
        if self.min_coverage > 0:
            raise ValueError(
                f"min_coverage is a share of the catalogue in the lists, which metric "
                f"{self.metric!r} does not measure; leave it out, or take a metric of lists, as "
                f"'recall@10'; got {self.min_coverage:g}"
            )
        if self.margin >= 1:
            raise ValueError(
                f"with metric {self.metric!r} a model's error may be (1 - margin) times the "
                f"baseline's, so margin is below 1; got {self.margin:g}"
            )
        return self

    @property
    def of_ratings(self) -> bool:
        """Whether predicted ratings are judged, not lists."""
        return self.metric in RATING_METRICS


class PipelineConfig(Frozen):
    """Where the pipeline works and on what.

    Attributes:
        root: folder of artifacts, metadata and pushed models.
        serving: folder the blessed models are pushed to; default ``root/serving``.
        beam: Beam pipeline options as ``--key=value`` without the dashes, e.g. ``{runner:
            DirectRunner, direct_num_workers: 2, direct_running_mode: multi_processing}``.
        stop_on_anomalies: a schema anomaly ends the run.
        schema_file: path of a curated schema (text proto); None infers it from the train split.
    """

    root: str = "runs"
    serving: str | None = None
    beam: dict[str, str | int | bool] = Field(
        default_factory=lambda: dict[str, str | int | bool](runner="DirectRunner")
    )
    stop_on_anomalies: bool = True
    schema_file: str | None = None
