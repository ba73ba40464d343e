"""One listening socket for all replicas of a machine, passed from one to the next.

Replicas that listen on sockets of their own (SO_REUSEPORT) each have their own queue of connections: those that wait
for a replica that is killed are reset, and a replica that is paused leaves its share of them unanswered. With one
socket there is one queue, and whoever is free takes the next connection from it.
"""

import contextlib
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Final, Self

_BACKLOG: Final = 4096
_TIMEOUT_S: Final = 2.0
_RETRY_S: Final = 1.0


class SharedSocket:
    """The listening socket of one address, and the readiness to hand it to the next replica.

    The first replica opens it; later ones get it through an abstract Unix socket, from which the kernel lets nobody
    outside this machine's network namespace read, and which gives to processes of the same user only. When the giver
    dies, another holder becomes the giver within a second. Should nobody give, a replica opens a socket of its own on
    the same port: then the kernel shares connections out among the two.

    Args:
        host: Address to listen on, IPv4 or IPv6.
        port: Port to listen on; 0 for any that is free.

    Raises:
        OSError: If the address cannot be listened on.
    """

    def __init__(self, host: str, port: int) -> None:
        opened = _listen(host, 0) if port == 0 else None
        port = port if opened is None else opened.getsockname()[1]
        self._name = f"\0roomrec-listener-{os.getuid()}-{host}-{port}"
        self._closed = threading.Event()
        self._giver: socket.socket | None = self._offer()
        received = None if opened or self._giver else self._receive()
        self.is_own = received is None
        """Whether this process opened the socket itself"""
        try:
            self.socket = opened or received or _listen(host, port)
        except OSError:
            if self._giver is not None:
                self._giver.close()
            raise
        self._thread = threading.Thread(target=self._give, name="shared-socket", daemon=True)
        self._thread.start()

    def is_held_by_others(self) -> bool:
        """Return whether another process of this user holds the socket too; takes some milliseconds."""
        inode, own = os.fstat(self.socket.fileno()).st_ino, str(os.getpid())
        for process in Path("/proc").glob("[0-9]*"):
            if process.name != own:
                with contextlib.suppress(OSError):  # it has ended, or is another user's
                    for descriptor in os.listdir(process / "fd"):
                        with contextlib.suppress(OSError):
                            if os.readlink(process / "fd" / descriptor) == f"socket:[{inode}]":
                                return True
        return False

    def close(self) -> None:
        """Stop giving and accepting; the socket stays open as long as another process holds it."""
        self._closed.set()
        if self._giver is not None:
            with contextlib.suppress(OSError):
                self._giver.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _offer(self) -> socket.socket | None:
        giver = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            giver.bind(self._name)
        except OSError:  # another replica gives
            giver.close()
            return None
        giver.listen()
        return giver

    def _receive(self) -> socket.socket | None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as taker:
            taker.settimeout(_TIMEOUT_S)
            try:
                taker.connect(self._name)
                _, descriptors, _, _ = socket.recv_fds(taker, 1, 1)
            except OSError:
                return None
        return socket.socket(fileno=descriptors[0]) if descriptors else None

    def _give(self) -> None:
        while not self._closed.is_set():
            if self._giver is None:
                self._closed.wait(_RETRY_S)
                self._giver = None if self._closed.is_set() else self._offer()
                continue
            try:
                taker, _ = self._giver.accept()
            except OSError:
                break
            with taker, contextlib.suppress(OSError):
                taker.settimeout(_TIMEOUT_S)
                if _user_of(taker) == os.getuid():
                    socket.send_fds(taker, [b"s"], [self.socket.fileno()])
        if self._giver is not None:
            self._giver.close()


def _user_of(peer: socket.socket) -> int:
    """Return the user id of the process at the other end of a Unix socket."""
    _, user_id, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(user_id)


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening
