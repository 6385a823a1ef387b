"""What a session gives is what the graph made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from serving.bundle import Bundle
from serving.tensors import encode


class Texts(tf.Module):
    """Answers its input, and the first of it as a scalar."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"all": x, "first": x[0]}


def test_strings_keep_their_last_bytes_whatever_their_rank(tmp_path: Path) -> None:
    module = Texts()
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__)
    bundle = Bundle(tmp_path)
    try:
        signature = bundle.signatures["serving_default"]
        for texts in ([b"ab\0\0", b"\0"], [b"", b"c"], [b"\0", b"c"]):
            given = np.array(texts, object)
            fetches = [signature.outputs["first"], signature.outputs["all"]]
            first, every = bundle.run([(signature.inputs["x"], given)], fetches)
            assert (first.shape, first.item()) == ((), texts[0])
            assert every.tolist() == texts
            assert list(encode(first).string_val) == [texts[0]]
    finally:
        bundle.close()
