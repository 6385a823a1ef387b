"""Neural collaborative filtering: GMF, MLP and NeuMF (He et al., WWW 2017, arXiv:1708.05031).

All three learn the logistic loss of observed pairs against uniformly drawn unobserved ones, which
are drawn anew every epoch; NeuMF is a GMF and an MLP that are trained apart, joined by
``h = [alpha h_GMF; (1 - alpha) h_MLP]`` and trained on together (section 3.4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.models.base import Users
from tfrec.models.ncf_base import NCF
from tfrec.models.ncf_parts import GMFPart, MLPPart
from tfrec.models.ncf_solved import SolvedGMF
from tfrec.models.pairs import BLOCK_USERS, checked_pairs

FINETUNE = ("sgd", "adam", "none")


class GMF(NCF):
    """Generalised matrix factorisation: a dot product whose factors have learned weights.

    Args:
        factors: length of the vectors.
        data, negatives, l2, history_length, fold_in_steps, attributes, id_dropout, pairs,
            block_users: see ``NCF``.
    """

    def __init__(
        self,
        data: RetrievalData,
        factors: int = 16,
        negatives: int = 4,
        l2: float = 0.0,
        history_length: int = 100,
        fold_in_steps: int = 40,
        attributes: bool = True,
        id_dropout: float = 0.0,
        pairs: str = "sampled",
        block_users: int = BLOCK_USERS,
    ) -> None:
        part = GMFPart(data.n_users, data.n_items, factors, plain=pairs == "catalogue")
        answer = (negatives, l2, history_length, fold_in_steps, attributes, id_dropout)
        super().__init__(data, [part], *answer, pairs, block_users)

    def user_embedding(self, users: Users) -> tf.Tensor:
        """``h * p_u``: its dot product with an item's vector is the logit, less the bias."""
        return self._vectors(users) * self.parts[0].head


