"""RBM for ratings: softmax visible units, only rated units present (Salakhutdinov et al. 2007)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.losses.replicas import global_sum
from tfrec.models.base import Users
from tfrec.models.boltzmann import sample_bits
from tfrec.models.rating import check_positive
from tfrec.models.rating_rows import CODE, Side
from tfrec.models.row_model import RowModel, Schedule
from tfrec.models.row_odds import RowOdds
from tfrec.models.row_products import Products, level_marks, thermometer_marks

INIT = 0.01


class RatingRBM(RowModel):
    """A restricted Boltzmann machine a row, all sharing weights; columns not rated are absent.

    ``E(v, h) = - sum_ik v_ik b_ik - sum_j h_j c_j - sum_ikj v_ik W_ikj h_j`` where ``v_i`` is one
    of L levels (equations 1 to 3). The *conditional* RBM (section 4) adds ``sum_ij r_i D_ij h_j``,
    ``r_i`` telling which columns are rated: here those of the ratings given, never of held-out
    ones. The *factored* one (section 5) has ``W_ikj = sum_c A_ikc B_cj``.

    With ``row_odds`` each row has a bias a level of its own beside ``b``, not learned: the log odds
    of the levels among its ratings (``RowOdds``), an item's quality say. The machine is then one
    of ``p(v | odds)``, and its hidden units are left with what levels and columns have in common.

    With ``share_levels`` a level has the weights of all lower ones and its own beside them,
    ``W_ikj = sum_{l <= k} U_ilj``, as in CF-NADE (Zheng et al. 2016, equations 12, 13): the same
    machines, but ``weight_decay`` is of U, of what sets neighbouring levels apart, and a rating
    teaches its neighbours as well.

    The gradient is that of ``F(v_0) - F(v_k)``: the free energy of the data less that of the state
    of a Gibbs chain after k steps, which is contrastive divergence with the hidden units summed
    out; the last visible state is one of chances, not samples (Hinton 2010, section 3.2).
    Prediction is the expected level under ``p(v_i | E[h | v])`` (equations 8, 9).

    Args:
        data: encoded data.
        by: rows are users or items.
        hidden: hidden units F.
        cd, cd_epochs: the number of Gibbs steps k goes through ``cd``, each for ``cd_epochs``
            epochs; the last stays.
        conditional: the conditional RBM.
        row_odds, share_levels: see above.
        factors: rank C of the factored RBM; None leaves W whole.
        weight_decay: l2 of W (A, B; U) and D.
        momentum: of the gradient; with ``optimizer='sgd'``.
        optimizer: ``sgd`` as in the paper or ``adam``.
        history_length, polyak, products, schedule: see ``RowModel``.

    Raises:
        ValueError: a parameter out of range.
    """

    def __init__(
        self,
        data: RetrievalData,
        by: Side = "user",
        hidden: int = 100,
        cd: Sequence[int] = (1, 3, 5),
        cd_epochs: int = 10,
        conditional: bool = False,
        row_odds: bool = False,
        share_levels: bool = False,
        factors: int | None = None,
        weight_decay: float = 0.001,
        momentum: float = 0.9,
        optimizer: Literal["sgd", "adam"] = "sgd",
        history_length: int | None = None,
        polyak: float | None = None,
        products: Products = "auto",
        schedule: Schedule = "constant",
    ) -> None:
        super().__init__(data, by, history_length, polyak, products, schedule)
        check_positive(
            hidden=hidden, cd_epochs=cd_epochs, factors=1 if factors is None else factors
        )
        if not cd or min(cd) < 1 or weight_decay < 0 or not 0 <= momentum < 1:
            raise ValueError(
                "cd lists numbers of Gibbs steps from 1, weight_decay is from 0, momentum in "
                f"[0, 1); got {list(cd)}, {weight_decay} and {momentum}"
            )
        if optimizer not in ("sgd", "adam"):
            raise ValueError(f"optimizer is 'sgd' or 'adam'; got {optimizer!r}")
        self.cd, self.cd_epochs = [int(k) for k in cd], cd_epochs
        self.conditional, self.factors, self.share_levels = conditional, factors, share_levels
        self.odds = RowOdds(self.scale, data.train.weight) if row_odds else None
        self.weight_decay, self.momentum, self.kind = weight_decay, momentum, optimizer
        self.steps_per_epoch = 1
        random = np.random.default_rng(0)
        n, levels = self.n_columns, self.n_levels
        if factors is None:
            self.weight("w", random.normal(0, INIT, (n, levels, hidden)))
        else:
            # W = A B starts with entries of the same size as an unfactored W.
            self.weight("left", random.normal(0, INIT, (n, levels, factors)))
            self.weight("right", random.normal(0, factors**-0.5, (factors, hidden)))
        if conditional:
            self.weight("rated", random.normal(0, INIT / 10, (n, hidden)))
        self.weight("visible", self.column_logits)
        self.weight("hidden", np.zeros(hidden))
        self.ready()

    # -- the machine --------------------------------------------------------------------------

    def _up(self, code: tf.Tensor, at: Any = None, chances: tf.Tensor | None = None) -> tf.Tensor:
        """Inputs of the hidden units, float32 [batch, F].

        Args:
            code: which columns are rated and, where no ``chances`` are given, how.
            at: int64 [unit, 2], the rated units, with ``chances``.
            chances: float32 [unit, L], of their levels.
        """
        weights = self["w"] if self.factors is None else self["left"]
        if chances is None:
            marks = thermometer_marks if self.share_levels else level_marks
            total = self.rows_in(code, marks(self.n_levels), weights)
        else:
            if self.share_levels:  # unit l is on in all levels from l up
                chances = tf.cumsum(chances, axis=1, reverse=True)
            total = self.units_in(at, chances, tf.shape(code, tf.int64)[0], weights)
        if self.factors is not None:
            total = tf.matmul(total, self["right"])
        if self.conditional:
            rated = np.ones((self.n_levels + 1, 1), np.float32)
            rated[0] = 0
            total += self.rows_in(code, rated, self["rated"][:, tf.newaxis])
        return total + self["hidden"]

    def _down(self, hidden: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
        """Inputs of the visible units at int64 [unit, 2], float32 [unit, L]."""
        weights = self["w"] if self.factors is None else self["left"]
        if self.factors is not None:
            hidden = tf.matmul(hidden, self["right"], transpose_b=True)
        scores = self.rows_out(hidden, weights, at)
        if self.share_levels:
            scores = tf.cumsum(scores, axis=1)
        return scores + tf.gather(self["visible"], at[:, 1])

    def free_energy(
        self, code: tf.Tensor, odds: tf.Tensor | None = None, chances: tf.Tensor | None = None
    ) -> tf.Tensor:
        """``F(v) = -log sum_h exp(-E(v, h))``, float32 [batch], of codes int32 [batch, n_columns].

        A diagnostic: where it falls on training rows but no longer on held-out ones, the machine
        overfits (Hinton 2010, section 6).

        Args:
            code: the state.
            odds: float32 [batch, L], the rows' own biases; those of ``code`` where None.
            chances: float32 [unit, L] of the rated units in the order of ``tf.where``: in place of
                the levels of ``code``.
        """
        at = tf.where(code > 0)
        rows = tf.shape(code, tf.int64)[0]
        units = chances
        if units is None:
            units = tf.one_hot(tf.gather_nd(code, at) - 1, self.n_levels)
        biases = tf.gather(self["visible"], at[:, 1])
        if self.odds is not None:
            odds = self.odds(code) if odds is None else odds
            biases += tf.gather(odds, at[:, 0])
        biases = tf.reduce_sum(units * biases, axis=1)
        biases = tf.math.unsorted_segment_sum(biases, at[:, 0], rows)
        return -biases - tf.reduce_sum(tf.math.softplus(self._up(code, at, chances)), axis=1)

    def reconstruct(self, code: tf.Tensor, odds: tf.Tensor | None = None) -> tf.Tensor:
        """Chances of the rated units given hidden ones sampled from a state, float32 [unit, L]."""
        at = tf.where(code > 0)
        scores = self._down(sample_bits(tf.sigmoid(self._up(code))), at)
        if self.odds is not None:
            scores += tf.gather(self.odds(code) if odds is None else odds, at[:, 0])
        return tf.nn.softmax(scores)

    def gibbs(
        self, code: tf.Tensor, steps: tf.Tensor | int, odds: tf.Tensor | None = None
    ) -> tf.Tensor:
        """States after ``steps`` rounds of sampling hidden, then rated visible units.

        Args:
            code: the first state, int32 [batch, n_columns].
            steps: rounds.
            odds: as of ``free_energy``.
        """
        at = tf.where(code > 0)
        shape = tf.shape(code, tf.int64)
        own = self.odds(code) if odds is None and self.odds is not None else odds

        def step(i: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Only rated units are sampled: one in twenty on MovieLens.
            scores = tf.math.log(self.reconstruct(state, own) + 1e-20)
            noise = -tf.math.log(-tf.math.log(tf.random.uniform(tf.shape(scores), 1e-7, 1.0)))
            drawn = tf.argmax(scores + noise, axis=1, output_type=tf.int32) + 1
            drawn = tf.ensure_shape(tf.scatter_nd(at, drawn, shape), [None, self.n_columns])
            return i + 1, drawn

        loop = [tf.constant(0), tf.ensure_shape(code, [None, self.n_columns])]
        shapes = [tf.TensorShape([]), tf.TensorShape([None, self.n_columns])]
        return tf.while_loop(lambda i, _: i < steps, step, loop, shape_invariants=shapes)[1]

    # -- training -----------------------------------------------------------------------------

    def compile_for(self, train: TrainConfig) -> None:
        legacy = tf.keras.optimizers.legacy
        if self.kind == "adam":
            self.compile(optimizer=legacy.Adam(self.rate(train)))
        else:
            self.compile(optimizer=legacy.SGD(self.rate(train), momentum=self.momentum))

    def gibbs_steps(self) -> tf.Tensor:
        """k of the present epoch, int32 scalar."""
        epoch = self._steps // self.steps_per_epoch
        at = tf.minimum(epoch // self.cd_epochs, len(self.cd) - 1)
        return tf.gather(tf.constant(self.cd), at)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Users) -> dict[str, tf.Tensor]:
        code = batch[CODE]
        with self.live():
            odds = None if self.odds is None else self.odds(code)
            # The last state is left as chances, which takes the noise of sampling out of it.
            sampled = self.gibbs(code, self.gibbs_steps() - 1, odds)
            chances = self.reconstruct(sampled, odds)
            with tf.GradientTape() as tape:
                data = self.free_energy(code, odds)
                rows = global_sum(tf.cast(tf.shape(code)[0], tf.float32))
                gap = tf.reduce_sum(data - self.free_energy(code, odds, chances)) / rows
                loss = gap + self._decay()
            self.descend(tape, loss)
        rated = tf.reduce_sum(tf.cast(code > 0, tf.float32))
        per_rating = tf.reduce_sum(data) / tf.maximum(rated, 1.0)
        return self.logged({"loss": gap, "free_energy_per_rating": per_rating})

    def _decay(self) -> tf.Tensor:
        decayed = [n for n in ("w", "left", "right", "rated") if n in self._weights]
        return self.weight_decay * self.decay(decayed)

    # -- answers ------------------------------------------------------------------------------

    def hidden_chances(self, code: tf.Tensor) -> tf.Tensor:
        """``p(h = 1 | v)``, float32 [batch, F], of level codes int32 [batch, n_columns]."""
        return tf.sigmoid(self._up(code))

    def encode(self, code: tf.Tensor) -> tf.Tensor:
        hidden = self.hidden_chances(code)
        return hidden if self.odds is None else tf.concat([hidden, self.odds(code)], axis=1)

    def output(self) -> tuple[tf.Tensor, tf.Tensor]:
        if self.factors is None:
            weights = self["w"]
        else:
            weights = tf.einsum("nlc,cf->nlf", self["left"], self["right"])
        if self.share_levels:
            weights = tf.cumsum(weights, axis=1)
        return weights if self.odds is None else self.odds.through(weights), self["visible"]
