"""A SavedModel in memory: its signatures and the C++ session that runs them.

Everything private to TensorFlow is in :func:`_session_call`. It uses the session's C++ entry
directly because the public ones cost 100-200 us more a call and check what the real server does
not: ``Session.run`` refuses a feed whose shape differs from the placeholder's and casts int64 to
float in silence, where the C++ server lets the ops complain and answers a dtype error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.errors import Code, ServingError, invalid
from serving.tensors import KINDS, dtype_name

DEFAULT_SIGNATURE = "serving_default"
Feeds = dict[Any, NDArray[Any]]
SessionCall = Callable[[Feeds, list[Any], "float | None", bool], list[NDArray[Any]]]

SHORT_S = 0.002
"""A graph that took less runs in its caller's thread; a longer one gains from the pool."""

UNBOUNDED_OPS = frozenset(
    {
        "While",
        "StatelessWhile",
        "Enter",
        "LoopCond",
        "PyFunc",
        "PyFuncStateless",
        "EagerPyFunc",
        "QueueDequeueV2",
        "QueueDequeueManyV2",
        "QueueDequeueUpToV2",
        "Unstage",
        "MapUnstage",
        "Recv",
    }
)
"""Ops that may take for ever whatever the size of their inputs."""


@dataclass(frozen=True)
class TensorRef:
    """One input or output of a signature: graph name, ``DataType`` number and C++ handle."""

    name: str
    dtype: int
    handle: Any


@dataclass(frozen=True)
class Signature:
    """One ``SignatureDef``, resolved against the graph."""

    name: str
    method_name: str
    inputs: Mapping[str, TensorRef]
    outputs: Mapping[str, TensorRef]
    defaults: Mapping[str, NDArray[Any]]


def _session_call(session: tf.compat.v1.Session) -> SessionCall:
    """The private door: C++ session of a ``tf.compat.v1.Session`` as a plain function.

    Returns:
        ``call(feeds, fetches, timeout_s, inline)``: feeds maps tensor handle to array, fetches
        lists handles. Releases the GIL while the graph runs. Inline, the graph runs in the calling
        thread, which saves a hand-over between threads (10-40 us) but cannot be left before its
        end, so the time-out is ignored; otherwise it runs on the session's pool.
    """
    from tensorflow.python.client import pywrap_tf_session as core

    handle = session._session
    here = core.TF_NewBufferFromString(
        config_pb2.RunOptions(inter_op_thread_pool=-1).SerializeToString()
    )

    def call(
        feeds: Feeds, fetches: list[Any], timeout_s: float | None, inline: bool
    ) -> list[NDArray[Any]]:
        if inline:
            return core.TF_SessionRun_wrapper(handle, here, feeds, fetches, [], None)
        if timeout_s is None:
            return core.TF_SessionRun_wrapper(handle, None, feeds, fetches, [], None)
        millis = max(1, min(int(timeout_s * 1000), 2**31))
        options = core.TF_NewBufferFromString(
            config_pb2.RunOptions(timeout_in_ms=millis).SerializeToString()
        )
        try:
            return core.TF_SessionRun_wrapper(handle, options, feeds, fetches, [], None)
        finally:
            core.TF_DeleteBuffer(options)

    return call


def _ops(graph: graph_pb2.GraphDef) -> set[str]:
    """Names of the ops in a graph and its functions."""
    found = {node.op for node in graph.node}
    for function in graph.library.function:
        found.update(node.op for node in function.node_def)
    return found


def _tensor_handle(graph: tf.Graph, info: meta_graph_pb2.TensorInfo) -> Any:
    return graph.get_tensor_by_name(info.name)._as_tf_output()


def _refs(graph: tf.Graph, infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, TensorRef]:
    """Aliases that are plain tensors; sparse and composite ones cannot be fed by name."""
    return {
        alias: TensorRef(info.name, info.dtype, _tensor_handle(graph, info))
        for alias, info in infos.items()
        if info.WhichOneof("encoding") == "name"
    }


