"""Servers whose behaviour is known, for tests of the load tool."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from scripts.load_serving.connections import Target

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


class Talk(asyncio.Protocol):
    """One connection: each whole request is given to a function that may write and close."""

    def __init__(self, react: Callable[["Talk", bytes, bytes], None]) -> None:
        self._react = react
        self._data = b""
        self.requests = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self._data) < end + 4 + length:
                return
            body, self._data = self._data[end + 4 : end + 4 + length], self._data[end + 4 + length :]
            self.requests += 1
            self._react(self, head, body)

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


@asynccontextmanager
async def serving(react: Callable[[Talk, bytes, bytes], None]) -> AsyncIterator[Target]:
    """Listen on a free port of this machine."""
    talks: list[Talk] = []

    def begin() -> Talk:
        talks.append(Talk(react))
        return talks[-1]

    server = await asyncio.get_running_loop().create_server(begin, "127.0.0.1", 0)
    try:
        yield Target("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for talk in talks:
            talk.transport.abort()
        await asyncio.sleep(0)
