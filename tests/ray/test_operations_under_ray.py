"""What Ray Serve is kept for works with listeners of our own: health checks, rolling updates, draining, autoscaling."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.serving.shop import publish_two

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "OMP_NUM_THREADS": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
}


class Operated:
    """An endpoint that is deployed again and again."""

    def __init__(self, folder: Path, registry: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        # nobody is refused because this machine is busy: what is counted here is what gets lost
        given = {"registry": str(registry), "data": str(folder / "serving"), "max_wait_ms": 2_000}
        self._given = given | {"port": self.port}

    def deploy(self, **settings: Any) -> None:
        from ray import serve

        from serving.app import build_app

        serve.run(build_app(self._given | settings), name="roomrec", route_prefix=None)

    def application(self) -> dict[str, Any]:
        from ray.serve.context import _get_global_client

        return _get_global_client().get_serve_details()["applications"]["roomrec"]

    def running(self) -> set[int]:
        """Process ids of the replicas that run."""
        replicas = self.application()["deployments"]["Replica"]["replicas"]
        return {replica["pid"] for replica in replicas if replica["state"] == "RUNNING"}

    def ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def ask_once(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            return self.ask(connection, method, path, body)
        finally:
            connection.close()

    @contextmanager
    def load(self, *, clients: int, pause_s: float = 0.0) -> Iterator["Tally"]:
        """Ask all the time: half of the clients keep their connection, the others open one for every request."""
        tally = Tally()
        stop = threading.Event()

        def keep_asking(number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            while not stop.is_set():
                try:
                    status, _ = self.ask(connection, "POST", "/v1/recommendations", {"user_id": f"u{number}"})
                    tally.count(str(status))
                except (OSError, http.client.HTTPException) as error:
                    tally.count(repr(error))
                    connection.close()
                if number % 2:
                    connection.close()
                time.sleep(pause_s)
            connection.close()

        threads = [threading.Thread(target=keep_asking, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield tally
        finally:
            stop.set()
            for thread in threads:
                thread.join()


class Tally:
    """How requests were answered."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def count(self, outcome: str) -> None:
        with self._lock:
            self.counts[outcome] = self.counts.get(outcome, 0) + 1


def wait_until(is_so: Callable[[], bool], *, within_s: float) -> float:
    """Wait for something and say how long it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + within_s
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    import ray
    from ray import serve

    folder = tmp_path_factory.mktemp("operated")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in _ENVIRONMENT.items():
            environment.setenv(name, value)
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", num_cpus=2)
        serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False})
        endpoint = Operated(folder, publish_two(folder))
        endpoint.deploy(replicas=2)
        now_ms = time.time_ns() // 10**6
        room = {"event_id": "e1", "event_type": "room_start", "occurred_at_ms": now_ms, "room_id": "r1"}
        assert endpoint.ask_once("POST", "/v1/events", [room | {"streamer_id": "mia"}])[1]["accepted"] == 1
        yield endpoint
        serve.shutdown()
        ray.shutdown()


def test_the_status_is_running(operated: Operated) -> None:
    application = operated.application()
    assert (application["status"], application["deployments"]["Replica"]["status"]) == ("RUNNING", "HEALTHY")
    assert len(operated.running()) == 2


def test_a_replica_whose_health_check_fails_is_replaced_and_nobody_notices(operated: Operated) -> None:
    from ray import serve

    before = operated.running()
    handle = serve.get_deployment_handle("Replica", "roomrec")
    with operated.load(clients=4, pause_s=0.01) as tally:
        # the listener of one of them ends and its process stays: only the health check can find out
        handle.options(method_name="__del__").remote().result(timeout_s=30)
        wait_until(lambda: len(operated.running() - before) == 1, within_s=40)
        wait_until(lambda: len(operated.running()) == 2, within_s=40)
    assert len(operated.running() & before) == 1
    assert set(tally.counts) == {"200"}, tally.counts


def test_a_rolling_update_under_load_drops_no_request(operated: Operated) -> None:
    before = operated.running()
    asked = {"user_id": "u1", "k": 300}
    assert operated.ask_once("POST", "/v1/recommendations", asked)[0] == 422  # max_k is 200
    with operated.load(clients=6, pause_s=0.005) as tally:
        operated.deploy(replicas=2, max_k=300)
        wait_until(lambda: not operated.running() & before, within_s=40)
    assert operated.ask_once("POST", "/v1/recommendations", asked)[0] == 200
    assert set(tally.counts) == {"200"}, tally.counts
    assert tally.counts["200"] > 1_000


def test_replicas_come_with_the_load_and_go_after_it(operated: Operated) -> None:
    operated.deploy(
        replicas=1,
        max_replicas=3,
        target_ongoing_requests=0.3,
        upscale_delay_s=0.5,
        downscale_delay_s=1.0,
    )
    wait_until(lambda: len(operated.running()) == 1, within_s=40)
    with operated.load(clients=6) as tally:
        wait_until(lambda: len(operated.running()) >= 2, within_s=40)
    wait_until(lambda: len(operated.running()) == 1, within_s=40)
    assert set(tally.counts) == {"200"}, tally.counts
