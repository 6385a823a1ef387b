"""CF-NADE: ratings predicted one after the other in random order (Zheng et al., ICML 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.models.autorec import ACTIVATIONS
from tfrec.models.rating_rows import Side
from tfrec.models.row_model import RowModel, Schedule
from tfrec.models.row_odds import RowOdds
from tfrec.models.row_products import Products, thermometer_marks

INIT = 0.01


class CFNADE(RowModel):
    """``p(r) = prod_t p(r_{o_t} | r_{o_1} .. r_{o_{t-1}})`` for rated columns in any order ``o``.

    The hidden layer is ``h = g(c + sum_{j < t} sum_{k <= r_j} W^k_j)`` and the scores of column i
    are ``s^k_i = sum_{l <= k} (b^l_i + V^l_i . h)``: a rating shares the weights of all lower ones
    (equations 12, 13). Deeper nets add layers on ``h`` (section 5). The *factored* version has
    ``W^k_i = P^k_i A`` and ``V^k_i = Q^k_i B`` of rank ``factors`` (section 3.4).

    With ``common`` the weights of all levels of a column have a part in common, ``W^k_i + W_i`` and
    ``V^k_i + V_i``, each with its own ``l2``: what a column has of taste is learned once, as a
    number's weights are, and the levels' weights are left with what departs from that.

    Beside the paper: the shares of the levels among the ratings given, drawn towards those of all,
    are added to the scores as log odds. They are a row's own bias, an item's quality say, that the
    shared weights would otherwise have to spell out; of what is given alone, so p stays as above.

    Training draws a random split of each row instead of an order: rated columns are given with
    one chance for the row, itself uniform in [0, 1], so that the number d given is uniform in 0..D
    and every subset of a size alike; the cost of the D - d others is weighted by
    ``(D + 1) / (D - d)``. That is the ``D / (D - d)`` of equation 21, where d is below D: here one
    draw in D + 1 gives all and asks nothing. With ``ordinal`` w the cost is ``w C_ordinal + (1 - w)
    C_softmax``, where C_ordinal ranks the levels by their distance from the rating (equations 15 to
    19); prediction is the expected level under ``softmax(s)``.

    Args:
        data: encoded data.
        by: rows are users or items (U-CF-NADE, I-CF-NADE).
        hidden: one or more layers of hidden units.
        activation: g.
        factors: rank of the factored version; None leaves the weights whole.
        ordinal: share w of the ordinal cost.
        least_given: lowest chance of a rating to be given in training. 0 is the paper's: places in
            the order are uniform. Answers are given all that is known of a row; with 0.5, say,
            training asks for them with much given, and all asked weigh alike: the cost is no longer
            an estimate of the likelihood over all orders, but one of the ratings missing.
        common: see above.
        row_odds: whether a row's own odds are added, see above; the paper's net has none.
        l2: of the weights, against the cost of one rating.
        history_length: see ``RowModel``.
        polyak: decay of the averaged weights that answer.
        products, schedule: see ``RowModel``.

    Raises:
        ValueError: a parameter out of range.
    """

    def __init__(
        self,
        data: RetrievalData,
        by: Side = "item",
        hidden: Sequence[int] = (500,),
        activation: str = "tanh",
        factors: int | None = None,
        ordinal: float = 1.0,
        least_given: float = 0.0,
        common: bool = False,
        row_odds: bool = True,
        l2: float = 3e-4,
        history_length: int | None = None,
        polyak: float | None = 0.995,
        products: Products = "auto",
        schedule: Schedule = "constant",
    ) -> None:
        super().__init__(data, by, history_length, polyak, products, schedule)
        if not hidden or min(hidden) < 1 or (factors is not None and factors < 1):
            raise ValueError(
                f"hidden lists layer sizes from 1 and factors is a rank from 1 or null; got "
                f"{list(hidden)} and {factors}"
            )
        if activation not in ACTIVATIONS or not 0 <= ordinal <= 1 or l2 < 0:
            raise ValueError(
                f"activation is one of {sorted(ACTIVATIONS)}, ordinal a share in [0, 1], l2 from "
                f"0; got {activation!r}, {ordinal} and {l2}"
            )
        if not 0 <= least_given < 1:
            raise ValueError(f"least_given is a chance in [0, 1), as 0.5; got {least_given}")
        self.least_given, self.common = least_given, common
        self.factors, self.ordinal, self.l2 = factors, ordinal, l2
        self.act, self.depth = ACTIVATIONS[activation], len(hidden)
        random = np.random.default_rng(0)
        n, levels = self.n_columns, self.n_levels
        self.odds, self.row_odds = RowOdds(self.scale, data.train.weight), row_odds
        ends = {"in": hidden[0], "out": hidden[-1]}
        for side, size in ends.items():
            rank = factors or size
            # The part in common is the last "level".
            self.weight(side, random.normal(0, INIT, (n, levels + common, rank)))
            if factors is not None:
                self.weight(f"{side}_mix", random.normal(0, rank**-0.5, (rank, size)))
        for i in range(1, self.depth):
            spread = (2.0 / (hidden[i - 1] + hidden[i])) ** 0.5
            self.weight(f"w{i}", random.normal(0, spread, (hidden[i - 1], hidden[i])))
        for i, size in enumerate(hidden):
            self.weight(f"c{i}", np.zeros(size))
        # Cumulated over levels the biases are each column's log shares.
        self.weight("out_bias", np.diff(self.column_logits, axis=1, prepend=0.0))
        self.ready()

    def coded(self, code: tf.Tensor) -> tf.Tensor:
        """The last hidden layer, float32 [batch, hidden[-1]]."""
        marks = thermometer_marks(self.n_levels)
        if self.common:  # it counts once for each level up to the rating
            marks = np.hstack([marks, marks.sum(axis=1, keepdims=True)])
        total = self.rows_in(code, marks, self["in"])
        if self.factors is not None:
            total = tf.matmul(total, self["in_mix"])
        hidden = self.act(total + self["c0"])
        for i in range(1, self.depth):
            hidden = self.act(tf.matmul(hidden, self[f"w{i}"]) + self[f"c{i}"])
        return hidden

    def _own(self, code: tf.Tensor) -> tf.Tensor:
        """What a row adds to the scores itself, float32 [batch, L]."""
        odds = self.odds(code)
        return odds if self.row_odds else tf.zeros_like(odds)

    def encode(self, code: tf.Tensor) -> tf.Tensor:
        return tf.concat([self.coded(code), self._own(code)], axis=1)

    def output(self) -> tuple[tf.Tensor, tf.Tensor]:
        weights = self["out"]
        if self.factors is not None:
            weights = tf.einsum("nkr,rd->nkd", weights, self["out_mix"])
        if self.common:
            weights = weights[:, :-1] + weights[:, -1:]
        return self.odds.through(weights, cumulated=True), self["out_bias"]

    def link(self, scores: tf.Tensor) -> tf.Tensor:
        return super().link(tf.cumsum(scores, axis=-1))

    def slope(self, weights: tf.Tensor, biases: tf.Tensor) -> tf.Tensor:
        return super().slope(tf.cumsum(weights, axis=1), tf.cumsum(biases, axis=1))

    def _scores(self, code: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
        """Cumulated scores s of the columns at int64 [pair, 2], codes given: float32 [pair, L]."""
        hidden, odds = self.coded(code), self._own(code)
        if self.factors is not None:
            hidden = tf.matmul(hidden, self["out_mix"], transpose_b=True)
        raw = self.rows_out(hidden, self["out"], at)
        if self.common:
            raw = raw[:, :-1] + raw[:, -1:]
        scores = tf.cumsum(raw + tf.gather(self["out_bias"], at[:, 1]), axis=1)
        return scores + tf.gather(odds, at[:, 0])

    def cost(self, scores: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
        """Cost of each rating, float32 [pair], of scores s [pair, L] and codes int32 [pair]."""
        levels = tf.range(1, self.n_levels + 1)
        regular = tf.nn.sparse_softmax_cross_entropy_with_logits(code - 1, scores)
        if self.ordinal == 0:
            return regular
        # Walking away from the rating on either side, each level beats all further ones.
        below = tf.math.cumulative_logsumexp(scores, axis=1) - scores
        above = tf.math.cumulative_logsumexp(scores, axis=1, reverse=True) - scores
        code = code[:, tf.newaxis]
        ranked = tf.where(levels <= code, below, 0.0) + tf.where(levels >= code, above, 0.0)
        ordinal = tf.reduce_sum(ranked, axis=1)
        return self.ordinal * ordinal + (1 - self.ordinal) * regular

    def objective(self, code: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        rows = tf.shape(code)[0]
        rated = code > 0
        chance = tf.random.uniform([rows, 1], self.least_given, 1.0)
        given = rated & (tf.random.uniform(tf.shape(code)) < chance)
        asked = rated & ~given
        d = tf.reduce_sum(tf.cast(rated, tf.float32), axis=1)
        left = tf.reduce_sum(tf.cast(asked, tf.float32), axis=1)
        at = tf.where(asked)
        scores = self._scores(tf.where(given, code, 0), at)
        actual = tf.gather_nd(code, at)
        cost = self.cost(scores, actual)
        if self.least_given:
            weight = tf.fill(tf.shape(cost), 2.0 / (1.0 - self.least_given))  # one over those asked
        else:
            weight = tf.gather((d + 1) / tf.maximum(left, 1.0), at[:, 0])
        loss = self.per_rating(tf.reduce_sum(weight * cost), tf.reduce_sum(d))
        decayed = [n for n in self._weights if n[0] != "c" and n != "out_bias"]
        penalty = self.l2 * self.decay(decayed)
        error = super().link(scores) - tf.gather(self.scale.levels, actual - 1)
        return loss + penalty, {
            "cost": loss,
            "mse": tf.math.divide_no_nan(
                tf.reduce_sum(error**2), tf.cast(tf.shape(at)[0], tf.float32)
            ),
        }

    def log_likelihood(self, code: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        """``log p(r)`` of whole rows under the softmax conditionals, for one order.

        Args:
            code: int32 [batch, n_columns], 0 where nothing is rated.
            order: int [n_columns], a permutation of the columns.

        Returns:
            float32 [batch], in nats.
        """
        rank = tf.argsort(tf.cast(order, tf.int32))  # place of each column in the order
        total = tf.zeros([tf.shape(code)[0]])
        for t in range(self.n_columns):
            given = tf.where(rank[tf.newaxis, :] < t, code, 0)
            mine = code[:, order[t]]
            column = tf.fill([tf.shape(code)[0]], tf.cast(order[t], tf.int64))
            at = tf.stack([tf.range(tf.shape(code, tf.int64)[0]), column], axis=1)
            chances = tf.nn.log_softmax(self._scores(given, at))
            picked = tf.gather(chances, tf.maximum(mine - 1, 0), batch_dims=1)
            total += tf.where(mine > 0, picked, 0.0)
        return total
