"""Distribution: one replica or many, the same code."""

from __future__ import annotations

from functools import cache

import tensorflow as tf


@cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """One strategy a process: each numbers its collectives from the same start, so that a second
    one (the ranker's after the retriever's) would collide with the first one's shapes."""
    return tf.distribute.MirroredStrategy(list(devices))


def make_strategy(replicas: int = 0) -> tf.distribute.Strategy:
    """The strategy to build and fit a model under.

    Args:
        replicas: how many; 0 takes every visible GPU, or the one CPU where there is none.

    Returns:
        The default strategy for one replica on the CPU, else a MirroredStrategy with exactly
        ``replicas`` replicas on GPUs, or on logical CPU devices where there are no GPUs.

    Raises:
        ValueError: fewer devices than replicas. Logical CPU devices have to be configured before
            TensorFlow is first used, so this cannot mend it.
    """
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    wanted = replicas or (len(gpus) if gpus else 1)
    if wanted > len(devices):
        raise ValueError(
            f"train.replicas asks for {wanted} replicas, but {len(devices)} device(s) are there "
            f"({[d.name for d in devices]}); lower it, or split the CPU with "
            f"tf.config.set_logical_device_configuration before TensorFlow is first used"
        )
    if wanted == 1 and not gpus:
        return tf.distribute.get_strategy()
    strategy = _mirrored(tuple(d.name for d in devices[:wanted]))
    if strategy.num_replicas_in_sync != wanted:
        raise RuntimeError(
            f"asked for {wanted} replicas, TensorFlow made {strategy.num_replicas_in_sync}"
        )
    return strategy
