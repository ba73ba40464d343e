"""A replica without Ray around it: when it asks to be replaced."""

import gc
import logging
import socket
import sys
import threading
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
        assert httpx.get(probe).status_code == 200
        server.kill()
        replica.check_health()
        assert httpx.get(probe).status_code == 503
        server.start()
        replica.check_health()
        assert httpx.get(probe).status_code == 200
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
