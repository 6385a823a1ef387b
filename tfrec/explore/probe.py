"""Where a model's own weights stand, found by asking it, where its signature does not tell.

The one-call recommender takes NaN for "the configured weight", so its signature says NaN. But a
part is ``weight x share`` of an item, whatever the weight: asked once as configured and once with
every weight 1, the same item's parts stand to each other as the configured weight to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tfrec.explore.answer import Answer, read_answer
from tfrec.explore.inputs import recommend_inputs
from tfrec.explore.measures import is_weighted
from tfrec.explore.offer import RECOMMEND, Knob, Offer, slider
from tfrec.explore.source import Source
from tfrec.explore.wish import MOST, Wish

TOLERANCE = 1e-3  # how far, relatively, the items may disagree about a weight


def with_found_defaults(source: Source, offer: Offer) -> Offer:
    """The offer with the weights' defaults filled in where asking the model tells them."""
    unknown = [k for k in offer.knobs if k.kind == "weight" and k.default is None]
    if not unknown:
        return offer
    found = _found(source, offer, unknown)
    knobs = (slider(k.name, found[k.name]) if k.name in found else k for k in offer.knobs)
    return replace(offer, knobs=tuple(knobs))


def _found(source: Source, offer: Offer, unknown: list[Knob]) -> dict[str, float]:
    """Weights by input; none where the model refuses, or its parts are no shares of the score."""
    ones = {k.name: 1.0 for k in offer.knobs if k.kind == "weight"}
    try:
        own, flat = (_ask(source, offer, Wish(k=MOST, knobs=knobs)) for knobs in ({}, ones))
    except ValueError:
        return {}
    if not (is_weighted(own) and is_weighted(flat)):
        return {}
    found = {}
    for knob in unknown:
        weight = ratio(_part(own, knob.label), _part(flat, knob.label))
        if weight is not None:
            found[knob.name] = weight
    return found


def _ask(source: Source, offer: Offer, wish: Wish) -> Answer:
    inputs = recommend_inputs(source.signatures[RECOMMEND], wish, (), {})
    return read_answer(source.ask(RECOMMEND, inputs), offer.parts)


def _part(answer: Answer, name: str) -> dict[str, float]:
    values = answer.parts.get(name)
    return {} if values is None else dict(zip(answer.items, values.tolist(), strict=True))


def ratio(own: Mapping[str, float], flat: Mapping[str, float]) -> float | None:
    """The factor between two parts over their common items; None where they do not agree on one.

    Args:
        own, flat: part by item; items whose part in ``flat`` is 0 tell nothing.
    """
    pairs = [(own[i], flat[i]) for i in own if i in flat and flat[i] != 0]
    if not pairs:
        return None
    ratios = np.array([mine / one for mine, one in pairs], np.float64)
    middle = float(np.median(ratios))
    if not np.allclose(ratios, middle, rtol=TOLERANCE, atol=1e-9):
        return None
    return float(f"{middle:.5g}")
