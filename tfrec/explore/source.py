"""Models that the explorer can ask, whatever they run in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Spec(Protocol):
    """Dtype (as ``"float32"``, ``"string"``) and shape of an input or output.

    ``shape`` has None where any size will do, and is None as a whole for any rank.
    """

    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int | None, ...] | None: ...


class Signature(Protocol):
    """Inputs and outputs by name; ``defaults`` are the model's own values of some inputs.

    The signatures of ``serving.client`` are of this shape.
    """

    @property
    def inputs(self) -> Mapping[str, Spec]: ...
    @property
    def outputs(self) -> Mapping[str, Spec]: ...
    @property
    def defaults(self) -> Mapping[str, np.ndarray]: ...


class Source(Protocol):
    """One model.

    Attributes:
        label: what the page calls it.
        signatures: by name; ``recommend`` must be among them.
    """

    label: str
    signatures: Mapping[str, Any]

    def ask(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Runs a signature on exactly its inputs; strings come back as bytes or str.

        Raises:
            ValueError: the model refused; the message says why.
        """
        ...


@dataclass(frozen=True)
class ArraySpec:
    """See ``Spec``."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class ModelSignature:
    """See ``Signature``."""

    inputs: Mapping[str, ArraySpec]
    outputs: Mapping[str, ArraySpec]
    defaults: Mapping[str, np.ndarray] = field(default_factory=dict)


class SavedModelSource:
    """A SavedModel, run in this process.

    Args:
        folder: of a SavedModel, or of its versions (the highest is taken).
        label: what the page calls it; by default the last two parts of its path.

    Raises:
        ValueError: no SavedModel there.
    """

    def __init__(self, folder: str | Path, label: str | None = None) -> None:
        import tensorflow as tf

        from tfrec.export.batch import latest_version

        path = latest_version(folder).resolve()
        self.label = label or "/".join(path.parts[-2:])
        self._loaded = tf.saved_model.load(str(path))
        defaults = _defaults(path)
        self.signatures: Mapping[str, Any] = {
            name: ModelSignature(
                {n: _spec(s) for n, s in call.structured_input_signature[1].items()},
                {n: _spec(s) for n, s in call.structured_outputs.items()},
                defaults.get(name, {}),
            )
            for name, call in self._loaded.signatures.items()
        }

    def ask(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """See ``Source``."""
        import tensorflow as tf

        call = self._loaded.signatures[signature]
        specs = call.structured_input_signature[1]
        given = {n: tf.constant(inputs[n], specs[n].dtype) for n in specs}
        try:
            return {name: value.numpy() for name, value in call(**given).items()}
        except tf.errors.OpError as error:
            raise ValueError(f"the model refused the request: {error.message}") from None


def _spec(spec: Any) -> ArraySpec:
    shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
    return ArraySpec(spec.dtype.name, shape)


def _defaults(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The inputs that may be left out and their values, by signature: only the file has them."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    graphs = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    return {
        name: {n: np.asarray(tf.make_ndarray(v)) for n, v in definition.defaults.items()}
        for graph in graphs[:1]
        for name, definition in graph.signature_def.items()
    }
