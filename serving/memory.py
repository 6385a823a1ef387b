"""Memory of models that were unloaded, back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def give_back() -> None:
    """Collects dropped graphs, which are full of cycles, and returns free pages to the system.

    The collection stops every thread; :func:`settle` keeps that short.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def meet_devices() -> None:
    """Lets TensorFlow look for accelerators now, so that its notes about it come at one moment."""
    import tensorflow as tf

    tf.config.list_physical_devices()


def settle() -> None:
    """Takes all objects that live now out of later collections.

    TensorFlow's modules alone are half a million objects, 0.2 s to look through while nobody is
    answered. For a process that does nothing but serve, before it loads its first model.
    """
    gc.collect()
    gc.freeze()
