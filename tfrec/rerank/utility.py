"""Item utility: what showing an item is expected to bring, in money a recommendation.

    utility = availability x seller_boost x sum over goals of  weight x part

| goal | part | unit of the part | the weight is |
|---|---|---|---|
| relevance | the ranker's score | score | money for one unit of score |
| click | p_click | clicks | money for a click |
| purchase | p_purchase | purchases | money for a purchase, whatever it costs |
| rating | the expected rating | stars | money for one star |
| revenue | p_purchase x price, or the expected spend | money | the share that counts, usually 1 |
| profit | p_purchase x margin, or the expected profit | money | the share that counts, usually 1 |
| freshness | 2 ** (-age / half_life) | new items | money for showing a brand-new item |

Nothing is rescaled, so weights add up as money does. That needs probabilities that are true as
frequencies: calibrate them first (``tfrec.rerank.calibration_probability``).
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfrec.config.decide import UtilityConfig

RELEVANCE, P_CLICK, P_PURCHASE = "relevance", "p_click", "p_purchase"
RATING, SPEND, PROFIT = "rating", "expected_revenue", "expected_profit"
PRICE, MARGIN, AGE, STOCK, SELLER_BOOST = "price", "margin", "age", "stock", "seller_boost"

# Goal -> the inputs its part is made of.
NEEDS: dict[str, tuple[str, ...]] = {
    "relevance": (RELEVANCE,),
    "click": (P_CLICK,),
    "purchase": (P_PURCHASE,),
    "rating": (RATING,),
    "revenue": (P_PURCHASE, PRICE),
    "profit": (P_PURCHASE, MARGIN),
    "freshness": (AGE,),
}
# Predicted as such, these take the place of the product.
PREDICTED: dict[str, str] = {"revenue": SPEND, "profit": PROFIT}
INPUTS = (
    *(RELEVANCE, P_CLICK, P_PURCHASE, RATING, SPEND, PROFIT),
    *(PRICE, MARGIN, AGE, STOCK, SELLER_BOOST),
)


def freshness(age: tf.Tensor, half_life: float) -> tf.Tensor:
    """``2 ** (-age / half_life)``, 0..1 like ``age`` in days.

    An age below 0 (not yet released) counts as 0; NaN (unknown) gives 0.
    """
    decayed = tf.pow(2.0, -tf.maximum(age, 0.0) / half_life)
    return tf.where(tf.math.is_nan(age), tf.zeros_like(age), decayed)


def availability(stock: tf.Tensor, low_stock: float = 0.0) -> tf.Tensor:
    """0 without stock, rising in a line to 1 at ``low_stock`` units; NaN (unknown) gives 1.

    Args:
        stock: float [batch, candidate], units.
        low_stock: units from which stock no longer matters; 0: any stock is enough.
    """
    some = tf.cast(stock > 0, stock.dtype)
    if low_stock > 0:
        some *= tf.minimum(stock / low_stock, 1.0)
    return tf.where(tf.math.is_nan(stock), tf.ones_like(stock), some)


def request_weights(
    given: Mapping[str, tf.Tensor], settings: UtilityConfig
) -> dict[str, tf.Tensor]:
    """A request's weights, the configured ones where it gives none.

    Args:
        given: goal -> float scalar or [batch]; NaN stands for "not given".
        settings: ``weights`` names the goals there are.

    Returns:
        Goal -> float32, scalar or [batch], for every goal in ``settings.weights``.

    Raises:
        ValueError: a goal that is not configured.
    """
    unknown = sorted(set(given) - set(settings.weights))
    if unknown:
        raise ValueError(
            f"weights are for the goals in utility.weights, {sorted(settings.weights)}; got "
            f"{unknown}; name them there, with weight 0 if need be"
        )
    out: dict[str, tf.Tensor] = {}
    for goal, usual in settings.weights.items():
        default = tf.constant(usual, tf.float32)
        if goal in given:
            asked = tf.cast(given[goal], tf.float32)
            out[goal] = tf.where(tf.math.is_finite(asked), asked, default)
        else:
            out[goal] = default
    return out


def expected_value(
    parts: Mapping[str, tf.Tensor],
    weights: Mapping[str, float | tf.Tensor],
    settings: UtilityConfig | None = None,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Expected value of showing each candidate, and what each goal adds to it.

    Args:
        parts: float [batch, candidate] by name: ``relevance``; ``p_click``, ``p_purchase`` in 0..1;
            ``rating``; ``expected_revenue``, ``expected_profit`` in money, in place of chance x
            price and chance x margin; ``price``, ``margin`` in money a unit; ``age`` in days;
            ``stock`` in units;
            ``seller_boost``, a factor. Those that no weighted goal needs may be left out, and
            ``stock`` and ``seller_boost`` always. NaN is "unknown": it adds nothing (price, margin,
            age, probabilities, relevance), or changes nothing (stock, seller_boost).
        weights: goal -> scalar or [batch].
        settings: ``half_life`` and ``low_stock`` are read; the defaults where None.

    Returns:
        utility float32 [batch, candidate], -inf where an item is out of stock; and by goal its
        share of the utility, float32 [batch, candidate]: the shares sum to the utility (0 where
        out of stock).

    Raises:
        ValueError: a goal, or an input of one, that is not there; no goal at all.
    """
    settings = UtilityConfig() if settings is None else settings
    if not weights:
        raise ValueError(f"a utility has at least one weighted goal; there are {sorted(NEEDS)}")
    strange = sorted(set(weights) - set(NEEDS)) + sorted(set(parts) - set(INPUTS))
    if strange:
        raise ValueError(f"goals are {sorted(NEEDS)} and inputs {list(INPUTS)}; got {strange}")
    missing = {g: [n for n in _inputs_of(g, parts) if n not in parts] for g in weights}
    missing = {goal: names for goal, names in missing.items() if names}
    if missing:
        raise ValueError(
            f"each weighted goal needs its inputs; missing by goal: {missing}; got "
            f"{sorted(parts)}; pass them or leave the goal out of the weights"
        )
    value = {name: tf.cast(v, tf.float32) for name, v in parts.items()}
    raw = {goal: _part(goal, value, settings.half_life) for goal in weights}
    factor = tf.ones_like(next(iter(raw.values())))
    gone = tf.zeros_like(factor, tf.bool)
    if STOCK in value:
        there = availability(value[STOCK], settings.low_stock)
        factor, gone = factor * there, gone | tf.equal(there, 0.0)
    if SELLER_BOOST in value:
        boost = value[SELLER_BOOST]
        factor *= tf.where(tf.math.is_nan(boost), tf.ones_like(boost), boost)
    shares = {}
    for goal, part in raw.items():
        weight = tf.reshape(tf.cast(weights[goal], tf.float32), [-1, 1])
        shares[goal] = tf.where(gone, tf.zeros_like(part), weight * part * factor)
    total = tf.add_n(list(shares.values()))
    return tf.where(gone, tf.constant(float("-inf")), total), shares


def _inputs_of(goal: str, parts: Mapping[str, tf.Tensor]) -> tuple[str, ...]:
    """What a goal's part is made of, with these parts."""
    predicted = PREDICTED.get(goal)
    return (predicted,) if predicted in parts and predicted is not None else NEEDS[goal]


def _part(goal: str, value: Mapping[str, tf.Tensor], half_life: float) -> tf.Tensor:
    """A goal's part before weighting, float32 [batch, candidate]; 0 where something is unknown."""
    if goal == "freshness":
        return freshness(value[AGE], half_life)
    first, *others = _inputs_of(goal, value)
    part = value[first]
    for name in others:
        part *= value[name]
    return tf.where(tf.math.is_finite(part), part, tf.zeros_like(part))
