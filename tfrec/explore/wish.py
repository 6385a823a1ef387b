"""One request of the page: the query of its URL, checked.

The parameters are the names of the model's own inputs, so a link says what was asked::

    /?user_id=u7&k=10&weight_revenue=2&among_category=toys&among_category=garden&by=category

``history`` may be repeated, oldest first, and stands in place of the user's own; ``exclude`` may be
repeated; ``seen=1`` also lets through what the user had; ``by`` names the item column by which
diversity is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tfrec.explore.offer import EXCLUDE, Field, K, Knob, Offer
from tfrec.schema import HISTORY, USER_ID

SEEN, BY = "seen", "by"
MOST = 100  # items of a list
MOST_IDS = 1000  # values of a repeated parameter
MOST_TEXT = 1000  # characters of one value
DEFAULT_K = 10

Value = float | str | tuple[str, ...]


class BadWish(ValueError):
    """A request that breaks a rule; the message names the rule, what arrived and how to mend it."""


@dataclass(frozen=True)
class Wish:
    """What is asked.

    Attributes:
        user: raw id, '' for nobody known.
        history: raw item ids, oldest first; None: the user's own.
        exclude: raw item ids that must not come.
        k: length of the list.
        seen: whether items of the history may come again.
        by: item column for diversity; None: the first that will do.
        knobs: weights and trade-off that differ from the model's own, by input.
        among: allowed values by input.
        fields: other inputs, by name.
    """

    user: str = ""
    history: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    k: int = DEFAULT_K
    seen: bool = False
    by: str | None = None
    knobs: Mapping[str, float] = field(default_factory=dict)
    among: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fields: Mapping[str, Value] = field(default_factory=dict)

    @property
    def turned(self) -> bool:
        """Whether anything is set that the list is compared without."""
        return bool(self.knobs or self.among)

    def plain(self) -> Wish:
        """The same with every knob and choice as the model has it."""
        return replace(self, knobs={}, among={})


def parse(pairs: Iterable[tuple[str, str]], offer: Offer, columns: Iterable[str]) -> Wish:
    """Reads a wish.

    Args:
        pairs: names and values in the URL's order.
        offer: of the models; names what else may be given.
        columns: item columns by which diversity can be counted.

    Raises:
        BadWish: an unknown parameter, a bad value, or one given twice.
    """
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if len(value) > MOST_TEXT:
            raise BadWish(f"{name}: a value has at most {MOST_TEXT} characters; got {len(value)}")
        given.setdefault(name, []).append(value)
    known = {USER_ID, HISTORY, EXCLUDE, K, SEEN, BY} | offer.inputs
    strange = sorted(set(given) - known)
    if strange:
        raise BadWish(
            f"a parameter is one of the model's inputs or of the page, {sorted(known)}; got "
            f"{strange}; leave it out"
        )
    knobs = {k.name: _knob(k, _one(given, k.name)) for k in offer.knobs if k.name in given}
    fields = {f.name: _field(f, _one(given, f.name)) for f in offer.fields if f.name in given}
    by = _one(given, BY)
    columns = list(columns)
    if by is not None and by not in columns:
        raise BadWish(f"by: diversity is counted by one of the columns {columns}; got {by!r}")
    return Wish(
        user=_one(given, USER_ID) or "",
        history=_many(given, HISTORY) or None,
        exclude=_many(given, EXCLUDE),
        k=_k(_one(given, K)),
        seen=_flag(SEEN, _one(given, SEEN)),
        by=by,
        knobs=knobs,
        among={c.name: _many(given, c.name) for c in offer.choices if _many(given, c.name)},
        fields={name: value for name, value in fields.items() if value not in ("", ())},
    )


def _one(given: Mapping[str, list[str]], name: str) -> str | None:
    values = given.get(name, [])
    if len(values) > 1:
        raise BadWish(f"{name} is given once; got {len(values)} values: {values[:3]}")
    return values[0] if values else None


def _many(given: Mapping[str, list[str]], name: str) -> tuple[str, ...]:
    values = tuple(dict.fromkeys(v for v in given.get(name, []) if v))
    if len(values) > MOST_IDS:
        raise BadWish(f"{name}: at most {MOST_IDS} values; got {len(values)}; leave some out")
    return values


def _k(text: str | None) -> int:
    if text is None:
        return DEFAULT_K
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MOST:
        raise BadWish(f"k is a whole number from 1 to {MOST}; got {text!r}")
    return int(text)


def _flag(name: str, text: str | None) -> bool:
    if text not in (None, "0", "1"):
        raise BadWish(f"{name} is 0 or 1; got {text!r}")
    return text == "1"


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e9:
        raise BadWish(f"{name} is a finite number of at most 1e9; got {text!r}")
    return value


def _knob(knob: Knob, text: str | None) -> float:
    value = _number(knob.name, text or "")
    if knob.kind == "trade_off" and not 0 <= value <= 1:
        raise BadWish(f"{knob.name} lies from 0 to 1; got {value:g}")
    return value


def _field(one: Field, text: str | None) -> Value:
    if one.kind == "vector":
        raise BadWish(f"{one.name} is a vector, read from the users table; leave it out")
    if not text:
        return ""
    if one.kind == "number":
        return _number(one.name, text)
    if one.kind == "texts":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text
