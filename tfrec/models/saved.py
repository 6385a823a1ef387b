"""Variables of a SavedModel on disk: read, or replaced, without touching its graph.

The weights of a SavedModel lie in a tensor bundle of their own, beside the graph that reads them.
Where the graph declares an axis of unknown length, another bundle with more rows is as good.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_BUNDLE = "variables/variables"


class SavedVariables:
    """Named variables of one SavedModel.

    Args:
        folder: of the SavedModel.

    Raises:
        ValueError: there is no SavedModel with variables.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / f"{_BUNDLE}.index").is_file():
            raise ValueError(
                f"{folder} holds no SavedModel with variables (no {_BUNDLE}.index); pass a version "
                f"folder that 'tfrec train' or the pipeline wrote"
            )
        self._reader = tf.train.load_checkpoint(str(self.folder / _BUNDLE))
        self._nodes = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
            self._reader.get_tensor(_GRAPH)
        ).nodes

    def _child(self, node: int, name: str) -> int | None:
        for child in self._nodes[node].children:
            if child.local_name == name:
                return int(child.node_id)
        return None

    def key(self, *path: str) -> str:
        """The bundle's name of a variable, by the attributes that lead to it from the module.

        Raises:
            KeyError: there is no such variable.
        """
        at: int | None = 0
        for name in path:
            at = None if at is None else self._child(at, name)
        if at is None or not self._nodes[at].attributes:
            raise KeyError(
                f"{self.folder} has no variable {'.'.join(path)!r}; it was written by another "
                f"version of tfrec: export the model again"
            )
        return str(self._nodes[at].attributes[0].checkpoint_key)

    def has(self, *path: str) -> bool:
        """Whether the variable is there."""
        try:
            self.key(*path)
        except KeyError:
            return False
        return True

    def read(self, *path: str) -> np.ndarray:
        """The value of a variable."""
        return np.asarray(self._reader.get_tensor(self.key(*path)))

    def write(self, folder: str | Path, replaced: Mapping[str, Any]) -> None:
        """Writes the whole bundle with some values replaced.

        Args:
            folder: of the SavedModel that gets the variables; it holds the same graph.
            replaced: new values by ``key``; dtypes stay, only axes of unknown length may change.

        Raises:
            KeyError: a name that the bundle lacks.
            ValueError: another dtype or number of axes.
        """
        shapes = self._reader.get_variable_to_shape_map()
        dtypes = self._reader.get_variable_to_dtype_map()
        unknown = sorted(set(replaced) - set(shapes))
        if unknown:
            raise KeyError(f"the bundle of {self.folder} holds no {unknown}")
        names = sorted(shapes)
        tensors = []
        for name in names:
            value = replaced.get(name)
            value = self._reader.get_tensor(name) if value is None else value
            tensor = tf.convert_to_tensor(value, dtypes[name])
            if tensor.shape.rank != len(shapes[name]):
                raise ValueError(
                    f"{name} has {len(shapes[name])} axes; got {tensor.shape.as_list()}"
                )
            tensors.append(tensor)
        prefix = Path(folder) / _BUNDLE
        prefix.parent.mkdir(parents=True, exist_ok=True)
        for old in prefix.parent.glob(f"{prefix.name}.*"):
            old.unlink()
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=tensors,
        )