def _as_array(output: Any) -> NDArray[Any]:
    """What the session gave for one fetch; a string is whole, its last NULs included."""
    if isinstance(output, bytes):  # a scalar: NumPy's own bytes dtype would cut them off
        whole: NDArray[Any] = np.empty((), object)
        whole[()] = output
        return whole
    array = np.asarray(output)
    return array.astype(object) if array.dtype.kind == "S" else array


class Bundle:
    """A loaded SavedModel.

    Args:
        path: directory of one version (holds ``saved_model.pb``).
        tags: MetaGraph tags; TF Serving uses ``{"serve"}``.
        config: session options; thread counts for all bundles of a process are taken from the
            first session made in it.

    Raises:
        Exception: whatever TensorFlow raises for a broken SavedModel.
    """

    def __init__(
        self,
        path: str | Path,
        tags: Sequence[str] = ("serve",),
        config: config_pb2.ConfigProto | None = None,
    ) -> None:
        self.path = Path(path)
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                from tensorflow.python.saved_model import loader_impl

                # SavedModelLoader is what the deprecated ``loader.load`` wraps, without its notice.
                meta_graph = loader_impl.SavedModelLoader(str(path)).load(session, list(tags))
        except BaseException:
            session.close()
            raise
        self.signature_defs = dict(meta_graph.signature_def)
        self.signature_defs.pop("__saved_model_init_op", None)
        self.signatures = {
            name: self._signature(graph, name, definition)
            for name, definition in self.signature_defs.items()
        }
        self._bounded = not _ops(meta_graph.graph_def) & UNBOUNDED_OPS
        self._took: dict[tuple[str, ...], float] = {}  # fetches -> seconds of their last run
        self._session: tf.compat.v1.Session | None = session
        self._call: SessionCall | None = _session_call(session)

    @staticmethod
    def _signature(
        graph: tf.Graph, name: str, definition: meta_graph_pb2.SignatureDef
    ) -> Signature:
        return Signature(
            name=name,
            method_name=definition.method_name,
            inputs=_refs(graph, definition.inputs),
            outputs=_refs(graph, definition.outputs),
            defaults={k: np.asarray(tf.make_ndarray(v)) for k, v in definition.defaults.items()},
        )

    def run(
        self,
        feeds: Sequence[tuple[TensorRef, NDArray[Any]]],
        fetches: Sequence[TensorRef],
        timeout_s: float | None = None,
    ) -> list[NDArray[Any]]:
        """Runs the graph once.

        Args:
            feeds: input and its value; the dtype must be the input's, the shape is the ops' affair.
            fetches: outputs wanted.
            timeout_s: the caller's remaining time in seconds; None is for ever.

        Returns:
            One array a fetch.

        Raises:
            ServingError: with the code and text of the op that failed.
        """
        call = self._call
        if call is None:
            raise ServingError(Code.UNAVAILABLE, f"Session of {self.path} has been closed.")
        values: dict[Any, NDArray[Any]] = {}
        for ref, array in feeds:
            kind = KINDS.get(ref.dtype)
            if kind is None or array.dtype != kind.dtype:
                raise invalid(
                    f"Expects input {ref.name} to be {dtype_name(ref.dtype)} but "
                    f"{'string' if array.dtype == object else array.dtype} is provided"
                )
            values[ref.handle] = array
        what = tuple([ref.name for ref in fetches])
        # inline needs a graph that ends by itself and that was seen to be short
        inline = self._bounded and self._took.get(what, SHORT_S) < SHORT_S
        began = time.perf_counter()
        try:
            outputs = call(values, [ref.handle for ref in fetches], timeout_s, inline)
        except tf.errors.OpError as error:
            raise ServingError(Code(error.error_code), str(error.message).strip()) from None
        self._took[what] = time.perf_counter() - began
        return [_as_array(output) for output in outputs]

    def close(self) -> None:
        """Frees the session and its variables; call it when no :meth:`run` is in progress.

        The graph goes with the next garbage collection: :func:`serving.memory.give_back`.
        """
        session, self._session, self._call = self._session, None, None
        self.signatures, self.signature_defs = {}, {}
        if session is not None:
            session.close()
