"""The embedded server against the bare session call: latency, throughput, swaps under load.

    python -m benchmarks.serving            # about 12 minutes on 2 cores
    python -m benchmarks.serving --quick    # under 2 minutes

Three models: retrieval (one user, top 100 of 100,000 items x 64), ranking (wide & deep, 200
candidates a call) and half_plus_two. Server, client and bare session are three processes on the
same cores. Bare call, gRPC and REST are measured in turn, round after round; a ratio is the median
of the rounds' ratios. Throughput is by 16 callers, bare calls by 16 threads of one process. gRPC
calls carry a deadline of 5 s, as a client's should.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO

from benchmarks.common import HERE, Results, arguments

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PROTOCOL = "serving/one-machine"
CALLERS = 16
TIMEOUT_S = 5.0
BATCHING = {
    # rows of one call x enough callers; half a millisecond is little beside either graph
    "retrieval": "max_batch_size { value: 16 } batch_timeout_micros { value: 500 } "
    "max_enqueued_batches { value: 64 } num_batch_threads { value: 2 }",
    "ranking": "max_batch_size { value: 1600 } batch_timeout_micros { value: 500 } "
    "max_enqueued_batches { value: 64 } num_batch_threads { value: 2 }",
    "half_plus_two": "max_batch_size { value: 16 } batch_timeout_micros { value: 0 } "
    "max_enqueued_batches { value: 64 } num_batch_threads { value: 2 }",
}
Numbers = dict[str, float]


class Child:
    """A measuring process: a command in, numbers out."""

    def __init__(self, role: str, root: Path) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving_parts.load", role, str(root)],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def _answer(self) -> Numbers:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"measuring process ended with {self.popen.wait()}")
        return json.loads(line)

    def ask(self, **command: Any) -> Numbers:
        assert self.popen.stdin is not None
        print(json.dumps(command), file=self.popen.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        self.popen.wait(30)


class ServerProcess:
    """``python -m serving`` on ports of the kernel's choice."""

    def __init__(self, root: Path, log: TextIO, *flags: str) -> None:
        self.log = Path(log.name)
        self.popen = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "serving",
                "--host=127.0.0.1",
                "--port=0",
                "--rest_api_port=auto",
                "--file_system_poll_wait_seconds=0.1",
                *flags,
            ],
            cwd=HERE.parent,
            stderr=log,
        )

    def _said(self, pattern: str) -> str:
        end = time.monotonic() + 180
        while not (found := re.search(pattern, self.log.read_text())):
            if self.popen.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"server did not start: {self.log.read_text()}")
            time.sleep(0.05)
        return found[1]

    def addresses(self, *models: str) -> dict[str, str]:
        """gRPC and REST address, once these models are loaded."""
        for model in models:
            self._said(f"(loaded {model} version)")
        port = self._said(r"gRPC ModelServer at [\d.]+:(\d+) ")
        return {
            "grpc": f"127.0.0.1:{port}",
            "rest": "http://" + self._said(r"HTTP/REST API at:([\d.]+:\d+) "),
        }

    def stop(self) -> int:
        self.popen.terminate()
        return self.popen.wait(60)


def write_models(root: Path) -> None:
    """SavedModels, a config file and one request a model, in both encodings."""
    from tensorflow_serving.apis import predict_pb2

    from benchmarks.serving_parts import models
    from serving.rest_json import plain
    from serving.tensors import encode

    bodies = {}
    for name in models.MODELS:
        models.write(name, root / name / "1")
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        values = models.inputs(name)
        for alias, value in values.items():
            encode(value, request.inputs[alias])
        columns = {alias: plain(value, alias) for alias, value in values.items()}
        bodies[name] = {
            "grpc": request.SerializeToString().hex(),
            "rest": json.dumps({"inputs": columns}),
        }
    (root / "requests.json").write_text(json.dumps(bodies))
    entries = "\n".join(
        f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" }}'
        for name in models.MODELS
    )
    (root / "models.config").write_text(f"model_config_list {{\n{entries}\n}}\n")


def measure_latency(
    results: Results, bare: Child, client: Child, addresses: dict[str, str], plan: dict[str, Any]
) -> None:
    """One caller: the bare call, gRPC and REST in turn."""
    for model in plan["models"]:
        rounds: dict[str, list[Numbers]] = {"bare": [], "grpc": [], "rest": []}
        for _ in range(plan["rounds"]):
            what = {"op": "latency", "model": model, "seconds": plan["seconds"]}
            rounds["bare"].append(bare.ask(**what))
            for transport in ("grpc", "rest"):
                rounds[transport].append(
                    client.ask(**what, **addresses, transport=transport, timeout=TIMEOUT_S)
                )
        for name, found in rounds.items():
            for metric in ("p50", "p95", "p99"):
                value = statistics.median(one[metric] for one in found)
                note = f"{name}, 1 caller"
                results.add(model, metric, value, protocol=PROTOCOL, unit="ms", note=note)
        over = [
            (g["p50"] - 0.3) / b["p50"] for b, g in zip(rounds["bare"], rounds["grpc"], strict=True)
        ]
        added = [g["p50"] - b["p50"] for b, g in zip(rounds["bare"], rounds["grpc"], strict=True)]
        note = "gRPC over bare call"
        results.add(
            model, "added_p50", statistics.median(added), protocol=PROTOCOL, unit="ms", note=note
        )
        note = "(gRPC p50 - 0.3 ms) / bare p50, aim <= 1.3"
        results.add(model, "ratio_p50", statistics.median(over), protocol=PROTOCOL, note=note)


