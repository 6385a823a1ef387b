"""The two halves of neural collaborative filtering: each has its tables, its layers and its share
of the output weights ``h``."""

from __future__ import annotations

import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.features.embed import FeatureEmbedding
from tfrec.schema import Role

TABLE_STDDEV = 0.01  # He et al. 2017, section 4.1
PLAIN_STDDEV = 0.1  # Rendle et al. 2020


class Part(tf.keras.layers.Layer):
    """Tables of users and items, and a logit of a pair without the output bias.

    Args:
        name: of the part.
        n_users, n_items: sizes without padding; row 0 is the unknown user and the padding item.
        dim: width of both tables.
        out: width of the last layer, which is the length of ``head``.
        stddev: of the tables' first values.
    """

    def __init__(
        self,
        name: str,
        n_users: int,
        n_items: int,
        dim: int,
        out: int,
        stddev: float = TABLE_STDDEV,
    ) -> None:
        super().__init__(name=name)
        self.dim = dim
        self.feature_stddev = TABLE_STDDEV

        # One initializer each: an unseeded one that is used twice gives the same values twice.
        def table(side: str, rows: int) -> tf.Variable:
            start = tf.keras.initializers.RandomNormal(stddev=stddev)
            return self.add_weight(name=f"{side}_table", shape=(rows, dim), initializer=start)

        self._embeddings: dict[str, FeatureEmbedding] = {}
        self.users = table("user", n_users + 1)
        self.items = table("item", n_items + 1)
        self.head = self.add_weight(name="head", shape=(out,), initializer=_lecun_uniform(out))

    def logits(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Logits float32 [batch, n] of users [batch, dim] with items [batch or 1, n, dim]."""
        raise NotImplementedError

    def price(self) -> tf.Tensor:
        """What the regularisation charges for the square of each factor, float32 [dim]."""
        return tf.ones([self.dim])

    def embedding(self, role: Role, data: RetrievalData) -> FeatureEmbedding:
        """The part's layer over the attributes of one side; one, whoever asks.

        Its projections start as small as the tables, so that training begins with plain NCF; those
        of a part that is solved from the events alone at 0.
        """
        if role not in self._embeddings:
            self._embeddings[role] = FeatureEmbedding(
                data.features.of(role, ids=False),
                data.sizes,
                self.dim,
                projection_stddev=self.feature_stddev,
                name=f"{self.name}_{role}_features",
            )
        return self._embeddings[role]


class GMFPart(Part):
    """``h . (p_u * q_i)`` (equation 9 of the paper, before the sigmoid).

    Args:
        n_users, n_items, factors: sizes.
        plain: whether it begins as a dot product of vectors of some size: ``h = 1`` and tables of
            ``PLAIN_STDDEV``. Few long steps on whole rows do not leave the paper's start.
        solved: whether its tables come from a solver, which sees no features.
    """

    def __init__(
        self, n_users: int, n_items: int, factors: int, plain: bool = False, solved: bool = False
    ) -> None:
        stddev = PLAIN_STDDEV if plain else TABLE_STDDEV
        super().__init__("gmf", n_users, n_items, factors, factors, stddev)
        if solved:
            self.feature_stddev = 0.0
        if plain:
            self.head.assign(tf.ones_like(self.head))
        self.bytes_per_pair = 4

    def price(self) -> tf.Tensor:
        # Scaling a factor's vectors by c and its weight by 1 / c^2 changes no score. Charged by the
        # weight it changes no penalty either; else ``h`` grows until the penalty is gone.
        return tf.abs(self.head)

    def logits(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        weighted = users * self.head
        if items.shape[0] == 1:
            return tf.matmul(weighted, items[0], transpose_b=True)
        return tf.einsum("bd,bnd->bn", weighted, items)


class MLPPart(Part):
    """``h . MLP([p_u; q_i])`` (equation 10): a tower whose widths halve down to ``factors``.

    The first layer of a concatenation is a sum of two products, one a user and one an item, so the
    user's is computed once for all items and the catalogue's once for all users.

    Args:
        factors: width of the last layer.
        layers: hidden layers; the first is ``factors * 2 ** (layers - 1)`` wide, as are the tables.
    """

    def __init__(self, n_users: int, n_items: int, factors: int, layers: int) -> None:
        widths = [factors * 2**i for i in reversed(range(layers))]
        super().__init__("mlp", n_users, n_items, widths[0], factors)
        self.bytes_per_pair = 4 * (sum(widths) + widths[0])
        glorot = tf.keras.initializers.GlorotUniform
        first = self.add_weight(name="first", shape=(2 * self.dim, widths[0]), initializer=glorot())
        self.first = first
        self.first_bias = self.add_weight(
            name="first_bias", shape=(widths[0],), initializer="zeros"
        )
        self.tower = [
            tf.keras.layers.Dense(width, activation="relu", name=f"tower_{width}")
            for width in widths[1:]
        ]
        for layer, width in zip(self.tower, widths, strict=False):
            layer.build((None, width))

    def logits(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        from_user = tf.matmul(users, self.first[: self.dim]) + self.first_bias
        from_item = tf.tensordot(items, self.first[self.dim :], 1)
        hidden = tf.nn.relu(from_user[:, tf.newaxis] + from_item)
        for layer in self.tower:
            hidden = layer(hidden)
        return tf.linalg.matvec(hidden, self.head)


def _lecun_uniform(fan_in: int) -> tf.keras.initializers.Initializer:
    bound = (3.0 / fan_in) ** 0.5
    return tf.keras.initializers.RandomUniform(-bound, bound)
