"""AutoRec: an auto-encoder of the ratings of a user or an item (Sedhain et al., WWW 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.models.rating import SHRINK
from tfrec.models.rating_rows import Side
from tfrec.models.row_model import RowModel, Schedule
from tfrec.models.row_odds import RowOdds
from tfrec.models.row_products import Products, level_marks, thermometer_marks, value_marks

Units = Literal["rating", "levels"]
ACTIVATIONS = {"sigmoid": tf.sigmoid, "tanh": tf.tanh, "relu": tf.nn.relu, "selu": tf.nn.selu}


class AutoRec(RowModel):
    """Reconstructs the rated columns of a row: ``min sum_rated (r - f(V g(W r + b) + c))^2 + l2``.

    With ``units="rating"`` a column is one number, its rating as it is on a scale of 1 to 5, onto
    which another scale is drawn (0 where not rated, so that the net sees which columns are), and
    the output is linear, as in the paper; added to it is the row's own mean, drawn towards the mean
    of all: the one figure of a row that the shared weights would otherwise have to spell out. With
    ``units="levels"`` a column is one unit a level, as the RBM's, and the output is the expected
    level of a softmax, to whose scores the row's ``RowOdds`` are added: the net that ``dbn`` starts
    from a stack of RBMs, here from random weights. There ``share_levels`` gives a level the weights
    of all lower ones and its own beside them, in and out, as ``RatingRBM`` has it.

    Args:
        data: encoded data.
        by: rows are users or items (U-AutoRec, I-AutoRec).
        hidden: sizes of the coding layers, outermost first; the decoder mirrors all but the last.
        units: see above.
        activation: of the hidden layers.
        l2: of the weights (not the biases), against the mean squared error of a rating, the scale
            drawn onto 1 to 5.
        dropout: share of a row's ratings hidden from the input at each training step.
        share_levels: see above.
        row_bias: whether a row's own mean (or odds) is added; the paper's net has none.
        history_length, polyak, products, schedule: see ``RowModel``.

    Raises:
        ValueError: a parameter out of range.
    """

    def __init__(
        self,
        data: RetrievalData,
        by: Side = "item",
        hidden: Sequence[int] = (500,),
        units: Units = "rating",
        activation: str = "sigmoid",
        l2: float = 2e-4,
        dropout: float = 0.0,
        share_levels: bool = False,
        history_length: int | None = None,
        polyak: float | None = None,
        products: Products = "auto",
        schedule: Schedule = "constant",
        row_bias: bool = True,
    ) -> None:
        super().__init__(data, by, history_length, polyak, products, schedule)
        if not hidden or min(hidden) < 1 or units not in ("rating", "levels"):
            raise ValueError(
                "hidden lists layer sizes from 1 and units is 'rating' or 'levels'; got "
                f"{list(hidden)} and {units!r}"
            )
        if activation not in ACTIVATIONS or l2 < 0 or not 0 <= dropout < 1:
            raise ValueError(
                f"activation is one of {sorted(ACTIVATIONS)}, l2 from 0, dropout in [0, 1); got "
                f"{activation!r}, {l2} and {dropout}"
            )
        if share_levels and units != "levels":
            raise ValueError(
                "share_levels is of weights that each level has, so it goes with units 'levels'; "
                f"got {units!r}"
            )
        self.units, self.l2, self.dropout = units, l2, dropout
        self.share_levels, self.row_bias = share_levels, row_bias
        self.act = ACTIVATIONS[activation]
        # Layer sizes within the net: code layers down, then back up to the first one's size.
        self.sizes = [*hidden, *reversed(list(hidden)[:-1])]
        n, k = self.n_columns, self.n_levels if units == "levels" else 1
        random = np.random.default_rng(0)
        self.odds = RowOdds(self.scale, data.train.weight)
        if units == "rating":
            self.marks = value_marks(self.scale.one_to_five)
        else:
            self.marks = (thermometer_marks if share_levels else level_marks)(self.n_levels)
        before = n * k
        for i, size in enumerate(self.sizes):
            # A row fills a small part of the input: the width that counts is that of the ratings.
            width = max(len(data.train) / self._rows(), 1.0) if i == 0 else before
            spread = (2.0 / (width + size)) ** 0.5
            first = (n, k, size) if i == 0 else (before, size)
            self.weight(f"w{i}", random.normal(0, min(spread, 0.1), first))
            self.weight(f"b{i}", np.zeros(size))
            before = size
        spread = (2.0 / (before + n)) ** 0.5
        self.weight("out", random.normal(0, spread, (n, k, before)))
        means = (self.column_mean - self.mean_rating)[:, None] / self.scale.unit
        self.weight("out_bias", means if units == "rating" else self.column_logits)
        self.ready()

    def _rows(self) -> int:
        return self.n_users if self.by == "user" else self.n_items

    def row_mean(self, code: tf.Tensor) -> tf.Tensor:
        """Shrunk mean of each row's ratings less the mean of all, in units: float32 [batch, 1]."""
        at = tf.where(code > 0)
        rows = tf.shape(code, tf.int64)[0]
        apart = tf.gather(self.scale.levels, tf.gather_nd(code, at) - 1) - self.mean_rating
        total = tf.math.unsorted_segment_sum(apart, at[:, 0], rows)
        count = tf.math.unsorted_segment_sum(tf.ones_like(apart), at[:, 0], rows)
        return (total / (count + SHRINK) / self.scale.unit)[:, tf.newaxis]

    def encode(self, code: tf.Tensor) -> tf.Tensor:
        hidden = self.act(self.rows_in(code, self.marks, self["w0"]) + self["b0"])
        for i in range(1, len(self.sizes)):
            hidden = self.act(tf.matmul(hidden, self[f"w{i}"]) + self[f"b{i}"])
        own = self.odds(code) if self.units == "levels" else self.row_mean(code)
        return tf.concat([hidden, own if self.row_bias else tf.zeros_like(own)], axis=1)

    def output(self) -> tuple[tf.Tensor, tf.Tensor]:
        if self.units == "levels":
            weights = tf.cumsum(self["out"], axis=1) if self.share_levels else self["out"]
            return self.odds.through(weights), self["out_bias"]
        # The row's mean passes through with weight 1.
        return tf.pad(self["out"], [[0, 0], [0, 0], [0, 1]], constant_values=1.0), self["out_bias"]

    def link(self, scores: tf.Tensor) -> tf.Tensor:
        if self.units == "rating":
            return scores[..., 0] * self.scale.unit + self.mean_rating
        return super().link(scores)

    def objective(self, code: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        given = code
        if self.dropout:
            kept = tf.random.uniform(tf.shape(code)) >= self.dropout
            given = tf.where(kept, code, 0)
        hidden = self.encode(given)
        at = tf.where(code > 0)  # the loss looks at rated columns alone
        # The row's own part goes past the product, which may be rounded.
        code_size = self["out"].shape[-1]
        own = tf.gather(hidden[:, code_size:], at[:, 0])
        scores = self.rows_out(hidden[:, :code_size], self["out"], at)
        if self.share_levels:
            scores = tf.cumsum(scores, axis=1)
        predicted = self.link(scores + own + tf.gather(self["out_bias"], at[:, 1]))
        actual = tf.gather(self.scale.levels, tf.gather_nd(code, at) - 1)
        count = tf.cast(tf.shape(at)[0], tf.float32)
        squares = tf.reduce_sum(((actual - predicted) / self.scale.unit) ** 2)
        decayed = [name for name in self._weights if name[0] == "w" or name == "out"]
        penalty = self.l2 * self.decay(decayed)
        rmse = tf.sqrt(squares / tf.maximum(count, 1.0)) * self.scale.unit
        return self.per_rating(squares, count) + penalty, {"rmse": rmse}