def measure_throughput(
    results: Results,
    bare: Child,
    client: Child,
    addresses: dict[str, str],
    plan: dict[str, Any],
    batching: str,
    models: list[str],
) -> None:
    """16 callers: calls a second of the bare call and of the server, and their ratio."""
    for model in models:
        found: dict[str, list[float]] = {"bare": [], "grpc": [], "rest": []}
        failures = 0.0
        for _ in range(plan["rounds"]):
            what = {
                "op": "throughput",
                "model": model,
                "callers": CALLERS,
                "seconds": plan["seconds"],
            }
            found["bare"].append(bare.ask(**what)["per_s"])
            for transport in ("grpc", "rest"):
                got = client.ask(**what, **addresses, transport=transport, timeout=TIMEOUT_S)
                found[transport].append(got["per_s"])
                failures += got["failures"]
        for name, values in found.items():
            note = f"{name}, {CALLERS} callers" + ("" if name == "bare" else f", {batching}")
            results.add(
                model,
                "calls_per_s",
                statistics.median(values),
                protocol=PROTOCOL,
                unit="1/s",
                note=note,
            )
        ratios = [g / b for b, g in zip(found["bare"], found["grpc"], strict=True)]
        results.add(
            model,
            "ratio_calls_per_s",
            statistics.median(ratios),
            protocol=PROTOCOL,
            note=f"gRPC / bare, {CALLERS} callers, {batching}, aim >= 0.8",
        )
        results.add(
            model, "failures", failures, protocol=PROTOCOL, note=f"{CALLERS} callers, {batching}"
        )


def measure_swaps(results: Results, root: Path, client: Child, plan: dict[str, Any]) -> None:
    """Versions of the ranking model pushed while 4 callers ask: failures, latency, memory."""
    import psutil

    base = root / "swapped"
    template = root / "ranking" / "1"
    shutil.copytree(template, base / "1")
    bodies = json.loads((root / "requests.json").read_text())
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest.FromString(bytes.fromhex(bodies["ranking"]["grpc"]))
    request.model_spec.name = "swapped"
    bodies["swapped"] = {"grpc": request.SerializeToString().hex(), "rest": ""}
    (root / "requests.json").write_text(json.dumps(bodies))
    with (root / "swaps.log").open("w") as log:
        server = ServerProcess(root, log, "--model_name=swapped", f"--model_base_path={base}")
        asker = Child("client", root)
        try:
            addresses = server.addresses("swapped")
            process = psutil.Process(server.popen.pid)
            stop_at = time.monotonic() + 0.0
            version = 1

            def swap() -> None:
                nonlocal version
                version += 1
                shutil.copytree(
                    template, base / str(version), ignore=shutil.ignore_patterns("saved_model.pb")
                )
                shutil.copy(template / "saved_model.pb", base / str(version))
                server._said(f"(unloaded swapped version {version - 1})")
                shutil.rmtree(base / str(version - 1))

            for _ in range(5):  # the allocator settles
                swap()
            before = process.memory_info().rss / 2**20
            began = time.monotonic()
            command = {
                "op": "throughput",
                "model": "swapped",
                "callers": 4,
                "seconds": plan["swap_seconds"],
                "transport": "grpc",
                "timeout": TIMEOUT_S,
            }
            assert asker.popen.stdin is not None
            print(json.dumps(command | addresses), file=asker.popen.stdin, flush=True)
            stop_at = began + plan["swap_seconds"]
            swaps = 0
            while time.monotonic() < stop_at - 1 and swaps < plan["swaps"]:
                swap()
                swaps += 1
            load = asker._answer()
            time.sleep(1)
            after = process.memory_info().rss / 2**20
        finally:
            server.stop()
            asker.close()
    note = f"{swaps} swaps, 4 callers"
    results.add("swaps", "swaps", swaps, protocol=PROTOCOL, note=note)
    results.add("swaps", "failures", load["failures"], protocol=PROTOCOL, note=note)
    results.add("swaps", "calls_per_s", load["per_s"], protocol=PROTOCOL, unit="1/s", note=note)
    results.add("swaps", "rss_before", before, protocol=PROTOCOL, unit="MiB", note=note)
    results.add("swaps", "rss_after", after, protocol=PROTOCOL, unit="MiB", note=note)


def main() -> None:
    args = arguments(__doc__ or "").parse_args()
    results = Results("serving", args.quick)
    models = ["retrieval", "ranking", "half_plus_two"]
    plan: dict[str, Any] = (
        {"models": models, "rounds": 2, "seconds": 0.5, "swaps": 5, "swap_seconds": 8}
        if args.quick
        else {"models": models, "rounds": 7, "seconds": 3.0, "swaps": 100, "swap_seconds": 120}
    )
    with tempfile.TemporaryDirectory(prefix="serving-benchmark-") as folder:
        root = Path(folder)
        write_models(root)
        bare, client = Child("bare", root), Child("client", root)
        config = f"--model_config_file={root / 'models.config'}"
        with (root / "plain.log").open("w") as log:
            server = ServerProcess(root, log, config)
            addresses = server.addresses(*models)
            measure_latency(results, bare, client, addresses, plan)
            measure_throughput(results, bare, client, addresses, plan, "batching off", models)
            server.stop()
        for model in models:
            file = root / f"batching-{model}.txt"
            file.write_text(BATCHING[model])
            with (root / f"batching-{model}.log").open("w") as log:
                server = ServerProcess(
                    root,
                    log,
                    f"--model_name={model}",
                    f"--model_base_path={root / model}",
                    "--enable_batching",
                    f"--batching_parameters_file={file}",
                )
                addresses = server.addresses(model)
                measure_throughput(results, bare, client, addresses, plan, "batching on", [model])
                server.stop()
        measure_swaps(results, root, client, plan)
        for child in (bare, client):
            child.close()
    print(results.write())


if __name__ == "__main__":
    main()
