"""What is asked of a Redis before it is trusted, and what is said when it fails."""

import signal
import threading
import time

import pytest

from roomrec.errors import ConfigurationError, StateError
from serving.state.redis_connection import RedisConnection, open_health
from tests.serving.state.redis_server import RedisServer, running


@pytest.fixture
def server(request: pytest.FixtureRequest) -> RedisServer:
    with running(**getattr(request, "param", {})) as server:
        yield server


@pytest.mark.parametrize(
    ("server", "durability", "message"),
    [
        ({"appendonly": "no"}, "always", "appendonly is no, must be yes"),
        ({"appendonly": "no"}, "everysec", "appendonly is no, must be yes"),
        ({"appendfsync": "everysec"}, "always", "appendfsync is everysec, must be always.*REDIS_DURABILITY=everysec"),
        ({"no-appendfsync-on-rewrite": "yes"}, "always", "no-appendfsync-on-rewrite is yes, must be no"),
        ({"maxmemory-policy": "allkeys-lru"}, "trusted", "maxmemory-policy is allkeys-lru"),
        ({"maxmemory-policy": "allkeys-random"}, None, "maxmemory-policy is allkeys-random"),
        ({"rename-command": "CONFIG hidden"}, "always", "CONFIG GET is refused.*appendfsync always.*=trusted"),
    ],
    indirect=["server"],
)
def test_a_redis_that_would_lose_something_is_refused(server: RedisServer, durability: str, message: str) -> None:
    connection = server.connect()
    with pytest.raises(StateError, match=message):
        connection.check(durability=durability)
    connection.close()


@pytest.mark.parametrize(
    ("server", "durability"),
    [
        ({}, "always"),
        ({"appendfsync": "everysec"}, "everysec"),
        ({"rename-command": "CONFIG hidden"}, "trusted"),
        ({"appendonly": "no", "maxmemory-policy": "volatile-ttl"}, None),
    ],
    indirect=["server"],
)
def test_what_suffices_is_taken(server: RedisServer, durability: str) -> None:
    connection = server.connect()
    connection.check(durability=durability)
    connection.close()


def test_a_redis_that_is_away_is_named_without_its_password() -> None:
    connection = RedisConnection("redis://ann:hush@127.0.0.1:1/0?client_name=hush", prefix="roomrec", timeout_ms=200)
    with pytest.raises(StateError, match=r"Redis redis://127\.0\.0\.1:1/0: ") as caught:
        connection.check(durability="always")
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    ["http://:hush@host", "redis://:hush@host:many/0", "redis://host/0?hush=hush", "redis://:hush@[::1", "redis.sock"],
)
def test_an_address_that_cannot_be_read_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis_url cannot be read") as caught:
        RedisConnection(url, prefix="roomrec", timeout_ms=200)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("server", [{"rename-command": 'BGREWRITEAOF ""'}], indirect=True)
def test_who_forbids_rewriting_is_not_asked_for_it(server: RedisServer) -> None:
    connection = server.connect()
    connection.forget_on_disk()
    connection.close()


@pytest.mark.parametrize("server", [{"requirepass": "hush"}], indirect=True)
def test_a_password_is_needed_and_not_told(server: RedisServer) -> None:
    connection = server.connect()
    with pytest.raises(StateError, match="Authentication required"):
        connection.check(durability="always")
    connection.close()
    for password, fits in (("hush", True), ("guess", False)):
        connection = RedisConnection(f"{server.url}?password={password}", prefix="roomrec", timeout_ms=1_000)
        if fits:
            connection.check(durability="always")
        else:
            with pytest.raises(StateError) as caught:
                connection.check(durability="always")
            assert "guess" not in str(caught.value)
        connection.close()


def test_errors_do_not_quote_what_was_sent(server: RedisServer) -> None:
    connection = server.connect()

    def fail() -> None:
        with connection.asking("something") as client:
            client.pipeline().set("text", "x").hset("text", "secret-viewer", "x").execute()

    with pytest.raises(StateError, match="WRONGTYPE") as caught:
        fail()
    assert "secret-viewer" not in str(caught.value)

    def misspell() -> None:
        with connection.asking("something") as client:
            client.execute_command("SETT", "secret-viewer", "x")

    with pytest.raises(StateError, match=r"unknown command 'SETT'$") as caught:
        misspell()
    connection.close()


def test_a_redis_that_hangs_is_waited_for_once_and_comes_back(server: RedisServer) -> None:
    connection = server.connect(timeout_ms=300)
    connection.check(durability="always")
    server.process.send_signal(signal.SIGSTOP)
    try:
        waited = []
        for _ in range(5):
            started = time.monotonic()
            with pytest.raises(StateError, match=r"did not answer within 0\.3 s"):
                connection.check(durability="always")
            waited.append(time.monotonic() - started)
        assert waited[0] >= 0.3
        assert sum(waited[1:]) < 0.2
    finally:
        server.process.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    connection.check(durability="always")
    connection.close()


def test_keys_lie_in_one_slot() -> None:
    connection = RedisConnection("redis://127.0.0.1:1/0", prefix="shop", timeout_ms=200)
    assert connection.key("log-of", "u\u00fc") == "{shop}:log-of:u\u00fc".encode()
    with pytest.raises(ValueError):
        connection.key("log-of", "\ud800")


def test_what_one_connection_waited_for_the_others_need_not(server: RedisServer) -> None:
    health = open_health(server.url, timeout_ms=2_000, read_timeout_ms=50)
    first, second = (
        RedisConnection(server.url, prefix="roomrec", timeout_ms=2_000, read_timeout_ms=50, health=health)
        for _ in range(2)
    )

    def read(connection: RedisConnection) -> float:
        """Return how long it took to be refused, seconds; 0 if it was answered."""
        asked_at = time.monotonic()
        try:
            with connection.asking("state cannot be read", is_hurried=True) as client:
                client.get("x")
        except StateError:
            return time.monotonic() - asked_at
        return 0.0

    assert read(first) == read(second) == 0.0
    assert health.why_away() is None
    server.process.send_signal(signal.SIGSTOP)
    threading.Timer(0.4, server.process.send_signal, [signal.SIGCONT]).start()
    assert 0.05 <= read(first) < 0.3
    assert health.why_away() == f"Redis {server.url} does not answer"
    assert 0.0 < read(second) < 0.04
    with second.asking("state cannot be written") as client:  # who writes has more patience
        assert client.set("x", "1")
    time.sleep(0.2)
    assert read(first) == read(second) == 0.0
    assert health.why_away() is None
    for each in (first, second, health):
        each.close()


def test_a_redis_that_refuses_is_said_to_be_away_until_it_answers(server: RedisServer) -> None:
    connection = server.connect(timeout_ms=300)
    health = open_health(server.url, timeout_ms=300)
    health.start()
    server.kill()
    time.sleep(0.5)
    assert f"Redis {server.url}: " in str(health.why_away())
    with pytest.raises(StateError, match="Redis unix:"):
        connection.check(durability=None)
    server.start()
    connection.check(durability=None)
    time.sleep(0.3)
    assert health.why_away() is None
    connection.close()
    health.close()
