"""VBPR: matrix factorisation that also sees (He & McAuley, AAAI 2016, arXiv:1510.01784).

Equation 4: ``score = alpha + b_u + b_i + g_u . g_i + t_u . (E f_i) + beta . f_i`` with ``f_i`` what
is seen of item ``i``, learned by BPR. As one inner product: the user's ``[g_u; t_u]`` with the
item's ``[g_i; E f_i]``, plus the item's bias ``b_i + beta . f_i``. Both are kept for the catalogue
(``refresh``), so answers cost what matrix factorisation's do, and no image is read to answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.features.image_cnn import POOL_BLOCK
from tfrec.models.base import Users
from tfrec.models.looks import Looks
from tfrec.models.mf import BPR
from tfrec.models.pairs import NEGATIVES
from tfrec.schema import ITEM_ID, USER_ID


class VBPR(BPR):
    """BPR with visual factors and a visual bias.

    Tables take plain gradient steps as in BPR; ``E``, ``beta`` and a network trained with the
    model, which every pair touches, take Adam's.

    An item with fewer than ``own_from`` training events has no ``g_i`` and ``b_i``: what is seen of
    it alone places it, as a new item should be. Where items with few events are old ones that few
    want (as in the paper's sets), ``own_from=0`` lets them learn that from the drawn pairs. Without
    a visual feature in the data the model is BPR with that same rule.

    Args:
        data: sizes, events and the items' features.
        dim: length of ``g``.
        visual_dim: length of ``t_u`` and ``E f_i``.
        visual: item features of kind ``embedding`` or ``image`` that are seen; None takes all.
        negatives: uniform items drawn for each observed pair.
        l2: on the vectors and biases of each example.
        l2_visual: on ``E`` and ``beta``, for each pair.
        visual_learning_rate: of Adam.
        own_from: training events from which an item has ``g_i`` and ``b_i``; 0: every item.
        init: standard deviation of the first vectors and of ``E``.
        history_length, fold_in_steps: see ``MatrixFactorisation``.

    Raises:
        ValueError: a size below 1, a negative strength, or a name that is no visual feature.
    """

    def __init__(
        self,
        data: RetrievalData,
        dim: int = 64,
        visual_dim: int = 20,
        visual: Sequence[str] | None = None,
        negatives: int = 1,
        l2: float = 0.01,
        l2_visual: float = 0.001,
        visual_learning_rate: float = 0.001,
        own_from: int = 1,
        init: float = 0.1,
        history_length: int = 50,
        fold_in_steps: int = 40,
    ) -> None:
        looks = Looks(data, visual)
        if min(dim, visual_dim) < 1 or min(l2_visual, own_from) < 0 or visual_learning_rate <= 0:
            raise ValueError(
                f"dim and visual_dim are from 1, l2_visual and own_from from 0, "
                f"visual_learning_rate positive; got {dim}, {visual_dim}, {l2_visual}, {own_from}, "
                f"{visual_learning_rate}"
            )
        visual_dim = visual_dim if looks.width else 0
        super().__init__(data, dim + visual_dim, negatives, l2, init, history_length, fold_in_steps)
        self.looks = looks
        self.own_dim, self.visual_dim = dim, visual_dim
        self.l2_visual, self.visual_learning_rate = l2_visual, visual_learning_rate
        self.content = looks.width > 0
        rows = data.n_items + 1
        normal = tf.keras.initializers.RandomNormal
        # ``items`` and ``item_bias`` of the base class hold the sums of both parts.
        self.own_items = self.add_weight(
            name="own_items", shape=(rows, dim), initializer=normal(stddev=init)
        )
        self.own_bias = self.add_weight(name="own_bias", shape=(rows, 1), initializer="zeros")
        self.projection = self.add_weight(
            name="projection", shape=(looks.width, visual_dim), initializer=normal(stddev=init)
        )
        self.visual_bias = self.add_weight(
            name="visual_bias", shape=(looks.width, 1), initializer="zeros"
        )
        self.met = self.add_weight(
            name="met",
            shape=(rows, 1),
            initializer=tf.keras.initializers.Constant(
                (data.train.item_counts() >= own_from)[:, None]
            ),
            trainable=False,
        )

    def _table(self, name: str, rows: int, dim: int, stddev: float) -> tf.Variable:
        if name in ("items", "item_bias"):
            zeros = tf.zeros([rows, dim])
            return tf.Variable(zeros, trainable=False, shape=[None, dim], name=name)
        return super()._table(name, rows, dim, stddev)

    # -- training -----------------------------------------------------------------------------

    def compile_for(self, train: TrainConfig) -> None:
        super().compile_for(train)
        self.visual_optimizer = tf.keras.optimizers.legacy.Adam(self.visual_learning_rate)

    def _parts(
        self, items: tf.Tensor, seen: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """``g_i`` [n, dim], ``E f_i`` [n, visual_dim], ``b_i`` and ``beta . f_i`` [n, 1]."""
        met = tf.gather(self.met, items)
        own = tf.gather(self.own_items, items) * met
        bias = tf.gather(self.own_bias, items) * met
        return own, tf.matmul(seen, self.projection), bias, tf.matmul(seen, self.visual_bias)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Users) -> dict[str, tf.Tensor]:
        """One step; the summed loss of the batch goes down, its mean is reported."""
        shown = tf.concat([batch[ITEM_ID][:, tf.newaxis], batch[NEGATIVES]], axis=1)
        pairs = tf.cast(tf.shape(shown)[0], tf.float32)
        # Each item of the batch is looked at once.
        distinct, back = tf.unique(tf.reshape(shown, [-1]))
        back = tf.reshape(back, tf.shape(shown))
        with tf.GradientTape() as tape:
            user = tf.gather(self.users, batch[USER_ID])
            user_bias = tf.gather(self.user_bias, batch[USER_ID])
            own, look, bias, look_bias = self._parts(distinct, self.looks.known(distinct))
            items = tf.gather(tf.concat([own, look], axis=1), back)
            item_bias = tf.gather(bias + look_bias, back)
            scores = tf.einsum("bd,bnd->bn", user, items) + item_bias[:, :, 0] + user_bias
            loss = tf.reduce_sum(
                self.pair_loss(scores[:, 0] + self.bias, scores[:, 1:] + self.bias)
            )
            squares = tf.reduce_sum(tf.gather(own, back) ** 2)
            squares += tf.reduce_sum(tf.gather(bias, back) ** 2)
            examples = tf.cast(tf.shape(shown)[1], tf.float32)
            squares += examples * (tf.reduce_sum(user**2) + tf.reduce_sum(user_bias**2))
            shared = tf.reduce_sum(self.projection**2) + tf.reduce_sum(self.visual_bias**2)
            total = loss + 0.5 * self.l2 * squares + 0.5 * self.l2_visual * pairs * shared
        seen = [self.projection, self.visual_bias, *self.looks.trainable_variables]
        seen = seen if self.content else []
        tables = [self.users, self.user_bias, self.own_items, self.own_bias]
        gradients = tape.gradient(total, [*tables, *seen])
        self.optimizer.apply_gradients(zip(gradients[: len(tables)], tables, strict=True))
        if seen:
            self.visual_optimizer.apply_gradients(zip(gradients[len(tables) :], seen, strict=True))
        return {"loss": loss / pairs}

    # -- answers ------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Computes vectors and biases of the whole catalogue anew; rows added later stay."""
        super().refresh()
        rows = self.n_items + 1
        found: list[tuple[tf.Tensor, tf.Tensor]] = []
        for start in range(0, rows, POOL_BLOCK):
            items = tf.range(start, min(start + POOL_BLOCK, rows), dtype=tf.int64)
            own, look, bias, look_bias = self._parts(items, self.looks.known(items))
            found.append((tf.concat([own, look], axis=1), bias + look_bias))
        for kept, part in ((self.items, 0), (self.item_bias, 1)):
            fresh = tf.concat([block[part] for block in found], axis=0)
            kept.assign(tf.concat([fresh, kept[rows:]], axis=0))

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        if items is None:
            return self.items[1:]
        inside = (items >= 1) & (items < tf.shape(self.items, items.dtype)[0])
        vectors = tf.gather(self.items, tf.where(inside, items, tf.zeros_like(items)))
        return tf.where(inside[..., tf.newaxis], vectors, 0.0)

    # -- what is new --------------------------------------------------------------------------

    def vocabulary_tables(self) -> dict[str, list[tf.Variable]]:
        return {
            USER_ID: [self.users, self.user_bias, self.user_known],
            ITEM_ID: [self.own_items, self.own_bias],
        }

    def growing(self) -> dict[str, tf.Variable]:
        return {"items": self.items, "item_bias": self.item_bias}

    def item_rows(self, items: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        index = items[ITEM_ID]
        inside = tf.where(index <= self.n_items, index, tf.zeros_like(index))
        own, look, bias, look_bias = self._parts(inside, self.looks.described(items))
        return {"items": tf.concat([own, look], axis=1), "item_bias": bias + look_bias}

    def embed_described(self, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return self.item_rows(items)["items"]

    def score_described(self, users: Users, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        rows = self.item_rows(items)
        dots = tf.reduce_sum(self.user_embedding(users) * rows["items"], axis=1)
        return dots + rows["item_bias"][:, 0]
