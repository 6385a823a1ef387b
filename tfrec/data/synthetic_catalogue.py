"""The items and users of the synthetic shop: attributes that tell part of the planted truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.synthetic_images import draw_png

# category -> its subcategories (the noun of the title)
TREE = {
    "kitchen": ("kettle", "pan", "knife", "mug"),
    "garden": ("spade", "hose", "planter", "lantern"),
    "office": ("notebook", "pen", "lamp", "folder"),
    "sports": ("ball", "racket", "bottle", "mat"),
    "toys": ("puzzle", "robot", "kite", "doll"),
    "clothing": ("scarf", "jacket", "cap", "socks"),
}
STYLES = ("classic", "modern", "rustic", "playful")
MATERIALS = ("steel", "oak", "cotton", "glass", "bamboo", "leather")
SELLERS = tuple(f"seller {letter}" for letter in "ABCDEFGHIJKLMNOPQRST")
AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
GENDERS = ("female", "male")
REGIONS = ("north", "south", "east", "west", "islands")

CATEGORIES = tuple(TREE)
NOUNS = tuple(noun for nouns in TREE.values() for noun in nouns)
CATEGORY_OF = np.repeat(np.arange(len(TREE)), [len(nouns) for nouns in TREE.values()])


@dataclass(frozen=True)
class Catalogue:
    """The items and what lies behind them.

    Attributes:
        items: the canonical table.
        phi: float64 [K, n_items], each topic's distribution over items.
        noun, style, material: int64 [n_items], indices into the lists above.
        quality: float64 [n_items], shifts an item's ratings.
    """

    items: pa.Table
    phi: np.ndarray
    noun: np.ndarray
    style: np.ndarray
    material: np.ndarray
    quality: np.ndarray

    def queries(self, items: np.ndarray, rng: np.random.Generator) -> pa.Array:
        """The search that led to each event: words of the item; null for half; string [event]."""
        noun = np.array(NOUNS)[self.noun[items]]
        style = np.array(STYLES)[self.style[items]]
        material = np.array(MATERIALS)[self.material[items]]
        category = np.array(CATEGORIES)[CATEGORY_OF[self.noun[items]]]
        texts = np.select(
            [(form := rng.integers(0, 4, len(items))) == 0, form == 1, form == 2],
            [noun, _join(style, noun), _join(material, noun)],
            _join(style, category),
        )
        return pa.array(texts, pa.string(), mask=rng.random(len(items)) < 0.5)


def _join(*words: np.ndarray) -> np.ndarray:
    text = words[0]
    for word in words[1:]:
        text = np.char.add(np.char.add(text, " "), word)
    return text


def id_array(letter: str, numbers: np.ndarray) -> pa.Array:
    """Ids ``u12`` from a letter and whole numbers, string [row]."""
    text = pa.array(numbers).cast(pa.string())
    return pc.binary_join_element_wise(letter, text, "")


def make_catalogue(n: int, topics: int, rng: np.random.Generator, images: bool) -> Catalogue:
    """Draws ``n`` items and the topics' distributions over them."""
    noun = rng.integers(0, len(NOUNS), n)
    style = rng.integers(0, len(STYLES), n)
    material = rng.integers(0, len(MATERIALS), n)
    quality = rng.normal(0, 0.4, n)
    # Affinity: what the subcategory and the style explain, and a part that nothing shows.
    by_noun = rng.normal(0, 3.2, (topics, len(NOUNS)))
    by_style = rng.normal(0, 1.8, (topics, len(STYLES)))
    own = rng.normal(0, 1.2, (topics, n))
    popularity = -0.6 * np.log1p(rng.permutation(n))
    logits = by_noun[:, noun] + by_style[:, style] + own + popularity
    phi = np.exp(logits - logits.max(axis=1, keepdims=True))
    phi /= phi.sum(axis=1, keepdims=True)

    price = np.exp(rng.normal(2.5, 0.3, len(NOUNS))[noun] + rng.normal(0, 0.5, n))
    margin = price * rng.beta(2, 5, n)
    words = np.array(STYLES)[style], np.array(MATERIALS)[material], np.array(NOUNS)[noun]
    category = np.array(CATEGORIES)[CATEGORY_OF[noun]]
    title = np.char.add(_join(*words), np.char.mod(" no. %d", np.arange(n)))
    description = np.char.add(
        _join(np.full(n, "A"), words[0], words[2], np.full(n, "of"), words[1]),
        _join(np.full(n, ", for the"), category, np.full(n, "shelf.")),
    )
    columns = {
        "item_id": id_array("i", np.arange(n)),
        "title": pa.array(title),
        "description": pa.array(description),
        "category": pa.array(category),
        "subcategory": pa.array(words[2]),
        "categories": _pairs(category, words[2]),
        "style": pa.array(words[0]),
        "price": pa.array(np.round(price, 2).astype(np.float32)),
        "margin": pa.array(np.round(margin, 2).astype(np.float32)),
        "seller": pa.array(np.array(SELLERS)[rng.integers(0, len(SELLERS), n)]),
    }
    if images:
        columns["image"] = pa.array(
            [draw_png(*look, rng) for look in zip(CATEGORY_OF[noun], style, strict=True)],
            pa.binary(),
        )
    return Catalogue(pa.table(columns), phi, noun, style, material, quality)


def _pairs(first: np.ndarray, second: np.ndarray) -> pa.Array:
    """Two strings a row as a list of two."""
    flat = pa.array(np.stack([first, second], axis=1).ravel())
    return pa.ListArray.from_arrays(pa.array(2 * np.arange(len(first) + 1), pa.int32()), flat)


def user_attributes(n: int, topics: int, rng: np.random.Generator) -> tuple[pa.Table, np.ndarray]:
    """Draws users, and the mixture of topics each starts with: [n, topics].

    Every age band, gender and region prefers some topics; a user is a Dirichlet draw around the
    sum of the three preferences.
    """
    parts = []
    preference = np.zeros((n, topics))
    for values, strength in ((AGES, 0.9), (GENDERS, 0.9), (REGIONS, 0.5)):
        index = rng.integers(0, len(values), n)
        preference += rng.normal(0, strength, (len(values), topics))[index]
        parts.append(pa.array(np.array(values)[index]))
    alpha = 0.06 * np.exp(preference)
    start = rng.standard_gamma(alpha) + 1e-12
    start /= start.sum(axis=1, keepdims=True)
    names = ["user_id", "age", "gender", "region"]
    return pa.table([id_array("u", np.arange(n)), *parts], names=names), start
