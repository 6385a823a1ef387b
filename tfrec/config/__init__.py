"""Typed, frozen configuration: one class a stage, loaded from YAML, checked once.

``load_config(path)`` raises ``ConfigError`` whose message names every wrong key, what arrived and
the rule it breaks.
"""

from tfrec.config.base import ConfigError
from tfrec.config.data import DataConfig, Rule, SplitConfig, TableMap
from tfrec.config.decide import BoostConfig, RerankConfig, UtilityConfig
from tfrec.config.exploration import ExplorationConfig
from tfrec.config.index import IndexConfig
from tfrec.config.load import Config, load_config, parse_config
from tfrec.config.models import (
    Range,
    RankingConfig,
    RetrievalConfig,
    SearchConfig,
    TrainConfig,
)
from tfrec.config.recommender import RecommenderConfig
from tfrec.config.run import GateConfig, PipelineConfig
from tfrec.config.store import StoreConfig

__all__ = [
    "BoostConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "ExplorationConfig",
    "GateConfig",
    "IndexConfig",
    "PipelineConfig",
    "Range",
    "RankingConfig",
    "RecommenderConfig",
    "RerankConfig",
    "RetrievalConfig",
    "Rule",
    "SearchConfig",
    "SplitConfig",
    "StoreConfig",
    "TableMap",
    "TrainConfig",
    "UtilityConfig",
    "load_config",
    "parse_config",
]
