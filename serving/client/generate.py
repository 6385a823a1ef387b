"""Writes ``wire_pb2.py`` and ``wire_pb2.pyi``: ``python -m serving.client.generate``.

Not protoc's own Python output, for two reasons. It registers its messages in the process-wide
descriptor pool, which we keep out of; and it refuses to be imported by a protobuf runtime older
than the compiler. The module written here holds the compiled descriptor and builds the message
classes from it in a pool of its own, so that any protobuf from 4.22 on will do.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

HERE = Path(__file__).resolve().parent
PROTO = HERE / "wire.proto"

_MODULE = '''\
"""Messages of wire.proto. Written by generate.py: edit wire.proto and run that again."""

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

_POOL = descriptor_pool.DescriptorPool()  # a pool of our own: no clash with the official messages
_POOL.AddSerializedFile(
{descriptor}
)
DESCRIPTOR = _POOL.FindFileByName("wire.proto")

{messages}

{enums}
'''


def _quote(data: bytes, width: int = 72) -> str:
    """The bytes as a Python literal of several lines."""
    return "\n".join(f"    {data[at : at + width]!r}" for at in range(0, len(data), width))


def render() -> dict[str, str]:
    """Text of each generated file by its name.

    Raises:
        RuntimeError: if grpcio-tools is not installed or protoc refuses wire.proto.
    """
    if importlib.util.find_spec("grpc_tools") is None:
        raise RuntimeError(
            "generate.py compiles wire.proto with grpcio-tools, which is not installed; "
            "install the development requirements"
        )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        # In a process of its own: protoc crashes where TensorFlow's protobuf is loaded beside it.
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", str(PROTO)]
        command += [f"--descriptor_set_out={out / 'wire.bin'}", f"--pyi_out={out}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"protoc refused {PROTO} ({done.returncode}): {done.stderr}")
        files = descriptor_pb2.FileDescriptorSet.FromString((out / "wire.bin").read_bytes())
        stub = "# ruff: noqa\n# fmt: off\n" + (out / "wire_pb2.pyi").read_text()
    (file,) = files.file
    module = _MODULE.format(
        descriptor=_quote(file.SerializeToString(deterministic=True)),
        messages="\n".join(
            f"{message.name} = message_factory.GetMessageClass("
            f'DESCRIPTOR.message_types_by_name["{message.name}"])'
            for message in file.message_type
        ),
        enums="\n".join(
            f"{enum.name} = enum_type_wrapper.EnumTypeWrapper("
            f'DESCRIPTOR.enum_types_by_name["{enum.name}"])'
            f"\nglobals().update({enum.name}.items())"
            for enum in file.enum_type
        ),
    )
    return {"wire_pb2.py": module, "wire_pb2.pyi": stub}


def main() -> int:
    """Writes the generated files beside this one; returns the exit status."""
    for name, text in render().items():
        (HERE / name).write_text(text)
        print(f"wrote {HERE / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
