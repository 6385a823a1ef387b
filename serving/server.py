"""The embedded server: manager, threads, gRPC and REST, started and stopped as one.

>>> with Server(Options(model_name="m", model_base_path="/models/m")) as server:
...     server.wait_until_available("m", timeout=60)
...     channel = grpc.insecure_channel(server.grpc_address)
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import grpc
from aiohttp import web
from tensorflow.core.protobuf import config_pb2

from serving import grpc_service, loop, metrics, rest, warmup
from serving.batching import BatchingRunner
from serving.bundle import Bundle
from serving.calls import Calls
from serving.config import ModelConfig
from serving.errors import ServingError
from serving.filling import Filling
from serving.health import Health, Status
from serving.manager import Manager, ManagerSettings
from serving.options import Options
from serving.peers import Peers
from serving.servable import Runner, Servable
from serving.textproto import ConfigFileError
from serving.workers import Workers

log = logging.getLogger("serving")
HEALTH_SERVICES = ("", grpc_service.PREDICTION_SERVICE, grpc_service.MODEL_SERVICE)


class Server:
    """A TensorFlow Serving server inside this process.

    Args:
        options: settings; ports of 0 are chosen by the kernel and can be read after :meth:`start`.
        peers: the other processes on the same port, where there are any.
    """

    def __init__(self, options: Options, peers: Peers | None = None) -> None:
        self.options = options
        self.metrics = metrics.Metrics()
        self._peers = peers or Peers()
        self._batching = options.batching_options()
        self._turns = threading.Semaphore(self._batching.num_batch_threads if self._batching else 1)
        self._metrics_path = options.metrics_path()
        self._ssl = options.ssl()
        self._models = options.models()
        self.manager = Manager(
            self._load,
            ManagerSettings(
                poll_s=options.file_system_poll_wait_seconds,
                load_threads=options.num_load_threads,
                max_load_retries=options.max_num_load_retries,
                load_retry_s=options.load_retry_interval_micros / 1e6,
                allow_labels_for_unavailable=options.allow_version_labels_for_unavailable_models,
            ),
        )
        self._filling = Filling(options.filler(), self.metrics)
        self.calls = Calls(self.manager, self.metrics, self._peers, self._filling)
        self._session_config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=options.tensorflow_intra_op_parallelism,
            inter_op_parallelism_threads=options.tensorflow_inter_op_parallelism,
        )
        self._stopped = threading.Event()
        self._workers: Workers | None = None
        self._control: Workers | None = None
        self._grpc: grpc.aio.Server | None = None
        self._health: Health | None = None
        self._http: web.ServerRunner | None = None
        self.port = 0
        self.rest_port: int | None = None

    @property
    def grpc_address(self) -> str:
        """``host:port`` for a gRPC channel."""
        return f"{_reachable(self.options.host)}:{self.port}"

    @property
    def rest_address(self) -> str | None:
        """``http://host:port``, or None where REST is off."""
        if self.rest_port is None:
            return None
        return f"http://{_reachable(self.options.host)}:{self.rest_port}"

    def start(self) -> Server:
        """Starts loading the models and opens the ports, without waiting for the models.

        Raises:
            ServingError: FAILED_PRECONDITION for a label on a version not yet loaded.
            OSError: where a port or socket cannot be had.
        """
        self.manager.start(self._models)
        self._workers = Workers(self.options.grpc_max_threads)
        self._control = Workers(4, "serving-control")
        try:
            loop.run(self._open())
        except BaseException:
            self.stop(drain=0)
            raise
        if self.options.model_config_file_poll_wait_seconds > 0:
            threading.Thread(target=self._poll_config, name="serving-config", daemon=True).start()
        return self

    async def _open(self) -> None:
        assert self._workers is not None
        assert self._control is not None
        options = self.options
        settings: dict[str, int | str] = {
            "grpc.max_receive_message_length": options.grpc_max_message_bytes,
            "grpc.max_send_message_length": options.grpc_max_message_bytes,
            "grpc.so_reuseport": int(options.reuse_port),
            **options.grpc_channel_arguments,
        }
        server = grpc.aio.server(options=list(settings.items()))
        server.add_generic_rpc_handlers(
            [
                *grpc_service.handlers(self.calls, self._workers, self._control),
                self._peers.handler(self.calls, self._control),
            ]
        )
        if options.enable_grpc_healthcheck_service:
            self._health = Health(HEALTH_SERVICES)
            server.add_generic_rpc_handlers([self._health.handler()])
        self.port = self._bind(server, f"{options.host}:{options.port}")
        for path in filter(None, (options.grpc_socket_path, self._peers.own)):
            self._bind(server, f"unix:{path}", plain=path == self._peers.own)
        await server.start()
        self._grpc = server
        if options.rest_api_port is not None:
            await self._open_rest(options.rest_api_port)

    def _bind(self, server: grpc.aio.Server, address: str, plain: bool = False) -> int:
        try:
            if self._ssl is None or plain:
                return server.add_insecure_port(address)
            key, chain, ca, verify = self._ssl
            credentials = grpc.ssl_server_credentials(
                [(key, chain)], root_certificates=ca, require_client_auth=verify
            )
            return server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {address}: {error}") from None

    async def _open_rest(self, port: int) -> None:
        assert self._workers is not None
        assert self._control is not None
        server = rest.http_server(
            self.calls,
            self._workers,
            self._control,
            rest.RestOptions(
                timeout_s=self.options.rest_api_timeout_in_ms / 1000,
                max_body_bytes=self.options.rest_api_max_body_bytes,
                metrics_path=self._metrics_path,
            ),
            self._metrics_page,
        )
        self._http = web.ServerRunner(server, shutdown_timeout=self.options.drain_seconds)
        await self._http.setup()
        site = web.TCPSite(
            self._http, self.options.host, port, reuse_port=self.options.reuse_port or None
        )
        await site.start()
        self.rest_port = self._http.addresses[0][1]

    def _load(self, name: str, version: int, path: Path) -> Runner:
        """Loads and warms up a version, on a loading thread of the manager."""
        began = time.perf_counter()
        outcome = "fail"
        try:
            tags = self.options.saved_model_tags.split(",")
            bundle = Bundle(path, tags, self._session_config)
            try:
                if self.options.enable_model_warmup:
                    count = warmup.warm_up(Servable(name, version, bundle), path)
                    if count:
                        log.info("%s version %d: %d warm-up records", name, version, count)
            except BaseException:
                bundle.close()
                raise
            outcome = "success"
        finally:
            micros = (time.perf_counter() - began) * 1e6
            self.metrics.count(metrics.LOAD_COUNT, str(path), outcome)
            self.metrics.count(metrics.LOAD_LATENCY, str(path), by=round(micros))
        if self._batching is None:
            return bundle
        return BatchingRunner(bundle, self._batching, self._turns)

    async def _metrics_page(self) -> str:
        snapshots = [self.metrics.snapshot(), *await self._peers.snapshots()]
        gauges: dict[tuple[str, metrics.Labels], float] = {
            (metrics.VERSION_STATE, (v.name, str(v.number), v.state.name)): 1.0
            for v in self.manager.all_versions()
        }
        return metrics.render(metrics.merge(snapshots), gauges)

    def _poll_config(self) -> None:
        """Re-reads the config file; a bad one is reported and the old stays in force."""
        current: Sequence[ModelConfig] = self._models
        while not self._stopped.wait(self.options.model_config_file_poll_wait_seconds):
            try:
                models = self.options.models()
                if models != current:
                    self.manager.apply(models)
                    log.info("took the new %s", self.options.model_config_file)
                    current = models
            except (ConfigFileError, ServingError) as error:
                log.error("config not reloaded, the old one stays in force: %s", error)

    def wait_until_available(
        self, model: str | None = None, timeout: float | None = 60.0, version: int | None = None
    ) -> int:
        """Waits until a model answers.

        Args:
            model: its name; the first of the config if None.
            timeout: seconds.
            version: wait for this one; any if None.

        Returns:
            The version that is available.

        Raises:
            TimeoutError: saying what state the versions are in and why.
        """
        name = model if model is not None else self._models[0].name
        return self.manager.wait_until_available(name, version, timeout)

    def stop(self, drain: float | None = None) -> None:
        """Refuses new calls, lets those in progress end, frees everything. May be called twice.

        Args:
            drain: seconds to wait for calls in progress; the options' if None.
        """
        if self._stopped.is_set():
            return
        self._stopped.set()
        drain = self.options.drain_seconds if drain is None else drain
        loop.run(self._close(drain))
        self.manager.stop(drain)
        for pool in (self._workers, self._control):
            if pool is not None:
                pool.stop()
        self._filling.close()

    async def _close(self, drain: float) -> None:
        if self._health is not None:
            await self._health.set(Status.NOT_SERVING)
        if self._grpc is not None:
            await self._grpc.stop(drain)
        if self._http is not None:
            await self._http.cleanup()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _reachable(host: str) -> str:
    """An address to connect to for one that is listened on."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
