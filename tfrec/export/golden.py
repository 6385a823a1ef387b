"""Golden requests: real requests and the answers that the trained Keras model gave to them.

They are recorded where the model was trained and replayed through every way in which it will be
asked: ``tf.saved_model.load``, gRPC, REST. What differs is a finding.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-4  # largest difference of a score, relative to 1 + |score|

Answer = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class GoldenRequest:
    """One recorded request.

    Attributes:
        signature: that takes ``examples``.
        examples: serialized tf.Examples, one a row.
        answer: outputs by name, as the Keras model gave them: float32 or bytes, [row, ...].
    """

    signature: str
    examples: tuple[bytes, ...]
    answer: Answer


@dataclass(frozen=True)
class Difference:
    """Where one way of asking differs from the recorded answer.

    Attributes:
        route: ``saved_model``, ``grpc`` or ``rest``.
        request: number of the request.
        output: name of the output.
        kind: ``missing``, ``shape``, ``score`` or ``value``.
        size: largest relative difference (``score``) or share of differing entries (``value``).
    """

    route: str
    request: int
    output: str
    kind: str
    size: float


def record(
    ask: Callable[[Sequence[bytes]], Answer], signature: str, batches: Sequence[Sequence[bytes]]
) -> list[GoldenRequest]:
    """Asks the Keras model and keeps what it says.

    Args:
        ask: serialized examples to outputs by name.
        signature: the exported signature that will be asked the same.
        batches: requests, each a list of serialized examples.
    """
    return [
        GoldenRequest(signature, tuple(batch), {k: np.asarray(v) for k, v in ask(batch).items()})
        for batch in batches
    ]


def _text(values: np.ndarray) -> dict[str, Any]:
    if values.dtype.kind in "OSU":
        flat = [base64.b64encode(_bytes(v)).decode() for v in values.ravel()]
        return {"bytes": flat, "shape": list(values.shape)}
    return {"numbers": [float(v) for v in values.ravel()], "shape": list(values.shape)}


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _array(kept: Mapping[str, Any]) -> np.ndarray:
    if "bytes" in kept:
        flat = np.array([base64.b64decode(v) for v in kept["bytes"]], dtype=object)
    else:
        flat = np.array(kept["numbers"], np.float32)
    return flat.reshape(kept["shape"])


def save_golden(requests: Sequence[GoldenRequest], path: Path) -> None:
    """Writes requests and answers as JSON."""
    rows = [
        {
            "signature": r.signature,
            "examples": [base64.b64encode(e).decode() for e in r.examples],
            "answer": {name: _text(values) for name, values in r.answer.items()},
        }
        for r in requests
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def load_golden(path: Path) -> list[GoldenRequest]:
    """The inverse of ``save_golden``."""
    return [
        GoldenRequest(
            row["signature"],
            tuple(base64.b64decode(e) for e in row["examples"]),
            {name: _array(values) for name, values in row["answer"].items()},
        )
        for row in json.loads(path.read_text())
    ]


def compare(
    route: str,
    number: int,
    expected: Answer,
    answered: Answer,
    tolerance: float = TOLERANCE,
) -> list[Difference]:
    """How an answer differs from the recorded one.

    Scores may differ by ``tolerance``. Items of equal score (within it) may change places: a list
    of ids is compared where the scores beside it are told apart.

    Args:
        route: the way it was asked.
        number: of the request.
        expected, answered: outputs by name.
        tolerance: see ``TOLERANCE``.
    """
    found = []
    apart = _told_apart(expected, tolerance)
    for name, want in expected.items():
        if name not in answered:
            found.append(Difference(route, number, name, "missing", 1.0))
            continue
        got = np.asarray(answered[name])
        if got.shape != want.shape:
            found.append(Difference(route, number, name, "shape", 1.0))
        elif want.dtype.kind in "fiu":
            size = _largest(want.astype(np.float32), got.astype(np.float32))
            if not size <= tolerance:
                found.append(Difference(route, number, name, "score", size))
        else:
            same = np.array(
                [_bytes(a) == _bytes(b) for a, b in zip(want.ravel(), got.ravel(), strict=True)]
            ).reshape(want.shape)
            wrong = ~same & (apart if apart is not None and apart.shape == want.shape else True)
            if wrong.any():
                found.append(Difference(route, number, name, "value", float(wrong.mean())))
    return found


def _largest(want: np.ndarray, got: np.ndarray) -> float:
    """Largest relative difference; infinities and NaNs must stand in the same places."""
    both = np.isfinite(want) & np.isfinite(got)
    odd = ~both & ~((want == got) | (np.isnan(want) & np.isnan(got)))
    if odd.any():
        return float("inf")
    if not both.any():
        return 0.0
    return float((np.abs(want[both] - got[both]) / (1 + np.abs(want[both]))).max())


def _told_apart(expected: Answer, tolerance: float) -> np.ndarray | None:
    """Bool, shape of ``score``: entries whose score differs from both neighbours' in its list."""
    score = expected.get("score")
    if score is None or score.ndim != 2:
        return None
    edge = np.full((len(score), 1), np.inf)
    with np.errstate(invalid="ignore"):
        step = np.abs(np.diff(score, axis=1)) / (1 + np.abs(score[:, 1:]))
    step = np.nan_to_num(step, nan=0.0, posinf=np.inf)
    before, behind = np.hstack([edge, step]), np.hstack([step, edge])
    # The last entry may have swapped with one just outside the list.
    behind[:, -1] = 0.0
    return (before > 2 * tolerance) & (behind > 2 * tolerance)
