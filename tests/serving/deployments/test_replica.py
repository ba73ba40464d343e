"""A replica without Ray around it: when it asks to be replaced."""

import contextlib
import gc
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.deployments.replica import Replica
from tests.serving.state.redis_server import running


@pytest.fixture(autouse=True)
def _process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A replica has a process to itself, and changes it."""
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    root, interval, thresholds = logging.getLogger(), sys.getswitchinterval(), gc.get_threshold()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.setswitchinterval(interval)
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_replica_outlives_its_redis_and_is_ready_again_as_soon_as_it_is_back(
    tmp_path: Path, registry_path: Path, port: int
) -> None:
    with running() as server:
        given = {"event_log": "redis", "state_store": "redis", "redis_url": server.url, "redis_timeout_ms": 200}
        files = {"registry": str(registry_path), "data": str(tmp_path / "serving")}
        replica = Replica(given | files | {"port": port})
        probe = f"http://127.0.0.1:{port}/readyz"

        def wait_for(status: int) -> None:
            give_up_at = time.monotonic() + 1.0  # Redis is asked beside the requests
            while httpx.get(probe).status_code != status:
                assert time.monotonic() < give_up_at
                time.sleep(0.02)

        wait_for(200)
        server.kill()
        replica.check_health()
        wait_for(503)
        server.start()
        replica.check_health()
        wait_for(200)
        del replica


def test_a_replica_whose_own_files_fail_asks_to_be_replaced(tmp_path: Path, registry_path: Path, port: int) -> None:
    replica = Replica({"registry": str(registry_path), "data": str(tmp_path / "serving"), "port": port})
    replica.check_health()
    replica._endpoint._store.close()
    with pytest.raises(RuntimeError, match="state"):
        replica.check_health()
    del replica


def test_a_replica_whose_listener_has_ended_asks_to_be_replaced(tmp_path: Path, registry_path: Path, port: int) -> None:
    replica = Replica({"registry": str(registry_path), "data": str(tmp_path / "serving"), "port": port})
    replica._listener.stop(drain_s=0)
    with pytest.raises(RuntimeError, match="the listener has ended"):
        replica.check_health()
    del replica


def replica_of_two(data: Path, registry_path: Path, port: int, *, leave_s: float) -> Replica:
    # one process opens a state but once
    files = {"registry": str(registry_path), "data": str(data)}
    return Replica(files | {"port": port, "leave_s": leave_s, "drain_s": 0.0})


def test_of_replicas_that_stop_together_one_says_so_and_goes_on_answering(
    tmp_path: Path, registry_path: Path, port: int
) -> None:
    replicas = [replica_of_two(tmp_path / name, registry_path, port, leave_s=1.0) for name in ("a", "b")]
    stopping = [threading.Thread(target=each.__del__) for each in replicas]
    for each in stopping:
        each.start()
    statuses = []
    while any(each.is_alive() for each in stopping):
        with contextlib.suppress(httpx.TransportError):
            statuses.append(httpx.get(f"http://127.0.0.1:{port}/readyz").status_code)
    assert 503 in statuses


def test_a_replica_that_stops_while_another_goes_on_says_nothing(
    tmp_path: Path, registry_path: Path, port: int
) -> None:
    first, second = (replica_of_two(tmp_path / name, registry_path, port, leave_s=10.0) for name in ("a", "b"))
    started = time.monotonic()
    del first
    assert time.monotonic() - started < 8
    assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    second._leave_s = 0.0
    del second
