"""A real endpoint, ``python -m serving`` with Ray and replicas, that is started, asked and stopped."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import httpx

from scripts.chaos_faults.bundles import publish_versions
from scripts.chaos_faults.processes import end_session, is_there, named
from serving.settings import Settings

REPLICA: Final = "ray::ServeReplica:roomrec"
"""How Ray calls a replica's process."""

CONTROLLER: Final = "ray::ServeController"
"""How Ray calls the process that looks after replicas."""

_ROOT = Path(__file__).resolve().parents[2]
_START_S, _STOP_S = 120.0, 30.0


class ChaosError(Exception):
    """What was to be tried could not be tried; the sentence says why."""


class Endpoint:
    """One endpoint in processes of its own session, with a registry and data of its own.

    Args:
        folder: Registry, output and, unless ``data`` is given, data; removed by whoever made it.
        replicas: How many processes answer.
        environment: Added to this process's environment, for the endpoint.
        data: Where log and state are.
    """

    def __init__(
        self,
        folder: Path,
        *,
        replicas: int = 2,
        environment: Mapping[str, str] | None = None,
        data: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.replicas = replicas
        self.registry, self.versions, self.ids = publish_versions(folder)
        self.data = data or folder / "data"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = folder / "output.txt"
        # what killed processes leave behind goes with it; Ray's sockets are there, and may not have long names
        self._scratch = tempfile.mkdtemp(prefix="chaos-")
        self._environment = {
            "OMP_NUM_THREADS": "1",
            "TMPDIR": self._scratch,
            "RAY_ADDRESS": "local",  # not in a cluster that happens to be there
            "ROOMREC_DRAIN_S": "0.5",
            "ROOMREC_MODEL_RETRY_MS": "3000",
            "ROOMREC_STATE_BYTES": str(1 << 30),
        } | dict(environment or {})
        self.beside: dict[str, Any] = {}
        """what was put up for it: a Redis, a clock"""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until every replica answers.

        Raises:
            ChaosError: If it does not.
        """
        words = ["--registry", self.registry, "--data", self.data, "--port", self.port, "--replicas", self.replicas]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving", *map(str, words)],
                cwd=_ROOT,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until = time.monotonic() + _START_S
        while "ready: " not in self.said():
            if self.process.poll() is not None or time.monotonic() > until:
                raise ChaosError(f"the endpoint did not start: {self.said()}")
            time.sleep(0.2)
        self.wait_for_replicas(within_s=_START_S)
        return self

    def stop(self) -> None:
        """Stop it as SIGTERM does, then whatever is left of it."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_S)
        end_session(self.process.pid)
        self.process.wait()
        self.process = None
        self.output.unlink(missing_ok=True)

    @property
    def settings(self) -> Settings:
        """How it runs, for reading its log and state."""
        return Settings.read({"registry": str(self.registry), "data": str(self.data)}, environment=self._environment)

    @property
    def session(self) -> int:
        """The session of all its processes."""
        assert self.process is not None
        return self.process.pid

    def said(self) -> str:
        """Return the end of what it has printed."""
        return self.output.read_text(errors="replace")[-2_000:]

    def replica_pids(self) -> list[int]:
        """Return the processes that answer, or are about to."""
        return named(self.session, REPLICA)

    def controller_pid(self) -> int | None:
        """Return the process that looks after replicas, if there is one."""
        return next(iter(named(self.session, CONTROLLER)), None)

    def wait_for_replicas(self, *, within_s: float = 60.0) -> float:
        """Wait until as many replicas as wanted have answered, all alive.

        Returns:
            Seconds waited.

        Raises:
            ChaosError: If they do not.
        """
        began = time.monotonic()
        answered: set[int] = set()
        while len(answered) < self.replicas:
            if self.process is None or self.process.poll() is not None:
                raise ChaosError(f"the endpoint has ended: {self.said()}")
            if time.monotonic() - began > within_s:
                raise ChaosError(
                    f"{len(answered)} of {self.replicas} replicas answer after {within_s:g} s: {self.said()}"
                )
            if (pid := self.whoever_answers()) is None:
                time.sleep(0.05)
            else:
                answered = {each for each in answered | {pid} if is_there(each)}
                time.sleep(0.01)
        return time.monotonic() - began

    def whoever_answers(self) -> int | None:
        """Return the process of the replica that answers this time."""
        try:
            return int(httpx.get(f"{self.url}/v1/models", timeout=2.0).json()["replica"].rpartition(":")[2])
        except (httpx.HTTPError, ValueError, KeyError):
            return None

    def ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Ask on a connection of its own, so that any replica may answer."""
        return httpx.request(method, self.url + path, **({"timeout": 10.0} | kwargs))

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
        for folder in (self.folder, self._scratch):
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
