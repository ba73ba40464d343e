"""Counters for Prometheus; with several replicas they add up across processes."""

import os
import time
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.deployments.endpoint import Endpoint

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of ``render``."""

MULTIPROCESS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Where processes put their numbers for one another; has to be set before ``prometheus_client`` is imported."""

_ENCODINGS = {"hit": "hits", "step": "steps", "prefill": "prefills", "full": "full"}
_LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """What the endpoint counts. Labels have few values: never an id, never a path as it was asked for."""

    def __init__(self) -> None:
        _forget_the_dead()
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "roomrec_requests", "Requests by route and status", ["route", "status"], registry=self._registry
        )
        self.latency = Histogram(
            "roomrec_request_seconds",
            "Time to answer inside the replica, by route",
            ["route"],
            buckets=_LATENCY_BUCKETS,
            registry=self._registry,
        )
        self.degraded = Counter(
            "roomrec_degraded",
            "Slates by reason code, none for a slate that lacks nothing, and by how they were made",
            ["reason", "step"],
            registry=self._registry,
        )
        self.events = Counter("roomrec_events", "Events by what became of them", ["status"], registry=self._registry)
        self.slates_lost = Counter(
            "roomrec_slates_lost", "Slates shown that could not be written to the slate log", registry=self._registry
        )
        self.live_rooms = Gauge(
            "roomrec_live_rooms", "Rooms that are live", registry=self._registry, multiprocess_mode="mostrecent"
        )
        self.fallbacks = Gauge(
            "roomrec_champion_failing",
            "1 while a replica's champion fails so often that something else answers",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self.load_failures = Gauge(
            "roomrec_champion_not_loaded",
            "1 while a replica could not load the champion and keeps the version before",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self.encodings = Gauge(
            "roomrec_viewer_encodings",
            "Viewers encoded by models at work: hit (nothing new), step (new events only), prefill, full",
            ["how"],
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._counters: dict[tuple[str, int], Counter] = {}
        self._timers: dict[str, Histogram] = {}
        self._slates: dict[tuple[str | None, str], Counter] = {}

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request; costs a few microseconds.

        Args:
            route: As it is declared, not as it was asked for.
            status: Of the answer.
            seconds: From the whole request to the answer.
        """
        counter = self._counters.get((route, status))
        if counter is None:
            counter = self._counters[route, status] = self.requests.labels(route, str(status))
        timer = self._timers.get(route)
        if timer is None:
            timer = self._timers[route] = self.latency.labels(route)
        counter.inc()
        timer.observe(seconds)

    def count_slate(self, reason: str | None, step: str) -> None:
        """Count a slate by why it is less than it could be, None if it is not, and by how it was made."""
        counter = self._slates.get((reason, step))
        if counter is None:
            counter = self._slates[reason, step] = self.degraded.labels(reason or "none", step)
        counter.inc()

    def observe(self, endpoint: Endpoint) -> None:
        """Take over what a replica says of itself."""
        models = endpoint.models
        self.live_rooms.set(len(endpoint.catalogue.rooms))
        self.load_failures.set(1 if models.load_failures else 0)
        self.fallbacks.set(1 if models.falls_back else 0)
        at_work = [each.model.encoders.viewers for each in (models.champion, models.challenger) if each is not None]
        for how, name in _ENCODINGS.items():
            self.encodings.labels(how).set(sum(getattr(viewers, name) for viewers in at_work))

    def render(self) -> bytes:
        """Return all numbers in the text format of Prometheus."""
        folder = os.environ.get(MULTIPROCESS_VARIABLE)
        if not folder or not Path(folder).is_dir():
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, path=folder)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def _forget_the_dead() -> None:
    """Drop what replicas that were killed said of themselves; their counts stay."""
    folder = os.environ.get(MULTIPROCESS_VARIABLE)
    for file in Path(folder).glob("gauge_live*.db") if folder else ():
        if not Path(f"/proc/{file.stem.rpartition('_')[2]}").exists():
            file.unlink(missing_ok=True)


class CountRequests:
    """Counts each request by its route and how it was answered; plain ASGI, since it stands before every request.

    Args:
        app: What answers.
        metrics: Where to count.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_look)
        finally:
            route = getattr(scope.get("route"), "path_format", "none")
            self._metrics.count_request(route, status, time.perf_counter() - started)
