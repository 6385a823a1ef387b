"""What a ranker's outputs mean as frequencies among all items, head by head.

Three steps, each where it is known:

1. every probability goes through its own calibration, every expected spend is scaled;
2. what cannot happen without something else is never likelier than that (a purchase, its click);
3. sampling of negatives is undone. Training saw every observed pair and a share ``kept`` of the
   unobserved ones. With ``o`` the chance, among those rows, that the pair was observed, and ``m``
   any mean that is 0 for unobserved pairs (a chance of a purchase, an expected spend)::

       m among all pairs  =  m / (o + (1 - o) / kept)

   Where all that is observed is positive, ``m`` is ``o`` itself, and this is the formula of He et
   al. (ADKDD 2014, section 6.3). A mean over pairs that have it (a rating) does not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfrec.rerank.calibration_probability import Calibration, from_dict

SCORE = "score"  # the one head of a ranker of one task


@dataclass(frozen=True)
class Sampling:
    """How the rows were drawn on which probabilities are true.

    Attributes:
        kept: share of the unobserved pairs that were rows, above 0; 1: all of them.
        observed: the head whose event every observed pair has.
        share: share of the observed pairs that really have it; 1 where ``observed`` is exact.
    """

    kept: float
    observed: str = SCORE
    share: float = 1.0

    def __post_init__(self) -> None:
        if not self.kept > 0 or not 0 < self.share <= 1:
            raise ValueError(
                f"kept is above 0 and share in 0..1, not 0; got {self.kept} and {self.share}"
            )

    def factor(self, chance: tf.Tensor) -> tf.Tensor:
        """What means are multiplied by, float32 like ``chance`` of the head ``observed``."""
        seen = tf.minimum(tf.cast(chance, tf.float32) / self.share, 1.0)
        return 1.0 / (seen + (1.0 - seen) / self.kept)


@dataclass(frozen=True)
class HeadCalibrations:
    """Kept beside an exported ranker.

    Attributes:
        calibrations: by head; heads without one are taken as they are.
        sampling: of the rows; None where it is not known.
    """

    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    sampling: Sampling | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``heads_from_dict`` reads them."""
        return {
            "calibrations": {name: c.to_dict() for name, c in self.calibrations.items()},
            "sampling": None if self.sampling is None else dict(self.sampling.__dict__),
        }

    def means(
        self,
        scores: Mapping[str, tf.Tensor],
        kinds: Mapping[str, str],
        given: Mapping[str, str | None],
        sampling: Sampling | None = None,
    ) -> dict[str, tf.Tensor]:
        """The heads' means, as the module says.

        Args:
            scores: outputs of the ranker by head, float32, any one shape.
            kinds: ``binary``, ``spend`` or ``rating`` by head; what is not named is left out.
            given: head -> the head without which it cannot happen, None where there is none.
            sampling: to be undone; None undoes nothing.

        Returns:
            float32 by head: chances, expected spends, ratings.
        """
        out: dict[str, tf.Tensor] = {}

        def mean(head: str) -> tf.Tensor:
            if head not in out:
                value = tf.cast(scores[head], tf.float32)
                if head in self.calibrations:
                    value = self.calibrations[head](value)
                parent = given.get(head)
                if parent is not None and kinds[head] == "binary":
                    value = tf.minimum(value, mean(parent))
                out[head] = value
            return out[head]

        found = {head: mean(head) for head in kinds}
        if sampling is None:
            return found
        factor = sampling.factor(mean(sampling.observed))
        undone = {h: v if kinds[h] == "rating" else v * factor for h, v in found.items()}
        return {h: tf.minimum(v, 1.0) if kinds[h] == "binary" else v for h, v in undone.items()}


def heads_from_dict(values: Mapping[str, Any]) -> HeadCalibrations:
    """What ``to_dict`` wrote, or the one calibration of a ranker that was exported before.

    Raises:
        ValueError: no method that is known here.
    """
    if "method" in values:
        return HeadCalibrations({SCORE: from_dict(values)})
    sampling = values.get("sampling")
    return HeadCalibrations(
        {name: from_dict(v) for name, v in values["calibrations"].items()},
        None if sampling is None else Sampling(**sampling),
    )
