"""A rating auto-encoder that starts from a stack of RBMs (Hinton & Salakhutdinov 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.models.autorec import AutoRec
from tfrec.models.boltzmann import BinaryMachine, sample_bits
from tfrec.models.rating_rows import CODE, Side
from tfrec.models.rbm import RatingRBM
from tfrec.models.row_model import Schedule
from tfrec.models.row_products import Products


class DBNRating(AutoRec):
    """AutoRec with ``units="levels"`` whose weights are first learned by a stack of RBMs.

    Before back-propagation ``fit`` trains, layer by layer, a ``RatingRBM`` on the rows and binary
    RBMs on its hidden units; the stack is then unrolled: its weights code, their transposes decode.

    Args:
        data: encoded data.
        by, hidden, l2, dropout, share_levels, history_length, polyak, products, schedule: see
            ``AutoRec``; the first RBM shares its levels' weights as the net does.
        pretrain_epochs: of each RBM; 0 starts from random weights.
        pretrain_rate: Adam's learning rate there.
        cd: Gibbs steps of the RBMs.
        weight_decay: of the RBMs.
    """

    def __init__(
        self,
        data: RetrievalData,
        by: Side = "item",
        hidden: Sequence[int] = (500,),
        l2: float = 2e-4,
        dropout: float = 0.0,
        share_levels: bool = False,
        pretrain_epochs: int = 10,
        pretrain_rate: float = 1e-3,
        cd: int = 1,
        weight_decay: float = 0.001,
        history_length: int | None = None,
        polyak: float | None = None,
        products: Products = "auto",
        schedule: Schedule = "constant",
    ) -> None:
        answers = (history_length, polyak, products, schedule)
        super().__init__(data, by, hidden, "levels", "sigmoid", l2, dropout, share_levels, *answers)
        if pretrain_epochs < 0 or cd < 1 or weight_decay < 0:
            raise ValueError(
                f"pretrain_epochs and weight_decay are from 0, cd from 1; got {pretrain_epochs}, "
                f"{weight_decay} and {cd}"
            )
        self.pretrain_epochs, self.pretrain_rate = pretrain_epochs, pretrain_rate
        self.cd, self.weight_decay, self.hidden = cd, weight_decay, [int(h) for h in hidden]
        self._data: RetrievalData | None = data
        self._pretrain_train = TrainConfig()

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        self._data, self._pretrain_train = data, train
        return super().training_data(data, train)

    def fit(self, x: Any = None, **kwargs: Any) -> tf.keras.callbacks.History:
        """Pre-trains, then trains; the arguments are Keras's."""
        if self.pretrain_epochs and not self._steps.numpy():
            self.pretrain(x)
        return super().fit(x, **kwargs)

    def pretrain(self, rows: tf.data.Dataset) -> None:
        """Learns the stack on batches of rows and unrolls it into this net's weights."""
        settings = self._pretrain_train.model_copy(update={"learning_rate": self.pretrain_rate})
        first = RatingRBM(
            self._data,  # type: ignore[arg-type]
            self.by,
            self.hidden[0],
            cd=[self.cd],
            weight_decay=self.weight_decay,
            optimizer="adam",
            row_odds=True,  # as this net has them
            share_levels=self.share_levels,
            history_length=self.history_length,
            products=self.products,
        )
        first.compile_for(settings)
        first.fit(rows, epochs=self.pretrain_epochs, verbose=0)
        last = len(self.sizes) - 1
        # Layer i codes from below; its mirror image, counted from the end, decodes.
        self._set("w0", first["w"])
        self._set("b0", first["hidden"])
        self._set("out", first["w"])
        self._set("out_bias", first["visible"])
        coded = np.concatenate(
            [first.encode(batch[CODE]).numpy()[:, : self.hidden[0]] for batch in rows]
        )
        for i in range(1, len(self.hidden)):
            machine = self._machine(i, coded)
            self._set(f"w{i}", machine.w)
            self._set(f"b{i}", machine.c)
            self._set(f"w{last + 1 - i}", tf.transpose(machine.w))
            self._set(f"b{last + 1 - i}", machine.b)
            coded = machine.up(tf.constant(coded)).numpy()

    def _machine(self, layer: int, coded: np.ndarray) -> BinaryMachine:
        """A binary RBM on hidden chances float32 [row, hidden[layer - 1]]."""
        machine = BinaryMachine(coded.shape[1], self.hidden[layer], f"stack{layer}", layer)
        optimizer = tf.keras.optimizers.legacy.Adam(self.pretrain_rate)
        weights = [machine.w, machine.b, machine.c]

        @tf.function(autograph=False, reduce_retracing=True)
        def learn(chances: tf.Tensor) -> None:
            bits = sample_bits(chances)
            sampled = machine.gibbs(bits, self.cd)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(machine.gap(bits, sampled))
                loss += self.weight_decay * tf.nn.l2_loss(machine.w)
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

        train = self._pretrain_train
        rows = tf.data.Dataset.from_tensor_slices(coded).shuffle(len(coded), seed=train.seed)
        for _ in range(self.pretrain_epochs):
            for batch in rows.batch(train.batch_size):
                learn(batch)
        return machine

    def _set(self, name: str, values: tf.Tensor) -> None:
        self._weights[name].assign(values)
        if name in self._averages:
            self._averages[name].assign(values)
