"""From the ranker's outputs to the parts of the utility: chances, expected spends, ratings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import tensorflow as tf

from tfrec.config import Config
from tfrec.config.heads import check_goals, heads_of
from tfrec.config.objectives import chain, primary_of
from tfrec.export.calibrate import kinds_of
from tfrec.rerank.calibration_heads import SCORE, HeadCalibrations, Sampling
from tfrec.rerank.utility import P_CLICK, P_PURCHASE, PROFIT, RATING, RELEVANCE, SPEND

PART_OF = {
    "click": P_CLICK,
    "purchase": P_PURCHASE,
    "rating": RATING,
    "revenue": SPEND,
    "profit": PROFIT,
}


class Heads:
    """How one ranker's outputs feed the utility.

    A ranker of one task feeds its score: a chance of a purchase (``binary``) or a rating. A
    multi-task ranker feeds the objectives that ``tfrec.config.heads`` finds for each part.

    Args:
        config: sections ``utility`` and ``ranking``.
        outputs: names of the ranker's outputs.
        known: what is kept beside the ranker.

    Raises:
        ValueError: the ranker answers other objectives than the configuration names, a goal that
            nothing feeds, or a sampling rate that is not known.
    """

    def __init__(self, config: Config, outputs: Collection[str], known: HeadCalibrations) -> None:
        ranking = config.ranking
        missing = [name for name in kinds_of(ranking) if name not in outputs]
        if missing:
            raise ValueError(
                f"the ranker answers every objective of ranking.objectives; {missing} is not among "
                f"its outputs {sorted(outputs)}; train it with this configuration"
            )
        check_goals(config.utility, ranking)
        self._known, self._kinds = known, kinds_of(ranking)
        self._given = {n: o.given for n, o in ranking.objectives.items()}
        feeds = heads_of(config.utility, ranking)
        if not ranking.objectives:
            feeds = {"purchase" if ranking.task == "binary" else "rating": SCORE}
        self._feeds = {PART_OF[part]: head for part, head in feeds.items()}
        self._sampling = _to_undo(config.utility.undo_sampling, known, self._kinds)
        self._primary = SCORE
        self._follow: list[str] = []  # what moves with a drawn score of the primary objective
        if ranking.objectives:
            self._primary = primary_of(ranking.objectives, ranking.primary)
            self._follow = [
                n for n in ranking.objectives if self._primary in chain(ranking.objectives, n)
            ]

    def parts(self, scores: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Inputs of the utility, float32 like ``scores``, which are of one shape."""
        means = self._known.means(scores, self._kinds, self._given, self._sampling)
        return {RELEVANCE: scores[SCORE]} | {p: means[head] for p, head in self._feeds.items()}

    def drawn(self, scores: Mapping[str, tf.Tensor], drawn: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores in which a drawn one takes the place of the primary objective's.

        What cannot happen without the primary objective moves in proportion: the chance *given* it
        is not what was drawn.

        Args:
            scores: float32 [row, candidate] each.
            drawn: float32 [row, candidate].
        """
        moved = tf.math.divide_no_nan(drawn, scores[SCORE])
        return {
            name: drawn
            if name in (SCORE, self._primary)
            else value * moved
            if name in self._follow
            else value
            for name, value in scores.items()
        }


def _to_undo(
    asked: str | float, known: HeadCalibrations, kinds: Mapping[str, str]
) -> Sampling | None:
    """The sampling to undo, None for none.

    Raises:
        ValueError: it is not known.
    """
    if asked == "none" or set(kinds.values()) == {"rating"}:
        return None
    if known.sampling is not None:
        return known.sampling if asked == "auto" else replace(known.sampling, kept=float(asked))
    if asked == "auto" or SCORE not in kinds:
        raise ValueError(
            "utility.undo_sampling needs to know how the ranker's negatives were sampled, which is "
            "written beside a ranker as it is trained; this one has no assets.extra/"
            "calibration.json that says so: train it again, or, for a ranker of one task, give the "
            "share of the negatives that were kept"
        )
    return Sampling(float(asked))
