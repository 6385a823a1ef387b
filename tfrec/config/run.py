"""Sections about a run: when a model may replace the live one, and where the pipeline works."""

from __future__ import annotations

from pydantic import Field, field_validator

from tfrec.config.base import Frozen


class GateConfig(Frozen):
    """When a new model may replace the live one.

    Attributes:
        metric: the deciding whole-catalogue metric, as ``recall@10``.
        exclude_seen: an item that a user had is neither recommended to them nor asked for, wherever
            lists are measured: validation, tuning, baselines, gate, report. False where buying
            again is what one predicts; the recommender then recommends it, too (see there).
        baselines: registry names of cheap models trained on the same split.
        margin: the model must reach ``(1 + margin)`` times each baseline's metric.
        live_tolerance: share of the live model's metric that may be lost.
        min_coverage: least share of the catalogue in the lists.
        min_ranker_auc: threshold of the ranking evaluator (task ``binary``).
        max_ranker_rmse: threshold of the ranking evaluator (task ``rating``).
        slices: features by which the ranking evaluator reports.
    """

    metric: str = "recall@10"
    exclude_seen: bool = True
    baselines: tuple[str, ...] = ("popular",)
    margin: float = Field(default=0.0, ge=-1)
    live_tolerance: float = Field(default=0.02, ge=0, le=1)
    min_coverage: float = Field(default=0.0, ge=0, le=1)
    min_ranker_auc: float = Field(default=0.5, ge=0, le=1)
    max_ranker_rmse: float = Field(default=10.0, gt=0)
    slices: tuple[str, ...] = ()

    @field_validator("metric")
    @classmethod
    def _metric(cls, value: str) -> str:
        name, at, k = value.partition("@")
        if name not in ("recall", "ndcg", "hr", "mrr", "map", "precision") or not at:
            raise ValueError("a metric is recall, ndcg, hr, mrr, map or precision, '@' and k")
        if not k.isdigit() or int(k) < 1:
            raise ValueError("the cut-off after '@' is a whole number from 1")
        return value


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
