"""Draws digits from a deep belief net: docs/images/dbn_digits.png.

    python -m benchmarks.dbn_digits            # about 3 minutes on 2 cores
    python -m benchmarks.dbn_digits --quick    # fewer epochs; writes no picture

scikit-learn's digits: 1,797 pictures of 8 x 8, intensities 0..16 read as chances. 1,500 train, the
others test the class of least free energy. Rows of the picture: real digits, draws after greedy
pre-training, draws after up-down.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.common import Results, arguments

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "dbn_digits.png"
ROWS = 3  # of each kind


def sheet(kinds: list[tuple[str, np.ndarray]], path: Path) -> None:
    """Writes a picture of ROWS x 10 digits a kind; each kind float32 [ROWS * 10, 64]."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(kinds), 1, figsize=(6, 2.2 * len(kinds)))
    for axis, (title, digits) in zip(axes, kinds, strict=True):
        tiles = digits.reshape(ROWS, 10, 8, 8)
        tiles = np.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1)))
        axis.imshow(
            tiles.transpose(0, 2, 1, 3).reshape(ROWS * 10, 100), cmap="gray_r", vmin=0, vmax=1
        )
        axis.set_title(title, fontsize=10, loc="left")
        axis.axis("off")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    given = parser.parse_args()
    from sklearn.datasets import load_digits

    from tfrec.models.dbn import DeepBeliefNet

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))
    pixels, labels = (digits.data[order] / 16.0).astype(np.float32), digits.target[order]
    train, test = slice(0, 1500), slice(1500, None)
    results = Results("dbn_digits", given.quick)
    scale = 10 if given.quick else 1

    net = DeepBeliefNet([64, 200, 400], n_labels=10)
    before = net.reconstruction_error(pixels[test])
    started = time.perf_counter()
    net.pretrain(
        pixels[train], labels[train], epochs=200 // scale, batch_size=50, learning_rate=0.05
    )
    wanted = np.tile(np.arange(10), ROWS)
    greedy = net.generate(wanted, steps=500)
    found = [("pretrained", net.classify(pixels[test]), net.reconstruction_error(pixels[test]))]
    net.up_down(
        pixels[train],
        labels[train],
        epochs=200 // scale,
        batch_size=50,
        learning_rate=0.005,
        steps=5,
    )
    tuned = net.generate(wanted, steps=500)
    found.append(("up-down", net.classify(pixels[test]), net.reconstruction_error(pixels[test])))
    protocol = "digits/1500-297"
    results.add("dbn", "mse", before, protocol=protocol, seed=0, note="untrained")
    for note, classes, error in found:
        wrong = float((classes != labels[test]).mean())
        results.add("dbn", "error_rate", wrong, protocol=protocol, seed=0, note=note)
        results.add("dbn", "mse", error, protocol=protocol, seed=0, note=note)
    results.add(
        "dbn", "train_s", time.perf_counter() - started, protocol=protocol, unit="s", seed=0
    )
    results.write()
    if not given.quick:
        picked = [np.flatnonzero(labels == d)[:ROWS] for d in range(10)]
        real = pixels[np.stack(picked, axis=1).ravel()]
        kinds = [
            ("real digits", real),
            ("drawn after greedy pre-training, class by class", greedy),
            ("drawn after up-down", tuned),
        ]
        sheet(kinds, given.picture)
        print(f"wrote {given.picture}")


if __name__ == "__main__":
    main()
