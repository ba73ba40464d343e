"""Replicas on two nodes of a Ray cluster, with log and state in Redis: what one node accepts, the other knows.

Both nodes are this machine; each listens on an address of its own, as the settings in its environment say.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from ray.cluster_utils import Cluster

from tests.serving.deploy.manifests import container, workers
from tests.serving.shop import publish_two
from tests.serving.state.redis_server import RedisServer, running

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

HOSTS: Final = ("127.0.0.2", "127.0.0.3")
SPARE: Final = "127.0.0.4"
_EVERYWHERE: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "OMP_NUM_THREADS": "1",
}


class TwoNodes:
    """A head that holds no replica, and two nodes with one each.

    Args:
        cluster: With its head.
        environment: What every node's environment says of the settings.
    """

    def __init__(self, cluster: Cluster, environment: dict[str, str]) -> None:
        self._cluster = cluster
        self._environment = environment
        self._nodes: dict[str, Any] = {}
        self._count = 0
        self.port = int(environment["ROOMREC_PORT"])

    def add(self, host: str) -> None:
        """Start a node whose replica listens on an address of its own."""
        environment = self._environment | {"ROOMREC_HOST": host}
        self._nodes[host] = self._cluster.add_node(num_cpus=1, env_vars=environment)

    def end(self, host: str) -> None:
        """Do on a node what the hook in serving/deploy/kubernetes/rayservice.yaml does before a pod ends."""
        raylet = self._nodes[host].all_processes["raylet"][0].process.pid
        hook = container(workers())["lifecycle"]["preStop"]["exec"]["command"][-1]
        hook = hook.replace("/proc/[0-9]*/cmdline", f"/proc/{raylet}/cmdline")  # a pod has but one raylet
        environment = os.environ | {
            "RAY_ADDRESS": self._cluster.address,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        subprocess.run(["sh", "-ec", hook.removesuffix("; sleep 60")], check=True, env=environment)

    def has_ended(self, host: str) -> bool:
        """Whether a node's raylet has ended by itself."""
        return self._nodes[host].all_processes["raylet"][0].process.poll() is not None

    def kill(self, host: str) -> None:
        """Kill a node as a loss of its machine would, workers included."""
        self._cluster.remove_node(self._nodes.pop(host), allow_graceful=False)

    def ask(self, host: str, method: str, path: str, **kwargs: Any) -> httpx.Response:
        return httpx.request(method, f"http://{host}:{self.port}{path}", timeout=10, **kwargs)

    def post(self, host: str, event_type: str, **columns: Any) -> None:
        self._count += 1
        event = {"event_id": f"e{self._count}", "event_type": event_type, "occurred_at_ms": time.time_ns() // 10**6}
        answer = self.ask(host, "POST", "/v1/events", json=[event | columns])
        assert answer.json()["accepted"] == 1, answer.text

    def rooms(self, host: str, user_id: str) -> list[str]:
        slate = self.ask(host, "POST", "/v1/recommendations", json={"user_id": user_id}).json()
        return [item["room_id"] for item in slate["items"]]

    def is_ready(self, host: str) -> bool:
        try:
            return self.ask(host, "GET", "/readyz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[TwoNodes]:
    import ray
    from ray import serve

    from serving.app import build_app

    folder = tmp_path_factory.mktemp("nodes")
    with socket.socket() as probe:
        probe.bind((HOSTS[0], 0))
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as environment:
        for name, value in _EVERYWHERE.items():
            environment.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        nodes = TwoNodes(
            cluster,
            {
                "ROOMREC_PORT": str(port),
                "ROOMREC_EVENT_LOG": "redis",
                "ROOMREC_STATE_STORE": "redis",
                "ROOMREC_REDIS_URL": redis_server.url,
                "ROOMREC_REGISTRY": str(publish_two(folder)),
                "ROOMREC_DATA": str(folder / "serving"),
                "ROOMREC_POLL_MS": "100",
                "ROOMREC_LEAVE_S": "2",
            },
        )
        for host in HOSTS:
            nodes.add(host)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False})
        serve.run(build_app({"replicas": 2, "cpus_per_replica": 1}), name="roomrec", route_prefix=None)
        yield nodes
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


def test_both_nodes_are_ready(nodes: TwoNodes) -> None:
    answers = [nodes.ask(host, "GET", "/readyz") for host in HOSTS]
    assert [answer.text for answer in answers] == ['{"status":"ready"}'] * 2


def test_what_one_node_accepts_is_in_the_next_answer_of_the_other(nodes: TwoNodes) -> None:
    here, there = HOSTS
    nodes.post(here, "room_start", room_id="r1", streamer_id="mia")
    assert nodes.rooms(there, "u1") == ["r1"]
    nodes.post(there, "room_start", room_id="r2", streamer_id="tom")
    nodes.post(there, "enter", user_id="u1", room_id="r2", streamer_id="tom")
    assert nodes.rooms(here, "u1") == nodes.rooms(there, "u1")
    assert set(nodes.rooms(here, "u1")) == {"r1", "r2"}


def test_a_room_that_ended_through_one_node_is_never_shown_by_the_other(nodes: TwoNodes) -> None:
    for turn in range(20):
        here, there = HOSTS[turn % 2], HOSTS[1 - turn % 2]
        nodes.post(here, "room_start", room_id=f"short-{turn}", streamer_id="zoe")
        assert f"short-{turn}" in nodes.rooms(there, "u1")
        nodes.post(here, "room_end", room_id=f"short-{turn}")
        assert f"short-{turn}" not in nodes.rooms(there, "u1")


def test_a_node_that_is_to_leave_hands_over_and_drops_no_request(nodes: TwoNodes) -> None:
    leaving = HOSTS[0]
    nodes.add(SPARE)
    nodes.end(leaving)
    deadline = time.monotonic() + 60
    answered = 0
    with httpx.Client(base_url=f"http://{leaving}:{nodes.port}", timeout=10) as kept:
        while (probe := kept.get("/readyz")).status_code == 200:  # as a load balancer does
            assert time.monotonic() < deadline
            assert kept.post("/v1/recommendations", json={"user_id": "u1"}).status_code == 200
            answered += 1
        assert probe.json() == {"detail": "it is about to stop"}
        # what comes before the balancer has noticed is answered too, on a new connection as on the old one
        assert nodes.ask(leaving, "POST", "/v1/recommendations", json={"user_id": "u1"}).status_code == 200
        assert kept.post("/v1/recommendations", json={"user_id": "u1"}).status_code == 200
    assert nodes.is_ready(SPARE)  # the replacement came first
    assert answered > 10
    while not nodes.has_ended(leaving):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert nodes.rooms(SPARE, "u1") == nodes.rooms(HOSTS[1], "u1")


def test_one_node_answers_when_another_is_lost(nodes: TwoNodes) -> None:
    lost, left = SPARE, HOSTS[1]
    nodes.post(lost, "room_start", room_id="r3", streamer_id="zoe")
    nodes.kill(lost)
    for _ in range(20):
        assert "r3" in nodes.rooms(left, "u1")
    nodes.post(left, "room_end", room_id="r3")
    assert "r3" not in nodes.rooms(left, "u1")
    assert not nodes.is_ready(lost)