class MLP(NCF):
    """A tower over the concatenated vectors.

    Args:
        factors: width of the last layer.
        layers: hidden layers; the tables are ``factors * 2 ** (layers - 1)`` wide.
        data, negatives, l2, history_length, fold_in_steps, attributes, id_dropout, pairs,
            block_users: see ``NCF``. ``catalogue`` costs the tower for every pair there is.
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
        attributes: bool = True,
        id_dropout: float = 0.0,
        pairs: str = "sampled",
        block_users: int = BLOCK_USERS,
    ) -> None:
        part = MLPPart(data.n_users, data.n_items, factors, _from_one(layers))
        answer = (negatives, l2, history_length, fold_in_steps, attributes, id_dropout)
        super().__init__(data, [part], *answer, pairs, block_users)


class NeuMF(NCF):
    """GMF and MLP under one output layer, each with its own tables.

    Args:
        factors: of each part; the joint layer has twice as many.
        mlp_factors: of the MLP, where it has its own number.
        layers: hidden layers of the MLP.
        pretrain: whether the parts are first trained alone.
        pretrain_epochs: of both parts, or one number for the GMF and one for the MLP.
        alpha: share of the GMF in the joint output weights and bias after pre-training.
        finetune: optimizer after pre-training, ``sgd`` (as in the paper) or ``adam``; ``none``
            leaves the joined parts as they are, for parts that learned another loss than the joint
            one (``gmf_pairs``). Without pre-training it is always Adam.
        finetune_learning_rate: of that optimizer; by default the training's.
        gmf_pairs: ``pairs`` of the GMF's pre-training; with ``catalogue`` it begins as a dot
            product and takes a few times the epochs, each much shorter.
        gmf_l2: regularisation of that pre-training; by default ``l2``.
        gmf_negatives: of that pre-training, where they cost nothing; by default ``negatives``.
        gmf_learning_rate: of that pre-training; by default the training's.
        gmf_als: where given, the GMF is not descended but takes the vectors of ``ALS`` with these
            parameters (``dim`` is ``factors``), as log odds; see ``SolvedGMF``. Its epochs and the
            three numbers before are then not read; features begin to speak in it when the joined
            parts are trained on.
        block_users: users a step of ``catalogue``.
        data, negatives, l2, history_length, fold_in_steps, attributes, id_dropout: see ``NCF``.

    Raises:
        ValueError: a number or a name out of its range.
    """

    def __init__(
        self,
        data: RetrievalData,
        factors: int = 16,
        mlp_factors: int | None = None,
        layers: int = 3,
        pretrain: bool = True,
        pretrain_epochs: int | Sequence[int] = 10,
        alpha: float = 0.5,
        finetune: str = "sgd",
        finetune_learning_rate: float | None = None,
        gmf_pairs: str = "sampled",
        gmf_l2: float | None = None,
        gmf_negatives: int | None = None,
        gmf_learning_rate: float | None = None,
        gmf_als: Mapping[str, Any] | None = None,
        block_users: int = BLOCK_USERS,
        negatives: int = 4,
        l2: float = 0.0,
        history_length: int = 100,
        fold_in_steps: int = 40,
        attributes: bool = True,
        id_dropout: float = 0.0,
    ) -> None:
        if isinstance(pretrain_epochs, int):
            pretrain_epochs = (pretrain_epochs, pretrain_epochs)
        epochs = list(pretrain_epochs)
        bad = len(epochs) != 2 or min(epochs) < 1 or finetune not in FINETUNE
        if bad or not 0 <= alpha <= 1:
            raise ValueError(
                f"alpha is in 0..1, pretrain_epochs one or two numbers from 1 and finetune one of "
                f"{FINETUNE}; got {alpha}, {epochs} and {finetune!r}; mend 'params'"
            )
        if gmf_als is not None and not pretrain:
            raise ValueError(
                f"gmf_als is a way of pre-training; got {dict(gmf_als)} with pretrain false; mend "
                f"'params'"
            )
        sizes = (data.n_users, data.n_items)
        whole = gmf_pairs == "catalogue" and pretrain
        parts = [
            GMFPart(*sizes, factors, plain=whole, solved=gmf_als is not None),
            MLPPart(*sizes, mlp_factors or factors, _from_one(layers)),
        ]
        answer = (history_length, fold_in_steps, attributes, id_dropout)
        super().__init__(data, parts, negatives, l2, *answer)
        self.pretrain, self.pretrain_epochs, self.alpha = pretrain, epochs, alpha
        self.finetune, self.finetune_learning_rate = finetune, finetune_learning_rate
        self.gmf_learning_rate = gmf_learning_rate
        gmf_l2 = l2 if gmf_l2 is None else gmf_l2
        own = negatives if gmf_negatives is None else gmf_negatives
        gmf = (own, gmf_l2, *answer, checked_pairs(gmf_pairs), block_users)
        stages = [
            NCF(data, parts[:1], *gmf)
            if gmf_als is None
            else SolvedGMF(data, parts[0], gmf_als, negatives),
            NCF(data, parts[1:], negatives, l2, *answer),
        ]
        # Behind functions: the stages share the parts, but their biases are not this model's, and
        # their batches are no weights.
        self._stages = lambda: stages if pretrain else []
        self._stage_batches: Callable[[], list[tf.data.Dataset]] = list

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        batches = super().training_data(data, train)
        own = [stage.training_data(data, train) for stage in self._stages()]
        self._stage_batches = lambda: own
        return batches

    def compile_for(self, train: TrainConfig) -> None:
        for stage, rate in zip(self._stages(), (self.gmf_learning_rate, None), strict=False):
            stage.compile_for(train.model_copy(update={"learning_rate": rate}) if rate else train)
        if not self.pretrain:
            super().compile_for(train)
            return
        rate = self.finetune_learning_rate or train.learning_rate
        if self.finetune != "adam":
            still = self.finetune == "none"
            self.compile(optimizer=tf.keras.optimizers.legacy.SGD(0.0 if still else rate))
        else:
            super().compile_for(train.model_copy(update={"learning_rate": rate}))

    def fit(self, x: Any = None, **kwargs: Any) -> tf.keras.callbacks.History:
        """Trains the parts alone where asked, joins them, then trains on; arguments are Keras's.

        Callbacks see the joint training only.
        """
        own = self._stage_batches() or [x, x]
        stages = zip(self._stages(), own, self.pretrain_epochs, strict=False)
        for stage, batches, epochs in stages:
            stage.fit(batches, epochs=epochs, verbose=kwargs.get("verbose", 0))
        if self._stages():
            self.join(*(stage.bias for stage in self._stages()))
            if self.finetune == "none":
                # One batch that changes nothing: callbacks validate the joined parts.
                return super().fit(x.take(1), **{**kwargs, "epochs": 1})
        return super().fit(x, **kwargs)

    def warm_started(self) -> None:
        """Parts that come trained are neither trained alone nor joined again.

        Raises:
            ValueError: nothing would be left to train.
        """
        if self.pretrain and self.finetune == "none":
            raise ValueError(
                "retrieval.warm_start: a NeuMF whose parts come trained only trains on, which "
                "finetune 'none' leaves out; set finetune: sgd or adam in retrieval.params, or "
                "retrieval.warm_start: null"
            )
        self._stages = lambda: []

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
