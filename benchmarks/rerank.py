"""Re-ranking: time against NumPy with identical lists, and diversity against accuracy on films.

    taskset -c 1 python -m benchmarks.rerank

One core, one thread. Three ways to the same lists are timed in one run: the graph
(``tfrec.rerank``), the same algorithms written well in NumPy (``rerank_parts/numpy_lists.py``) and
the tests' slow oracle, which recomputes every gain from its definition. On MovieLens-1M the lists
of EASE are re-ranked along the trade-off: NDCG, diversity of genres, miscalibration (Steck), with
intervals. ``--only`` measures one part and keeps the other's last records.
"""

from __future__ import annotations

import json

import tensorflow as tf

from benchmarks.common import RESULTS_DIR, Results, arguments, shared_data
from benchmarks.rerank_parts import films, speed


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", choices=["speed", "films"], help="one of the two parts")
    given = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    results = Results("rerank", given.quick)
    kept = RESULTS_DIR / "rerank.json"
    if given.only and not given.quick and kept.is_file():
        results.records += [
            record
            for record in json.loads(kept.read_text())
            if record["protocol"].startswith(films.PROTOCOL) == (given.only == "speed")
        ]
    if given.only != "films":
        speed.measure(results, given.quick)
    folder = shared_data()
    if given.only != "speed":
        if folder is None:
            print("films skipped: the real data is not here; set TFREC_SHARED_DATA")
        else:
            films.measure(results, folder, given.quick)
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
