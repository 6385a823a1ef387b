"""Training examples a second: the two-tower against TensorFlow Recommenders' tutorial recipe.

    python -m benchmarks.training_speed

Both see the same events of MovieLens-1M (or, where that is not here, of the synthetic shop), the
same dimension and about the same number of examples a step, in one process, in alternating rounds.

- ``tfrs_tutorial``: string ids, StringLookup and Embedding inside the model, ``tasks.Retrieval``
  with its metrics off during training (they would slow it further), Keras's Adagrad.
- ``two_tower``: ids alone, no history, indices, distinct candidates with logQ, LazyAdam.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.common import HERE, Results, arguments, shared_data
from tfrec.config import TrainConfig, load_config
from tfrec.data.encoded import RetrievalData
from tfrec.data.sequences import TARGET_WEIGHT
from tfrec.models.registry import build
from tfrec.schema import FeatureTable
from tfrec.training.workspace import open_workspace

DIM = 32
BATCH = 8192
POSITIONS = 64  # events of one user a window


def tutorial(data: RetrievalData) -> tuple[Any, tf.data.Dataset]:
    """The recipe, compiled, and its batches."""
    import tensorflow_recommenders as tfrs

    def tower(ids: np.ndarray) -> tf.keras.Model:
        lookup = tf.keras.layers.StringLookup(vocabulary=ids[1:].tolist(), mask_token=None)
        return tf.keras.Sequential([lookup, tf.keras.layers.Embedding(len(ids), DIM)])

    class Recipe(tfrs.Model):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = tower(data.user_ids), tower(data.item_ids)
            self.task = tfrs.tasks.Retrieval()

        def compute_loss(self, inputs: Any, training: bool = False) -> tf.Tensor:
            return self.task(
                self.users(inputs["user_id"]), self.items(inputs["item_id"]), compute_metrics=False
            )

    events = {
        "user_id": data.user_ids[data.train.user].astype(str),
        "item_id": data.item_ids[data.train.item].astype(str),
    }
    # Shuffled once and kept in memory as batches, as in the tutorial.
    batches = tf.data.Dataset.from_tensor_slices(events).shuffle(100_000, seed=0).batch(BATCH)
    batches = batches.cache()
    for _ in batches:  # fills the cache before anything is timed
        pass
    model = Recipe()
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    return model, batches


def ours(data: RetrievalData) -> tuple[Any, tf.data.Dataset]:
    """The two-tower on ids alone, compiled, and its batches of about as many examples."""
    params = {
        "dim": DIM,
        "history_encoder": "none",
        "history_length": POSITIONS - 1,
        "dropout": 0.0,
    }
    model = build("two_tower", data, params)
    share = float(
        next(iter(model.training_data(data, TrainConfig(batch_size=1024))))[TARGET_WEIGHT]
        .numpy()
        .mean()
    )
    train = TrainConfig(batch_size=max(1, round(BATCH / (POSITIONS * share))), learning_rate=0.01)
    model.compile_for(train)
    return model, model.training_data(data, train)


def seconds(model: Any, batches: tf.data.Dataset, steps: int) -> float:
    """Wall time of so many steps."""
    started = time.perf_counter()
    model.fit(batches.repeat(), steps_per_epoch=steps, epochs=1, verbose=0)
    return time.perf_counter() - started


def main() -> None:
    given = arguments(__doc__ or "").parse_args()
    results = Results("training_speed", given.quick)
    name = "movielens_1m" if shared_data() else "sample"
    config = load_config(HERE.parent / "configs" / f"{name}.yaml")
    with tempfile.TemporaryDirectory() as folder:
        data = open_workspace(config, Path(folder), features=FeatureTable()).data
        runs = {"tfrs_tutorial": tutorial(data), "two_tower": ours(data)}
        protocol = f"{name}/ids, dim {DIM}, batch {BATCH}"
        steps, rounds = (5, 2) if given.quick else (20, 4)
        speeds: dict[str, list[float]] = {key: [] for key in runs}
        for turn in range(rounds + 1):
            for key, (model, batches) in runs.items():
                taken = seconds(model, batches, 1 if turn == 0 else steps)
                if turn:  # the first round only traces
                    speeds[key].append(steps * BATCH / taken)
        for key, values in speeds.items():
            for turn, value in enumerate(values):
                results.add(key, "examples_per_s", value, protocol=protocol, seed=turn)
        pairs = zip(speeds["two_tower"], speeds["tfrs_tutorial"], strict=True)
        for turn, (mine, theirs) in enumerate(pairs):
            results.add("two_tower", "ratio", mine / theirs, protocol=protocol, seed=turn)
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
