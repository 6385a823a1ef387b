"""What a model's signature lets the page show. Nothing is known of a model but its signature.

| input of ``recommend`` | becomes |
|---|---|
| ``user_id``, ``history``, ``exclude``, ``k`` | what they say |
| ``weight_<objective>`` float | a slider of the utility |
| ``trade_off``, ``explore`` float | sliders from 0 to 1 |
| ``seed`` | a field; 1 where nothing is typed, so that a list stands still |
| ``among_<column>`` string [batch, n] | boxes for the column's values |
| any other | a field; filled from the users table where it has that column |

Of the outputs, ``item_id`` and ``score`` are needed; ``title``, ``source``, ``fallback`` and the
rules that gave way (``rule`` and ``relaxed``) are shown where they are; ``part_<objective>`` is a
part of the score; every other float [batch, k] is shown as a number beside the item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfrec.explore.shop import Shop
from tfrec.explore.source import Source
from tfrec.schema import HISTORY, ITEM_ID, USER_ID

RECOMMEND, SIMILAR = "recommend", "similar"
EXCLUDE, K, SCORE, TITLE, SOURCE, FALLBACK = "exclude", "k", "score", "title", "source", "fallback"
RULE, RELAXED = "rule", "relaxed"
OWN_INPUTS = (USER_ID, HISTORY, EXCLUDE, K)
OWN_OUTPUTS = (ITEM_ID, SCORE, TITLE, SOURCE, FALLBACK, RULE, RELAXED)
WEIGHT, AMONG, PART, TRADE_OFF = "weight_", "among_", "part_", "trade_off"
EXPLORE, SEED = "explore", "seed"
SHARES = {TRADE_OFF: "trade-off", EXPLORE: "exploration"}  # inputs from 0 to 1 -> their labels
VALUES_SHOWN = 40


@dataclass(frozen=True)
class Knob:
    """A slider.

    Attributes:
        name: of the input.
        label: for people.
        kind: ``weight``, or ``trade_off`` for what goes from 0 to 1.
        default: the model's own value; None where the signature does not tell.
        high: right end; the left one is 0.
    """

    name: str
    label: str
    kind: str
    default: float | None
    high: float


@dataclass(frozen=True)
class Choice:
    """Allowed values of an item column.

    Attributes:
        name: of the input.
        label: the column.
        values: the most frequent ones with their numbers of items.
        more: how many further values there are; they can be typed.
    """

    name: str
    label: str
    values: tuple[tuple[str, int], ...]
    more: int


@dataclass(frozen=True)
class Field:
    """An input to type.

    Attributes:
        name: of the input.
        kind: ``text``, ``texts`` (several, separated by commas), ``number``; ``vector`` is not
            typed but read from the users table.
        of: ``user`` where the users table has such a column, else ``context``.
    """

    name: str
    kind: str
    of: str


@dataclass(frozen=True)
class Offer:
    """What one model, or several together, can be asked and tell.

    Attributes:
        inputs: names of all inputs of ``recommend``.
        knobs, choices, fields: see the classes.
        parts: outputs that are parts of the score.
        details: other outputs with a number an item.
        similar: whether there is a signature ``similar``.
    """

    inputs: frozenset[str]
    knobs: tuple[Knob, ...]
    choices: tuple[Choice, ...]
    fields: tuple[Field, ...]
    parts: tuple[str, ...]
    details: tuple[str, ...]
    similar: bool


def offer_of(source: Source, shop: Shop, defaults: Mapping[str, float] | None = None) -> Offer:
    """Reads a model's offer from its signatures.

    Args:
        source: the model.
        shop: supplies the values of the choices.
        defaults: where the sliders begin, by input, where the signature does not tell.

    Raises:
        ValueError: no ``recommend``, or one without ``item_id`` and ``score``.
    """
    found = source.signatures.get(RECOMMEND)
    if found is None:
        raise ValueError(
            f"{source.label}: the page asks the signature 'recommend'; this model has "
            f"{sorted(source.signatures)}; pass a retrieval model or a recommender"
        )
    missing = [name for name in (ITEM_ID, SCORE) if name not in found.outputs]
    if missing:
        raise ValueError(
            f"{source.label}: 'recommend' answers 'item_id' and 'score'; {missing} is not among "
            f"{sorted(found.outputs)}"
        )
    knobs, choices, fields = [], [], []
    # A signature has no order of its own, and that of a server changes from start to start.
    for name, spec in sorted(found.inputs.items()):
        number = spec.dtype.startswith(("float", "int"))
        rank = None if spec.shape is None else len(spec.shape)
        if name in OWN_INPUTS:
            continue
        if number and (name in SHARES or name.startswith(WEIGHT)):
            knobs.append(_knob(name, found.defaults.get(name), defaults or {}))
        elif spec.dtype == "string" and rank == 2 and name.startswith(AMONG):
            values = shop.values(name.removeprefix(AMONG))
            more = max(0, len(values) - VALUES_SHOWN)
            label = name.removeprefix(AMONG)
            choices.append(Choice(name, label, tuple(values[:VALUES_SHOWN]), more))
        else:
            if number:
                kind = "vector" if rank == 2 else "number"
            else:
                kind = "texts" if rank == 2 else "text"
            of = "user" if name in shop.users.column_names else "context"
            fields.append(Field(name, kind, of))
    numbers = [n for n, s in sorted(found.outputs.items()) if _is_number_an_item(n, s)]
    return Offer(
        frozenset(found.inputs),
        tuple(sorted(knobs, key=lambda knob: knob.kind == "trade_off")),
        tuple(choices),
        tuple(fields),
        tuple(n for n in numbers if n.startswith(PART)),
        tuple(n for n in numbers if not n.startswith(PART)),
        SIMILAR in source.signatures,
    )


def _is_number_an_item(name: str, spec: Any) -> bool:
    flat = spec.shape is not None and len(spec.shape) != 2
    return name not in OWN_OUTPUTS and spec.dtype.startswith("float") and not flat


def _knob(name: str, default: np.ndarray | None, defaults: Mapping[str, float]) -> Knob:
    own = None if default is None or not np.size(default) else float(np.ravel(default)[0])
    if own is None or not np.isfinite(own):  # NaN stands for "as the model is configured"
        own = defaults.get(name)
    return slider(name, own)


def slider(name: str, default: float | None) -> Knob:
    """The slider of an input; a weight's reaches from 0 to four times its default."""
    if name in SHARES:
        return Knob(name, SHARES[name], "trade_off", default, 1.0)
    high = 4 * abs(default) if default else 4.0
    return Knob(name, name.removeprefix(WEIGHT), "weight", default, high)


def merged(offers: list[Offer]) -> Offer:
    """What several models offer together; where they differ in an input, the first one's counts."""

    def together(field: str, key: str = "name") -> Any:
        found: dict[str, Any] = {}
        for offer in offers:
            for one in getattr(offer, field):
                found.setdefault(getattr(one, key, one), one)
        return tuple(found.values())

    return Offer(
        frozenset().union(*(offer.inputs for offer in offers)),
        together("knobs"),
        together("choices"),
        together("fields"),
        together("parts"),
        together("details"),
        any(offer.similar for offer in offers),
    )
