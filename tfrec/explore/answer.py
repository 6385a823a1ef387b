"""What a model answered, as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfrec.explore.offer import FALLBACK, PART, RELAXED, RULE, SCORE, SOURCE, TITLE
from tfrec.schema import ITEM_ID


@dataclass(frozen=True)
class Answer:
    """One list, best first; places that the model left empty are gone.

    Attributes:
        items: raw ids.
        titles: the model's own names, or None where it has none.
        scores: float64 [item].
        parts: float64 [item] by objective, the prefix ``part_`` cut off; NaN is 0.
        details: other numbers, float64 [item] by output.
        sources: where each candidate came from, or None.
        fallback: whether the model says that this is not what was asked for.
        relaxed: how many items break each rule that gave way, by the rule's name.
    """

    items: list[str]
    titles: list[str] | None
    scores: np.ndarray
    parts: dict[str, np.ndarray]
    details: dict[str, np.ndarray]
    sources: list[str] | None
    fallback: bool
    relaxed: dict[str, int] = field(default_factory=dict)


def read_answer(
    outputs: Mapping[str, np.ndarray], parts: Sequence[str], details: Sequence[str] = ()
) -> Answer:
    """Reads the outputs of ``recommend`` or ``similar`` for a batch of one.

    Args:
        outputs: arrays [1, k] by name; ``fallback`` [1] or [1, k]; ``rule`` and ``relaxed``
            [1, rule].
        parts: names of the outputs that are parts of the score.
        details: names of other outputs with a number an item.
    """
    items = _texts(outputs[ITEM_ID])
    scores = np.asarray(outputs[SCORE], np.float64)[0]
    there = np.isfinite(scores) & np.array([item != "" for item in items], bool)

    def kept(name: str) -> list[str] | None:
        if name not in outputs:
            return None
        return [text for text, keep in zip(_texts(outputs[name]), there, strict=True) if keep]

    def numbers(names: Sequence[str]) -> dict[str, np.ndarray]:
        return {
            name.removeprefix(PART): np.nan_to_num(np.asarray(outputs[name], np.float64)[0][there])
            for name in names
            if name in outputs
        }

    return Answer(
        kept(ITEM_ID) or [],
        kept(TITLE),
        scores[there],
        numbers(parts),
        numbers(details),
        kept(SOURCE),
        bool(np.any(outputs[FALLBACK])) if FALLBACK in outputs else False,
        _relaxed(outputs),
    )


def _relaxed(outputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    if RULE not in outputs or RELAXED not in outputs:
        return {}
    counts = np.asarray(outputs[RELAXED])[0].tolist()
    rules = zip(_texts(outputs[RULE]), counts, strict=True)
    return {rule: int(count) for rule, count in rules if rule and count > 0}


def _texts(values: np.ndarray) -> list[str]:
    row = np.asarray(values, object)[0]
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in row]
