"""What a SavedModel's files hold, in bytes, read without loading it: the ground of `plan`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INLINE = 22
"""Longest text a TensorFlow string holds in its own 24 bytes."""
TABLE_ENTRY = 36
"""Bytes of a hash table's entry besides its key and value: links, hash, place in the buckets."""
MUTABLE_ENTRY = 64
"""The same for a table that is restored from the checkpoint."""
TEXT_CONSTANT = 48
"""Bytes of one text in a message, besides its letters."""


@dataclass(frozen=True)
class Content:
    """Bytes of the checkpoint's values, of constants and of filled tables; nodes of the graph."""

    variables: int
    constants: int
    tables: int
    nodes: int


def text_bytes(length: int) -> int:
    """Memory of one string of a tensor or table: longer ones live outside their 24 bytes."""
    return 24 + (length + 16 if length > INLINE else 0)


def value_bytes(dtype: Any, length: float) -> float:
    """Memory of one key or value of a table; ``length`` is that of a text."""
    return text_bytes(math.ceil(length)) if dtype.name == "string" else dtype.size


def read_content(folder: Path) -> Content:
    """Reads ``saved_model.pb``, the checkpoint's index and the assets.

    Raises:
        ValueError: if they cannot be read, or no graph is tagged ``serve``.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise ValueError(
            f"saved_model.pb cannot be read: {error}; export the model again"
        ) from None
    graphs = [one for one in saved.meta_graphs if "serve" in one.meta_info_def.tags]
    if not graphs:
        raise ValueError("no graph is tagged 'serve'; export it with tf.saved_model.save")
    variables, restored = _checkpoint(folder / "variables" / "variables")
    library = graphs[0].graph_def.library.function
    scopes = [graphs[0].graph_def.node, *(function.node_def for function in library)]
    return Content(
        variables,
        sum(_constant_bytes(node.attr["value"].tensor) for node in _constants(scopes)),
        restored + _Tables(graphs[0], folder).total(),
        sum(len(nodes) for nodes in scopes),
    )


def _constants(scopes: Iterable[Any]) -> Iterator[Any]:
    return (node for nodes in scopes for node in nodes if node.op == "Const")


def _constant_bytes(tensor: Any) -> int:
    texts = sum(len(text) + TEXT_CONSTANT for text in tensor.string_val)
    return texts or tensor.ByteSize()


def _checkpoint(prefix: Path) -> tuple[int, int]:
    """Bytes of the variables, and of the tables that are restored with them."""
    import tensorflow as tf

    if not prefix.with_suffix(".index").is_file():
        return 0, 0
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(f"the checkpoint cannot be read: {error}; export it again") from None
    variables = tables = 0.0
    for name, shape in shapes.items():
        if name == "_CHECKPOINTABLE_OBJECT_GRAPH":
            continue
        count, dtype = math.prod(shape), dtypes[name]
        size = float(count * dtype.size)
        if dtype == tf.string:  # lengths are not in the index: these few are read
            size = sum(text_bytes(len(text)) for text in reader.get_tensor(name).ravel().tolist())
        if name.endswith(("table-keys", "table-values")):
            tables += size + count * MUTABLE_ENTRY / 2
        else:
            variables += size
    return int(variables), int(tables)


class _Tables:
    """Finds what fills each static table of a graph: constants, or lines of a text file.

    The initializers are functions; their keys come as arguments from the calling graph.
    """

    def __init__(self, graph: Any, folder: Path) -> None:
        self.folder = folder
        self.functions = {one.signature.name: one for one in graph.graph_def.library.function}
        self.nodes: dict[str, dict[str, Any]] = {"": {n.name: n for n in graph.graph_def.node}}
        for name, function in self.functions.items():
            self.nodes[name] = {node.name: node for node in function.node_def}
        self.calls: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        for scope, nodes in self.nodes.items():
            for node in nodes.values():
                if "f" in node.attr and node.attr["f"].func.name in self.functions:
                    self.calls[node.attr["f"].func.name].append((scope, node))
        # An asset's path goes through a variable: what is assigned there, by the variable.
        self.assigned = {
            node.input[0]: node.input[1]
            for node in graph.graph_def.node
            if node.op == "AssignVariableOp"
        }
        self.assets = {
            one.tensor_info.name.partition(":")[0]: folder / "assets" / one.filename
            for one in graph.asset_file_def
        }

    def total(self) -> int:
        size = 0.0
        for scope, nodes in self.nodes.items():
            for node in nodes.values():
                if node.op == "LookupTableImportV2":
                    size += self._imported(scope, node)
                elif node.op == "InitializeTableFromTextFileV2":
                    size += self._from_file(scope, node)
        return int(size)

    def _sources(self, scope: str, tensor: str) -> Iterator[Any]:
        """The nodes that a tensor comes from, through arguments and identities."""
        name = tensor.lstrip("^").partition(":")[0]
        node = self.nodes[scope].get(name)
        if node is not None and node.op in ("Identity", "StopGradient"):
            yield from self._sources(scope, node.input[0])
        elif node is not None and node.op == "ReadVariableOp" and not scope:
            if node.input[0] in self.assigned:
                yield from self._sources(scope, self.assigned[node.input[0]])
        elif node is not None:
            yield node
        elif scope:
            arguments = [one.name for one in self.functions[scope].signature.input_arg]
            for outer, call in self.calls[scope] if name in arguments else ():
                yield from self._sources(outer, call.input[arguments.index(name)])

    def _imported(self, scope: str, node: Any) -> float:
        import tensorflow as tf

        size = 0.0
        for index, attribute in ((1, "Tin"), (2, "Tout")):
            dtype = tf.as_dtype(node.attr[attribute].type)
            for source in self._sources(scope, node.input[index]):
                if source.op != "Const":  # restored from the checkpoint, and counted there
                    continue
                tensor = source.attr["value"].tensor
                count = math.prod(dim.size for dim in tensor.tensor_shape.dim)
                letters = sum(map(len, tensor.string_val)) / max(1, len(tensor.string_val))
                size += count * (value_bytes(dtype, letters) + TABLE_ENTRY / 2)
        return size

    def _from_file(self, scope: str, node: Any) -> float:
        import tensorflow as tf

        size = 0.0
        for source in self._sources(scope, node.input[1]):
            path = self.assets.get(source.name)
            if path is None or not path.is_file():
                continue
            lines, letters = _lines(path)
            average = letters / max(1, lines)
            table = next(self._sources(scope, node.input[0]), None)
            for key in ("key_dtype", "value_dtype"):
                # What feeds the node may be no table op (a resource handed in): then text.
                known = 0 if table is None else table.attr[key].type
                kind = tf.as_dtype(known) if known else tf.string
                size += lines * value_bytes(kind, average)
            size += lines * TABLE_ENTRY
        return size


def _lines(path: Path) -> tuple[int, int]:
    """Lines of a text file and its letters without the line ends."""
    lines = letters = 0
    with path.open("rb") as file:
        for line in file:
            lines += 1
            letters += len(line.rstrip(b"\n"))
    return lines, letters
