"""Deep belief net: greedy layers of RBMs, then up-down (Hinton, Osindero & Teh 2006)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfrec.models.boltzmann import BinaryMachine, logit, sample_bits


class DeepBeliefNet(tf.Module):
    """A generative model of binary vectors, with class labels beside the top layer if wanted.

    The two top layers are an RBM; below it sigmoid layers go down to the data. ``pretrain`` learns
    one RBM after the other, each on the hidden units of the one below, with tied weights up and
    down. ``up_down`` unties them and tunes all layers by the contrastive wake-sleep algorithm
    (section 5 and appendix B of the paper).

    Args:
        sizes: units from the data upwards, as ``(64, 200, 400)``: at least two.
        n_labels: classes; 0 for none. Labels are a softmax group beside the visible units of the
            top RBM.
        seed: of the first weights.

    Raises:
        ValueError: fewer than two layers.
    """

    def __init__(self, sizes: Sequence[int], n_labels: int = 0, seed: int = 0) -> None:
        super().__init__(name="deep_belief_net")
        if len(sizes) < 2:
            raise ValueError(f"sizes lists at least two layers, data first; got {list(sizes)}")
        self.sizes, self.n_labels = [int(s) for s in sizes], n_labels
        self.layers = [
            BinaryMachine(self.sizes[i], self.sizes[i + 1], f"layer{i}", seed + i)
            for i in range(len(sizes) - 2)
        ]
        self.top = BinaryMachine(
            self.sizes[-2] + n_labels, self.sizes[-1], "top", seed + len(sizes)
        )
        # Down (generative) weights; equal to the up weights until ``up_down``.
        self.down_w = [tf.Variable(layer.w, name=f"down{i}") for i, layer in enumerate(self.layers)]

    # -- the top RBM --------------------------------------------------------------------------

    def _top_visible(self, hidden: tf.Tensor, free_labels: bool) -> tf.Tensor:
        """Samples the top RBM's visible units given its hidden ones, [batch, n + n_labels]."""
        scores = tf.matmul(hidden, self.top.w, transpose_b=True) + self.top.b
        n = self.sizes[-2]
        units = sample_bits(tf.sigmoid(scores[:, :n]))
        if not self.n_labels:
            return units
        labels = tf.zeros_like(scores[:, n:])
        if free_labels:
            drawn = tf.random.categorical(scores[:, n:], 1)[:, 0]
            labels = tf.one_hot(drawn, self.n_labels)
        return tf.concat([units, labels], axis=1)

    def top_gibbs(self, visible: tf.Tensor, steps: int, clamp: bool = False) -> tf.Tensor:
        """Rounds of Gibbs sampling in the top RBM.

        Args:
            visible: float32 [batch, n + n_labels].
            steps: rounds.
            clamp: keeps the labels as they are.
        """
        n = self.sizes[-2]
        fixed = visible[:, n:]

        def step(i: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            drawn = self._top_visible(sample_bits(self.top.up(state)), free_labels=not clamp)
            if clamp:
                drawn = tf.concat([drawn[:, :n], fixed], axis=1)
            return i + 1, drawn

        return tf.while_loop(lambda i, _: i < steps, step, (tf.constant(0), visible))[1]

    def _with_labels(self, units: tf.Tensor, labels: tf.Tensor | None) -> tf.Tensor:
        if not self.n_labels:
            return units
        assert labels is not None
        return tf.concat([units, tf.one_hot(labels, self.n_labels)], axis=1)

    # -- passes -------------------------------------------------------------------------------

    def up(self, visible: tf.Tensor, sample: bool = False) -> tf.Tensor:
        """Units below the top RBM, float32 [batch, sizes[-2]]: chances, or samples."""
        for layer in self.layers:
            visible = layer.up(visible)
            if sample:
                visible = sample_bits(visible)
        return visible

    def down(self, units: tf.Tensor) -> tf.Tensor:
        """Chances of the data units, float32 [batch, sizes[0]], sampling the layers between."""
        for i in reversed(range(len(self.layers))):
            scores = tf.matmul(units, self.down_w[i], transpose_b=True) + self.layers[i].b
            chance = tf.sigmoid(scores)
            units = sample_bits(chance) if i else chance
        return units

    def generate(
        self, labels: np.ndarray | None = None, n: int = 10, steps: int = 1000
    ) -> np.ndarray:
        """Draws from the model: long Gibbs sampling at the top, then one pass down.

        Args:
            labels: int [n], classes to draw from; None leaves the class to the chain.
            n: how many, where no labels are given.
            steps: Gibbs rounds.

        Returns:
            Chances of the data units, float32 [n, sizes[0]].
        """
        rows = n if labels is None else len(labels)
        units = sample_bits(tf.fill([rows, self.sizes[-2]], 0.5))
        given = None if labels is None else tf.constant(labels, tf.int32)
        if self.n_labels and given is None:
            given = tf.random.uniform([rows], 0, self.n_labels, tf.int32)
        clamp = labels is not None
        state = self.top_gibbs(self._with_labels(units, given), steps, clamp)
        units = state[:, : self.sizes[-2]]
        if not self.layers:
            hidden = self.top.up(state)
            scores = tf.matmul(hidden, self.top.w, transpose_b=True) + self.top.b
            return tf.sigmoid(scores[:, : self.sizes[-2]]).numpy()
        return self.down(units).numpy()

    def classify(self, visible: np.ndarray) -> np.ndarray:
        """The class of least free energy in the top RBM, int64 [batch].

        Raises:
            TypeError: the net has no labels.
        """
        if not self.n_labels:
            raise TypeError("this net has no labels; build it with n_labels")
        units = self.up(tf.constant(visible, tf.float32))
        rows = tf.shape(units)[0]
        energies = [
            self.top.free_energy(self._with_labels(units, tf.fill([rows], label)))
            for label in range(self.n_labels)
        ]
        return tf.argmin(tf.stack(energies, axis=1), axis=1).numpy()

    def reconstruction_error(self, visible: np.ndarray) -> float:
        """Mean squared error of the data after one pass up and down, without the top RBM."""
        units = tf.constant(visible, tf.float32)
        return float(tf.reduce_mean((units - self.down(self.up(units))) ** 2))

    # -- learning -----------------------------------------------------------------------------

    def pretrain(
        self,
        visible: np.ndarray,
        labels: np.ndarray | None = None,
        epochs: int = 30,
        batch_size: int = 100,
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 2e-4,
        steps: int = 1,
        seed: int = 0,
    ) -> list[list[float]]:
        """Greedy learning, a layer at a time, by contrastive divergence.

        Args:
            visible: float32 [row, sizes[0]] in [0, 1].
            labels: int [row], where the net has labels.
            epochs, batch_size, learning_rate, momentum, weight_decay: of each layer.
            steps: Gibbs steps k.
            seed: of the shuffling and sampling.

        Returns:
            The mean gap of free energies by layer and epoch.
        """
        self._check(visible, labels)
        tf.random.set_seed(seed)
        self.layer_gaps: list[list[float]] = []
        units = tf.constant(visible, tf.float32)
        stack = [*self.layers, self.top]
        for at, machine in enumerate(stack):
            is_top = at == len(stack) - 1
            inputs = self._with_labels(units, labels) if is_top else units
            machine.b.assign(logit(tf.reduce_mean(inputs, axis=0).numpy(), 0.01))
            gaps = _contrast(
                machine,
                self._top_chain if is_top else machine.gibbs,
                inputs,
                epochs,
                batch_size,
                tf.keras.optimizers.legacy.SGD(learning_rate, momentum=momentum),
                weight_decay,
                steps,
                seed,
            )
            self.layer_gaps.append(gaps)
            if not is_top:
                self.down_w[at].assign(machine.w)
                units = machine.up(units)
        return self.layer_gaps

    def _top_chain(self, visible: tf.Tensor, steps: int) -> tf.Tensor:
        return self.top_gibbs(visible, steps)

    def up_down(
        self,
        visible: np.ndarray,
        labels: np.ndarray | None = None,
        epochs: int = 30,
        batch_size: int = 100,
        learning_rate: float = 0.01,
        steps: int = 3,
        seed: int = 0,
    ) -> list[float]:
        """Tunes all layers together by the up-down algorithm.

        Up: the recognition weights give states of all layers, and the generative weights learn to
        restore each layer from the one above. Top: contrastive divergence of ``steps`` rounds.
        Down: the generative weights dream from there, and the recognition weights learn to infer
        the dream.

        Returns:
            The mean squared error of the restored data, an epoch each.
        """
        self._check(visible, labels)
        tf.random.set_seed(seed)
        optimizer = tf.keras.optimizers.legacy.SGD(learning_rate)
        weights = [*self.trainable_variables]

        @tf.function(autograph=False)
        def tune(batch: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            wake = [batch]
            for layer in self.layers:
                wake.append(sample_bits(layer.up(wake[-1])))
            met = self._with_labels(wake[-1], classes if self.n_labels else None)
            dreamt = self.top_gibbs(met, steps)
            sleep = [dreamt[:, : self.sizes[-2]]]
            for i in reversed(range(len(self.layers))):
                scores = tf.matmul(sleep[0], self.down_w[i], transpose_b=True) + self.layers[i].b
                sleep.insert(0, sample_bits(tf.sigmoid(scores)))
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self.top.gap(met, dreamt))
                for i, layer in enumerate(self.layers):
                    restored = tf.matmul(wake[i + 1], self.down_w[i], transpose_b=True) + layer.b
                    inferred = tf.matmul(sleep[i], layer.w) + layer.c
                    loss += _cross_entropy(wake[i], restored)
                    loss += _cross_entropy(sleep[i + 1], inferred)
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            if not self.layers:
                return tf.constant(0.0)
            first = tf.matmul(wake[1], self.down_w[0], transpose_b=True) + self.layers[0].b
            return tf.reduce_mean((batch - tf.sigmoid(first)) ** 2)

        classes = np.zeros(len(visible), np.int32) if labels is None else labels
        inputs = (visible.astype(np.float32), classes.astype(np.int32))
        rows = tf.data.Dataset.from_tensor_slices(inputs).shuffle(len(visible), seed=seed)
        errors = []
        for _ in range(epochs):
            errors.append(float(np.mean([tune(*b).numpy() for b in rows.batch(batch_size)])))
        return errors

    def _check(self, visible: np.ndarray, labels: np.ndarray | None) -> None:
        if visible.ndim != 2 or visible.shape[1] != self.sizes[0]:
            raise ValueError(
                f"data is [row, {self.sizes[0]}], as sizes[0] says; got {visible.shape}"
            )
        if visible.min() < 0 or visible.max() > 1:
            raise ValueError(
                f"data units are chances in [0, 1]; got {visible.min()}..{visible.max()}; "
                f"divide by the largest value"
            )
        if bool(self.n_labels) != (labels is not None):
            raise ValueError(
                f"the net has {self.n_labels} labels: pass labels exactly where it has some"
            )


def _cross_entropy(bits: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=bits, logits=scores)
    return tf.reduce_mean(tf.reduce_sum(losses, axis=1))


def _contrast(
    machine: BinaryMachine,
    chain: object,
    inputs: tf.Tensor,
    epochs: int,
    batch_size: int,
    optimizer: tf.keras.optimizers.Optimizer,
    weight_decay: float,
    steps: int,
    seed: int,
) -> list[float]:
    """Contrastive divergence of one machine on inputs [row, n]; mean gap of each epoch."""
    weights = [machine.w, machine.b, machine.c]

    @tf.function(autograph=False)
    def learn(batch: tf.Tensor) -> tf.Tensor:
        batch = sample_bits(batch)
        sampled = chain(batch, steps)  # type: ignore[operator]
        with tf.GradientTape() as tape:
            gap = tf.reduce_mean(machine.gap(batch, sampled))
            loss = gap + weight_decay * tf.nn.l2_loss(machine.w)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return gap

    rows = tf.data.Dataset.from_tensor_slices(inputs).shuffle(len(inputs), seed=seed)
    return [
        float(np.mean([learn(batch).numpy() for batch in rows.batch(batch_size)]))
        for _ in range(epochs)
    ]
