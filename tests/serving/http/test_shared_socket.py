"""One port for several processes: each takes connections from one queue, and none is lost when one of them dies."""

import multiprocessing
import os
import signal
import socket
import time
from multiprocessing.connection import Connection

import pytest

from serving.http.shared_socket import SharedSocket


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hold(port: int, pipe: Connection) -> None:
    shared = SharedSocket("127.0.0.1", port)
    pipe.send((shared.is_own, os.fstat(shared.socket.fileno()).st_ino))
    pipe.recv()
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
        assert not first.is_held_by_others()
        process, pipe, is_own, inode = start(port)
        assert not is_own
        assert inode == os.fstat(first.socket.fileno()).st_ino
        assert first.is_held_by_others()
        pipe.send("stop")
        process.join(10)
        assert not first.is_held_by_others()


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
