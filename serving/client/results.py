"""What the calls answer with: small frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Recommendation:
    """One item of a list, best first.

    Attributes:
        item_id: the item.
        score: the model's score; 0.0 in a fallback list, which has none.
        rank: place in the list, from 0.
        version: version of the model that answered; None where the transport does not say
            (REST) or no server answered.
        from_fallback: True where the server was away and the list is the caller's own.
        title: the item's display name where the model answers one, else ''.
    """

    item_id: str
    score: float
    rank: int
    version: int | None = None
    from_fallback: bool = False
    title: str = ""


@dataclass(frozen=True)
class TensorSpec:
    """Dtype and shape of a signature's input or output.

    Attributes:
        dtype: name such as ``"float32"`` or ``"string"``.
        shape: one entry an axis, None where any size will do; None as a whole for any rank.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """A signature of a model: its inputs and outputs by name.

    Attributes:
        defaults: values the model itself gives for inputs that may be left out.
    """

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method: str = ""
    defaults: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Metadata:
    """What a model of the server can be asked."""

    model: str
    version: int | None
    signatures: Mapping[str, Signature]


@dataclass(frozen=True)
class VersionStatus:
    """State of one version: START, LOADING, AVAILABLE, UNLOADING or END, with its error if any."""

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""


@dataclass(frozen=True)
class ModelStatus:
    """States of a model's versions, newest first."""

    model: str
    versions: tuple[VersionStatus, ...]

    @property
    def available(self) -> tuple[int, ...]:
        """Versions that answer, newest first."""
        return tuple(v.version for v in self.versions if v.state == "AVAILABLE")


@dataclass(frozen=True)
class Prediction:
    """Outputs of one Predict call by name, and the version that computed them where known."""

    outputs: Mapping[str, NDArray[Any]]
    version: int | None = None
