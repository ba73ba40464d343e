"""What a replica's listener serves: routes in a hurry answered directly, the others by FastAPI."""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from typing import Final

import orjson

from roomrec.errors import RoomRecError
from serving.access.guard import Guard
from serving.api.metrics import Metrics
from serving.api.routes import create_api
from serving.api.routes.answers import answer_error
from serving.api.routes.events import post_events
from serving.api.routes.recommendations import MAX_BODY_BYTES, recommend
from serving.deployments.endpoint import Endpoint
from serving.http.asgi import answer_by_asgi
from serving.http.messages import Answer, Request, problem

RECOMMENDATIONS: Final = "/v1/recommendations"
"""Route of a request for a slate."""

EVENTS: Final = "/v1/events"
"""Route of a report of events."""

_ALIVE: Final = Answer(200, orjson.dumps({"status": "alive"}))
_READY: Final = Answer(200, orjson.dumps({"status": "ready"}))
_TOO_MANY_POSTS: Final = problem(503, "too many reports of events are waiting", (b"retry-after", b"1"))
_MAX_OTHER_BODY_BYTES: Final = 64 << 10
_OBSERVE_S: Final = 1.0


class RoomRecApplication:
    """An endpoint behind HTTP, for a ``Listener``.

    Slates, events and probes are answered by the functions that FastAPI's routes call as well, without its way of
    finding them; models, users, numbers and pages are FastAPI's.

    Args:
        endpoint: An opened endpoint; started and closed with the listener.
        address: Where it listens, for ASGI.
        guard: Says who may do what; None lets everybody in.
    """

    def __init__(self, endpoint: Endpoint, *, address: tuple[str, int], guard: Guard | None = None) -> None:
        self._endpoint = endpoint
        self._guard = guard or Guard(None)
        self._address = address
        self._metrics = Metrics()
        self._others = create_api(endpoint, self._metrics)
        self.is_leaving = False
        """Whether ``/readyz`` asks to send nothing more"""
        self._observing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow registry and log."""
        await self._endpoint.start()
        self._observing = asyncio.create_task(self._observe())

    async def close(self) -> None:
        """Finish what was posted and let go of everything."""
        if self._observing is not None:
            self._observing.cancel()
        await self._endpoint.close()

    def max_body_bytes(self, path: bytes, headers: Mapping[bytes, bytes]) -> int:
        """Return how long the body of a request to a path may be; nobody is read at length who may not be let in."""
        if path == b"/v1/events" and self._guard.knows(headers):
            return self._endpoint.settings.max_body_bytes
        return MAX_BODY_BYTES if path == b"/v1/recommendations" else _MAX_OTHER_BODY_BYTES

    def waits_in_line(self, request: Request) -> bool:
        """Whether a request takes its turn: probes and operators are answered at once, reports wait for one another."""
        return request.method == "POST" and request.path == RECOMMENDATIONS

    def answer(self, request: Request, *, is_pressed: bool = False) -> Answer | Awaitable[Answer]:
        """Answer a request, or say what to wait for; when pressed for time, without reasons and products of rooms."""
        refusal = self._guard.check(request.method, request.path, request.headers)
        if refusal is not None:
            self._metrics.count_request("none", refusal.status, 0.0)
            return Answer(refusal.status, refusal.body, headers=refusal.headers)
        if request.method == "HEAD":  # the connection leaves the body out
            request = request._replace(method="GET")
        match request.method, request.path:
            case "POST", "/v1/recommendations":
                return self._recommend(request, is_pressed)
            case "POST", "/v1/events":
                if self._endpoint.turns.foretold_s * 1000 > self._endpoint.settings.max_post_wait_ms:
                    self._metrics.count_request(EVENTS, _TOO_MANY_POSTS.status, 0.0)
                    return _TOO_MANY_POSTS
                return self._post_events(request)
            case "GET", "/healthz":
                return _ALIVE
            case "GET", "/readyz":
                reason = "it is about to stop" if self.is_leaving else self._endpoint.not_ready_because()
                return _READY if reason is None else problem(503, reason, (b"retry-after", b"1"))
        return answer_by_asgi(self._others, request, server=self._address)

    def take_waited_s(self) -> float:
        """Return how long requests have waited outside the line since this was asked last."""
        return self._endpoint.turns.take_waited_s()

    def count(self, status: int) -> None:
        """Count an answer that was given at the door."""
        self._metrics.count_request("none", status, 0.0)

    async def _observe(self) -> None:
        """Keep what nobody counts request by request: the replica that is asked for numbers tells those of all."""
        while True:
            self._metrics.observe(self._endpoint)
            await asyncio.sleep(_OBSERVE_S)

    def _recommend(self, request: Request, is_pressed: bool) -> Answer:
        began, status = time.perf_counter(), 500
        try:
            answer = recommend(request.body, self._endpoint, self._metrics, is_hurried=is_pressed)
            status = answer.status
        except RoomRecError as error:
            answer = answer_error(error)
            status = answer.status
        finally:
            self._metrics.count_request(RECOMMENDATIONS, status, time.perf_counter() - began)
        return answer

    async def _post_events(self, request: Request) -> Answer:
        began, status = time.perf_counter(), 500
        try:
            answer = await post_events(
                request.body,
                self._endpoint,
                self._metrics,
                may_report_rooms=self._guard.may_report_rooms(request.headers),
            )
            status = answer.status
        except RoomRecError as error:
            answer = answer_error(error)
            status = answer.status
        finally:
            self._metrics.count_request(EVENTS, status, time.perf_counter() - began)
        return answer
