"""Servers whose behaviour is known, for tests of the load tool."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from scripts.load_serving.connections import Target

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


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
            length = int((head.lower() + b"\r\n").split(b"content-length:")[1].split(b"\r\n")[0])
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


class NaiveEndpoint:
    """What an endpoint does, in the simplest words; subclasses lie.

    Rooms and products are what the events say in the order of their arrival; every room and product is shown.
    """

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.accepted: Counter[str] = Counter()
        self.rooms: dict[str, dict[str, Any]] = {}
        self.sold_out: set[str] = set()
        self.heads: list[bytes] = []

    def react(self, talk: Talk, head: bytes, body: bytes) -> None:
        """Answer a request."""
        self.heads.append(head)
        path = head.split(b" ")[1].decode()
        if path == "/v1/events":
            talk.write(self.post(json.loads(body)))
        elif path == "/v1/recommendations":
            asked = json.loads(body)
            items = self.products(asked["room_id"]) if asked["surface"] == "room_products" else self.feed()
            slate = {"request_id": "q1", "model_version": None, "variant": "champion", "degraded": None}
            talk.write(answer(json.dumps(slate | {"items": items[: asked["k"]]}).encode()))
        else:
            talk.write(self.user(path.removeprefix("/v1/users/")))

    def post(self, events: list[dict[str, Any]]) -> bytes:
        """Take events and say so."""
        results = []
        for event in events:
            is_new = event["event_id"] not in self.events
            if is_new:
                self.events[event["event_id"]] = event
                self.accepted[event["event_id"]] += 1
                self.apply(event)
            status = "accepted" if is_new else "duplicate"
            results.append({"event_id": event["event_id"], "status": status, "reason": None})
        return answer(json.dumps({"results": results}).encode())

    def apply(self, event: dict[str, Any]) -> None:
        """Let an event change what is shown."""
        match event["event_type"]:
            case "room_start":
                self.rooms[event["room_id"]] = {"streamer_id": event["streamer_id"], "listed": []}
            case "room_end":
                self.rooms.pop(event["room_id"], None)
            case "product_listed" if event["product_id"] not in self.rooms[event["room_id"]]["listed"]:
                self.rooms[event["room_id"]]["listed"].append(event["product_id"])
            case "product_unlisted":
                self.rooms[event["room_id"]]["listed"].remove(event["product_id"])
            case "stock_changed":
                (self.sold_out.discard if event["stock"] else self.sold_out.add)(event["product_id"])

    def products(self, room_id: str) -> list[dict[str, Any]]:
        """Return the products of a room."""
        if room_id not in self.rooms:
            return []
        where = {"room_id": room_id, "streamer_id": self.rooms[room_id]["streamer_id"], "products": []}
        listed = [each for each in self.rooms[room_id]["listed"] if each not in self.sold_out]
        return [where | {"product_id": product_id, "propensity": 1.0} for product_id in listed]

    def feed(self) -> list[dict[str, Any]]:
        """Return all rooms, the newest first."""
        return [
            {
                "room_id": room_id,
                "streamer_id": room["streamer_id"],
                "product_id": None,
                "propensity": 1.0,
                "products": [{"product_id": product["product_id"]} for product in self.products(room_id)[:3]],
            }
            for room_id, room in reversed(self.rooms.items())
        ]

    def user(self, user_id: str) -> bytes:
        """Return a viewer's events."""
        history = [{"event_id": key} for key, event in self.events.items() if event.get("user_id") == user_id]
        return answer(json.dumps({"user_id": user_id, "history": history}).encode())
