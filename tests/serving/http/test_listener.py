"""HTTP over real sockets: what is answered, what is refused, and that nothing is dropped while stopping."""

import asyncio
import contextlib
import errno
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest

from serving.http.listener import Listener
from serving.http.messages import Answer, Request
from serving.http.shared_socket import SharedSocket


class Echo:
    """Says what it was asked; /slow waits, /busy works, /bad fails."""

    def __init__(self) -> None:
        self.refused: list[int] = []
        self.is_open = False

    def max_body_bytes(self, path: bytes, headers: Mapping[bytes, bytes]) -> int:
        return 100

    def waits_in_line(self, request: Request) -> bool:
        return request.path != "/healthz"

    def answer(self, request: Request, *, is_pressed: bool) -> Answer | Awaitable[Answer]:
        if request.path == "/slow":
            return self._slowly()
        if request.path == "/busy":
            time.sleep(0.01)
        if request.path == "/bad":
            raise KeyError("secret")
        return Answer(
            200, b"%b %b?%b %b" % (request.method.encode(), request.path.encode(), request.query, request.body)
        )

    async def _slowly(self) -> Answer:
        await asyncio.sleep(0.2)
        return Answer(200, b"slow", b"text/plain", ((b"x-kept", b"yes"),))

    def take_waited_s(self) -> float:
        return 0.0

    def count(self, status: int) -> None:
        self.refused.append(status)

    async def start(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


class Served:
    """A listener at work, and raw connections to it."""

    def __init__(self, **settings: Any) -> None:
        self.application = Echo()
        self.shared = SharedSocket("127.0.0.1", 0)
        self.address = self.shared.socket.getsockname()
        self.listener = Listener(self.application, self.shared.socket, **settings)
        self.listener.start()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.address)
        connection.settimeout(5)
        return connection

    def ask(self, data: bytes) -> bytes:
        """Send bytes and return everything until the other side ends the connection."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def wait_until(is_so: Callable[[], bool], *, timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_so()


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: x", *headers, "", ""]).encode()


@pytest.fixture
def make() -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def start(**settings: Any) -> Served:
        made.append(Served(**settings))
        return made[-1]

    yield start
    for each in made:
        each.listener.stop(drain_s=0)
        each.shared.close()
        assert not each.application.is_open


@pytest.fixture
def served(make: Callable[..., Served]) -> Served:
    return make()


def test_a_client_is_answered(served: Served) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{served.address[1]}") as client:
        answer = client.post("/a%20b?c=d", content=b"hello")
        assert (answer.status_code, answer.content) == (200, b"POST /a b?c=d hello")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["date"].endswith("GMT")
        slow = client.get("/slow")
        assert (slow.content, slow.headers["x-kept"], slow.headers["content-type"]) == (b"slow", "yes", "text/plain")
        assert client.get("/bad").json() == {"detail": "internal error"}


def test_requests_sent_together_are_answered_in_their_order(served: Served) -> None:
    text = served.ask(get("/slow") + get("/1") + get("/slow") + get("/2", "connection: close"))
    bodies = [part.partition(b"\r\n\r\n")[2] for part in text.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"slow", b"GET /1? ", b"slow", b"GET /2? "]


def test_hundreds_of_requests_sent_together(served: Served) -> None:
    text = served.ask(get("/n") * 500 + get("/last", "connection: close"))
    assert (text.count(b"GET /n? "), text.count(b"GET /last? ")) == (500, 1)


def test_a_body_in_pieces(served: Served) -> None:
    with served.connect() as connection:
        whole = (
            b"POST /p HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        for start in range(0, len(whole), 7):
            connection.sendall(whole[start : start + 7])
            time.sleep(0.01)
        assert read_all(connection).endswith(b"POST /p? abcde")


def test_a_client_that_asks_whether_to_go_on(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(
            b"POST /p HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ok")
        assert read_all(connection).endswith(b"POST /p? ok")


def test_head_has_no_body(served: Served) -> None:
    text = served.ask(b"HEAD /h HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert b"content-length: 9\r\n" in text
    assert text.endswith(b"\r\n\r\n")


def test_http_1_0_is_answered_and_ended(served: Served) -> None:
    assert served.ask(b"GET /old HTTP/1.0\r\n\r\n").endswith(b"GET /old? ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /p HTTP/1.1\r\ncontent-length: 101\r\n\r\n", 413),
        (b"POST /p HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nauthorization: trailing\r\n\r\n", 400),
        (b"POST /p HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n80\r\n" + b"x" * 128 + b"\r\n", 413),
        (b"POST /p HTTP/1.1\r\ncontent-length: 99999999999999999999999999\r\n\r\n", 400),
        (b"POST /p HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc", 400),
        (b"POST /p HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"x: " + b"a" * 70_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: y\r\n" % n for n in range(9_000)), 431),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
    ],
)
def test_what_cannot_be_a_request_is_refused_and_ended(served: Served, sent: bytes, status: int) -> None:
    text = served.ask(sent)
    assert text.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in text
    assert served.application.refused == [status]


def test_a_trailer_that_never_ends_is_refused_before_it_costs_anything(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(b"POST /p HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 100 << 20:
                sent += connection.send(b"a" * 65536)
        assert sent < 8 << 20  # what the kernel took of it before the connection was ended


def test_a_request_between_probes_is_answered_in_its_place(served: Served) -> None:
    text = served.ask(get("/queued") + get("/healthz") * 2_000 + get("/last", "connection: close"))
    assert text.count(b"HTTP/1.1 200 OK") == 2_002
    assert text.index(b"/queued") < text.index(b"/healthz")
    assert text.endswith(b"GET /last? ")


def test_answers_that_are_due_come_before_the_refusal_of_what_follows(served: Served) -> None:
    text = served.ask(get("/slow") + b"garbage\r\n\r\n")
    assert text.startswith(b"HTTP/1.1 200 OK")
    assert b"slowHTTP/1.1 400 Bad Request" in text
    assert served.application.refused == [400]


def test_whoever_offers_another_protocol_is_answered_and_the_connection_ends(served: Served) -> None:
    text = served.ask(get("/up", "connection: upgrade", "upgrade: h2c") + get("/lost"))
    assert text.count(b"HTTP/1.1") == 1
    assert b"connection: close" in text


def test_a_client_that_never_reads_is_ended(make: Callable[..., Served]) -> None:
    served = make(request_timeout_s=1.0, idle_timeout_s=30)
    with served.connect() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                deaf.send(get("/n") * 100)
        assert wait_until(lambda: not served.listener.connections)


def test_listeners_of_one_socket_share_the_connections() -> None:
    with SharedSocket("127.0.0.1", 0) as shared:
        listeners = [Listener(Echo(), shared.socket) for _ in range(2)]
        for listener in listeners:
            listener.start()
        connections = [socket.create_connection(shared.socket.getsockname()) for _ in range(16)]
        assert wait_until(lambda: sum(len(each.connections) for each in listeners) == 16)
        counts = sorted(len(each.connections) for each in listeners)
        for connection in connections:
            connection.close()
        for listener in listeners:
            listener.stop(drain_s=0)
    assert counts[0] >= 4


def test_without_files_left_connections_wait_and_the_loop_rests(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[float]()

    def accept(_: Any) -> Any:
        asked.append(time.monotonic())
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", accept)
    with served.connect() as waiting:
        time.sleep(1.5)
        assert 1 <= len(asked) <= 3
        monkeypatch.undo()
        waiting.sendall(get("/at-last", "connection: close"))
        assert read_all(waiting).endswith(b"GET /at-last? ")


def test_a_request_that_trickles_in_is_ended(make: Callable[..., Served]) -> None:
    served = make(request_timeout_s=0.3, idle_timeout_s=30)
    with served.connect() as slow, served.connect() as silent:
        began = time.monotonic()
        slow.sendall(b"GET / HT")
        assert read_all(slow).startswith(b"HTTP/1.1 408 ")
        assert read_all(silent) == b""
        assert 0.3 <= time.monotonic() - began < 4


def test_who_ends_the_connection_is_answered_and_not_waited_for(served: Served) -> None:
    def ask_and_end(data: bytes) -> bytes:
        with served.connect() as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    slow, quick = b"GET /slow HTTP/1.1\r\n\r\n", b"GET /quick HTTP/1.1\r\n\r\n"
    assert ask_and_end(quick).startswith(b"HTTP/1.1 200 ")
    assert ask_and_end(slow + quick).count(b"HTTP/1.1 200 ") == 2
    assert ask_and_end(slow + quick[:9]).count(b"HTTP/1.1 200 ") == 1
    for cut in (b"GET /qui", b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf"):
        assert ask_and_end(cut).startswith(b"HTTP/1.1 400 ")
    assert ask_and_end(b"") == b""


def test_a_connection_that_says_nothing_more_is_ended_and_one_that_waits_is_not(make: Callable[..., Served]) -> None:
    served = make(request_timeout_s=30, idle_timeout_s=0.1)
    with served.connect() as connection:
        connection.sendall(get("/slow"))
        text = read_all(connection)
        assert text.endswith(b"slow")


def test_a_client_that_does_not_read_is_not_read_from(served: Served) -> None:
    with served.connect() as deaf:
        deaf.setblocking(False)

        def send_for_ever() -> None:
            while True:
                deaf.send(get("/n") * 100)

        with pytest.raises(BlockingIOError):
            send_for_ever()
        assert httpx.get(f"http://127.0.0.1:{served.address[1]}/other").status_code == 200


def test_what_would_wait_too_long_is_refused_at_once_and_probes_are_not(make: Callable[..., Served]) -> None:
    served = make(max_wait_s=0.05)
    url = f"http://127.0.0.1:{served.address[1]}"
    answers: list[tuple[int, float, str | None]] = []

    def ask() -> None:
        with httpx.Client(base_url=url) as client:
            for _ in range(5):
                began = time.monotonic()
                answer = client.get("/busy")
                answers.append((answer.status_code, time.monotonic() - began, answer.headers.get("retry-after")))

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    assert httpx.get(url + "/healthz").status_code == 200
    for thread in threads:
        thread.join()
    statuses = {status for status, _, _ in answers}
    assert statuses == {200, 503}
    assert {after for status, _, after in answers if status == 503} == {"1"}
    assert served.listener.take_ongoing() > 1


def test_stopping_answers_what_was_asked_and_then_ends(make: Callable[..., Served]) -> None:
    served = make()
    with served.connect() as asked, served.connect() as idle, served.connect() as late:
        idle.sendall(get("/first"))
        late.sendall(get("/first"))
        assert idle.recv(1000)
        assert late.recv(1000)
        asked.sendall(get("/slow"))
        time.sleep(0.05)
        stopping = threading.Thread(target=lambda: served.listener.stop(drain_s=0.5))
        stopping.start()
        time.sleep(0.1)
        late.sendall(get("/late"))
        text = read_all(late)
        assert text.endswith(b"GET /late? ")
        assert b"connection: close" in text
        assert read_all(asked).endswith(b"slow")
        assert read_all(idle) == b""
        stopping.join()
    assert not served.application.is_open


def test_a_start_that_fails_says_so() -> None:
    class Broken(Echo):
        async def start(self) -> None:
            raise ValueError("no state")

    with SharedSocket("127.0.0.1", 0) as shared:
        listener = Listener(Broken(), shared.socket)
        with pytest.raises(ValueError, match="no state"):
            listener.start()
