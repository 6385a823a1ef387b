"""Typed, frozen configuration: one class a stage, loaded from YAML, checked once.

``load_config(path)`` raises ``ConfigError`` whose message names every wrong key, what arrived and
the rule it breaks.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tfrec.schema import HISTORY, Feature, FeatureTable


class ConfigError(ValueError):
    """A configuration that breaks a rule; the message names key, value and rule."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Frozen):
    """A row of the raw file is kept only where this holds; else it is quarantined with ``reason``.

    Attributes:
        column: column of the raw file.
        reason: the name under which failing rows are counted.
        min, max: bounds of a number, both inclusive.
        pattern: regular expression that the whole text must match.
        reject_pattern: regular expression that the whole text must not match.
    """

    column: str
    reason: str
    min: float | None = None
    max: float | None = None
    pattern: str | None = None
    reject_pattern: str | None = None


class TableMap(_Frozen):
    """How one raw CSV or Parquet file becomes a canonical table.

    Attributes:
        file: path relative to ``data.path``; plain or gzipped CSV, TSV, or Parquet.
        columns: canonical name -> column of the file. ``event`` (default ``purchase``), ``weight``
            (default 1) and ``timestamp`` (default: the order of the file) may be left out.
        separator, encoding, header: of a CSV file; ``header: false`` numbers the columns c0, c1 ...
        quoting: fields may stand in double quotes, which may hold separators and line ends.
        timestamp_format: ``seconds``, ``milliseconds``, ``iso`` or a ``strptime`` pattern (UTC).
        numeric: canonical columns that are read as numbers though they are no feature.
        rules: conditions on the raw columns.
    """

    file: str
    columns: dict[str, str]
    separator: str = ","
    encoding: str = "utf-8"
    header: bool = True
    quoting: bool = True
    timestamp_format: str = "seconds"
    numeric: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


class DataConfig(_Frozen):
    """Where the raw log lies and how it is read.

    Attributes:
        format: the adapter.
        path: file or folder of the raw data, relative to the configuration's folder.
        interactions, users, items: column maps for format ``columns``. ``users`` and ``items`` may
            name the same file as ``interactions``: each id then takes its most frequent value.
        min_rating: for rating sets: events rated below are dropped for retrieval (None keeps all).
        min_item_events, min_user_events: items, then users, with fewer events are dropped.
        max_bad_rate: share of malformed rows above which reading stops.
        repeats: ``first`` keeps only each user's first event of a kind with an item, so that what
            is tested was not seen before; ``keep`` keeps all.
        events: kinds of event that are kept, as ``[purchase]``; None keeps all.
        keep_cold: keep users and items of the attribute files that have no event.
        rows, users_count, items_count, seed: size and seed of format ``synthetic``.
        images: format ``synthetic`` gives each item a small PNG.
        clicks: format ``synthetic`` adds so many click events a purchase, on average.
    """

    format: Literal["columns", "canonical", "synthetic", "movielens_1m", "movielens_100k", "ncf"]
    path: str | None = None
    interactions: TableMap | None = None
    users: TableMap | None = None
    items: TableMap | None = None
    min_rating: float | None = None
    min_item_events: int = Field(default=1, ge=1)
    min_user_events: int = Field(default=1, ge=1)
    max_bad_rate: float = Field(default=0.01, ge=0, le=1)
    repeats: Literal["keep", "first"] = "keep"
    events: tuple[str, ...] | None = None
    keep_cold: bool = False
    rows: int = Field(default=20_000, ge=1)
    users_count: int | None = Field(default=None, ge=1)
    items_count: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    images: bool = False
    clicks: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.format == "columns" and self.interactions is None:
            raise ValueError("format 'columns' needs the section 'interactions' with a column map")
        if self.format != "synthetic" and self.path is None:
            raise ValueError(f"format {self.format!r} needs 'path'")
        return self


