"""Frozen visual features without any downloaded network: descriptors, and a network for genres.

- ``describe``: colour and texture by hand. 64 bins of a joint RGB histogram, the mean colour of
  each cell of a 4 x 4 grid (48) and, in each cell of a 2 x 2 grid, a histogram of gradient
  directions weighted by strength (8 bins, 32): 144 numbers.
- ``genre_network``: the library's small network learns genres from posters, of the given (training)
  items alone; its last hidden layer, 32 numbers, then stands for every item's poster.
"""

from __future__ import annotations

import numpy as np


def describe(pixels: np.ndarray) -> np.ndarray:
    """Descriptors float32 [item, 144] of uint8 [item, height, width, 3]; sides divide by 4."""
    n, height, width, _ = pixels.shape
    levels = (pixels >> 6).astype(np.int64)
    bins = (levels[..., 0] * 16 + levels[..., 1] * 4 + levels[..., 2]).reshape(n, -1)
    flat = np.bincount((bins + 64 * np.arange(n)[:, None]).ravel(), minlength=64 * n)
    histogram = np.sqrt(flat.reshape(n, 64) / bins.shape[1])  # Hellinger: counts to a sphere
    scaled = pixels.astype(np.float32) / 255
    cells = scaled.reshape(n, 4, height // 4, 4, width // 4, 3).mean(axis=(2, 4)).reshape(n, 48)
    grey = scaled.mean(axis=3)
    dy, dx = np.gradient(grey, axis=1), np.gradient(grey, axis=2)
    strength = np.hypot(dx, dy)
    turn = ((np.arctan2(dy, dx) + np.pi) / (2 * np.pi) * 8).astype(np.int64) % 8
    edges = []
    for rows in np.array_split(np.arange(height), 2):
        for columns in np.array_split(np.arange(width), 2):
            at = np.ix_(np.arange(n), rows, columns)
            where = turn[at].reshape(n, -1) + 8 * np.arange(n)[:, None]
            sums = np.bincount(where.ravel(), strength[at].ravel(), minlength=8 * n)
            edges.append(sums.reshape(n, 8))
    texture = np.concatenate(edges, axis=1).astype(np.float64)
    texture /= np.maximum(np.linalg.norm(texture, axis=1, keepdims=True), 1e-6)
    return np.concatenate([histogram, cells - 0.5, texture], axis=1).astype(np.float32)


def genre_network(
    pixels: np.ndarray, genres: np.ndarray, allowed: np.ndarray, epochs: int, seed: int
) -> np.ndarray:
    """Vectors float32 [item, 32] of a network that was taught genres by the allowed items.

    Args:
        pixels: uint8 [item, height, width, 3].
        genres: float32 [item, genre], several of them 1.
        allowed: bool [item], items to learn from.
        epochs, seed: of training.
    """
    import tensorflow as tf

    from tfrec.features.image_cnn import ImageEncoder
    from tfrec.schema import Feature

    tf.keras.utils.set_random_seed(seed)
    height, width = pixels.shape[1:3]
    feature = Feature(name="poster", role="item", kind="image", dim=32, height=height, width=width)
    encoder = ImageEncoder(feature)
    head = tf.keras.layers.Dense(genres.shape[1])
    optimizer = tf.keras.optimizers.legacy.Adam(2e-3)

    @tf.function(reduce_retracing=True)
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            hidden = tf.nn.relu(encoder(images, tf.ones([tf.shape(images)[0]], tf.int64)))
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=head(hidden))
            )
        weights = [*encoder.trainable_variables, *head.trainable_variables]
        gradients = tape.gradient(loss, weights)
        kept = [(g, w) for g, w in zip(gradients, weights, strict=True) if g is not None]
        optimizer.apply_gradients(kept)
        return loss

    random = np.random.default_rng(seed)
    taught = np.flatnonzero(allowed)
    for epoch in range(epochs):
        order = random.permutation(taught)
        losses = [
            float(step(pixels[order[at : at + 64]], genres[order[at : at + 64]]))
            for at in range(0, len(order), 64)
        ]
        print(f"genres from posters, epoch {epoch + 1}: loss {np.mean(losses):.4f}", flush=True)
    rows = {"poster": pixels, "poster_present": np.ones(len(pixels), np.int64)}
    return tf.nn.relu(encoder.pool_catalogue(rows)).numpy()
