"""Optimizers whose cost on an embedding table is that of the rows a step touched."""

from __future__ import annotations

import tensorflow as tf


class LazyAdam(tf.keras.optimizers.legacy.Adam):
    """Adam (Kingma & Ba 2015) that leaves rows without a gradient alone.

    Plain Adam decays the moments of every row of a table at every step, which makes a step cost as
    much as the whole table. Here rows outside the batch keep value and moments; rows inside are
    updated as by Adam. Dense gradients go the usual way.
    """

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):  # type: ignore[no-untyped-def]
        coefficients = (apply_state or {}).get((var.device, var.dtype.base_dtype))
        if coefficients is None:
            coefficients = self._fallback_apply_state(var.device, var.dtype.base_dtype)
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        beta_1, beta_2 = coefficients["beta_1_t"], coefficients["beta_2_t"]
        m_rows = beta_1 * tf.gather(m, indices) + (1 - beta_1) * grad
        v_rows = beta_2 * tf.gather(v, indices) + (1 - beta_2) * tf.square(grad)
        # ``lr`` carries the bias correction of both moments.
        step = coefficients["lr"] * m_rows / (tf.sqrt(v_rows) + coefficients["epsilon"])
        return tf.group(
            m.scatter_update(tf.IndexedSlices(m_rows, indices)),
            v.scatter_update(tf.IndexedSlices(v_rows, indices)),
            var.scatter_sub(tf.IndexedSlices(step, indices)),
        )
