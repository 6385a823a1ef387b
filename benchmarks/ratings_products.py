"""The large products of rating nets: one layer in and one out, forth and back, three ways.

    python -m benchmarks.ratings_products            # half a minute; needs no data
    python -m benchmarks.ratings_products --quick

Rows of 6,040 columns with five levels, as MovieLens-1M's items, 128 rows a step, a share of entries
rated at random. What is measured is processor time of a step on one thread, so that other work on
the machine does not count; the ratio is against ``dense``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.common import Results, arguments

ROWS, COLUMNS, LEVELS = 128, 6040, 5
KINDS = ("dense", "bfloat16", "sparse")


def step(kind: str, hidden: int) -> Callable[[np.ndarray], None]:
    """A training step without its optimizer, traced once."""
    import tensorflow as tf

    from tfrec.models.row_products import level_marks, rows_in, rows_out

    random = np.random.default_rng(0)
    shape = (COLUMNS, LEVELS, hidden)
    first, last = (tf.Variable(random.normal(0, 0.01, shape).astype(np.float32)) for _ in "io")
    marks = level_marks(LEVELS)

    @tf.function(autograph=False)
    def run(code: tf.Tensor) -> tf.Tensor:
        at = tf.where(code > 0)
        with tf.GradientTape() as tape:
            code_vector = tf.tanh(rows_in(code, marks, tf.convert_to_tensor(first), kind))
            scores = rows_out(code_vector, tf.convert_to_tensor(last), at, kind)
            loss = tf.reduce_sum(tf.nn.softmax(scores) ** 2)
        one, other = tape.gradient(loss, [first, last])
        # An optimizer needs them whole.
        return tf.reduce_sum(tf.convert_to_tensor(one)[0]) + tf.convert_to_tensor(other)[0, 0, 0]

    return lambda code: float(run(tf.constant(code)))


def main() -> None:
    given = arguments(__doc__ or "").parse_args()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    results = Results("ratings_products", given.quick)
    repeats = 3 if given.quick else 10
    random = np.random.default_rng(1)
    for hidden in (100,) if given.quick else (100, 500):
        for share in (0.01, 0.02, 0.04):
            rated = random.random((ROWS, COLUMNS)) < share
            code = np.where(rated, random.integers(1, LEVELS + 1, rated.shape), 0).astype(np.int32)
            base = 0.0
            for kind in KINDS:
                run = step(kind, hidden)
                run(code)
                times = []
                for _ in range(repeats):
                    started = time.process_time()
                    run(code)
                    times.append(time.process_time() - started)
                taken = float(np.median(times))
                base = base or taken
                protocol = f"{hidden} hidden, {share:.0%} rated"
                results.add(kind, "step", 1000 * taken, protocol=protocol, unit="ms")
                results.add(kind, "ratio", taken / base, protocol=protocol)
    results.write()


if __name__ == "__main__":
    main()
