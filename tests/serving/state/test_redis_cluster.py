"""Everything stays in one slot, so a node of a cluster takes every script and transaction."""

import socket
import time
from collections.abc import Iterator

import pytest

from serving.state.redis_event_log import RedisEventLog
from serving.state.redis_state_store import RedisStateStore
from tests.contracts.state_store_contract import an_evening
from tests.serving.state.redis_server import RedisServer, running

_BUS_OFFSET = 10_000


@pytest.fixture
def node() -> Iterator[RedisServer]:
    """A cluster of one."""
    options = {"cluster-enabled": "yes", "bind": "127.0.0.1", "port": str(_free_port())}
    with running(**options) as server, server.client() as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
        for _ in range(400):
            if client.execute_command("CLUSTER INFO")["cluster_state"] == "ok":
                break
            time.sleep(0.025)
        yield server


def test_a_node_of_a_cluster_takes_all_of_it(node: RedisServer) -> None:
    log = RedisEventLog(node.connect())
    store = RedisStateStore(node.connect(), log, history_limit=50, log_key=log.key)
    followed = store.catch_up(log.append(an_evening(1)))
    assert store.rebuild().applied_seq == followed.applied_seq == 201
    assert store.read_user("u2")[1] is not None
    assert log.erase_user("u1") == 31
    assert store.erase_user("u1").events == 25
    log.trim(log.read(after=0, limit=50))
    assert len(log.read(after=log.trimmed_seq(), limit=1_000)) == 201 - 31 - 50
    store.close()
    log.close()


def _free_port() -> int:
    for port in range(20_000, 50_000, 37):
        with socket.socket() as clients, socket.socket() as bus:
            try:
                clients.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + _BUS_OFFSET))
            except OSError:
                continue
            return port
    raise RuntimeError("no two ports are free")
