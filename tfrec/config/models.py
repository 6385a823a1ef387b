"""Sections about the models: their parameters, training and search."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tfrec.config.base import Frozen
from tfrec.config.index import IndexConfig
from tfrec.config.objectives import Objective, check_objectives


class TrainConfig(Frozen):
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


class Range(Frozen):
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


OF_TRAINING = "train."  # begins a name of ``search.space`` that is no parameter of the model


class SearchConfig(Frozen):
    """How ``tfrec tune`` looks for parameters.

    Attributes:
        space: by name, what may be tried: a parameter of the model, or ``train.<name>`` of the
            training (``train.learning_rate``). What is not named stays as configured.
        trials: most trainings, those of earlier interrupted runs included.
        timeout: seconds after which a run ends, with the epoch it is in; 0 sets no bound.
        metric: which validation metric decides; the gate's where not given (for models that
            predict ratings ``rmse``, where the gate measures lists).
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


class RetrievalConfig(Frozen):
    """The retrieval model: a registry name, its parameters, its training, how it is tuned.

    Attributes:
        warm_start: begin with the weights of an earlier model: ``latest`` (the newest blessed one;
            for ``tfrec train`` the newest in its folder) or the path of an exported one. Where
            there is none yet, ``latest`` starts cold.
    """

    model: str = "two_tower"
    warm_start: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()
    index: IndexConfig = IndexConfig()


class RankingConfig(Frozen):
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
        objectives: what model ``multi_task`` predicts, by name; see docs/objectives.md.
        primary: the objective that is the model's ``score``; the first where not given.
        window: most seconds between two events of a user with an item that are one encounter,
            labelled together.
        last_layer_prior: precision of the prior of the last layer's weights: a posterior is fitted
            after training and the signature ``rank_sample`` draws from it (Thompson sampling).
            None: no posterior.
    """

    enabled: bool = True
    model: str = "wide_deep"
    task: Literal["binary", "rating"] = "binary"
    label: Literal["purchase", "rating"] = "purchase"
    threshold: float = 4.0
    negatives: int = Field(default=4, ge=1)
    history_length: int = Field(default=10, ge=0)
    crosses: tuple[tuple[str, ...], ...] = ()
    objectives: dict[str, Objective] = Field(default_factory=dict)
    primary: str | None = None
    window: int = Field(default=86_400, ge=0)
    last_layer_prior: float | None = Field(default=None, gt=0)
    params: dict[str, Any] = Field(default_factory=dict)
    train: TrainConfig = TrainConfig(epochs=3, batch_size=1024, learning_rate=0.02)

    @model_validator(mode="after")
    def _check(self) -> RankingConfig:
        check_objectives(self.objectives, self.primary, self.task)
        return self

    @property
    def samples_negatives(self) -> bool:
        """Whether evaluation rows hold sampled items that nobody had, with label 0."""
        return self.enabled and self.label == "purchase"
