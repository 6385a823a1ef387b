"""Neural collaborative filtering: GMF, MLP and NeuMF (He et al., WWW 2017, arXiv:1708.05031).

All three learn the logistic loss of observed pairs against uniformly drawn unobserved ones, which
are drawn anew every epoch; NeuMF is a GMF and an MLP that are trained apart, joined by
``h = [alpha h_GMF; (1 - alpha) h_MLP]`` and trained on together (section 3.4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.losses.optimizers import LazyAdam
from tfrec.losses.replicas import global_sum
from tfrec.models.base import Recommender, Users
from tfrec.models.blocks import in_blocks
from tfrec.models.fold_in import fold_in_by_steps
from tfrec.models.history_set import once
from tfrec.models.ncf_parts import GMFPart, MLPPart, Part
from tfrec.models.pairs import NEGATIVES, pair_batches
from tfrec.schema import HISTORY, ITEM_ID, USER_ID

CATALOGUE_BYTES = 64 << 20  # activations alive while the catalogue is scored
FOLD_IN_USERS = 64  # users folded in at a time


class NCF(Recommender):
    """Base of the three: the sum of its parts' logits and a bias.

    Args:
        data: sizes.
        parts: one or two; their user vectors side by side are the vector that is folded in.
        negatives: items drawn for each observed pair.
        l2: regularisation of the rows of each example.
        history_length: most recent items read to answer an unknown user.
        fold_in_steps: gradient steps of that answer.

    Raises:
        ValueError: a number below its bound.
    """

    def __init__(
        self,
        data: RetrievalData,
        parts: Sequence[Part],
        negatives: int,
        l2: float,
        history_length: int,
        fold_in_steps: int,
    ) -> None:
        super().__init__(data)
        if min(negatives, history_length, fold_in_steps) < 1 or l2 < 0:
            raise ValueError(
                f"negatives, history_length and fold_in_steps are from 1, l2 from 0; got "
                f"{negatives}, {history_length}, {fold_in_steps}, {l2}; mend 'params'"
            )
        self.parts = list(parts)
        self.negatives, self.l2 = negatives, l2
        self.history_length, self.fold_in_steps = history_length, fold_in_steps
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")
        width = sum(part.dim for part in parts)
        self.average = self.add_weight(
            name="average_user", shape=(width,), initializer="zeros", trainable=False
        )
        self._pair_bytes = sum(part.bytes_per_pair for part in parts)
        self._loss = tf.keras.metrics.Mean("loss")

    # -- the network --------------------------------------------------------------------------

    def _logits(self, users: tf.Tensor, items: Sequence[tf.Tensor]) -> tf.Tensor:
        """Logits [batch, n] of user vectors [batch, width] with each part's items."""
        split = tf.split(users, [part.dim for part in self.parts], axis=1)
        terms = [p.logits(u, i) for p, u, i in zip(self.parts, split, items, strict=True)]
        return tf.add_n(terms) + self.bias

    def _learned(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.concat([tf.gather(part.users, rows) for part in self.parts], axis=1)

    def _items(self, items: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(part.items, items) for part in self.parts]

    # -- training -----------------------------------------------------------------------------

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        """Observed pairs with their negatives; a batch holds ``batch_size`` examples of both."""
        pairs = max(1, train.batch_size // (1 + self.negatives))
        return pair_batches(data, pairs, self.negatives, train.seed)

    def compile_for(self, train: TrainConfig) -> None:
        optimizer = LazyAdam(train.learning_rate)
        optimizer._create_all_weights(self.trainable_variables)
        self.compile(optimizer=optimizer)

    def train_step(self, batch: Users) -> dict[str, tf.Tensor]:
        """One step on the mean logistic loss of the global batch's examples."""
        shown = tf.concat([batch[ITEM_ID][:, tf.newaxis], batch[NEGATIVES]], axis=1)
        mine = tf.cast(tf.size(shown), tf.float32)
        everyone = tf.maximum(global_sum(mine), 1.0)
        with tf.GradientTape() as tape:
            users, items = self._learned(batch[USER_ID]), self._items(shown)
            logits = self._logits(users, items)
            positive, negative = logits[:, 0], logits[:, 1:]
            loss = tf.reduce_sum(tf.nn.softplus(-positive))
            loss += tf.reduce_sum(tf.nn.softplus(negative))
            total = loss
            if self.l2:
                squares = tf.add_n([tf.reduce_sum(rows**2) for rows in items])
                squares += (1.0 + self.negatives) * tf.reduce_sum(users**2)
                total += 0.5 * self.l2 * squares
            share = total / everyone
        variables = self.trainable_variables
        # Replicas' gradients are summed by the optimizer; each holds its share of the global mean.
        self.optimizer.apply_gradients(zip(tape.gradient(share, variables), variables, strict=True))
        self._loss.update_state(loss / tf.maximum(mine, 1.0), sample_weight=mine)
        return {"loss": self._loss.result()}

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return [self._loss]

    def refresh(self) -> None:
        """Averages the learned users: who is unknown and has no history is taken for the mean."""
        means = [tf.reduce_mean(part.users[1:], axis=0) for part in self.parts]
        self.average.assign(tf.concat(means, axis=0))

    # -- answers ------------------------------------------------------------------------------

    def _fold(self, history: tf.Tensor) -> tf.Tensor:
        """User vectors float32 [batch, width] of histories, the network and the items held."""

        def block(start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
            return fold_in_by_steps(
                once(history[start:stop], self.n_items),
                lambda vectors, items: self._logits(vectors, self._items(items)),
                self.average,
                self.n_items,
                negatives=self.negatives,
                l2=self.l2,
                steps=self.fold_in_steps,
            )

        width = self.average.shape[0]
        folded = in_blocks(tf.shape(history)[0], FOLD_IN_USERS, block)
        return tf.ensure_shape(folded, [None, width])

    def _vectors(self, users: Users) -> tf.Tensor:
        """Learned vectors of known users; of the others by their history, else the average."""
        user = tf.cast(users[USER_ID], tf.int64)
        known = (user >= 1) & (user <= self.n_users)
        learned = self._learned(tf.where(known, user, 0))
        vectors = tf.where(known[:, tf.newaxis], learned, self.average)
        if HISTORY not in users:
            return vectors
        history = tf.cast(users[HISTORY], tf.int64)
        told = tf.reduce_any((history >= 1) & (history <= self.n_items), axis=1)
        rows = tf.where(~known & told)

        def folded() -> tf.Tensor:
            new = self._fold(tf.gather(history, rows[:, 0]))
            return tf.tensor_scatter_nd_update(vectors, rows, new)

        return tf.cond(tf.shape(rows)[0] > 0, folded, lambda: vectors)

    def score_catalogue(self, users: Users) -> tf.Tensor:
        """Item by item in blocks: never more than ``CATALOGUE_BYTES`` of activations."""
        vectors = self._vectors(users)
        batch = tf.maximum(tf.shape(vectors)[0], 1)
        size = tf.maximum(CATALOGUE_BYTES // (batch * self._pair_bytes), 1)

        def block(start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
            items = [part.items[1 + start : 1 + stop][tf.newaxis] for part in self.parts]
            return tf.transpose(self._logits(vectors, items))

        scores = tf.transpose(in_blocks(self.n_items, size, block))
        return tf.ensure_shape(scores, [None, self.n_items])

    def score(self, users: Users, items: tf.Tensor) -> tf.Tensor:
        rows = self._items(tf.cast(items, tf.int64)[:, tf.newaxis])
        return self._logits(self._vectors(users), rows)[:, 0]


class GMF(NCF):
    """Generalised matrix factorisation: a dot product whose factors have learned weights.

    Args:
        factors: length of the vectors.
        data, negatives, l2, history_length, fold_in_steps: see ``NCF``.
    """

    def __init__(
        self,
        data: RetrievalData,
        factors: int = 16,
        negatives: int = 4,
        l2: float = 0.0,
        history_length: int = 100,
        fold_in_steps: int = 40,
    ) -> None:
        part = GMFPart(data.n_users, data.n_items, factors)
        super().__init__(data, [part], negatives, l2, history_length, fold_in_steps)

    def user_embedding(self, users: Users) -> tf.Tensor:
        """``h * p_u``: its dot product with an item's vector is the logit, less the bias."""
        return self._vectors(users) * self.parts[0].head

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        table = self.parts[0].items
        if items is None:
            return table[1:]
        return tf.gather(table, tf.where(items <= self.n_items, items, 0))

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        unknown = tf.zeros([tf.shape(history)[0]], tf.int64)
        return self.user_embedding({USER_ID: unknown, HISTORY: history})


class MLP(NCF):
    """A tower over the concatenated vectors. It has no vectors to compare: its network does that.

    Args:
        factors: width of the last layer.
        layers: hidden layers; the tables are ``factors * 2 ** (layers - 1)`` wide.
        data, negatives, l2, history_length, fold_in_steps: see ``NCF``.
    """

    def __init__(
        self,
        data: RetrievalData,
        factors: int = 16,
        layers: int = 3,
        negatives: int = 4,
        l2: float = 0.0,
        history_length: int = 100,
        fold_in_steps: int = 40,
    ) -> None:
        part = MLPPart(data.n_users, data.n_items, factors, _from_one(layers))
        super().__init__(data, [part], negatives, l2, history_length, fold_in_steps)


class NeuMF(NCF):
    """GMF and MLP under one output layer, each with its own tables.

    Args:
        factors: of each part; the joint layer has twice as many.
        layers: hidden layers of the MLP.
        pretrain: whether the parts are first trained alone.
        pretrain_epochs: of both parts, or one number for the GMF and one for the MLP.
        alpha: share of the GMF in the joint output weights and bias after pre-training.
        finetune: optimizer after pre-training, ``sgd`` (as in the paper) or ``adam``; without
            pre-training it is always Adam.
        finetune_learning_rate: of that optimizer; by default the training's.
        data, negatives, l2, history_length, fold_in_steps: see ``NCF``.

    Raises:
        ValueError: a number or a name out of its range.
    """

    def __init__(
        self,
        data: RetrievalData,
        factors: int = 16,
        layers: int = 3,
        pretrain: bool = True,
        pretrain_epochs: int | Sequence[int] = 10,
        alpha: float = 0.5,
        finetune: str = "sgd",
        finetune_learning_rate: float | None = None,
        negatives: int = 4,
        l2: float = 0.0,
        history_length: int = 100,
        fold_in_steps: int = 40,
    ) -> None:
        if isinstance(pretrain_epochs, int):
            pretrain_epochs = (pretrain_epochs, pretrain_epochs)
        epochs = list(pretrain_epochs)
        bad = len(epochs) != 2 or min(epochs) < 1 or finetune not in ("sgd", "adam")
        if bad or not 0 <= alpha <= 1:
            raise ValueError(
                f"alpha is in 0..1, pretrain_epochs one or two numbers from 1 and finetune sgd or "
                f"adam; got {alpha}, {epochs} and {finetune!r}; mend 'params'"
            )
        sizes = (data.n_users, data.n_items)
        parts = [GMFPart(*sizes, factors), MLPPart(*sizes, factors, _from_one(layers))]
        answer = (negatives, l2, history_length, fold_in_steps)
        super().__init__(data, parts, *answer)
        self.pretrain, self.pretrain_epochs, self.alpha = pretrain, epochs, alpha
        self.finetune, self.finetune_learning_rate = finetune, finetune_learning_rate
        stages = [NCF(data, [part], *answer) for part in parts] if pretrain else []
        # Behind a function: the stages share the parts, but their biases are not this model's.
        self._stages = lambda: stages

    def compile_for(self, train: TrainConfig) -> None:
        for stage in self._stages():
            stage.compile_for(train)
        if not self.pretrain:
            super().compile_for(train)
            return
        rate = self.finetune_learning_rate or train.learning_rate
        if self.finetune == "sgd":
            self.compile(optimizer=tf.keras.optimizers.legacy.SGD(rate))
        else:
            super().compile_for(train.model_copy(update={"learning_rate": rate}))

    def fit(self, x: Any = None, **kwargs: Any) -> tf.keras.callbacks.History:
        """Trains the parts alone where asked, joins them, then trains on; arguments are Keras's.

        Callbacks see the joint training only.
        """
        for stage, epochs in zip(self._stages(), self.pretrain_epochs, strict=False):
            stage.fit(x, epochs=epochs, verbose=kwargs.get("verbose", 0))
        if self._stages():
            self.join(*(stage.bias for stage in self._stages()))
        return super().fit(x, **kwargs)

    def join(self, gmf_bias: tf.Tensor, mlp_bias: tf.Tensor) -> None:
        """``h = [alpha h_GMF; (1 - alpha) h_MLP]`` and the bias likewise (equation 13)."""
        gmf, mlp = self.parts
        gmf.head.assign(self.alpha * gmf.head)
        mlp.head.assign((1 - self.alpha) * mlp.head)
        self.bias.assign(self.alpha * gmf_bias + (1 - self.alpha) * mlp_bias)


def _from_one(layers: int) -> int:
    if layers < 1:
        raise ValueError(f"layers is a number of hidden layers from 1; got {layers}; mend 'params'")
    return layers
