"""The same endpoint behind different servers: processes that are started, asked and stopped.

python -m scripts.bench_serving.contenders bare --registry R --data D --port P
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
KINDS: Final = ("bare", "uvicorn", "default_ray")
"""bare: httptools and uvloop and nothing else, around the same handler; uvicorn: the FastAPI application under uvicorn;
default_ray: the FastAPI application as a Ray Serve ingress behind Ray's own proxy, as it comes."""

_READY_S = 180.0
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "PYTHONPATH": str(ROOT),
}
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


def main() -> None:
    """Run one contender until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--registry", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    from serving.settings import Settings

    settings = Settings.read({"registry": arguments.registry, "data": arguments.data, "port": arguments.port})
    {"bare": _bare, "uvicorn": _uvicorn, "default_ray": _default_ray}[arguments.kind](settings, arguments.workers)


def _bare(settings: Any, workers: int) -> None:
    _fork(workers, lambda: _serve_bare(settings))


def _serve_bare(settings: Any) -> None:
    import httptools
    import uvloop

    from serving.api.metrics import Metrics
    from serving.api.routes.recommendations import recommend
    from serving.deployments.endpoint import Endpoint

    endpoint = Endpoint.open(settings)
    metrics = Metrics()

    class Bare(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)
            self.body = b""

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            answer = recommend(self.body, endpoint, metrics)
            self.body = b""
            self.transport.write(_HEAD % (len(answer.body), answer.body))

    async def serve() -> None:
        await endpoint.start()
        server = await asyncio.get_running_loop().create_server(
            Bare, settings.host, settings.port, reuse_port=True, backlog=2048
        )
        await server.serve_forever()

    uvloop.run(serve())


def _uvicorn(settings: Any, workers: int) -> None:
    def serve() -> None:
        import uvicorn

        from serving.api.routes import create_api
        from serving.deployments.endpoint import Endpoint

        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else no TCP_NODELAY
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((settings.host, settings.port))
        config = uvicorn.Config(
            create_api(Endpoint.open(settings)), loop="uvloop", http="httptools", log_level="error", access_log=False
        )
        asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))

    _fork(workers, serve)


def _default_ray(settings: Any, workers: int) -> None:
    import msgspec
    import ray
    from ray import serve

    class Ingress:
        def __init__(self, given: dict[str, Any]) -> None:
            from serving.deployments.endpoint import Endpoint
            from serving.settings import Settings

            self._endpoint = Endpoint.open(Settings.read(given))

        def __serve_build_asgi_app__(self) -> Any:
            from serving.api.routes import create_api

            return create_api(self._endpoint)

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"host": settings.host, "port": settings.port}, logging_config={"log_level": "ERROR"})
    deployment = serve.deployment(serve.ingress()(Ingress), num_replicas=workers, ray_actor_options={"num_cpus": 0})
    serve.run(deployment.bind(msgspec.to_builtins(settings)))
    with contextlib.suppress(KeyboardInterrupt):
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


def _fork(workers: int, serve: Any) -> None:
    """Run a server in several processes and end with them."""
    children = []
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            serve()
            os._exit(0)
        children.append(child)

    def stop(*_: Any) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for child in children:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


class Contender(NamedTuple):
    """A running server."""

    port: int
    ready_s: float
    """from start to the first good answer"""
    pid: int
    """of the starter, from which all its processes descend"""


@contextlib.contextmanager
def running(
    kind: str, registry: Path, data: Path, *, workers: int, environment: Mapping[str, str]
) -> Iterator[Contender]:
    """Start a contender, or ``roomrec``, and stop it at the end.

    Raises:
        RuntimeError: If it does not answer in time; the message holds what it said.
    """
    port = _free_port()
    command = [sys.executable, "-m", "serving", "--replicas", str(workers)]
    if kind != "roomrec":
        command = [sys.executable, "-m", "scripts.bench_serving.contenders", kind, "--workers", str(workers)]
    command += ["--registry", str(registry), "--data", str(data), "--port", str(port)]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | _ENVIRONMENT | environment, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_ready(port, kind, process)
            yield Contender(port, time.perf_counter() - began, process.pid)
        except RuntimeError as error:
            said.seek(0)
            raise RuntimeError(f"{error}: {said.read().decode(errors='replace')[-2000:]}") from None
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_port() -> int:
    """Return a port nobody listens on, below those the kernel gives away: Ray takes some of these as it starts."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            return int(probe.getsockname()[1])


def _wait_until_ready(port: int, kind: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for an answer; the bare server answers nothing but slates."""
    url, body = f"http://127.0.0.1:{port}/readyz", None
    if kind == "bare":
        url, body = f"http://127.0.0.1:{port}/v1/recommendations", b'{"user_id": "nobody", "k": 1}'
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{kind} ended")
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=5) as answer:
                if answer.status == 200:
                    return
        except (OSError, HTTPException):
            time.sleep(0.05)
    raise RuntimeError(f"{kind} is not ready after {_READY_S:.0f} s")


if __name__ == "__main__":
    main()
