"""The one table of features: what each column is, whose it is, and how it is encoded.

A column of the data becomes a feature of the models by one line in the configuration::

    features:
      - {name: gender, role: user, kind: categorical}
      - {name: genres, role: item, kind: multi, separator: "|"}
      - {name: price, role: item, kind: numeric, transform: log}

Ids are not listed: ``user_id`` and ``item_id`` are always there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["user", "item", "context"]
Kind = Literal["id", "categorical", "multi", "numeric", "text", "embedding", "image"]

USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
WEIGHT = "weight"
EVENT = "event"
HISTORY = "history"
HISTORY_WEIGHT = "history_weight"  # beside HISTORY: the weight (rating) of each of its events
LABEL = "label"
RESERVED = frozenset({TIMESTAMP, WEIGHT, EVENT, HISTORY, LABEL, "split"})

# Lengths of the pooled vectors of Keras applications (``include_top=False, pooling="avg"``).
APPLICATION_WIDTHS: dict[str, int] = {
    "ConvNeXtTiny": 768,
    "DenseNet121": 1024,
    "DenseNet169": 1664,
    "EfficientNetB0": 1280,
    "EfficientNetB1": 1280,
    "EfficientNetB2": 1408,
    "EfficientNetB3": 1536,
    "EfficientNetV2B0": 1280,
    "EfficientNetV2S": 1280,
    "InceptionV3": 2048,
    "MobileNet": 1024,
    "MobileNetV2": 1280,
    "MobileNetV3Large": 960,
    "MobileNetV3Small": 576,
    "NASNetMobile": 1056,
    "ResNet50": 2048,
    "ResNet50V2": 2048,
    "VGG16": 512,
    "VGG19": 512,
    "Xception": 2048,
}

# Encoded indices: 0 is padding or a missing value, 1..V the vocabulary in descending frequency,
# V+1..V+oov_buckets the hashed unknown values.
PAD = 0


class Feature(BaseModel):
    """One column.

    Attributes:
        name: the column's name in the canonical tables.
        role: whose attribute it is: ``user``, ``item``, or ``context`` (of the single event).
        kind: ``id`` and ``categorical`` hold one string (whole numbers are read as their decimal
            text); ``multi`` a list of strings; ``numeric`` a float; ``text`` a string that is cut
            into tokens; ``embedding`` a vector of floats brought by the user; ``image``
            (of items) the bytes of a JPEG, PNG, GIF or WebP file.
        dim: width of the learned embedding; for kind ``embedding`` the length of the vector.
        max_vocabulary: most values kept; rarer ones share the hashed tail.
        min_count: values seen less often than this go to the tail.
        oov_buckets: buckets of the hashed tail.
        max_length: most values (``multi``) or tokens (``text``) kept a row.
        tokens: for ``text``: ``words`` (lower case, NFKC), or ``ngrams``, the character n-grams of
            words between the marks < and >.
        ngram: for ``ngrams``: least and largest length, the marks counted.
        encoder: for ``text``: how token vectors become one: ``mean`` (the default), ``gru`` or
            ``conv``.
        shares: for ``text``: another text feature whose vocabulary and vectors this one uses, as a
            query those of the titles it is to find.
        separator: cuts the strings of a ``multi`` column; lists are taken as they are.
        transform: for ``numeric``: ``zscore``, ``log`` (log1p of the positive part, then z-score)
            or ``none``.
        clip: for ``numeric``: a z-score lies within ``-clip..clip`` standard deviations; what lies
            beyond is cut to the bound (not with transform ``none``) and counted as clipped.
        buckets: for ``numeric``: number of quantile buckets for the wide part.
        height, width: for ``image``: pixels it is resized to.
        fit: for ``image`` of another shape: ``pad`` keeps all of it on white, ``crop`` fills the
            frame and cuts what stands over, evenly on both sides.
        application: for ``image``: a frozen Keras application (see ``APPLICATION_WIDTHS``) whose
            pooled vector stands for the image; None trains a small network with the model.
        weights: of the application: path of a weights file made with ``include_top=False``, or
            ``random`` for tests.
        max_bad: for ``image``: share of unreadable images above which a run stops.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    role: Role
    kind: Kind
    dim: int = Field(default=16, ge=1, le=8192)
    max_vocabulary: int = Field(default=100_000, ge=1)
    min_count: int = Field(default=1, ge=1)
    oov_buckets: int = Field(default=1, ge=1)
    max_length: int = Field(default=16, ge=1)
    separator: str | None = None
    tokens: Literal["words", "ngrams"] = "words"
    ngram: tuple[int, int] = (3, 5)
    encoder: Literal["mean", "gru", "conv"] | None = None
    shares: str | None = None
    transform: Literal["zscore", "log", "none"] = "zscore"
    clip: float = Field(default=5.0, gt=0)
    buckets: int = Field(default=10, ge=2, le=1000)

    height: int = Field(default=32, ge=8, le=1024)
    width: int = Field(default=32, ge=8, le=1024)
    fit: Literal["pad", "crop"] = "pad"
    application: str | None = None
    weights: str | None = None
    max_bad: float = Field(default=0.05, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Feature:
        if self.name in RESERVED:
            raise ValueError(f"the name {self.name!r} is reserved; rename the column")
        if self.kind == "id" and self.name not in (USER_ID, ITEM_ID):
            raise ValueError("kind 'id' is for user_id and item_id; use 'categorical'")
        if self.separator is not None and self.kind != "multi":
            raise ValueError(f"'separator' is for kind 'multi', not for {self.kind!r}")
        self._check_text()
        if self.kind == "image":
            self._check_image()
        elif self.application is not None or self.weights is not None:
            raise ValueError(f"'application' and 'weights' are for kind 'image', not {self.kind!r}")
        return self

    def _check_text(self) -> None:
        changed = self.tokens != "words" or self.encoder is not None or self.shares is not None
        if self.kind != "text" and changed:
            raise ValueError(
                f"'tokens', 'encoder' and 'shares' are for kind 'text', not for {self.kind!r}"
            )
        low, high = self.ngram
        if not 1 <= low <= high <= 20:
            raise ValueError(f"'ngram' is [low, high], 1 <= low <= high <= 20; got [{low}, {high}]")

    @property
    def vocabulary(self) -> str:
        """Name of the feature whose vocabulary this one is looked up in."""
        return self.shares or self.name

    def _check_image(self) -> None:
        if self.role != "item":
            raise ValueError(f"an image belongs to an item; got role {self.role!r}")
        if (self.application is None) != (self.weights is None):
            raise ValueError(
                f"an application comes with its weights: a file, or 'random' for tests; got "
                f"application {self.application!r} and weights {self.weights!r}; nothing is fetched"
            )
        if self.application is not None and self.application not in APPLICATION_WIDTHS:
            raise ValueError(
                f"application is one of {sorted(APPLICATION_WIDTHS)}; got {self.application!r}"
            )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one encoded image: pixels ``(height, width, 3)``, or the pooled ``(length,)``.

        Pixels are uint8, pooled vectors float32.
        """
        if self.application is not None:
            return (APPLICATION_WIDTHS[self.application],)
        return (self.height, self.width, 3)

    @property
    def image_bytes(self) -> int:
        """Bytes of one prepared image."""
        return math.prod(self.image_shape) * (1 if self.application is None else 4)

    @property
    def is_lookup(self) -> bool:
        """True where the encoded feature is a vocabulary index (or several) to embed."""
        return self.kind in ("id", "categorical", "multi", "text")

    @property
    def is_sequence(self) -> bool:
        """True where a row holds several values (``multi``, ``text``)."""
        return self.kind in ("multi", "text")


class FeatureTable(BaseModel):
    """All features of a model, ids included, in a fixed order.

    Raises:
        ValueError: a name stands twice, or an id has the wrong role.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[Feature, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _add_ids(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        rows = list(value.get("features", ()))
        names = [r.name if isinstance(r, Feature) else r.get("name") for r in rows]
        sides: tuple[tuple[str, Role], ...] = ((USER_ID, "user"), (ITEM_ID, "item"))
        ids = [
            Feature(name=name, role=role, kind="id", dim=64, max_vocabulary=10_000_000)
            for name, role in sides
            if name not in names
        ]
        return {**value, "features": [*ids, *rows]}

    @model_validator(mode="after")
    def _check(self) -> FeatureTable:
        names = [f.name for f in self.features]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"each feature is listed once; listed twice: {twice}")
        for name, role in ((USER_ID, "user"), (ITEM_ID, "item")):
            if self[name].role != role or self[name].kind != "id":
                raise ValueError(f"{name} must have role {role!r} and kind 'id'")
        for feature in self.features:
            if feature.shares is not None:
                self._check_shared(feature)
        return self

    def _check_shared(self, feature: Feature) -> None:
        other = next((f for f in self.features if f.name == feature.shares), None)
        if other is None or other.kind != "text" or other.shares is not None:
            raise ValueError(
                f"{feature.name!r} shares a text feature with a vocabulary of its own; got "
                f"{feature.shares!r}"
            )
        for key in ("tokens", "ngram", "oov_buckets", "dim", "encoder"):
            mine, theirs = getattr(feature, key), getattr(other, key)
            if mine != theirs:
                raise ValueError(
                    f"{feature.name!r} shares {other.name!r} and has the same {key!r}; got {mine} "
                    f"and {theirs}"
                )

    def __iter__(self) -> Iterator[Feature]:  # type: ignore[override]
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def __contains__(self, name: object) -> bool:
        return any(f.name == name for f in self.features)

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(f"no feature {name!r}; there are {[f.name for f in self.features]}")

    def of(self, role: Role, ids: bool = True) -> tuple[Feature, ...]:
        """The features of one role, in order; without the id where ``ids`` is False."""
        return tuple(f for f in self.features if f.role == role and (ids or f.kind != "id"))

    def without(self, *names: str) -> FeatureTable:
        """A table that lacks the named features (ids cannot be left out)."""
        for name in names:
            self[name]
        kept = tuple(f for f in self.features if f.name not in names or f.kind == "id")
        # Who shared a feature that is left out stands on its own.
        alone = (f.model_copy(update={"shares": None}) if f.shares in names else f for f in kept)
        return FeatureTable(features=tuple(alone))