class SplitConfig(_Frozen):
    """Which events train, which validate, which test.

    Attributes:
        method: ``last_out`` (each user's last event tests, the one before validates), ``time``
            (global: the latest ``test`` share of events tests, the ``validation`` share before it
            validates) or ``random``.
        validation, test: shares of events for ``time`` and ``random``.
        seed: of ``random``.
    """

    method: Literal["last_out", "time", "random"] = "last_out"
    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> SplitConfig:
        if self.validation + self.test > 0.999:
            raise ValueError(
                f"validation + test leave a share for training; got {self.validation} + {self.test}"
            )
        return self


class TrainConfig(_Frozen):
    """One model's training.

    Attributes:
        epochs: most epochs; early stopping may end sooner.
        batch_size: global examples a step (for sequence models: users a step).
        learning_rate: of the main optimizer.
        patience: epochs without a better validation metric before training stops; 0 never stops.
        replicas: number of MirroredStrategy replicas; 0 takes all visible GPUs, else one CPU.
        seed: of initialisation, shuffling, dropout and negatives.
    """

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    patience: int = Field(default=3, ge=0)
    replicas: int = Field(default=0, ge=0)
    seed: int = 0


class Range(_Frozen):
    """What a tuned parameter may be: numbers between two bounds, or one of a list.

    Attributes:
        low, high: bounds, both inclusive; whole numbers where both are written without a point.
        log: drawn evenly in the logarithm, for what spans orders of magnitude.
        choices: instead of the bounds.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[bool | int | float | str | None, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Range:
        bounds = self.low is not None and self.high is not None
        if bounds == bool(self.choices) or (self.low is None) != (self.high is None):
            raise ValueError("a range is either 'low' and 'high', or 'choices'")
        if self.low is not None and self.high is not None:
            if self.low > self.high:
                raise ValueError(f"low is at most high; got {self.low} and {self.high}")
            if self.log and self.low <= 0:
                raise ValueError(f"a logarithmic range starts above 0; got {self.low}")
        elif self.log:
            raise ValueError("'log' is for a range with 'low' and 'high'")
        return self


class SearchConfig(_Frozen):
    """How ``tfrec tune`` looks for parameters.

    Attributes:
        space: by name, what may be tried: a parameter of the model, or ``train.<name>`` of the
            training (``train.learning_rate``). What is not named stays as configured.
        trials: most trainings, those of earlier interrupted runs included.
        timeout: seconds after which a run ends, with the epoch it is in; 0 sets no bound.
        metric: which validation metric decides; the gate's where not given.
        seed: of the search.
        in_pipeline: whether the pipeline searches too, before it trains.
    """

    space: dict[str, Range] = Field(default_factory=dict)
    trials: int = Field(default=20, ge=1)
    timeout: float = Field(default=0.0, ge=0)
    metric: str | None = None
    seed: int = 0
    in_pipeline: bool = False

    @field_validator("space")
    @classmethod
    def _space(cls, value: dict[str, Range]) -> dict[str, Range]:
        tunable = sorted(set(TrainConfig.model_fields) - {"seed", "replicas"})
        for name in value:
            section, _, field = name.rpartition(".")
            if section and (section != "train" or field not in tunable):
                raise ValueError(
                    f"{name!r} is no tunable name: a parameter of the model, or 'train.' and one "
                    f"of {tunable}"
                )
        return value


class RetrievalConfig(_Frozen):
    """The retrieval model: a registry name, its parameters, its training, how it is tuned."""

    model: str = "two_tower"
    params: dict[str, Any] = Field(default_factory=dict)
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()


class RankingConfig(_Frozen):
    """The ranking model.

    Attributes:
        enabled: False leaves ranking out of the pipeline.
        task: ``binary`` (probability of a positive label) or ``rating`` (regression).
        label: ``purchase`` (observed events against sampled unobserved items) or ``rating``
            (``weight`` of the event; for ``binary``: weight >= ``threshold``).
        threshold: see ``label``.
        negatives: unobserved items sampled for each observed one, label ``purchase``.
        history_length: recent items given to the ranker as a feature; 0 gives none.
        crosses: features crossed in the wide part; ``history`` may be one of them.
    """

    enabled: bool = True
    model: str = "wide_deep"
    task: Literal["binary", "rating"] = "binary"
    label: Literal["purchase", "rating"] = "purchase"
    threshold: float = 4.0
    negatives: int = Field(default=4, ge=1)
    history_length: int = Field(default=10, ge=0)
    crosses: tuple[tuple[str, ...], ...] = ()
    params: dict[str, Any] = Field(default_factory=dict)
    train: TrainConfig = TrainConfig(epochs=3, batch_size=1024, learning_rate=0.02)


class GateConfig(_Frozen):
    """When a new model may replace the live one.

    Attributes:
        metric: the deciding whole-catalogue metric, as ``recall@10``.
        baselines: registry names of cheap models trained on the same split.
        margin: the model must reach ``(1 + margin)`` times each baseline's metric.
        live_tolerance: share of the live model's metric that may be lost.
        min_coverage: least share of the catalogue in the lists.
        min_ranker_auc: threshold of the ranking evaluator (task ``binary``).
        max_ranker_rmse: threshold of the ranking evaluator (task ``rating``).
        slices: features by which the ranking evaluator reports.
    """

    metric: str = "recall@10"
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


class PipelineConfig(_Frozen):
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
    beam: dict[str, str | int | bool] = {"runner": "DirectRunner"}
    stop_on_anomalies: bool = True
    schema_file: str | None = None


class Config(_Frozen):
    """Everything one run needs."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    data: DataConfig
    split: SplitConfig = SplitConfig()
    features: tuple[Feature, ...] = ()
    retrieval: RetrievalConfig = RetrievalConfig()
    ranking: RankingConfig = RankingConfig()
    gate: GateConfig = GateConfig()
    pipeline: PipelineConfig = PipelineConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        table = self.feature_table
        known = [f.name for f in table]
        for cross in self.ranking.crosses:
            for name in cross:
                if name not in (*known, HISTORY):
                    raise ValueError(
                        f"ranking.crosses names {name!r}, which is no feature: {known}"
                    )
        for name in self.gate.slices:
            if name not in known:
                raise ValueError(f"gate.slices names {name!r}, which is no feature: {known}")
        return self

    @property
    def feature_table(self) -> FeatureTable:
        """The features with the two ids added."""
        return FeatureTable(features=self.features)


