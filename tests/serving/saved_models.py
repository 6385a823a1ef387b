"""Models of the conformance suite, written with plain TensorFlow.

``python tests/serving/saved_models.py OUT`` writes them and ``OUT/models.config``, which the real
server can be started on; then ``pytest tests/serving --target host:8500`` runs the same suite
against it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
DTYPES = {
    "float32": tf.float32,
    "float64": tf.float64,
    "float16": tf.float16,
    "bfloat16": tf.bfloat16,
    "int8": tf.int8,
    "int16": tf.int16,
    "int32": tf.int32,
    "int64": tf.int64,
    "uint8": tf.uint8,
    "uint16": tf.uint16,
    "uint32": tf.uint32,
    "uint64": tf.uint64,
    "bool": tf.bool,
    "string": tf.string,
    "complex64": tf.complex64,
}


def derive_signatures(
    folder: Path, base: str, derived: Mapping[str, tuple[str, list[str]]]
) -> None:
    """Adds signatures that share the input of an existing one: name -> (method, output names)."""
    file = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    signatures = model.meta_graphs[0].signature_def
    for name, (method, outputs) in derived.items():
        signatures[name].method_name = method
        for alias, info in signatures[base].inputs.items():
            signatures[name].inputs[alias].CopyFrom(info)
        for alias in outputs:
            signatures[name].outputs[alias].CopyFrom(signatures[base].outputs[alias])
    file.write_bytes(model.SerializeToString())


class HalfPlus(tf.Module):
    """``y = x / 2 + b``, as a plain signature and on tf.Examples with a float feature ``x``."""

    def __init__(self, b: float) -> None:
        super().__init__()
        self.a = tf.Variable(0.5)
        self.b = tf.Variable(float(b))

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.a * x + self.b}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def examples(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        y = self.a * x + self.b
        return {
            "outputs": y,
            "scores": tf.concat([y, -y], axis=1),
            "classes": tf.tile([["up", "down"]], [tf.shape(y)[0], 1]),
        }


def write_half_plus(folder: Path, b: float) -> None:
    """One version: serving_default, classify, regress and their relatives."""
    model = HalfPlus(b)
    tf.saved_model.save(
        model, str(folder), signatures={"serving_default": model.predict, "all": model.examples}
    )
    derive_signatures(
        folder,
        "all",
        {
            "classify": (CLASSIFY, ["classes", "scores"]),
            "classify_scores": (CLASSIFY, ["scores"]),
            "classify_classes": (CLASSIFY, ["classes"]),
            "regress": (REGRESS, ["outputs"]),
        },
    )


def write_types(folder: Path) -> None:
    """``identity_<dtype>`` for every dtype, and signatures with two inputs and outputs."""
    model = tf.Module()
    signatures = {}
    for name, dtype in DTYPES.items():
        spec = tf.TensorSpec(None, dtype, name="x")
        function = tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[spec])
        signatures[f"identity_{name}"] = function

    def pair(a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": a + tf.cast(b, tf.float32), "first": tf.identity(a)}

    a, b = (tf.TensorSpec(None, t, name=n) for n, t in (("a", tf.float32), ("b", tf.int64)))
    signatures["serving_default"] = tf.function(pair, input_signature=[a, b])

    def raw(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"x_bytes": tf.identity(x), "length": tf.strings.length(x)}

    spec = tf.TensorSpec([None], tf.string, name="x")
    signatures["raw"] = tf.function(raw, input_signature=[spec])

    def matrix(x: tf.Tensor, w: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"product": tf.matmul(x, w)}

    specs = [tf.TensorSpec(None, tf.float32, name=n) for n in "xw"]
    signatures["matmul"] = tf.function(matrix, input_signature=specs)
    model.functions = list(signatures.values())
    tf.saved_model.save(model, str(folder), signatures=signatures)


def write_busy(folder: Path) -> None:
    """Counts to ``n``: as slow as asked. One row in, one row out."""

    def count(n: tf.Tensor) -> dict[str, tf.Tensor]:
        (done,) = tf.while_loop(
            lambda i: tf.reduce_any(i < n), lambda i: (tf.minimum(i + 1, n),), [tf.zeros_like(n)]
        )
        return {"done": done}

    model = tf.Module()
    model.count = tf.function(count, input_signature=[tf.TensorSpec([None], tf.int64, name="n")])
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.count})


def write_ballast(folder: Path, version: int, megabytes: int = 32) -> None:
    """A variable of some size; answers its version, so that a swap can be seen and weighed."""
    model = tf.Module()
    model.weight = tf.Variable(np.full([megabytes << 18], version, np.float32))

    def which(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"version": model.weight[0] + 0.0 * x}

    model.which = tf.function(which, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.which})


def write_all(root: Path) -> Path:
    """Writes every model of the suite and the config file that serves them."""
    write_half_plus(root / "half_plus_two" / "00000123", 2)
    write_half_plus(root / "half_plus_three" / "1", 3)
    write_half_plus(root / "two_versions" / "1", 2)
    write_half_plus(root / "two_versions" / "2", 3)
    write_types(root / "types" / "1")
    write_busy(root / "busy" / "1")
    names = ["half_plus_two", "half_plus_three", "two_versions", "types", "busy"]
    extra = {
        "two_versions": "model_version_policy { all {} } "
        'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    }
    entries = [
        f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" '
        f"{extra.get(name, '')} }}"
        for name in names
    ]
    file = root / "models.config"
    file.write_text("model_config_list {\n" + "\n".join(entries) + "\n}\n")
    return file


if __name__ == "__main__":
    print(write_all(Path(sys.argv[1]).resolve()))
