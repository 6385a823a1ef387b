"""What makes a SavedModel small: nothing is traced twice, and no part is written that none calls.

TensorFlow writes and loads a graph operation by operation, in Python: both take as long as there
are operations. Those of a called function are inlined before they run, so calls cost nothing then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import tensorflow as tf

Answer = TypeVar("Answer")


def one_graph(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """The same function, whose graph is made once and called by all that it is traced into.

    Args:
        function: of tensors, and of dicts and tuples of them. Outside of a graph it is called as it
            is. Its tensors' dtypes and shapes make the graph: equal ones share it.
    """
    traced = tf.function(function, autograph=False)

    # Not the tf.function itself: a module's attribute of that kind would be saved on its own.
    def call(*args: Any) -> Answer:
        return function(*args) if tf.executing_eagerly() else traced(*args)

    return call


@contextmanager
def shared_graphs(owner: Any, *methods: str) -> Iterator[None]:
    """While it lasts, what is traced calls one graph of each of these methods of an object."""
    for name in methods:
        setattr(owner, name, one_graph(getattr(owner, name)))
    try:
        yield
    finally:
        for name in methods:
            delattr(owner, name)


def without_signatures(module: Any) -> Any:
    """A loaded SavedModel as part of another: its variables and tables, without its signatures.

    What calls a signature carries its graph anyway. The rest would be written along and loaded with
    every version: of a retrieval model that is the greater part.
    """
    if "signatures" in vars(module):
        del module.signatures
    return module