def _unknown_key_hint(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The nearest known key, for a message about an unknown one."""
    current: Any = model
    for part in location[:-1]:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return ""
        current = field.annotation
    known = list(getattr(current, "model_fields", {}))
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known keys: {known}"


def parse_config(values: object, origin: str = "config") -> Config:
    """Checks a mapping as read from YAML.

    Args:
        values: the mapping.
        origin: named in the error, e.g. the file.

    Raises:
        ConfigError: one line for each broken rule: key, value, rule.
    """
    if not isinstance(values, dict):
        raise ConfigError(
            f"{origin}: a configuration is a mapping of sections, but the file holds "
            f"{type(values).__name__}; see configs/sample.yaml"
        )
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            location = problem["loc"]
            key = ".".join(str(part) for part in location) or "(whole file)"
            rule = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                rule = "no such key" + _unknown_key_hint(Config, location)
            got = problem["input"]
            shown = f" (got {got!r})" if not isinstance(got, dict | list | tuple) else ""
            lines.append(f"  {key}: {rule}{shown}")
        raise ConfigError(f"{origin}: {len(lines)} problem(s)\n" + "\n".join(lines)) from None


def load_config(path: str | Path) -> Config:
    """Reads and checks a YAML configuration.

    Relative ``data.path``, ``pipeline.root``, ``pipeline.serving`` and ``pipeline.schema_file`` are
    taken from the file's folder and returned absolute.

    Raises:
        ConfigError: the file is missing, is no YAML, or breaks a rule.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; pass the path of a YAML configuration") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    config = parse_config(values, str(path))
    base = path.resolve().parent

    def absolute(value: str | None) -> str | None:
        return None if value is None else str((base / value).resolve())

    pipeline = config.pipeline.model_copy(
        update={
            "root": absolute(config.pipeline.root),
            "serving": absolute(config.pipeline.serving),
            "schema_file": absolute(config.pipeline.schema_file),
        }
    )
    data = config.data.model_copy(update={"path": absolute(config.data.path)})
    return config.model_copy(update={"pipeline": pipeline, "data": data})
