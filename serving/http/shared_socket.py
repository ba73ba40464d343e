"""One listening socket for all replicas of a machine, passed from one to the next.

Replicas that listen on sockets of their own (SO_REUSEPORT) each have their own queue of connections: those that wait
for a replica that is killed are reset, and a replica that is paused leaves its share of them unanswered. With one
socket there is one queue, and whoever is free takes the next connection from it.
"""

import contextlib
import fcntl
import os
import socket
import struct
import threading
from typing import Final, Self

_BACKLOG: Final = 4096
_TIMEOUT_S: Final = 2.0
_RETRY_S: Final = 1.0


class SharedSocket:
    """The listening socket of one address, and the readiness to hand it to the next replica.

    The first replica opens it; later ones get it through an abstract Unix socket, from which the kernel lets nobody
    outside this machine's network namespace read, and both sides of which are of the same user. When the giver dies,
    another holder becomes the giver within a second. Should nobody give, a replica opens a socket of its own on the
    same port: then the kernel shares connections out among the two.

    With the socket goes a file in memory that everybody who accepts from it holds a shared lock on. So who stops to
    accept knows whether others go on: one that holds the socket but is stopping itself does not count, and of several
    that stop in the same moment one is the last. Whoever is killed lets go of its lock.

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
        received = None if opened or self._giver else self._receive(_address(host, port))
        self.is_own = received is None
        """Whether this process opened the socket itself"""
        try:
            if received is None:
                self.socket = opened or _listen(host, port)
                self._roll = os.memfd_create("roomrec-accepting")
            else:
                self.socket, self._roll = received
        except OSError:
            if self._giver is not None:
                self._giver.close()
            raise
        self._thread = threading.Thread(target=self._give, name="shared-socket", daemon=True)
        self._thread.start()

    def begin_accepting(self) -> None:
        """Count among those who accept connections."""
        fcntl.flock(self._roll, fcntl.LOCK_SH)

    def end_accepting(self) -> bool:
        """Count no more among those who accept connections.

        Returns:
            Whether others still accept from this socket.
        """
        try:
            # lets go of the shared lock, whether or not nobody else has one
            fcntl.flock(self._roll, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._roll, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Stop giving and accepting; the socket stays open as long as another process holds it."""
        self._closed.set()
        if self._giver is not None:
            with contextlib.suppress(OSError):
                self._giver.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.socket.close()
        os.close(self._roll)

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

    def _receive(self, address: tuple[str, int]) -> tuple[socket.socket, int] | None:
        """Return the socket and the file of those who accept, None if nobody of this user gives this address."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as taker:
            taker.settimeout(_TIMEOUT_S)
            try:
                taker.connect(self._name)
                if _user_of(taker) != os.getuid():
                    return None
                _, descriptors, _, _ = socket.recv_fds(taker, 1, 2)
            except OSError:
                return None
        try:
            if len(descriptors) == 2 and _listens_on(descriptors[0], address):
                # opened once more, since a lock belongs to whoever opened the file
                roll = os.open(f"/proc/self/fd/{descriptors[1]}", os.O_RDONLY | os.O_CLOEXEC)
                return socket.socket(fileno=os.dup(descriptors[0])), roll
        except OSError:
            return None
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return None

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
                    socket.send_fds(taker, [b"s"], [self.socket.fileno(), self._roll])
        if self._giver is not None:
            self._giver.close()


def _user_of(peer: socket.socket) -> int:
    """Return the user id of the process at the other end of a Unix socket."""
    _, user_id, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(user_id)


def _address(host: str, port: int) -> tuple[str, int]:
    """Return what the kernel calls an address that is listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.getaddrinfo(host or None, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return str(found[0][4][0]), int(found[0][4][1])


def _listens_on(descriptor: int, address: tuple[str, int]) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as given:
        return (
            given.family in (socket.AF_INET, socket.AF_INET6)
            and given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            and given.getsockname()[:2] == address
        )


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
