"""Multi-task ranker: click, purchase, rating and revenue from one network and one wide part.

Shared bottom or MMoE (``tfrec.models.multi_task_net``), heads and losses by kind of objective
(``tfrec.models.heads``), a linear model over the same indices for each head (Cheng et al. 2016).
Losses add up with fixed weights, or by learned uncertainty (Kendall, Gal & Cipolla 2018, CVPR)::

    sum_t  exp(-s_t) L_t + s_t / 2,    s_t = log sigma_t^2

where ``L_t`` sums over the rows that have the label, and half of a squared error is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from tfrec.config.objectives import Objective, chain, check_objectives, primary_of
from tfrec.models.deep_part import Pooling
from tfrec.models.heads import (
    binary_loss,
    expected_lognormal,
    log_probability,
    lognormal_loss,
)
from tfrec.models.joint import (
    Encoded,
    JointRanker,
    LastLayerInputs,
    Task,
    crossed_columns,
    wide_columns,
)
from tfrec.models.multi_task_net import Gates, MultiTaskNetwork
from tfrec.models.wide_part import WideLinear

LossWeights = Literal["fixed", "uncertainty"]


class MultiTask(JointRanker):
    """Predicts several objectives of a row of encoded features.

    Labels are float32 [batch, objective] in the order of ``objectives``, NaN where a row has none:
    that head learns nothing from the row. How it is trained: see ``JointRanker``.

    Args:
        data: features and sizes.
        objectives: by name; see ``tfrec.config.objectives``.
        primary: the objective that is the model's score; None: the first.
        task: of the primary objective.
        experts: 0 is a shared bottom, else the experts of the mixture.
        gates: ``task`` (MMoE) or ``shared``.
        towers: widths of each head's own ReLU layers.
        loss_weights: ``fixed`` (each objective's ``loss_weight``) or ``uncertainty``.
        hidden: widths of the shared ReLU layers, or of each expert's.
        crosses, use, history_length, embedding_dim, embedding_stddev, history_pooling, dots,
            dropout, l2, embedding_l2, cross_buckets, l1, wide_l2, wide_learning_rate,
            deep_learning_rate, unknown_rate, seed: see ``WideDeep``.

    Raises:
        ValueError: no objectives, or ones that contradict one another.
    """

    def __init__(
        self,
        data: Encoded,
        *,
        objectives: Mapping[str, Objective] | None = None,
        primary: str | None = None,
        task: Task = "binary",
        experts: int = 0,
        gates: Gates = "task",
        towers: Sequence[int] = (32,),
        loss_weights: LossWeights = "fixed",
        hidden: Sequence[int] = (256, 128),
        crosses: Sequence[Sequence[str]] = (),
        use: Sequence[str] | None = None,
        history_length: int = 0,
        embedding_dim: int | None = None,
        embedding_stddev: float = 0.1,
        history_pooling: Pooling = "mean",
        dots: bool = False,
        dropout: float = 0.0,
        l2: float = 0.0,
        embedding_l2: float = 0.0,
        cross_buckets: int = 100_000,
        l1: float = 1.0,
        wide_l2: float = 0.0,
        wide_learning_rate: float = 0.1,
        deep_learning_rate: float | None = None,
        unknown_rate: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(name="multi_task")
        if not objectives:
            raise ValueError(
                "multi_task predicts the objectives that ranking.objectives names; there are none; "
                "write e.g. objectives: {click: {events: [click, purchase]}, purchase: {events: "
                "[purchase], given: click}}"
            )
        check_objectives(objectives, primary, task)
        _check_choices(experts, gates, loss_weights)
        features, sizes = self._configure(
            data,
            task=task,
            use=use,
            history_length=history_length,
            l2=l2,
            embedding_l2=embedding_l2,
            l1=l1,
            wide_l2=wide_l2,
            wide_learning_rate=wide_learning_rate,
            deep_learning_rate=deep_learning_rate,
            unknown_rate=unknown_rate,
            seed=seed,
        )
        # Plain tuples: Keras would wrap and track a dict.
        self._objectives = tuple(objectives.items())
        self.primary = primary_of(objectives, primary)
        kinds = {name: objective.kind_of(name) for name, objective in objectives.items()}
        self._kinds = tuple(kinds.items())
        self._chains = tuple(chain(objectives, name) for name in objectives)
        widths = [
            1 if kinds[n] != "spend" else 3 if o.given is None else 2 for n, o in self._objectives
        ]
        self._starts = tuple(int(x) for x in np.cumsum([0, *widths]))
        columns = wide_columns(features, sizes, history_length)
        crossed = crossed_columns(crosses, columns)
        self.wide = WideLinear(list(columns.values()), crossed, cross_buckets, len(widths))
        self.deep = MultiTaskNetwork(
            {
                "features": features,
                "sizes": sizes,
                "history_length": history_length,
                "history_pooling": history_pooling,
                "dots": dots,
                "embedding_dim": embedding_dim,
                "embedding_stddev": embedding_stddev,
            },
            outputs=widths,
            hidden=hidden,
            experts=experts,
            gates=gates,
            towers=towers,
            dropout=dropout,
            seed=seed,
        )
        self.bias = self.add_weight(name="bias", shape=[self._starts[-1]], initializer="zeros")
        self.log_variance: tf.Variable | None = None
        if loss_weights == "uncertainty":
            self.log_variance = self.add_weight(
                name="log_variance", shape=[len(widths)], initializer="zeros"
            )
        self.built = True

    @property
    def objective_names(self) -> tuple[str, ...]:
        """In the order of the labels."""
        return tuple(name for name, _ in self._objectives)

    # -- scoring ------------------------------------------------------------------------------

    def logits(
        self, inputs: Mapping[str, tf.Tensor], training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """All heads' columns, float32 [batch, columns], and the squares, float32 [batch]."""
        deep, squares = self.deep(inputs, training=training)
        return deep + self.bias + self._spread(self.wide(inputs)), squares  # type: ignore[misc]

    def _spread(self, wide: tf.Tensor) -> tf.Tensor:
        """Puts the wide part of each head [batch, objective] onto the head's first column."""
        places = np.zeros((len(self._objectives), self._starts[-1]), np.float32)
        places[np.arange(len(places)), self._starts[:-1]] = 1.0
        return tf.matmul(wide, places)

    def _head(self, logits: tf.Tensor, name: str) -> list[tf.Tensor]:
        """A head's columns, float32 [batch] each."""
        at = self.objective_names.index(name)
        return [logits[:, c] for c in range(self._starts[at], self._starts[at + 1])]

    def _chain_logits(self, logits: tf.Tensor, at: int) -> list[tf.Tensor]:
        """First columns of an objective and what it is given."""
        return [self._head(logits, name)[0] for name in self._chains[at]]

    def predictions(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """By objective float32 [batch]: a probability, a rating, or the expected spend."""
        out = {}
        for at, (name, objective) in enumerate(self._objectives):
            kind, head = dict(self._kinds)[name], self._head(logits, name)
            if kind == "binary":
                out[name] = tf.exp(log_probability(self._chain_logits(logits, at)))
            elif kind == "rating":
                out[name] = head[0]
            elif objective.given is None:
                out[name] = tf.sigmoid(head[0]) * expected_lognormal(head[1], head[2])
            else:
                p = tf.exp(log_probability(self._chain_logits(logits, at)[1:]))
                out[name] = p * expected_lognormal(head[0], head[1])
        return out

    def objective_scores(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """See ``predictions``; from encoded features."""
        return self.predictions(self.logits(inputs)[0])

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The primary objective, float32 [batch]."""
        return self.predictions(self.logits(inputs, training)[0])[self.primary]

    def last_layer_inputs(self, inputs: Mapping[str, tf.Tensor]) -> LastLayerInputs:
        """See ``JointRanker``; of the primary objective."""
        hidden, _ = self.deep.last_hidden(inputs)
        logits, _ = self.logits(inputs)
        at = self.objective_names.index(self.primary)
        own, *given = self._chain_logits(logits, at)
        chance = tf.exp(log_probability(given)) if given else tf.ones_like(own)
        return LastLayerInputs(own, hidden[at], chance)

    # -- training -----------------------------------------------------------------------------

    def set_priors(self, labels: np.ndarray, rows_an_event: int) -> None:
        """Starts the biases where the predictions equal the means of training.

        Args:
            labels: float [event, objective] of observed events, NaN where there is none.
            rows_an_event: rows made of each event; those beyond the first are unobserved items.
        """
        first = np.zeros(self._starts[-1], np.float32)
        labels = np.asarray(labels, np.float64)
        share = {
            name: float(np.nanmean(labels[:, at] > 0)) / rows_an_event
            for at, name in enumerate(self.objective_names)
        }
        for at, (name, objective) in enumerate(self._objectives):
            kind, start = dict(self._kinds)[name], self._starts[at]
            have = labels[:, at][np.isfinite(labels[:, at])]
            p = (
                share[name]
                if objective.given is None
                else share[name] / max(share[objective.given], 1e-9)
            )
            p = float(np.clip(p, 1e-4, 1 - 1e-4))
            if kind == "rating":
                first[start] = have.mean() if len(have) else 0.0
                continue
            if kind == "binary" or objective.given is None:
                first[start] = np.log(p / (1 - p))
            if kind == "spend":
                logs = np.log(have[have > 0]) if (have > 0).any() else np.zeros(1)
                sigma = float(np.clip(logs.std(), 0.1, 2.0))
                first[start + (objective.given is None) :][:2] = [
                    logs.mean(),
                    np.log(np.expm1(sigma)),
                ]
        self.bias.assign(first)

    def objective_losses(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Loss of each head, float32 [batch, objective]; 0 where the row has no label."""
        losses = []
        for at, (name, objective) in enumerate(self._objectives):
            known = tf.math.is_finite(labels[:, at])
            label = tf.where(known, labels[:, at], 0.0)
            kind, head = dict(self._kinds)[name], self._head(logits, name)
            if kind == "binary":
                loss = binary_loss(self._chain_logits(logits, at), label)
            elif kind == "rating":
                loss = tf.square(head[0] - label)
            else:
                loss = lognormal_loss(head[-2], head[-1], label)
                if objective.given is None:
                    loss += binary_loss(head[:1], tf.cast(label > 0, tf.float32))
            losses.append(tf.where(known, loss, 0.0))
        return tf.stack(losses, axis=1)

    def losses_of(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The weighted sum of the heads' losses of each row, float32 [batch]."""
        labels = tf.cast(labels, tf.float32)
        losses = self.objective_losses(logits, labels)
        if self.log_variance is None:
            fixed = tf.constant([o.loss_weight for _, o in self._objectives], tf.float32)
            return tf.linalg.matvec(losses, fixed)
        known = tf.cast(tf.math.is_finite(labels), tf.float32)
        half = tf.constant([0.5 if kind == "rating" else 1.0 for _, kind in self._kinds])
        weighted = losses * half * tf.exp(-self.log_variance) + known * self.log_variance / 2
        return tf.reduce_sum(weighted, axis=1)

    def _others(self) -> list[tf.Variable]:
        learned = [] if self.log_variance is None else [self.log_variance]
        return [*super()._others(), *learned]


def _check_choices(experts: int, gates: str, loss_weights: str) -> None:
    if experts < 0 or experts == 1:
        raise ValueError(f"experts is 0 (a shared bottom) or at least 2; got {experts}")
    if gates not in ("task", "shared"):
        raise ValueError(f"gates is 'task' or 'shared'; got {gates!r}")
    if loss_weights not in ("fixed", "uncertainty"):
        raise ValueError(f"loss_weights is 'fixed' or 'uncertainty'; got {loss_weights!r}")
