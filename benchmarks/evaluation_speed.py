"""Whole-catalogue evaluation: ours against TFRS FactorizedTopK, same vectors, same run.

6,040 users, 3,706 items, random vectors, one held-out item a user. TFRS's metric takes seen items
along, so the compared run of ours does too; a further line excludes 165 seen items a user.

- ``tfrs streaming``: the tutorial's recipe, candidates in batches of 128 through ``Streaming``.
- ``tfrs brute force``: all candidates in one ``BruteForce`` index.
- ``tfrec ranks``: ``evaluate(lists=False)``, the same job (numbers, no lists), the whole call:
  questions, a new trace, ranks, seven metrics a cut-off.
- ``tfrec ranks again``: the same with a kept ``Ranker``, as validation after every epoch does it;
  like TFRS's timed passes it has been traced before.
- ``tfrec lists``: ``evaluate``, which hands out everybody's 100 best items too.

TFRS's numbers are taken after a warm-up pass (its trace is not counted), ours are not. Seconds are
processor seconds of the whole process, which other work on the machine disturbs least. Command:
``python -m benchmarks.evaluation_speed`` (about a minute on 2 cores).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.common import Results, arguments, peak_mib
from tfrec.evaluation import Evaluation

USERS, ITEMS, SEEN = 6040, 3706, 165
KS = (1, 5, 10, 50, 100)
PROTOCOL = "random/6040x3706/full"


def random_data(seed: int):  # type: ignore[no-untyped-def]
    """Random events: ``SEEN`` training items and another held-out one for each user."""
    from tfrec.data.encoded import Interactions, RetrievalData
    from tfrec.schema import ITEM_ID, USER_ID, FeatureTable

    random = np.random.default_rng(seed)
    items = np.argpartition(random.random((USERS, ITEMS), np.float32), SEEN, axis=1)[:, : SEEN + 1]
    user = np.repeat(np.arange(1, USERS + 1), SEEN)
    train = Interactions.from_arrays(user, items[:, :SEEN].ravel() + 1, USERS, ITEMS)
    test = Interactions.from_arrays(np.arange(1, USERS + 1), items[:, SEEN] + 1, USERS, ITEMS)
    none = test.select(np.zeros(USERS, bool))
    blank = np.array([""])
    return RetrievalData(
        train,
        none,
        test,
        {USER_ID: np.arange(USERS + 2)},
        {ITEM_ID: np.arange(ITEMS + 2)},
        FeatureTable(),
        {USER_ID: USERS + 2, ITEM_ID: ITEMS + 2},
        blank,
        blank,
    )


class Vectors:
    """A model that is nothing but its vectors."""

    history_length = 0

    def __init__(self, users: np.ndarray, items: np.ndarray) -> None:
        import tensorflow as tf

        self.users, self.items = tf.constant(users), tf.constant(items)

    def score_catalogue(self, users):  # type: ignore[no-untyped-def]
        import tensorflow as tf

        return tf.matmul(tf.gather(self.users, users["user_id"]), self.items, transpose_b=True)


def tfrs_pass(model: Vectors, held: np.ndarray, brute: bool) -> Callable[[], dict[str, float]]:
    """One evaluation by TFRS, as a function that can be timed."""
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    # In the tutorial's order: the metric over candidates, then batches of 4096 test rows.
    if brute:
        candidates = tfrs.layers.factorized_top_k.BruteForce(k=KS[-1]).index(model.items)
    else:
        candidates = tf.data.Dataset.from_tensor_slices(model.items).batch(128)
    metric = tfrs.metrics.FactorizedTopK(candidates=candidates, ks=KS)
    rows = tf.data.Dataset.from_tensor_slices((model.users[1:], tf.gather(model.items, held - 1)))
    rows = rows.batch(4096).cache()

    @tf.function
    def step(query: tf.Tensor, true: tf.Tensor) -> None:
        metric.update_state(query, true)

    def run() -> dict[str, float]:
        metric.reset_states()
        for query, true in rows:
            step(query, true)
        return {f"hr@{k}": float(v) for k, v in zip(KS, metric.result(), strict=True)}

    return run


def timed(run: Callable[[], Evaluation | dict[str, float]], repeats: int):  # type: ignore[no-untyped-def]
    """Median processor seconds and wall seconds of ``repeats`` runs, and the last result."""
    processor, wall, out = [], [], None
    for _ in range(repeats):
        start, clock = time.process_time(), time.perf_counter()
        out = run()
        processor.append(time.process_time() - start)
        wall.append(time.perf_counter() - clock)
    return statistics.median(processor), statistics.median(wall), out


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    import tensorflow as tf

    from tfrec.evaluation import evaluate, held_out
    from tfrec.evaluation.ranker import Ranker

    tf.get_logger().setLevel("ERROR")  # a new trace each call is what is measured here
    repeats = 3 if options.quick else 9
    results = Results("evaluation_speed", options.quick)
    data = random_data(0)
    for dim in (32, 64):
        random = np.random.default_rng(dim)
        model = Vectors(
            random.normal(size=(USERS + 1, dim)).astype(np.float32),
            random.normal(size=(ITEMS, dim)).astype(np.float32),
        )

        def add(name: str, seconds: tuple[float, float], note: str, dim: int = dim) -> None:
            note = f"d={dim}{note}"
            for metric, value in zip(("cpu_seconds", "seconds"), seconds, strict=True):
                results.add(name, metric, value, protocol=PROTOCOL, unit="s", note=note)

        ours, found = {}, None
        for name, lists in (("tfrec ranks", False), ("tfrec lists", True)):
            for seen in (True, False):
                mine = partial(evaluate, model, data, ks=KS, exclude_seen=seen, lists=lists)
                *seconds, found = timed(mine, repeats)
                add(name, tuple(seconds), ", seen excluded" if seen else "")  # type: ignore
            ours[name] = seconds
        ranker = Ranker(model, data, held_out(data, exclude_seen=False), KS[-1])
        again = partial(evaluate, model, data, ks=KS, ranker=ranker, lists=False)
        again()
        *seconds, found = timed(again, repeats)
        add("tfrec ranks again", tuple(seconds), "")  # type: ignore
        ours["tfrec ranks again"] = seconds
        for theirs, brute in (("tfrs streaming", False), ("tfrs brute force", True)):
            run = tfrs_pass(model, data.test.item, brute)
            run()
            *seconds, numbers = timed(run, repeats)
            add(theirs, tuple(seconds), "")  # type: ignore
            for name, (processor, wall) in ours.items():
                note = f"d={dim}, over {theirs}"
                ratio = seconds[0] / processor
                results.add(name, "ratio", ratio, protocol=PROTOCOL, unit="cpu", note=note)
                ratio = seconds[1] / wall
                results.add(name, "ratio", ratio, protocol=PROTOCOL, unit="wall", note=note)
            # One user may tip over a cut-off: TFRS sums the true item's score in another order.
            differ = max(abs(found[k] - v) for k, v in numbers.items())
            if differ > 2.5 / USERS:
                raise AssertionError(f"{theirs}: numbers differ by {differ}: {numbers}")
            note = f"d={dim}, from {theirs}"
            results.add("tfrec lists", "difference", differ, protocol=PROTOCOL, note=note)
    peak = peak_mib()
    results.add("evaluation_speed", "peak_memory", peak, protocol=PROTOCOL, unit="MiB")
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
