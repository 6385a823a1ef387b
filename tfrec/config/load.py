"""The whole configuration, and reading it from YAML."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from tfrec.config.base import ConfigError, Frozen
from tfrec.config.data import DataConfig, SplitConfig
from tfrec.config.decide import RerankConfig, UtilityConfig, check_features
from tfrec.config.heads import check_goals
from tfrec.config.models import RankingConfig, RetrievalConfig
from tfrec.config.recommender import RecommenderConfig
from tfrec.config.run import GateConfig, PipelineConfig
from tfrec.config.store import StoreConfig
from tfrec.schema import HISTORY, Feature, FeatureTable


class Config(Frozen):
    """Everything one run needs."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    data: DataConfig
    split: SplitConfig = SplitConfig()
    features: tuple[Feature, ...] = ()
    retrieval: RetrievalConfig = RetrievalConfig()
    ranking: RankingConfig = RankingConfig()
    utility: UtilityConfig = UtilityConfig()
    rerank: RerankConfig = RerankConfig()
    recommender: RecommenderConfig = RecommenderConfig()
    gate: GateConfig = GateConfig()
    pipeline: PipelineConfig = PipelineConfig()
    store: StoreConfig = StoreConfig()

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
        check_features(self.utility, self.rerank, table)
        joined = self.recommender.enabled and self.ranking.enabled
        check_goals(self.utility, self.ranking, joined)
        thompson = self.recommender.exploration.kind == "thompson"
        if joined and thompson and self.ranking.last_layer_prior is None:
            raise ValueError(
                "recommender.exploration.kind 'thompson' draws from the posterior of the ranker's "
                "last layer; give ranking.last_layer_prior a number above 0, as 1.0"
            )
        grouped = [f.name for f in table.of("item") if f.kind in ("categorical", "multi")]
        for name in self.recommender.among or ():
            if name not in grouped:
                raise ValueError(
                    f"recommender.among names {name!r}; requests filter by one of the item "
                    f"features {grouped}"
                )
        among = grouped if self.recommender.among is None else list(self.recommender.among)
        for name in self.recommender.strict:
            if name not in among:
                raise ValueError(
                    f"recommender.strict names {name!r}; a filter that never gives way is one of "
                    f"those by which requests may narrow the answer: {among}"
                )
        return self

    @property
    def feature_table(self) -> FeatureTable:
        """The features with the two ids added."""
        return FeatureTable(features=self.features)

    @property
    def recommends_seen(self) -> bool:
        """Whether the recommender may answer items of the history."""
        own = self.recommender.exclude_seen
        return not (self.gate.exclude_seen if own is None else own)


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

    Relative ``data.path``, ``pipeline.root``, ``pipeline.serving``, ``pipeline.schema_file``,
    ``store.path``, a path in ``retrieval.warm_start`` and the ``weights`` of image features are
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
    retrieval = config.retrieval
    if retrieval.warm_start not in (None, "latest"):
        retrieval = retrieval.model_copy(update={"warm_start": absolute(retrieval.warm_start)})
    data = config.data.model_copy(update={"path": absolute(config.data.path)})
    store = config.store.model_copy(update={"path": absolute(config.store.path)})
    features = tuple(
        f.model_copy(update={"weights": absolute(f.weights)})
        if f.weights not in (None, "random")
        else f
        for f in config.features
    )
    return config.model_copy(
        update={
            "pipeline": pipeline,
            "data": data,
            "store": store,
            "features": features,
            "retrieval": retrieval,
        }
    )
