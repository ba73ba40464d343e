"""One port for several processes: each takes connections from one queue, and none is lost when one of them dies."""

import contextlib
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest

from serving.http.shared_socket import SharedSocket


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hold(port: int, pipe: Connection) -> None:
    shared = SharedSocket("127.0.0.1", port)
    shared.begin_accepting()
    pipe.send((shared.is_own, os.fstat(shared.socket.fileno()).st_ino))
    while pipe.recv() == "leave":
        pipe.send(shared.end_accepting())
    shared.close()


def start(port: int) -> tuple[multiprocessing.process.BaseProcess, Connection, bool, int]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=hold, args=(port, there), daemon=True)
    process.start()
    is_own, inode = here.recv()
    return process, here, is_own, inode


def test_the_second_process_gets_the_socket_of_the_first() -> None:
    port = free_port()
    with SharedSocket("127.0.0.1", port) as first:
        process, pipe, is_own, inode = start(port)
        assert not is_own
        assert inode == os.fstat(first.socket.fileno()).st_ino
        pipe.send("stop")
        process.join(10)


def test_who_is_stopping_itself_does_not_count_as_one_who_goes_on() -> None:
    port = free_port()
    with SharedSocket("127.0.0.1", port) as first:
        first.begin_accepting()
        process, pipe, _, _ = start(port)
        pipe.send("leave")
        assert pipe.recv()  # the first goes on
        assert not first.end_accepting()  # the other still holds the socket, and accepts nothing
        first.begin_accepting()
        pipe.send("leave")
        assert pipe.recv()
        pipe.send("stop")
        process.join(10)


def test_of_several_that_stop_together_the_last_one_knows() -> None:
    port = free_port()
    for _ in range(5):
        started = [start(port) for _ in range(3)]
        assert [is_own for _, _, is_own, _ in started] == [True, False, False]
        for _, pipe, _, _ in started:
            pipe.send("leave")
        assert [pipe.recv() for _, pipe, _, _ in started].count(False) >= 1
        for process, pipe, _, _ in started:
            pipe.send("stop")
            process.join(10)


def test_who_was_killed_does_not_count() -> None:
    port = free_port()
    with SharedSocket("127.0.0.1", port) as first:
        first.begin_accepting()
        process, _, _, _ = start(port)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(10)
        assert not first.end_accepting()


@contextlib.contextmanager
def giver_of_something_else(port: int, *, user: int | None = None) -> Iterator[None]:
    """Somebody took the name first, and gives a socket that was not asked for."""
    there, here = os.pipe()
    process = os.fork()
    if process == 0:
        name = f"\0roomrec-listener-{os.getuid()}-127.0.0.1-{port}"
        if user is not None:
            os.setuid(user)
        other, giver = socket.socket(), socket.socket(socket.AF_UNIX)
        other.bind(("127.0.0.1", 0 if user is None else port))
        other.listen()
        giver.bind(name)
        giver.listen()
        os.write(here, b"up")
        while True:
            taker, _ = giver.accept()
            socket.send_fds(taker, [b"s"], [other.fileno(), os.memfd_create("other")])
    try:
        os.read(there, 2)
        yield
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(there)
        os.close(here)


def test_a_socket_that_was_not_asked_for_is_not_taken() -> None:
    port = free_port()
    with giver_of_something_else(port), SharedSocket("127.0.0.1", port) as shared:
        assert shared.is_own
        assert shared.socket.getsockname() == ("127.0.0.1", port)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_nothing_is_taken_from_another_user() -> None:
    port = free_port()
    with giver_of_something_else(port, user=65534), pytest.raises(OSError, match="in use"):
        SharedSocket("127.0.0.1", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::", ""])
def test_an_address_may_be_written_in_several_ways(host: str) -> None:
    with SharedSocket(host, 0) as first, SharedSocket(host, first.socket.getsockname()[1]) as second:
        assert not second.is_own


def test_a_connection_that_waits_outlives_the_process_that_opened_the_socket() -> None:
    port = free_port()
    first, _, is_own, inode = start(port)
    assert is_own
    with SharedSocket("127.0.0.1", port) as second:
        waiting = socket.create_connection(("127.0.0.1", port))
        os.kill(first.pid or 0, signal.SIGKILL)
        first.join(10)
        accepted, _ = second.socket.accept()
        accepted.sendall(b"here")
        assert waiting.recv(4) == b"here"
        deadline = time.monotonic() + 10
        while second._giver is None:  # it takes over
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with SharedSocket("127.0.0.1", port) as third:
            assert not third.is_own
            assert os.fstat(third.socket.fileno()).st_ino == inode
        waiting.close()
        accepted.close()


def test_a_taken_port_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            SharedSocket("127.0.0.1", other.getsockname()[1])
